/**
 * @param {Float32Array} x float32, read
 * @param {Float32Array} y float32, read and written
 * @param {number} n
 */
export function private_array(x, y, n) {
  const window = new Float32Array(3);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < 3; j++) {
      window[j] = x[i + j];
    }
    y[i] = Math.max(window[0], window[(i + 1) % 3]);
  }
}
