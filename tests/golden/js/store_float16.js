const fround = Math.fround;

const word = new Uint32Array(1), single = new Float32Array(word.buffer);
const wide = new BigUint64Array(1), double = new Float64Array(wide.buffer);

function u32_bits_of_f32(x) { single[0] = x; return word[0]; }

function f32_from_u32_bits(x) { word[0] = x; return single[0]; }

function pack_float16(x) {
  const whole = u32_bits_of_f32(x);
  const magnitude = (whole & 2147483647) >>> 0;
  const shifted = (magnitude - 939524096) >>> 0;
  const value = Math.min(magnitude < 947912704 ? (u32_bits_of_f32(fround(f32_from_u32_bits(magnitude) + 0.5)) - 1056964608) >>> 0 : (shifted + ((4095 + ((shifted >>> 13 & 1) >>> 0)) >>> 0)) >>> 0 >>> 13, 31744);
  const sign = whole >>> 31 << 15 >>> 0;
  return magnitude > 2139095040 ? 32256 : (value | sign) >>> 0;
}

/**
 * @param {Float32Array} x float32, read
 * @param {Uint16Array} y float16, written
 */
export function store_float16(x, y) {
  for (let i = 0; i < 56; i++) {
    y[i] = pack_float16(x[i]);
  }
}
