const fround = Math.fround;

function floor_mod_i32(a, b) { return (((a % b) + b) % b) | 0; }

/**
 * @param {Float32Array} x float32, read
 * @param {Float32Array} y float32, read and written
 * @param {number} n
 * @param {number} m
 */
export function index_division(x, y, n, m) {
  for (let i = 0; i < n; i++) {
    y[i] = fround((Math.imul(Math.floor(((i + -5) | 0) / 3) | 0, 100) + floor_mod_i32((i + -5) | 0, m)) | 0);
  }
}
