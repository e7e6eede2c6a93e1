// Hand-written programs for control flow and dynamic shapes, the same for every backend that the test names.

import type { Dim } from "../src/dims.ts";
import type { Buffer, Kernel, Manifest, Program, Step } from "../src/manifest.ts";
import { bundleFiles, writeBundle, type Content } from "./bundle.ts";

export const f32 = (role: Buffer["role"], shape: Buffer["shape"] = [1], extra: Partial<Buffer> = {}): Buffer => {
  const elements = shape.reduce(
    (size, dim) => (typeof size === "number" && typeof dim === "number" ? size * dim : ["*", size, dim]),
    1,
  );
  return {
    role,
    dtype: "float32",
    shape,
    elements,
    bytes: typeof elements === "number" ? 4 * elements : ["*", 4, elements],
    ...extra,
  };
};

export const i32 = (role: Buffer["role"], shape: Buffer["shape"] = [1]): Buffer => ({
  ...f32(role, shape),
  dtype: "int32",
});

export const slot = (dtype: Buffer["dtype"] = "float32", shape: Buffer["shape"] = []): Buffer => ({
  role: "value",
  dtype,
  shape,
  bytes: 0,
});

/** Kernels in JavaScript: `name(args..., params...)`. */
export const KERNELS = `
export function increment(x, y, n) { for (let i = 0; i < n; i++) y[i] = x[i] + 1; }
export function double(x, y, n) { for (let i = 0; i < n; i++) y[i] = 2 * x[i]; }
export function plus(a, b, y, n) { for (let i = 0; i < n; i++) y[i] = a[i] + b[i]; }
export function fail() { throw new Error("on purpose"); }
export function positive([x], { scale }) {
  const found = Array.from(x.data).filter((value) => value > 0).map((value) => value * scale);
  return [{ dtype: "float32", dims: [found.length], data: Float32Array.from(found) }];
}
export function split([text]) { return [text.data[0].split(" ").map((word) => ({ dtype: "string", dims: [], data: [word] }))]; }
export async function join([words]) { return [{ dtype: "string", dims: [1], data: [words.map((word) => word.data[0]).join("-")] }]; }
export function broken() { throw new Error("on purpose"); }
`;

const NAMES = ["increment", "double", "plus", "fail"];
export const kernels: Kernel[] = NAMES.map((name) => ({ name, export: name }));

/** A step that runs a kernel by name. */
export const run = (name: string, args: readonly number[], params: readonly Dim[] = [1]): Step => ({
  run: NAMES.indexOf(name),
  args,
  params,
});

export type Parts = {
  buffers: readonly Buffer[];
  steps: readonly Step[];
  inputs: Manifest["inputs"];
  outputs: Manifest["outputs"];
  symbols?: readonly string[];
  inputBuffers?: readonly number[];
  outputBuffers?: readonly number[];
};

/**
 * A bundle with one program: input i is buffer i, and outputs are the buffers with that role, unless said otherwise.
 */
export async function programBundle(
  parts: Parts,
  backend: "js" | "wasm" | "webgpu" = "js",
  extra: Content = {},
): Promise<URL> {
  const onHost = backend !== "js";
  const hosted = (steps: readonly Step[]): Step[] =>
    steps.map((step) => {
      if ("run" in step) return { ...step, on: "js" };
      if ("if" in step) return { ...step, then: hosted(step.then), else: hosted(step.else) };
      return "loop" in step ? { loop: { ...step.loop, body: hosted(step.loop.body) } } : step;
    });
  const program: Program = {
    buffers: parts.buffers,
    kernels: onHost ? [] : kernels,
    ...(onHost && { hostKernels: kernels }),
    steps: onHost ? hosted(parts.steps) : parts.steps,
    inputs: parts.inputBuffers ?? parts.inputs.map((_, index) => index),
    outputs: parts.outputBuffers ?? parts.buffers.flatMap(({ role }, index) => (role === "output" ? [index] : [])),
    arenaBytes: null,
  };
  const manifest: Manifest = {
    format: 1,
    name: "steps",
    inputs: parts.inputs,
    outputs: parts.outputs,
    symbols: parts.symbols ?? [],
    programs: { [backend]: program },
  };
  return writeBundle(bundleFiles(manifest, { "kernels.js": KERNELS, ...extra }));
}
