// Tensors as a page sees them: a typed array, its dims, its element type.

import { bindShape, printShape, product, type Dim, type Symbols } from "./dims.ts";
import { InputError } from "./errors.ts";

/**
 * Element types by storage. What JavaScript has no array for travels as its bits: float16 and bfloat16 as Uint16Array.
 */
const arrays = {
  bool: Uint8Array,
  int2: Uint8Array,
  int4: Uint8Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint2: Uint8Array,
  uint4: Uint8Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  float4e2m1: Uint8Array,
  float8e4m3fn: Uint8Array,
  float8e4m3fnuz: Uint8Array,
  float8e5m2: Uint8Array,
  float8e5m2fnuz: Uint8Array,
  float8e8m0: Uint8Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  float32: Float32Array,
  float64: Float64Array,
  complex64: Float32Array,
  complex128: Float64Array,
} as const;

type StoredDType = keyof typeof arrays;
export type DType = StoredDType | "string";

export type TypedArray =
  | Uint8Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Float32Array
  | Float64Array;

interface Carriers {
  int8: Int8Array;
  int16: Int16Array;
  int32: Int32Array;
  int64: BigInt64Array;
  uint16: Uint16Array;
  uint32: Uint32Array;
  uint64: BigUint64Array;
  float16: Uint16Array;
  bfloat16: Uint16Array;
  float32: Float32Array;
  float64: Float64Array;
  complex64: Float32Array;
  complex128: Float64Array;
  string: string[];
}

/**
 * The array that carries elements of a type: Float32Array for float32, string[] for string, Uint8Array for the rest.
 */
export type ArrayOf<D extends DType> = D extends keyof Carriers ? Carriers[D] : Uint8Array;

export interface Tensor<D extends DType = DType> {
  readonly dtype: D;
  readonly dims: readonly number[];
  readonly data: ArrayOf<D>;
}

/** A tensor that lives on the GPU. */
export interface GPUTensor<D extends DType = DType> {
  readonly dtype: D;
  readonly dims: readonly number[];
  readonly buffer: GPUBuffer;
}

/** Anything a value slot holds: a tensor, a sequence, an optional (null is "none"), a map. */
export type Value = Tensor | readonly Value[] | ReadonlyMap<string | bigint | number, Value> | null;

/** An input, by the array that carries it: the generated index.d.ts says it so. */
export type InputTensor<A> =
  | A
  | { readonly data: A; readonly dims: readonly number[]; readonly dtype?: DType }
  | { readonly buffer: GPUBuffer; readonly dims: readonly number[] }
  | GPUBuffer;

/** An output, by the array that carries it. */
export interface OutputTensor<A> {
  readonly dtype: DType;
  readonly dims: readonly number[];
  readonly data: A;
}

/**
 * What may be given for an input: the array alone where the shape is fixed, or the array (or GPU buffer) with its
 * dims.
 */
export type InputValue<D extends DType = DType> =
  | ArrayOf<D>
  | { readonly data: ArrayOf<D> | TypedArray | readonly string[]; readonly dims: readonly number[]; readonly dtype?: D }
  | { readonly buffer: GPUBuffer; readonly dims: readonly number[]; readonly dtype?: D }
  | GPUBuffer
  | Value;

export function isDType(name: unknown): name is DType {
  return name === "string" || (typeof name === "string" && Object.hasOwn(arrays, name));
}

/** Elements of a typed array that hold `elements` elements of a type: 4-bit types pack two, complex ones take two. */
export function storedLength(dtype: DType, elements: number): number {
  if (dtype === "int4" || dtype === "uint4" || dtype === "float4e2m1") return Math.ceil(elements / 2);
  if (dtype === "int2" || dtype === "uint2") return Math.ceil(elements / 4);
  return dtype.startsWith("complex") ? 2 * elements : elements;
}

/** Bytes of one element of the typed array that carries a type. */
export function storedBytes(dtype: StoredDType): number {
  return arrays[dtype].BYTES_PER_ELEMENT;
}

/** A typed array over existing memory. `length` counts its elements; without it the view spans to the end. */
export function viewOf(dtype: DType, memory: ArrayBufferLike, offset: number, length: number): TypedArray {
  if (dtype === "string") throw new InputError("strings have no typed array");
  return new (arrays[dtype] as new (memory: ArrayBufferLike, offset: number, length: number) => TypedArray)(
    memory,
    offset,
    length,
  );
}

/** The bytes of a typed array, without a copy. */
export function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return "Array";
  return typeof value === "object" ? value.constructor.name : typeof value;
}

function isGPUBuffer(value: unknown): value is GPUBuffer {
  return typeof value === "object" && value !== null && "mapAsync" in value && "usage" in value;
}

/** An input after its checks: dense bytes, strings, or a GPU buffer, with the dims it has. */
export type CheckedInput = {
  readonly dims: readonly number[];
  readonly data: TypedArray | readonly string[] | GPUBuffer;
};

/**
 * Checks one tensor input against its declared type and binds the symbols of its shape.
 * Throws InputError that names what was expected and what was given.
 */
export function checkInput(
  name: string,
  dtype: DType,
  shape: readonly Dim[],
  value: unknown,
  symbols: Symbols,
): CheckedInput {
  const where = `input '${name}'`;
  const boxed = typeof value === "object" && value !== null && "dims" in value;
  const box = value as { data?: unknown; buffer?: unknown; dims: readonly number[]; dtype?: DType };
  const data = boxed ? (box.data ?? box.buffer) : value;
  if (boxed && box.dtype !== undefined && box.dtype !== dtype) {
    throw new InputError(`${where}: expected dtype ${dtype}, got ${box.dtype}`);
  }
  let dims: readonly number[];
  if (boxed) dims = Array.from(box.dims);
  else {
    const fixed = shape.filter((dim) => typeof dim === "number");
    if (fixed.length !== shape.length) {
      throw new InputError(
        `${where}: its shape ${printShape(shape)} is not fixed: give {data, dims} instead of the array alone`,
      );
    }
    dims = fixed;
  }
  if (dims.some((dim) => !Number.isSafeInteger(dim) || dim < 0)) {
    throw new InputError(`${where}: expected dims to be non-negative integers, got [${dims.join(", ")}]`);
  }
  bindShape(shape, dims, symbols, where);
  if (isGPUBuffer(data)) return { dims, data };
  const expected = storedLength(dtype, product(dims));
  const array = acceptArray(dtype, data, where);
  if (array.length !== expected) {
    throw new InputError(`${where}: expected ${expected} elements for shape [${dims.join(", ")}], got ${array.length}`);
  }
  return { dims, data: array };
}

function acceptArray(dtype: DType, data: unknown, where: string): TypedArray | readonly string[] {
  if (dtype === "string") {
    if (Array.isArray(data) && data.every((item) => typeof item === "string")) return data;
    throw new InputError(`${where}: expected an array of strings, got ${describe(data)}`);
  }
  const Expected = arrays[dtype];
  if (data instanceof Expected) return data;
  if (ArrayBuffer.isView(data) && !(data instanceof DataView)) {
    const kind = describe(data);
    // Float16Array has the same bits; Uint8ClampedArray, the pixels of a canvas, is a Uint8Array to us.
    if (dtype === "float16" && kind === "Float16Array")
      return new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
    if (Expected === Uint8Array && data instanceof Uint8ClampedArray) return bytesOf(data);
  }
  const hint = dtype === "float16" && data instanceof Float32Array ? ": convert it with toFloat16()" : "";
  throw new InputError(`${where}: expected ${dtype} as ${Expected.name}, got ${describe(data)}${hint}`);
}

const scratch = new DataView(new ArrayBuffer(4));

/** The float32 value of IEEE half bits, by a table built at the first call. */
let halves: Float32Array | undefined;

function halfTable(): Float32Array {
  if (halves) return halves;
  halves = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const magnitude =
      exponent === 31
        ? fraction
          ? NaN
          : Infinity
        : exponent
          ? (1024 + fraction) * 2 ** (exponent - 25)
          : fraction * 2 ** -24;
    halves[bits] = bits & 0x8000 ? -magnitude : magnitude;
  }
  return halves;
}

/** Converts IEEE half bits to float32, exactly. */
export function fromFloat16(bits: Uint16Array, target = new Float32Array(bits.length)): Float32Array {
  const table = halfTable();
  for (let index = 0; index < bits.length; index++) target[index] = table[bits[index]];
  return target;
}

/** Rounds float32 to IEEE half bits, to nearest, ties to even. */
export function toFloat16(values: ArrayLike<number>): Uint16Array {
  const bits = new Uint16Array(values.length);
  for (let index = 0; index < bits.length; index++) bits[index] = roundToHalf(values[index]);
  return bits;
}

function roundToHalf(value: number): number {
  scratch.setFloat32(0, value);
  const word = scratch.getUint32(0);
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  // Subnormal halves: multiples of 2^-24, rounded to even by adding and removing 2^-1 in float32.
  scratch.setUint32(0, magnitude);
  const small = Math.fround(scratch.getFloat32(0) + 0.5);
  scratch.setFloat32(0, small);
  return sign | (scratch.getUint32(0) - 0x3f000000);
}
