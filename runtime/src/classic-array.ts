// The arrays through which the first WebDNN's programs read and write a model: float32, whatever the model's own types
// are.

import { ShapeError } from "./errors.ts";
import { fromFloat16, toFloat16, viewOf, type DType, type TypedArray } from "./tensors.ts";

type Nested = number | ArrayLike<number> | readonly Nested[];

function flatten(data: ArrayLike<Nested>): ArrayLike<number> {
  return Array.isArray(data) ? (data.flat(Infinity) as number[]) : (data as ArrayLike<number>);
}

/** Methods of Float32Array that these arrays have too. */
// prettier-ignore
const METHODS = [
  "copyWithin", "entries", "every", "fill", "filter", "find", "findIndex", "forEach", "includes", "indexOf", "join", "keys",
  "lastIndexOf", "map", "reduce", "reduceRight", "reverse", "slice", "some", "sort", "subarray", "toLocaleString", "toString", "values",
] as const;

// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging, @typescript-eslint/no-empty-object-type -- the constructor defines every method of METHODS
export interface ClassicArray extends Pick<Float32Array, (typeof METHODS)[number]> {}

// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging -- see above
export class ClassicArray {
  readonly offset = 0;
  private actual: Float32Array | undefined;

  constructor(
    readonly name: string,
    /** Current number of elements, or undefined while placeholders have no value. */
    private readonly size: () => number | undefined,
    readonly isDynamic: boolean,
  ) {
    for (const method of METHODS) {
      const call = (...args: unknown[]): unknown =>
        (this.toActual()[method] as (...args: unknown[]) => unknown)(...args);
      Object.defineProperty(this, method, { value: call });
    }
  }

  /** The Float32Array itself; the same one until the size changes. */
  toActual(): Float32Array {
    const size = this.size();
    if (size === undefined)
      throw new ShapeError(`'${this.name}' has a dynamic shape: call setPlaceholderValue() first`);
    if (this.actual?.length !== size) this.actual = new Float32Array(size);
    return this.actual;
  }

  /** Copies values, nested arrays flattened. */
  set(data: ArrayLike<Nested>, offset = 0): void {
    this.toActual().set(flatten(data), offset);
  }

  [Symbol.iterator](): ArrayIterator<number> {
    return this.toActual().values();
  }

  get length(): number {
    return this.toActual().length;
  }

  get buffer(): ArrayBufferLike {
    return this.toActual().buffer;
  }

  get byteLength(): number {
    return this.toActual().byteLength;
  }

  get byteOffset(): number {
    return this.toActual().byteOffset;
  }
}

/** float32 values as a model's input type. */
export function encodeValues(dtype: DType, values: Float32Array): TypedArray {
  if (dtype === "float32") return values;
  if (dtype === "float16") return toFloat16(values);
  if (dtype === "int64" || dtype === "uint64") {
    const wide = viewOf(dtype, new ArrayBuffer(8 * values.length), 0, values.length) as BigInt64Array;
    values.forEach((value, index) => (wide[index] = BigInt(Math.trunc(value))));
    return wide;
  }
  if (dtype === "bool") return Uint8Array.from(values, Number.bind(null)).map((value) => (value ? 1 : 0));
  const array = viewOf(dtype, new ArrayBuffer(8 * values.length), 0, values.length);
  (array as Float64Array).set(values);
  return array;
}

/** A model's output as float32 values. */
export function decodeValues(dtype: DType, data: TypedArray): ArrayLike<number> {
  if (dtype === "float16") return fromFloat16(data as Uint16Array);
  if (data instanceof BigInt64Array || data instanceof BigUint64Array)
    return Float32Array.from(data as BigInt64Array, Number);
  return data;
}
