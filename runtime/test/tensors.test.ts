import { expect, test } from "vitest";
import { InputError } from "../src/errors.ts";
import { checkInput, fromFloat16, storedLength, toFloat16, type DType } from "../src/tensors.ts";

const check = (
  dtype: DType,
  value: unknown,
  shape: readonly (number | string)[] = [2],
): ReturnType<typeof checkInput> => checkInput("x", dtype, shape, value, new Map());

test.each<[DType, unknown]>([
  ["float32", Float32Array.of(1, 2)],
  ["float64", Float64Array.of(1, 2)],
  ["int64", BigInt64Array.of(1n, 2n)],
  ["uint64", BigUint64Array.of(1n, 2n)],
  ["bool", Uint8Array.of(0, 1)],
  ["uint8", Uint8ClampedArray.of(0, 1)],
  ["float16", Uint16Array.of(0, 1)],
  ["int4", Uint8Array.of(0x21)],
  ["string", ["a", "b"]],
])("%s is accepted as its array", (dtype, value) => {
  expect(check(dtype, value).dims).toEqual([2]);
});

test.each<[DType, unknown, string]>([
  ["float32", Float64Array.of(1, 2), "input 'x': expected float32 as Float32Array, got Float64Array"],
  ["float32", [1, 2], "input 'x': expected float32 as Float32Array, got Array"],
  ["float32", undefined, "input 'x': expected float32 as Float32Array, got undefined"],
  ["int64", Int32Array.of(1, 2), "input 'x': expected int64 as BigInt64Array, got Int32Array"],
  [
    "float16",
    Float32Array.of(1, 2),
    "input 'x': expected float16 as Uint16Array, got Float32Array: convert it with toFloat16()",
  ],
  ["string", [1, 2], "input 'x': expected an array of strings, got Array"],
  ["float32", Float32Array.of(1), "input 'x': expected 2 elements for shape [2], got 1"],
  [
    "float32",
    { data: Float32Array.of(1, 2), dims: [2], dtype: "int32" },
    "input 'x': expected dtype float32, got int32",
  ],
  [
    "float32",
    { data: Float32Array.of(1, 2), dims: [-2] },
    "input 'x': expected dims to be non-negative integers, got [-2]",
  ],
])("%s: a wrong value is named", (dtype, value, message) => {
  expect(() => check(dtype, value)).toThrow(new InputError(message));
});

test("a shape that is not fixed needs dims", () => {
  expect(() => check("float32", Float32Array.of(1), ["n"])).toThrow(
    "its shape [n] is not fixed: give {data, dims} instead",
  );
  expect(check("float32", { data: Float32Array.of(1, 2, 3), dims: [3] }, ["n"]).dims).toEqual([3]);
});

test("packed and complex types take another number of array elements", () => {
  expect([
    storedLength("int4", 3),
    storedLength("uint2", 5),
    storedLength("complex64", 3),
    storedLength("float32", 3),
  ]).toEqual([2, 2, 6, 3]);
});

test("every half survives the way to float32 and back", () => {
  const bits = Uint16Array.from({ length: 65536 }, (_, index) => index);
  const back = toFloat16(fromFloat16(bits));
  const isNaN16 = (half: number): boolean => (half & 0x7c00) === 0x7c00 && (half & 0x3ff) !== 0;
  const wrong = [...bits].filter((half) => (isNaN16(half) ? !isNaN16(back[half]) : back[half] !== half));
  expect(wrong).toEqual([]);
});

test.each([
  [65504, 0x7bff],
  [65519.99, 0x7bff],
  [65520, 0x7c00],
  [1e9, 0x7c00],
  [-1e9, 0xfc00],
  [1 + 2 ** -11, 0x3c00],
  [1 + 3 * 2 ** -11, 0x3c02],
  [2 ** -24, 1],
  [2 ** -25, 0],
  [2 ** -25 * 1.0001, 1],
  [1.5 * 2 ** -24, 2],
  [-0, 0x8000],
  [2 ** -14 - 2 ** -26, 0x0400],
])("%d rounds to half bits %d", (value, bits) => {
  expect(toFloat16([value])[0]).toBe(bits);
});
