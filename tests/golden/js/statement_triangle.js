const fround = Math.fround;

/**
 * @param {Float32Array} x float32, read
 * @param {Float32Array} y float32, read and written
 * @param {number} n
 */
export function triangle(x, y, n) {
  for (let i = 0; i < n; i++) {
    let total = 0;
    for (let j = 0, j_end = i + 1; j < j_end; j++) {
      total = fround(total + x[j]);
    }
    y[i] = total;
  }
}
