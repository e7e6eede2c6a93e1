const fround = Math.fround;

const word = new Uint32Array(1), single = new Float32Array(word.buffer);
const wide = new BigUint64Array(1), double = new Float64Array(wide.buffer);

function u64_bits_of_f64(x) { double[0] = x; return wide[0]; }

function f64_from_u64_bits(x) { wide[0] = x; return double[0]; }

function erf_f64(x) {
  const a = Math.abs(x);
  const b = a > 6.2 ? 6.2 : a;
  const t = (b - 3) / (b + 3);
  const z = x * x;
  return Number.isNaN(x) ? x : a < 1 ? x * ((((((((((((5.957176147748911e-11 * z + -1.1372848856791674e-09) * z + 1.4659775274047436e-08) * z + -1.6350312701054695e-07) * z + 1.6461000484121368e-06) * z + -1.4925595266831182e-05) * z + 0.0001205533111164271) * z + -0.000854832698083379) * z + 0.0052239776248180145) * z + -0.026866170645076792) * z + 0.11283791670954879) * z + -0.3761263890318375) * z + 0.12837916709551256) + x : f64_from_u64_bits(BigInt.asUintN(64, BigInt.asIntN(64, u64_bits_of_f64(1 - Math.exp(-(b * b)) * (((((((((((((((2.3750118455234056e-06 * t + -9.225797133069524e-07) * t + -1.9701110437640722e-05) * t + 5.073804009915568e-06) * t + 0.00012503605144958987) * t + -0.00010518392594138982) * t + -0.0007798270740458346) * t + 0.0018886925847507994) * t + 0.002529391584683416) * t + -0.023770515023181192) * t + 0.06830802734944291) * t + -0.11927366341296848) * t + 0.12964515870269908) * t + -0.04756229435347043) * t + -0.13562110612458095) * t + 1.2530080582697296) / (b * 2 + 1))) | BigInt.asIntN(64, u64_bits_of_f64(x)) & -9223372036854775808n));
}

/**
 * @param {Float32Array} a float32, read
 * @param {Float32Array} y float32, written
 */
export function erf_f32(a, y) {
  for (let i = 0; i < 56; i++) {
    y[i] = fround(erf_f64(a[i]));
  }
}
