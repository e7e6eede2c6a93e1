// Over the built files, as far as workers are concerned: `npm run build` comes first.

import { expect, test } from "vitest";
import { loadInWorker, type Tensor } from "../src/index.ts";
import { Staging } from "../src/staging.ts";
import { f32, programBundle, run, slot } from "./programs.ts";

const workerUrl = new URL("../dist/webdnn.worker.js", import.meta.url);
const large = (first: number): Float32Array => Float32Array.from({ length: 5000 }, (_, index) => first + index);

test("large arrays move into shared memory, everything else stays as it is", () => {
  const small = Float32Array.of(1, 2);
  const boxed = { data: BigInt64Array.from({ length: 3001 }, (_, index) => BigInt(index)), dims: [3001] };
  const part = large(0).subarray(1, 4999);
  const given = { small, boxed, part, words: { data: ["a"], dims: [1] } };
  const { inputs } = new Staging().put(given);
  expect(inputs).toEqual(given);
  expect([inputs.small, inputs.words]).toEqual([small, given.words]);
  const { data } = inputs.boxed as { data: BigInt64Array };
  const moved = inputs.part as Float32Array;
  expect(data.buffer).toBeInstanceOf(SharedArrayBuffer);
  expect(moved.buffer).toBe(data.buffer);
  expect(given.boxed.data.buffer).toBeInstanceOf(ArrayBuffer);
});

test("memory serves one run at a time, and the next one after it", () => {
  const staging = new Staging();
  const memoryOf = (staged: ReturnType<Staging["put"]>): unknown => (staged.inputs.x as Float32Array).buffer;
  const [first, second] = [staging.put({ x: large(0) }), staging.put({ x: large(1) })];
  expect(memoryOf(first)).not.toBe(memoryOf(second));
  second.release();
  const third = staging.put({ x: large(2) });
  expect(memoryOf(third)).toBe(memoryOf(second));
  expect(first.inputs.x).toEqual(large(0));
});

test.each([["kernel"], ["value"]])(
  "runs of a model in a worker do not share what they were given (%s)",
  async (how) => {
    const inputs = [{ name: "x", dtype: "float32", shape: ["n"] }] as const;
    const outputs = [{ name: "y", dtype: "float32", shape: ["n"] }] as const;
    const parts =
      how === "value"
        ? { buffers: [slot("float32", ["n"])], steps: [], outputBuffers: [0] }
        : { buffers: [f32("input", ["n"]), f32("output", ["n"])], steps: [run("increment", [0, 1], ["n"])] };
    const url = await programBundle({ ...parts, inputs, outputs, symbols: ["n"] }, "js");
    const model = await loadInWorker(url, { backend: "js", workerUrl });
    const ask = async (first: number): Promise<Float32Array> =>
      ((await model.run({ x: { data: large(first), dims: [5000] } })) as { y: Tensor<"float32"> }).y.data;
    const one = await ask(0);
    const both = await Promise.all([ask(10), ask(20)]);
    const step = how === "value" ? 0 : 1;
    expect(one).toEqual(large(step));
    expect(both).toEqual([large(10 + step), large(20 + step)]);
    expect(one.buffer).toBeInstanceOf(ArrayBuffer);
    await model.dispose();
  },
);
