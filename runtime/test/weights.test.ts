import { expect, test } from "vitest";
import { load, toFloat16, type Tensor } from "../src/index.ts";
import type { Buffer, Manifest, Weight } from "../src/manifest.ts";
import { decodeWeight } from "../src/weights.ts";
import { bundleFiles, facts } from "./bundle.ts";
import { f32, kernels, KERNELS, run } from "./programs.ts";
import { serve } from "./server.ts";

const bytes = (array: ArrayBufferView): Uint8Array<ArrayBuffer> =>
  new Uint8Array(array.buffer as ArrayBuffer, array.byteOffset, array.byteLength).slice();
const floats = (decoded: Uint8Array): number[] => [...new Float32Array(decoded.slice().buffer)];
const target = (elements: number, dtype: Buffer["dtype"] = "float32"): { bytes: number; dtype: Buffer["dtype"] } => ({
  bytes: 4 * elements,
  dtype,
});

test("f16 is widened exactly", () => {
  const values = [0, 1, -2.5, 65504, 2 ** -24];
  expect(floats(decodeWeight({ encoding: "f16", pieces: [] }, [bytes(toFloat16(values))], target(5)))).toEqual(values);
});

test("int8 takes one scale a block", () => {
  const weight: Weight = { encoding: "int8", pieces: [{ shard: 0, offset: 0, bytes: 6 }], scales: [], channel: 3 };
  const parts = [bytes(Int8Array.of(1, -2, 3, 4, 5, -128)), bytes(Float32Array.of(0.5, 2))];
  expect(floats(decodeWeight(weight, parts, target(6)))).toEqual([0.5, -1, 1.5, 8, 10, -256]);
});

test("int8 with lanes takes one scale a lane of a block", () => {
  const weight: Weight = {
    encoding: "int8",
    pieces: [{ shard: 0, offset: 0, bytes: 8 }],
    scales: [],
    channel: 4,
    lanes: 2,
  };
  const parts = [bytes(Int8Array.of(1, 1, 2, 2, 1, 1, 2, 2)), bytes(Float32Array.of(1, 10, 100, 1000))];
  expect(floats(decodeWeight(weight, parts, target(8)))).toEqual([1, 10, 2, 20, 100, 1000, 200, 2000]);
});

test("fill repeats its value in the buffer's type", () => {
  expect(floats(decodeWeight({ encoding: "fill", value: 0.5 }, [], target(3)))).toEqual([0.5, 0.5, 0.5]);
  expect([
    ...new Int32Array(decodeWeight({ encoding: "fill", value: -7 }, [], target(2, "int32")).slice().buffer),
  ]).toEqual([-7, -7]);
});

test("pieces are put together, from unaligned places and over shards, and no other shard is fetched", async () => {
  const values = Float32Array.from({ length: 6 }, (_, index) => index + 0.25);
  const whole = bytes(values);
  const shards = [
    new Uint8Array([9, 9, 9, ...whole.subarray(0, 10)]),
    new Uint8Array(50),
    new Uint8Array([...whole.subarray(10), 7]),
  ];
  const files = {
    "kernels.js": KERNELS,
    ...Object.fromEntries(shards.map((shard, index) => [`weights-0${index}.bin`, shard])),
  };
  const pieces = [
    { shard: 0, offset: 3, bytes: 10 },
    { shard: 2, offset: 0, bytes: 14 },
  ];
  const manifest: Manifest = {
    ...(JSON.parse(bundleFiles()["model.json"] as string) as Manifest),
    inputs: [{ name: "x", dtype: "float32", shape: [6] }],
    outputs: [{ name: "y", dtype: "float32", shape: [6] }],
    weights: { shards: shards.map((shard, index) => ({ file: `weights-0${index}.bin`, ...facts(shard) })) },
    programs: {
      js: {
        buffers: [f32("input", [6]), f32("weight", [6], { weight: { encoding: "raw", pieces } }), f32("output", [6])],
        kernels,
        steps: [run("plus", [0, 1, 2], [6])],
        inputs: [0],
        outputs: [2],
      },
    },
  };
  // Over http a kernel module cannot be imported in Node: its URL is redirected to a data URL.
  const { url, requests } = await serve({ ...files, "model.json": JSON.stringify(manifest) });
  const transformUrl = (href: string): string =>
    href.endsWith(".js") ? `data:text/javascript,${encodeURIComponent(KERNELS)}` : href;
  const model = await load(url, { backend: "js", transformUrl });
  const { y } = (await model.run({ x: new Float32Array(6) })) as { y: Tensor };
  expect(y.data).toEqual(values);
  expect(requests.has("weights-01.bin")).toBe(false);
});
