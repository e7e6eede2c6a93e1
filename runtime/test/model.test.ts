import { describe, expect, test } from "vitest";
import { InputError, ShapeError, WebDNNError, load, type Model, type Tensor } from "../src/index.ts";
import { writeBundle } from "./bundle.ts";
import { f32, programBundle, run } from "./programs.ts";

const X = new Float32Array(6).fill(1);
const scale = async (): Promise<Model> => load(await writeBundle(), { backend: "js" });

describe("inputs", () => {
  test.each<[string, Record<string, unknown>, string]>([
    ["an unknown name", { x: X, z: X }, "model 'scale' has no input 'z': its inputs are x"],
    ["a missing input", {}, "input 'x' is missing: this model needs x"],
    ["nothing at all", undefined as never, "input 'x' is missing: this model needs x"],
    ["a wrong type", { x: new Int32Array(6) }, "input 'x': expected float32 as Float32Array, got Int32Array"],
    ["a wrong length", { x: new Float32Array(5) }, "input 'x': expected 6 elements for shape [2, 3], got 5"],
    [
      "a GPU buffer elsewhere",
      { x: { buffer: { mapAsync: null, usage: 0, size: 24 }, dims: [2, 3] } },
      "'x': a GPUBuffer needs the webgpu backend, this model runs on js",
    ],
  ])("%s is an InputError", async (_, inputs, message) => {
    const model = await scale();
    await expect(model.run(inputs as never)).rejects.toThrow(new InputError(message));
    await expect(model.run({ x: X })).resolves.toBeDefined();
  });

  test("wrong dims are a ShapeError", async () => {
    const model = await scale();
    await expect(model.run({ x: { data: X, dims: [3, 2] } })).rejects.toThrow(
      new ShapeError("input 'x': axis 0: expected 2, got 3"),
    );
    await expect(model.run({ x: { data: X, dims: [6] } })).rejects.toThrow(
      new ShapeError("input 'x': expected 2 dimensions [2, 3], got [6]"),
    );
  });

  test("inputs that share a symbol must agree", async () => {
    const ports = ["a", "b"].map((name) => ({ name, dtype: "float32" as const, shape: ["n"] }));
    const url = await programBundle({
      buffers: [f32("input", ["n"]), f32("input", ["n"]), f32("output", ["n"])],
      steps: [run("plus", [0, 1, 2], ["n"])],
      inputs: ports,
      outputs: [{ name: "y", dtype: "float32", shape: ["n"] }],
      symbols: ["n"],
    });
    const model = await load(url, { backend: "js" });
    const tensor = (n: number): { data: Float32Array; dims: number[] } => ({ data: new Float32Array(n), dims: [n] });
    await expect(model.run({ a: tensor(2), b: tensor(3) })).rejects.toThrow("input 'b': axis 0: expected 2 (n), got 3");
    await expect(model.run({ a: tensor(3), b: tensor(3) })).resolves.toBeDefined();
  });
});

describe("outputs", () => {
  test("only those asked for are returned", async () => {
    const model = await scale();
    expect(await model.run({ x: X }, { outputs: [] })).toEqual({});
    expect(Object.keys(await model.run({ x: X }, { outputs: ["y"] }))).toEqual(["y"]);
    expect(await model.run({ x: X }, { outputs: { y: false } })).toEqual({});
    await expect(model.run({ x: X }, { outputs: ["z"] })).rejects.toThrow(
      "model 'scale' has no output 'z': its outputs are y",
    );
    await expect(model.run({ x: X }, { outputs: { y: "gpu" } })).rejects.toThrow("GPU buffers need the webgpu backend");
  });

  test("belong to the caller: a later run does not change them", async () => {
    const model = await scale();
    const { y: first } = (await model.run({ x: X })) as { y: Tensor };
    const kept = [...first.data];
    await model.run({ x: new Float32Array(6) });
    expect([...first.data]).toEqual(kept);
  });
});

describe("runs", () => {
  test("that overlap are executed one after the other", async () => {
    const model = await scale();
    const results = await Promise.all(
      Array.from(
        { length: 20 },
        async (_, index) => (await model.run({ x: new Float32Array(6).fill(index) })) as { y: Tensor<"float32"> },
      ),
    );
    expect(results.map(({ y }) => y.data[0])).toEqual(Array.from({ length: 20 }, (_, index) => 2 * index));
  });

  test("that are aborted reject with the signal's reason, and the next one works", async () => {
    const model = await scale();
    const abort = new AbortController();
    const observe = {
      before: () => {
        abort.abort(new Error("enough"));
      },
    };
    await expect(model.run({ x: X }, { signal: abort.signal, observe })).rejects.toThrow("enough");
    await expect(model.run({ x: X }, { signal: abort.signal })).rejects.toThrow("enough");
    await expect(model.run({ x: X })).resolves.toBeDefined();
  });

  test("in progress end before dispose does; queued and later ones are refused", async () => {
    const model = await scale();
    let disposed: Promise<void> | undefined;
    const observe = {
      before: () => {
        disposed ??= model.dispose();
      },
    };
    const running = model.run({ x: X }, { observe });
    const queued = model.run({ x: X });
    await expect(queued).rejects.toThrow(new WebDNNError("model 'scale' has been disposed"));
    await expect(running).resolves.toBeDefined();
    await disposed;
    await expect(model.run({ x: X })).rejects.toThrow(WebDNNError);
    await model.dispose();
  });
});

test("profile names every kernel", async () => {
  const model = await scale();
  const times = await model.profile({ x: X });
  expect(times?.map(({ kernel }) => kernel)).toEqual(["mul", "add"]);
  expect(times?.every(({ milliseconds }) => milliseconds >= 0)).toBe(true);
});

test("several models live side by side", async () => {
  const [one, two] = await Promise.all([scale(), scale()]);
  await one.dispose();
  await expect(two.run({ x: X })).resolves.toBeDefined();
  expect([two.name, two.backend, two.threads, two.adapter]).toEqual(["scale", "js", 1, ""]);
  expect(two.inputs).toEqual([{ name: "x", dtype: "float32", shape: [2, 3] }]);
});
