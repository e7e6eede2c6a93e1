/**
 * @param {Float32Array} a float32, read
 * @param {Float32Array} b float32, read
 * @param {Float32Array} y float32, written
 */
export function max_f32(a, b, y) {
  for (let i = 0; i < 3136; i++) {
    y[i] = Math.max(a[i], b[i]);
  }
}
