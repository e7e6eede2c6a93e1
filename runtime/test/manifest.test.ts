import { expect, test } from "vitest";
import { ModelError } from "../src/errors.ts";
import { parseManifest } from "../src/manifest-check.ts";
import type { Manifest } from "../src/manifest.ts";
import { bundleFiles } from "./bundle.ts";

const valid = (): Manifest => JSON.parse(bundleFiles()["model.json"] as string) as Manifest;

type Loose = Record<string, never> & { programs: { js: { buffers: Loose[]; steps: Loose[]; inputs: unknown[] } } };

/** The manifest with something changed that the types would not allow. */
function broken(change: (manifest: Loose) => void): string {
  const manifest = valid() as unknown as Loose;
  change(manifest);
  return JSON.stringify(manifest);
}

test("a manifest is read as it is", () => {
  expect(parseManifest(JSON.stringify(valid()))).toEqual(valid());
});

test.each<[string, string, string]>([
  ["text that is not JSON", "<!doctype html>", "model.json is not JSON"],
  ["another format version", broken((m) => Object.assign(m, { format: 2 })), "format: expected 1, got 2"],
  ["an unknown backend", broken((m) => Object.assign(m.programs, { webgl: {} })), "unknown backend 'webgl'"],
  [
    "an unknown dtype",
    broken((m) => Object.assign(m, { inputs: [{ name: "x", dtype: "float33", shape: [] }] })),
    "inputs 'x': unknown dtype \"float33\"",
  ],
  [
    "an undeclared symbol",
    broken((m) => Object.assign(m, { outputs: [{ name: "y", dtype: "float32", shape: ["n"] }] })),
    "symbol 'n' is not declared",
  ],
  [
    "a buffer that is not there",
    broken((m) => Object.assign(m.programs.js.steps[0], { args: [0, 1, 99] })),
    "program js: step 0: there is no buffer 99",
  ],
  [
    "a kernel that is not there",
    broken((m) => Object.assign(m.programs.js.steps[1], { run: 7 })),
    "program js: step 1: there is no kernel 7",
  ],
  [
    "a host kernel without a list",
    broken((m) => Object.assign(m.programs.js.steps[1], { on: "js" })),
    "there is no kernel 1",
  ],
  [
    "an unknown step",
    broken((m) => m.programs.js.steps.push({ jump: 1 } as unknown as Loose)),
    'step 2: unknown step {"jump":1}',
  ],
  [
    "a step without its arguments",
    broken((m) => Object.assign(m.programs.js.steps, [{ run: 0 }])),
    "model.json is malformed",
  ],
  ["a step that is nothing", broken((m) => Object.assign(m.programs.js.steps, [null])), "step 0: expected an object"],
  [
    "a weight outside of its shard",
    broken((m) =>
      Object.assign(m.programs.js.buffers[1], {
        weight: { encoding: "raw", pieces: [{ shard: 0, offset: 4, bytes: 24 }] },
      }),
    ),
    "outside the shards",
  ],
  [
    "an unknown encoding",
    broken((m) => Object.assign(m.programs.js.buffers[1], { weight: { encoding: "zip", pieces: [] } })),
    'unknown encoding "zip"',
  ],
  ["odd bytes", broken((m) => Object.assign(m.programs.js.buffers[2], { bytes: 22 })), "multiple of 4, got 22"],
  ["a misaligned offset", broken((m) => Object.assign(m.programs.js.buffers[2], { offset: 8 })), "multiple of 16"],
  ["too few inputs", broken((m) => Object.assign(m.programs.js, { inputs: [] })), "expected 1 inputs, got 0"],
])("%s is refused", (_, text, message) => {
  expect(() => parseManifest(text)).toThrow(ModelError);
  expect(() => parseManifest(text)).toThrow(message);
});
