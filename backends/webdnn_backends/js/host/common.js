// Values as docs/bundle-format.md defines them: a tensor {dtype, dims, data}, a list, a Map, or null.

/** Product of the dims. */
const count = (dims) => dims.reduce((total, size) => total * size, 1);

/** An index that may count from the end, checked. */
const place = (position, length, what) => {
  const index = Number(position.data[0]);
  if (index < -length || index >= length) {
    throw new RangeError(`${what}: expected a position in [${-length}, ${length - 1}], got ${index}`);
  }
  return index < 0 ? index + length : index;
};

const strings = (dims, data) => ({ dtype: "string", dims, data });

/** An int64 tensor of numbers. */
const int64s = (dims, numbers) => ({ dtype: "int64", dims, data: BigInt64Array.from(numbers, (number) => BigInt(number)) });

const bools = (dims, flags) => ({ dtype: "bool", dims, data: Uint8Array.from(flags, Number) });

/** Bits of an element where several share a byte, else 8. */
const packedBits = (dtype) =>
  /^(u?int4|float4e2m1)$/.test(dtype) ? 4 : /^u?int2$/.test(dtype) ? 2 : 8;

/** The elements one per place of an array: types that share bytes are taken apart. */
const unpacked = ({ dtype, dims, data }) => {
  const bits = packedBits(dtype);
  if (bits === 8) return data;
  const perByte = 8 / bits;
  return Uint8Array.from({ length: count(dims) }, (_, index) => {
    const byte = data[Math.floor(index / perByte)];
    return (byte >> ((index % perByte) * bits)) & ((1 << bits) - 1);
  });
};

/** A tensor of elements that lie one per place of an array. */
const packed = (dtype, dims, elements) => {
  const bits = packedBits(dtype);
  if (bits === 8) return { dtype, dims, data: elements };
  const perByte = 8 / bits;
  const data = new Uint8Array(Math.ceil(elements.length / perByte));
  elements.forEach((element, index) => {
    data[Math.floor(index / perByte)] |= element << ((index % perByte) * bits);
  });
  return { dtype, dims, data };
};

/** An empty array of the kind that holds such elements. */
const emptyLike = (array, length) => (Array.isArray(array) ? new Array(length) : new array.constructor(length));
