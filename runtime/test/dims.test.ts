import { describe, expect, test } from "vitest";
import { bindShape, checkDim, checkShape, evaluate, isKnown, printShape, type Dim, type Symbols } from "../src/dims.ts";
import { ModelError, ShapeError } from "../src/errors.ts";

const symbols: Symbols = new Map([
  ["n", 7],
  ["zero", 0],
]);

test.each<[Dim, number]>([
  [3, 3],
  ["n", 7],
  [["+", "n", -2], 5],
  [["*", "n", ["+", "n", 1]], 56],
  [["floordiv", -7, 2], -4],
  [["mod", -7, 3], 2],
  [["mod", 7, -3], -2],
  [["floordiv", "n", "zero"], 0],
  [["mod", "n", "zero"], 0],
  [["max", "n", 9], 9],
  [["min", "n", 9], 7],
  [["eq", "n", 7], 1],
  [["lt", 9, "n"], 0],
])("%j is %d", (dim, value) => {
  expect(evaluate(dim, symbols)).toBe(value);
});

test("a symbol without a value is an error that names it", () => {
  expect(() => evaluate(["+", "m", 1], symbols)).toThrow(new ShapeError("dimension 'm' has no value yet"));
  expect(isKnown(["+", "m", 1], symbols)).toBe(false);
  expect(isKnown(["+", "n", 1], symbols)).toBe(true);
});

test("input shapes give symbols their values, and contradict them", () => {
  const found: Symbols = new Map();
  bindShape(["batch", 3, ["*", "side", 2], "side"], [2, 3, 8, 4], found, "input 'x'");
  expect([...found]).toEqual([
    ["batch", 2],
    ["side", 4],
  ]);
  checkShape(["batch", 3, ["*", "side", 2], "side"], [2, 3, 8, 4], found, "input 'x'");
  expect(() => {
    checkShape(["batch", "side"], [5, 4], found, "input 'y'");
  }).toThrow("input 'y': axis 0: expected 2 (batch), got 5");
  expect(() => {
    bindShape(["batch", 3], [2], found, "input 'y'");
  }).toThrow("input 'y': expected 2 dimensions [batch, 3], got [2]");
});

describe("in a manifest", () => {
  test.each([[1.5], ["m"], [["pow", 1, 2]], [["+", 1]], [null], [["+", 1, ["constructor", 1, 2]]]])(
    "%j is refused",
    (dim) => {
      expect(() => {
        checkDim(dim, new Set(["n"]), "here");
      }).toThrow(ModelError);
    },
  );
});

test("shapes are printed as formulas", () => {
  expect(printShape(["batch", ["+", "past", ["*", 2, "n"]], ["max", 1, "n"]])).toBe(
    "[batch, (past + (2 * n)), max(1, n)]",
  );
});
