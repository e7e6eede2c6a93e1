const fround = Math.fround;

/**
 * @param {Float32Array} x float32, read
 * @param {Float32Array} y float32, read and written
 * @param {number} n
 */
export function vectors(x, y, n) {
  for (let i = 0; i < n; i++) {
    const total = 0;
    const $t1 = i * 4;
    let vector_0 = x[$t1];
    let vector_1 = x[$t1 + 1];
    let vector_2 = x[$t1 + 2];
    let vector_3 = x[$t1 + 3];
    for (let k = 0; k < 2; k++) {
      const $t2 = x[i];
      const $t3 = fround(fround(vector_0 * $t2) + 1);
      const $t4 = fround(fround(vector_1 * $t2) + 2);
      const $t5 = fround(fround(vector_2 * $t2) + x[k]);
      const $t6 = fround(fround(vector_3 * $t2) + total);
      vector_0 = $t3;
      vector_1 = $t4;
      vector_2 = $t5;
      vector_3 = $t6;
    }
    const $t7 = i * 4;
    const $t8 = vector_0 < 0 ? vector_0 : vector_3;
    const $t9 = vector_1 < 0 ? vector_1 : vector_2;
    const $t10 = vector_2 < 0 ? vector_2 : vector_1;
    const $t11 = vector_3 < 0 ? vector_3 : vector_0;
    y[$t7] = $t8;
    y[$t7 + 1] = $t9;
    y[$t7 + 2] = $t10;
    y[$t7 + 3] = $t11;
  }
}
