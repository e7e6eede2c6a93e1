function set_nibble(x, i, value) {
  const at = i >> 1, shift = (i & 1) << 2;
  x[at] = (x[at] & ~(15 << shift)) | ((value & 15) << shift);
}

/**
 * @param {Uint8Array} x int4, read
 * @param {Uint8Array} y int4, read and written
 */
export function odd_int4(x, y) {
  for (let i = 0; i < 19; i++) {
    set_nibble(y, i * 2 + 1, x[i >> 1] >> ((i & 1) << 2) << 28 >> 28);
  }
}
