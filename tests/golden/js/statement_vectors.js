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
      vector_0 = fround(fround(vector_0 * $t2) + 1);
      vector_1 = fround(fround(vector_1 * $t2) + 2);
      vector_2 = fround(fround(vector_2 * $t2) + x[k]);
      vector_3 = fround(fround(vector_3 * $t2) + total);
    }
    const $t3 = i * 4;
    const $t4 = vector_0 < 0 ? vector_0 : vector_3;
    const $t5 = vector_1 < 0 ? vector_1 : vector_2;
    const $t6 = vector_2 < 0 ? vector_2 : vector_1;
    const $t7 = vector_3 < 0 ? vector_3 : vector_0;
    y[$t3] = $t4;
    y[$t3 + 1] = $t5;
    y[$t3 + 2] = $t6;
    y[$t3 + 3] = $t7;
  }
}
