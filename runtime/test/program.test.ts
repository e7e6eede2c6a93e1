import { describe, expect, test } from "vitest";
import {
  OutOfMemoryError,
  load,
  type LoadOptions,
  type Model,
  type ObservationPoint,
  type Tensor,
  type Value,
} from "../src/index.ts";
import type { Step } from "../src/manifest.ts";
import { gpu, noGPU } from "./gpu.ts";
import { f32, i32, programBundle, run, slot, type Parts } from "./programs.ts";

type F = Tensor<"float32">;
const x = (shape: readonly (string | number)[]): Parts["inputs"][number] => ({ name: "x", dtype: "float32", shape });
const y = (shape: readonly (string | number)[]): Parts["outputs"][number] => ({ name: "y", dtype: "float32", shape });
const F32 = (...values: number[]): Float32Array => Float32Array.from(values);

describe.each([["js"], ["wasm"], ["webgpu"]] as const)("on %s", (backend) => {
  const skip = backend === "webgpu" && noGPU !== undefined;
  const open = async (parts: Parts, options: LoadOptions = {}): Promise<Model> =>
    load(await programBundle(parts, backend), { backend, gpu, threads: 1, ...options });
  const once = async (parts: Parts, inputs: Record<string, unknown>): Promise<Record<string, Tensor>> => {
    const model = await open(parts);
    const outputs = (await model.run(inputs as never)) as Record<string, Tensor>;
    await model.dispose();
    return outputs;
  };

  test.skipIf(skip)("after sizes that fit into no memory, smaller ones run", async () => {
    const wide = ["n", 2 ** 20];
    const model = await open({
      buffers: [f32("input", ["n"]), f32("temporary", wide), f32("output", ["n"])],
      steps: [run("increment", [0, 1], ["n"]), run("double", [1, 2], ["n"])],
      inputs: [x(["n"])],
      outputs: [y(["n"])],
      symbols: ["n"],
    });
    for (const n of [2, 9000, 2, 3, 9000, 1]) {
      const result = model.run({ x: { data: new Float32Array(n).fill(4), dims: [n] } });
      if (n === 9000) await expect(result).rejects.toThrow(OutOfMemoryError);
      else expect([...((await result) as { y: F }).y.data]).toEqual(Array<number>(n).fill(10));
    }
    await model.dispose();
  });

  test.skipIf(skip)("dynamic shapes are planned for each size, and memory is shared and reused", async () => {
    const parts: Parts = {
      buffers: [
        f32("input", ["n"]),
        f32("temporary", ["n"]),
        f32("temporary", ["n"]),
        f32("temporary", ["n"]),
        f32("output", ["n"]),
      ],
      steps: [
        run("increment", [0, 1], ["n"]),
        run("double", [1, 2], ["n"]),
        run("increment", [2, 3], ["n"]),
        run("plus", [3, 0, 4], ["n"]),
      ],
      inputs: [x(["n"])],
      outputs: [y(["n"])],
      symbols: ["n"],
    };
    const model = await open(parts);
    for (const n of [3, 100, 0, 7, 5000, 3, 100]) {
      const data = Float32Array.from({ length: n }, (_, index) => index);
      const { y: result } = (await model.run({ x: { data, dims: [n] } })) as { y: F };
      expect(result.dims).toEqual([n]);
      expect([...result.data]).toEqual([...data].map((value) => 3 * value + 3));
    }
    await model.dispose();
  });

  test.skipIf(skip)("If takes the branch that its condition says", async () => {
    const parts: Parts = {
      buffers: [f32("input"), i32("input"), f32("output")],
      steps: [{ if: 1, then: [run("double", [0, 2])], else: [run("increment", [0, 2])] }],
      inputs: [x([1]), { name: "c", dtype: "int32", shape: [1] }],
      outputs: [y([1])],
    };
    expect((await once(parts, { x: F32(4), c: Int32Array.of(1) })).y.data).toEqual(F32(8));
    expect((await once(parts, { x: F32(4), c: Int32Array.of(0) })).y.data).toEqual(F32(5));
  });

  const loopParts = (loop: Partial<Extract<Step, { loop: unknown }>["loop"]>): Parts => ({
    // 0 x, 1 trip, 2 condition, 3 state, 4 next, 5 iteration, 6 going, 7 scattered, 8 y
    buffers: [
      f32("input", [2]),
      i32("input"),
      i32("input"),
      f32("output", [2]),
      f32("temporary", [2]),
      i32("temporary"),
      i32("temporary"),
      f32("output", [4, 2]),
    ],
    steps: [{ loop: { carried: [[0, 3, 4]], body: [run("double", [3, 4], [2])], ...loop } }],
    inputs: [x([2]), { name: "trip", dtype: "int32", shape: [1] }, { name: "condition", dtype: "int32", shape: [1] }],
    outputs: [y([2]), { name: "all", dtype: "float32", shape: [4, 2] }],
  });

  test.skipIf(skip)(
    "a loop carries its state as often as trip says, and not at all if the condition is false",
    async () => {
      const inputs = { x: F32(1, 3), trip: Int32Array.of(4), condition: Int32Array.of(1) };
      const parts = loopParts({ trip: 1, condition: 2, scatter: [[4, 7]] });
      const outputs = await once(parts, inputs);
      expect(outputs.y.data).toEqual(F32(16, 48));
      expect(outputs.all.data).toEqual(F32(2, 6, 4, 12, 8, 24, 16, 48));
      expect(
        (await once(loopParts({ trip: 1, condition: 2 }), { ...inputs, condition: Int32Array.of(0) })).y.data,
      ).toEqual(F32(1, 3));
      expect((await once(loopParts({ trip: 1 }), { ...inputs, trip: Int32Array.of(0) })).y.data).toEqual(F32(1, 3));
    },
  );

  test.skipIf(skip)("a scan walks a sequence, forwards or backwards", async () => {
    const parts: Parts = {
      // 0 sequence, 1 trip, 2 zero, 3 state, 4 next, 5 element, 6 sums
      buffers: [
        f32("input", [3, 2]),
        i32("input"),
        f32("input", [2]),
        f32("temporary", [2]),
        f32("temporary", [2]),
        f32("temporary", [2]),
        f32("output", [3, 2]),
      ],
      steps: [
        {
          loop: {
            trip: 1,
            carried: [[2, 3, 4]],
            gather: [[0, 5, true]],
            scatter: [[4, 6, true]],
            body: [run("plus", [3, 5, 4], [2])],
          },
        },
      ],
      inputs: [x([3, 2]), { name: "trip", dtype: "int32", shape: [1] }, { name: "zero", dtype: "float32", shape: [2] }],
      outputs: [{ name: "y", dtype: "float32", shape: [3, 2] }],
    };
    const outputs = await once(parts, { x: F32(1, 2, 3, 4, 5, 6), trip: Int32Array.of(3), zero: F32(0, 0) });
    expect(outputs.y.data).toEqual(F32(9, 12, 8, 10, 5, 6));
  });

  test.skipIf(skip)("elements that are no whole words are scanned too", async () => {
    const bytes = (role: "input" | "output" | "temporary", shape: number[]): Parts["buffers"][number] => ({
      role,
      dtype: "uint8",
      shape,
      bytes: 4 * Math.ceil(shape.reduce((a, b) => a * b, 1) / 4),
    });
    const parts: Parts = {
      buffers: [bytes("input", [3, 3]), i32("input"), bytes("temporary", [3]), bytes("output", [3, 3])],
      steps: [{ loop: { trip: 1, gather: [[0, 2]], scatter: [[2, 3, true]], body: [] } }],
      inputs: [
        { name: "x", dtype: "uint8", shape: [3, 3] },
        { name: "trip", dtype: "int32", shape: [1] },
      ],
      outputs: [{ name: "y", dtype: "uint8", shape: [3, 3] }],
    };
    const outputs = await once(parts, { x: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9), trip: Int32Array.of(3) });
    expect(outputs.y.data).toEqual(Uint8Array.of(7, 8, 9, 4, 5, 6, 1, 2, 3));
  });

  test.skipIf(skip)("a size that only a host function knows is bound, allocated and freed", async () => {
    const parts: Parts = {
      // 0 x, 1 found (a slot), 2 dense, 3 y
      buffers: [f32("input", ["n"]), slot("float32", ["m"]), f32("temporary", ["m"]), f32("output", ["m"])],
      steps: [
        { host: "positive", args: [0], outs: [1], options: { scale: 10 } },
        { host: "positive", args: [0], outs: [], options: { scale: 1 } },
        { bind: [["m", 1, -1]] },
        { copy: [1, 2] },
        run("increment", [2, 3], ["m"]),
      ],
      inputs: [x(["n"])],
      outputs: [y(["m"])],
      symbols: ["n", "m"],
    };
    const model = await open(parts);
    for (const data of [F32(1, -1, 2), F32(-1), F32(3, 4, 5, 6, 7), F32(1)]) {
      const { y: result } = (await model.run({ x: { data, dims: [data.length] } })) as { y: F };
      expect([...result.data]).toEqual([...data].filter((value) => value > 0).map((value) => 10 * value + 1));
    }
    const hosted = model.placement.filter(({ name }) => name === "positive");
    expect(hosted.map(({ on }) => on)).toEqual(["js"]); // the step without results computes nothing
    await model.dispose();
  });

  test.skipIf(skip)("definitions abbreviate sizes, those of inputs before the run and late ones in it", async () => {
    const parts: Parts = {
      // 0 x, 1 found (a slot), 2 dense, 3 y, 4 doubled
      buffers: [
        f32("input", ["half", 2]),
        slot("float32", ["m"]),
        f32("temporary", ["size"]),
        f32("output", ["m"]),
        f32("output", ["n"]),
      ],
      steps: [
        { define: [["n", ["*", "half", 2]]] },
        run("double", [0, 4], ["n"]),
        { host: "positive", args: [0], outs: [1], options: { scale: 1 } },
        { bind: [["m", 1, -1]] },
        { define: [["size", ["max", "m", 1]]] },
        { copy: [1, 2] },
        run("increment", [2, 3], ["m"]),
      ],
      inputs: [x(["half", 2])],
      outputs: [y(["m"]), { name: "all", dtype: "float32", shape: ["n"] }],
      symbols: ["half", "n", "m", "size"],
    };
    const outputs = await once(parts, { x: { data: F32(1, -1, 2, 3), dims: [2, 2] } });
    expect(outputs.y.data).toEqual(F32(2, 3, 4));
    expect(outputs.all.data).toEqual(F32(2, -2, 4, 6));
  });

  test.skipIf(skip)("a loop collects elements of a number that nobody knows", async () => {
    const parts: Parts = {
      buffers: [f32("input"), i32("input"), f32("temporary"), f32("temporary"), slot("float32", ["count", 1])],
      steps: [
        {
          loop: { trip: 1, carried: [[0, 2, 3]], scatter: [[3, 4]], count: "count", body: [run("increment", [2, 3])] },
        },
      ],
      inputs: [x([1]), { name: "trip", dtype: "int32", shape: [1] }],
      outputs: [y(["count", 1])],
      outputBuffers: [4],
      symbols: ["count"],
    };
    const outputs = await once(parts, { x: F32(5), trip: Int32Array.of(3) });
    expect(outputs.y.dims).toEqual([3, 1]);
    expect(outputs.y.data).toEqual(F32(6, 7, 8));
  });

  test.skipIf(skip)("strings and sequences pass through host functions", async () => {
    const parts: Parts = {
      buffers: [slot("string", [1]), slot("string"), slot("string", [1])],
      steps: [
        { host: "split", args: [0], outs: [1] },
        { bind: [["words", 1, 0]] },
        { host: "join", args: [1], outs: [2] },
      ],
      inputs: [{ name: "x", dtype: "string", shape: [1] }],
      outputs: [
        { name: "y", dtype: "string", shape: [1] },
        { name: "words", sequence: { dtype: "string", shape: [] } },
      ],
      outputBuffers: [2, 1],
      symbols: ["words"],
    };
    const outputs = (await once(parts, { x: ["a b c"] })) as Record<string, Value>;
    expect((outputs.y as Tensor).data).toEqual(["a-b-c"]);
    expect(outputs.words).toHaveLength(3);
  });

  test.skipIf(skip)("observers see every step and may change what it reads", async () => {
    const parts: Parts = {
      buffers: [f32("input"), f32("temporary"), f32("output")],
      steps: [run("increment", [0, 1]), run("double", [1, 2])],
      inputs: [x([1])],
      outputs: [y([1])],
    };
    const model = await open(parts, { reuse: false });
    const seen: [string | undefined, readonly number[], number][] = [];
    const value = async (point: ObservationPoint, buffer: number): Promise<number> =>
      new Float32Array(((await point.read(buffer)) ?? new Uint8Array(4)).slice().buffer)[0];
    const observe = {
      before: (point: ObservationPoint) => {
        if (point.path[0] === 1) point.write(1, new Uint8Array(F32(100).buffer));
      },
      after: async (point: ObservationPoint) => {
        seen.push([point.name, point.path, await value(point, point.buffers.at(-1) ?? 0)]);
      },
    };
    const { y: result } = (await model.run({ x: F32(1) }, { observe })) as { y: F };
    expect(seen).toEqual([
      ["increment", [0], 2],
      ["double", [1], 200],
    ]);
    expect(result.data).toEqual(F32(200));
    await model.dispose();
  });

  test.skipIf(skip)("a kernel that throws is named, and the model goes on", async () => {
    const parts: Parts = {
      buffers: [f32("input"), i32("input"), f32("output")],
      steps: [{ if: 1, then: [run("fail", [0])], else: [run("increment", [0, 2])] }],
      inputs: [x([1]), { name: "c", dtype: "int32", shape: [1] }],
      outputs: [y([1])],
    };
    const model = await open(parts);
    await expect(model.run({ x: F32(1), c: Int32Array.of(1) })).rejects.toMatchObject({
      name: "BackendError",
      kernel: "fail",
      message: "kernel fail (js): on purpose",
    });
    const { y: result } = (await model.run({ x: F32(1), c: Int32Array.of(0) })) as { y: F };
    expect(result.data).toEqual(F32(2));
    await model.dispose();
  });
});

test("a host function that throws is named", async () => {
  const parts: Parts = {
    buffers: [f32("input"), slot()],
    steps: [{ host: "broken", args: [0], outs: [1] }],
    inputs: [x([1])],
    outputs: [y([])],
    outputBuffers: [1],
  };
  const model = await load(await programBundle(parts), { backend: "js" });
  await expect(model.run({ x: F32(1) })).rejects.toThrow("host function broken: on purpose");
});
