// Tiny bundles, written by hand: what the compiler would make of  y = x * w + x  and variations of it.

import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll } from "vitest";
import type { Buffer as ModelBuffer, Manifest, Program } from "../src/manifest.ts";
import { assemble } from "./wasm-assembler.ts";

const written: string[] = [];
afterAll(() => Promise.all(written.splice(0).map((folder) => rm(folder, { recursive: true }))));

export type Content = Record<string, string | Uint8Array>;

export function facts(content: string | Uint8Array): { bytes: number; sha256: string } {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  return { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
}

const KERNELS_JS = `
export function mul(a, b, y, n) { for (let i = 0; i < n; i++) y[i] = Math.fround(a[i] * b[i]); }
export function add(a, b, y, n) { for (let i = 0; i < n; i++) y[i] = Math.fround(a[i] + b[i]); }
export function fail() { throw new Error("on purpose"); }
`;

const wgsl = (name: string, operator: string): string => `//# kernel ${name}
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> p: array<vec4<i32>, 1>;
@compute @workgroup_size(4) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (i32(id.x) < p[0].x) { y[id.x] = a[id.x] ${operator} b[id.x]; }
}
`;

export const KERNELS_WGSL = wgsl("mul", "*") + wgsl("add", "+");

export const WEIGHTS = Float32Array.of(1, 2, 3, 4, 5, 6);

const tensor = (role: ModelBuffer["role"], extra: Partial<ModelBuffer> = {}): ModelBuffer => ({
  role,
  dtype: "float32",
  shape: [2, 3],
  elements: 6,
  bytes: 24,
  ...extra,
});

/** y = x * w + x over [2, 3], with a static plan. */
export function scaleProgram(backend: "js" | "wasm" | "webgpu"): Program {
  const place = (index: number): Partial<ModelBuffer> =>
    backend === "webgpu" ? { slot: index } : { offset: 32 * index };
  const call = (run: number, args: number[]): Program["steps"][number] =>
    backend === "wasm"
      ? { run, args, extent: 6 }
      : { run, args, params: [6], ...(backend === "webgpu" && { grid: [2, 1, 1] as const }) };
  const kernel = (name: string): Program["kernels"][number] =>
    backend === "webgpu"
      ? { name, entry: "main", bindings: ["read", "read", "read_write"], workgroup: [4, 1, 1] }
      : { name, export: name, ...(backend === "wasm" && { parallel: true }) };
  return {
    buffers: [
      tensor("input", place(0)),
      tensor("weight", { weight: { encoding: "raw", pieces: [{ shard: 0, offset: 0, bytes: 24 }] } }),
      tensor("temporary", place(1)),
      tensor("output", place(2)),
    ],
    kernels: [kernel("mul"), kernel("add")],
    steps: [call(0, [0, 1, 2]), call(1, [2, 0, 3])],
    inputs: [0],
    outputs: [3],
    arenaBytes: backend === "webgpu" ? null : 96,
  };
}

export function scaleManifest(): Manifest {
  return {
    format: 1,
    name: "scale",
    inputs: [{ name: "x", dtype: "float32", shape: [2, 3] }],
    outputs: [{ name: "y", dtype: "float32", shape: [2, 3] }],
    symbols: [],
    weights: { shards: [] },
    files: {},
    programs: { js: scaleProgram("js"), wasm: scaleProgram("wasm"), webgpu: scaleProgram("webgpu") },
  };
}

/** Files of a bundle around a manifest: kernels, one shard, and the facts about them. */
export function bundleFiles(
  manifest: Manifest = scaleManifest(),
  extra: Content = {},
  shard: Uint8Array = new Uint8Array(WEIGHTS.buffer),
): Content {
  const files: Content = {
    "kernels.js": KERNELS_JS,
    "kernels.wgsl": KERNELS_WGSL,
    "kernels.wasm": assemble(),
    "kernels.threads.wasm": assemble({ shared: true }),
    ...extra,
  };
  const complete: Manifest = {
    ...manifest,
    weights: { shards: [{ file: "weights-00.bin", ...facts(shard) }] },
    files: Object.fromEntries(Object.entries(files).map(([name, content]) => [name, facts(content)])),
  };
  return { ...files, "weights-00.bin": shard, "model.json": JSON.stringify(complete) };
}

/** Writes files to a fresh folder and returns its URL. */
export async function writeBundle(files: Content = bundleFiles()): Promise<URL> {
  const folder = await mkdtemp(join(tmpdir(), "webdnn-"));
  written.push(folder);
  await Promise.all(Object.entries(files).map(([name, content]) => writeFile(join(folder, name), content)));
  await writeFile(join(folder, "package.json"), '{"type":"module"}');
  return pathToFileURL(`${folder}/`);
}
