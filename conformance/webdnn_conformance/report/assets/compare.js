// Compares values with the reference's, in the browser: the rules of compare.py, on the bytes of tensors.

const BITS = { float64: 64, float32: 32, float16: 16, bfloat16: 16, float4e2m1: 4 };

/** Compares a value; returns { ulp, message }, the message empty where it is near enough. */
export function compare(where, got, want, tolerances, drawn) {
  if (want === null || got === null || got === undefined) {
    const same = (want ?? null) === null && (got ?? null) === null;
    return { ulp: 0, message: same ? "" : `${where}: expected ${kind(want)}, got ${kind(got)}` };
  }
  if (Array.isArray(want)) {
    if (!Array.isArray(got) || got.length !== want.length)
      return { ulp: 0, message: `${where}: expected ${kind(want)}, got ${kind(got)}` };
    return worst(want.map((item, index) => compare(`${where}[${index}]`, got[index], item, tolerances, drawn)));
  }
  if (want instanceof Map) {
    if (!(got instanceof Map) || got.size !== want.size)
      return { ulp: 0, message: `${where}: expected ${kind(want)}, got ${kind(got)}` };
    return worst([...want].map(([key, item]) => compare(`${where}[${key}]`, got.get(key), item, tolerances, drawn)));
  }
  if (got.dtype !== want.dtype || got.dims.join() !== want.dims.join())
    return { ulp: 0, message: `${where}: expected ${kind(want)}, got ${kind(got)}` };
  if (drawn) return { ulp: 0, message: "" };
  if (!want.dtype.startsWith("float") && want.dtype !== "bfloat16") return exact(where, got, want);
  return floats(where, got, want, tolerances[want.dtype] ?? [0, 0]);
}

function worst(findings) {
  const ulp = Math.max(0, ...findings.map((one) => one.ulp));
  return { ulp, message: findings.find((one) => one.message)?.message ?? "" };
}

function kind(value) {
  if (value === null || value === undefined) return "nothing";
  if (Array.isArray(value)) return `a sequence of ${value.length}`;
  if (value instanceof Map) return `a map of ${value.size}`;
  return `${value.dtype}[${value.dims.join(", ")}]`;
}

function exact(where, got, want) {
  const length = got.dtype === "string" ? want.data.length : Math.min(got.data.length, want.data.length);
  for (let index = 0; index < length; index++) {
    if (got.data[index] !== want.data[index])
      return { ulp: Infinity, message: `${where} at ${index}: expected ${want.data[index]}, got ${got.data[index]}` };
  }
  return { ulp: 0, message: "" };
}

function floats(where, got, want, [ulps, scale]) {
  const count = want.dims.reduce((product, size) => product * size, 1);
  const [a, b] = [codes(got, count), codes(want, count)];
  const [x, y] = [values(got, count, a), values(want, count, b)];
  let largest = 0;
  for (const value of y) if (Number.isFinite(value)) largest = Math.max(largest, Math.abs(value));
  let most = 0;
  for (let index = 0; index < count; index++) {
    if (x[index] === y[index] || (Number.isNaN(x[index]) && Number.isNaN(y[index]))) continue;
    const finite = Number.isFinite(x[index]) && Number.isFinite(y[index]);
    const apart = finite ? distance(a[index], b[index], want.dtype) : Infinity;
    const difference = finite ? Math.abs(x[index] - y[index]) : Infinity;
    if (apart > ulps && difference > scale * largest)
      return { ulp: apart, message: `${where} at ${index}: expected ${y[index]}, got ${x[index]} (${apart} ULP, allowed ${ulps})` };
    if (!scale || Math.abs(y[index]) >= largest / 256) most = Math.max(most, apart);
  }
  return { ulp: most, message: "" };
}

/** The bits of each element as BigInt or Number. */
function codes({ dtype, data }, count) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  switch (BITS[dtype] ?? 8) {
    case 64: return Array.from({ length: count }, (_, i) => view.getBigUint64(8 * i, true));
    case 32: return Array.from({ length: count }, (_, i) => view.getUint32(4 * i, true));
    case 16: return Array.from({ length: count }, (_, i) => view.getUint16(2 * i, true));
    case 4: return Array.from({ length: count }, (_, i) => (bytes[i >> 1] >> (4 * (i & 1))) & 15);
    default: return Array.from(bytes.subarray(0, count));
  }
}

function distance(a, b, dtype) {
  if (dtype === "float8e8m0") return Math.abs(a - b);
  const sign = 1n << BigInt((BITS[dtype] ?? 8) - 1);
  const place = (code) => (BigInt(code) & sign ? -(BigInt(code) & (sign - 1n)) : BigInt(code));
  const apart = place(a) - place(b);
  return Number(apart < 0n ? -apart : apart);
}

/** [exponent bits, fraction bits, bias, whether it has infinities, whether its only NaN is where -0 would be] */
const FORMATS = {
  float16: [5, 10, 15, true, false], bfloat16: [8, 7, 127, true, false], float8e5m2: [5, 2, 15, true, false],
  float8e4m3fn: [4, 3, 7, false, false], float8e4m3fnuz: [4, 3, 8, false, true], float8e5m2fnuz: [5, 2, 16, false, true],
  float4e2m1: [2, 1, 1, false, false],
};

function values({ dtype, data }, count, bits) {
  if (dtype === "float32" || dtype === "float64") return Array.from(data.subarray(0, count));
  if (dtype === "float8e8m0") return bits.map((code) => (code === 255 ? NaN : 2 ** (code - 127)));
  const [exponentBits, fractionBits, bias, infinite, unsigned] = FORMATS[dtype];
  const top = (1 << exponentBits) - 1;
  const signBit = 1 << (exponentBits + fractionBits);
  return bits.map((code) => {
    if (unsigned && code === signBit) return NaN;
    const sign = code & signBit ? -1 : 1;
    const exponent = (code >> fractionBits) & top;
    const fraction = code & ((1 << fractionBits) - 1);
    if (infinite && exponent === top) return fraction ? NaN : sign * Infinity;
    if (dtype === "float8e4m3fn" && exponent === top && fraction === 7) return NaN;
    const scaled = fraction / (1 << fractionBits);
    return sign * (exponent ? (1 + scaled) * 2 ** (exponent - bias) : scaled * 2 ** (1 - bias));
  });
}
