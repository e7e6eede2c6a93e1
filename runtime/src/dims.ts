// Dimensions: small integer expressions over named symbols, evaluated without eval.

import { ModelError, ShapeError } from "./errors.ts";

export type DimFunction = "+" | "*" | "floordiv" | "mod" | "max" | "min" | "eq" | "lt";

/** A number, a symbol's name, or a function of two dims. */
export type Dim = number | string | readonly [DimFunction, Dim, Dim];

/** Values of the symbols known so far. */
export type Symbols = Map<string, number>;

const functions: Record<DimFunction, (left: number, right: number) => number> = {
  "+": (left, right) => left + right,
  "*": (left, right) => left * right,
  floordiv: (left, right) => (right === 0 ? 0 : Math.floor(left / right)),
  mod: (left, right) => (right === 0 ? 0 : left - right * Math.floor(left / right)),
  max: Math.max,
  min: Math.min,
  eq: (left, right) => Number(left === right),
  lt: (left, right) => Number(left < right),
};

/** Value of a dim. Throws ShapeError if it needs a symbol that has no value yet. */
export function evaluate(dim: Dim, symbols: Symbols): number {
  if (typeof dim === "number") return dim;
  if (typeof dim === "string") {
    const value = symbols.get(dim);
    if (value === undefined) throw new ShapeError(`dimension '${dim}' has no value yet`);
    return value;
  }
  return functions[dim[0]](evaluate(dim[1], symbols), evaluate(dim[2], symbols));
}

/** True if `evaluate` would succeed. */
export function isKnown(dim: Dim, symbols: Symbols): boolean {
  if (typeof dim === "number") return true;
  if (typeof dim === "string") return symbols.has(dim);
  return isKnown(dim[1], symbols) && isKnown(dim[2], symbols);
}

export function product(dims: readonly number[]): number {
  return dims.reduce((size, dim) => size * dim, 1);
}

export function printDim(dim: Dim): string {
  if (!Array.isArray(dim)) return String(dim);
  const [name, left, right] = dim as readonly [DimFunction, Dim, Dim];
  const [a, b] = [printDim(left), printDim(right)];
  return name === "+" || name === "*" ? `(${a} ${name} ${b})` : `${name}(${a}, ${b})`;
}

export function printShape(shape: readonly Dim[]): string {
  return `[${shape.map(printDim).join(", ")}]`;
}

/** Throws ModelError unless `dim` is one; `symbols` are the declared names. */
export function checkDim(dim: unknown, symbols: ReadonlySet<string>, where: string): void {
  if (typeof dim === "number") {
    if (!Number.isSafeInteger(dim)) throw new ModelError(`${where}: expected an integer dimension, got ${dim}`);
    return;
  }
  if (typeof dim === "string") {
    if (!symbols.has(dim)) throw new ModelError(`${where}: symbol '${dim}' is not declared in "symbols"`);
    return;
  }
  if (!Array.isArray(dim) || dim.length !== 3 || typeof dim[0] !== "string" || !Object.hasOwn(functions, dim[0])) {
    throw new ModelError(`${where}: expected a dimension, got ${JSON.stringify(dim)}`);
  }
  checkDim(dim[1], symbols, where);
  checkDim(dim[2], symbols, where);
}

/**
 * Gives symbols their values from the actual dims of one input, in place, and checks what is already known.
 * Dims that are expressions are left to `checkShape`, once every input has been seen.
 */
export function bindShape(shape: readonly Dim[], dims: readonly number[], symbols: Symbols, where: string): void {
  if (shape.length !== dims.length) {
    throw new ShapeError(
      `${where}: expected ${shape.length} dimensions ${printShape(shape)}, got [${dims.join(", ")}]`,
    );
  }
  shape.forEach((dim, axis) => {
    if (typeof dim === "string" && !symbols.has(dim)) symbols.set(dim, dims[axis]);
  });
}

/** Throws ShapeError unless every dim of the shape has the actual value. */
export function checkShape(shape: readonly Dim[], dims: readonly number[], symbols: Symbols, where: string): void {
  shape.forEach((dim, axis) => {
    const expected = evaluate(dim, symbols);
    if (expected !== dims[axis]) {
      const name = typeof dim === "number" ? "" : ` (${printDim(dim)})`;
      throw new ShapeError(`${where}: axis ${axis}: expected ${expected}${name}, got ${dims[axis]}`);
    }
  });
}
