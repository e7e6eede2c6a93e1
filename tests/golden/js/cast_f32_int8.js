function i32_of_float(x) { return x >= 2147483647 ? 2147483647 : x <= -2147483648 ? -2147483648 : x | 0; }

/**
 * @param {Float32Array} x float32, read
 * @param {Int32Array} y int32, written
 */
export function cast_f32_to_int8(x, y) {
  for (let i = 0; i < 56; i++) {
    y[i] = i32_of_float(x[i]) << 24 >> 24;
  }
}
