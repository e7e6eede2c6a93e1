import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import * as WebDNN from "../src/classic.ts";
import { toPixels } from "../src/classic-image.ts";
import { toFloat16 } from "../src/tensors.ts";
import { writeBundle } from "./bundle.ts";
import { f32, programBundle, run } from "./programs.ts";

const { Color, Order } = WebDNN.Image;

beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => undefined);
});
afterEach(() => {
  vi.restoreAllMocks();
});

describe("a program for the first WebDNN", () => {
  test("runs unchanged", async () => {
    const directory = (await writeBundle()).href;
    const progress: [number, number][] = [];
    const runner = await WebDNN.load(directory, {
      backendOrder: ["webgl", "webassembly"],
      progressCallback: (loaded, total) => progress.push([loaded, total]),
    });
    expect(runner.backendName).toBe("webassembly");
    expect(progress.at(-1)?.[0]).toBe(progress.at(-1)?.[1]);
    const [input] = runner.getInputViews();
    input.set([
      [1, 1, 1],
      [2, 2, 2],
    ]);
    await runner.run();
    const [output] = runner.getOutputViews();
    expect([...output.toActual()]).toEqual([2, 3, 4, 10, 12, 14]);
    expect([output.name, output.length, output.isDynamic, output.byteLength]).toEqual(["y", 6, false, 24]);
    expect(WebDNN.Math.argmax(output.toActual(), 2)).toEqual([5, 4]);
    const actual = output.toActual();
    input.fill(0);
    await runner.run();
    expect(output.toActual()).toBe(actual);
    expect([...output]).toEqual([0, 0, 0, 0, 0, 0]);
    expect(runner.inputs[0].indexOf(0)).toBe(0);
  });

  test("falls back, with a warning, as far as 'fallback'", async () => {
    const runner = await WebDNN.load((await writeBundle()).href, { backendOrder: "webgpu" });
    expect(runner.backendName).toBe("fallback");
    expect(console.warn).toHaveBeenCalledWith(expect.stringContaining("WebDNN: webgpu is not used"));
  });

  test("sets placeholders before dynamic inputs have a size", async () => {
    const url = await programBundle({
      buffers: [f32("input", ["n"]), f32("output", ["n"])],
      steps: [run("double", [0, 1], ["n"])],
      inputs: [{ name: "x", dtype: "float32", shape: ["n"] }],
      outputs: [{ name: "y", dtype: "float32", shape: ["n"] }],
      symbols: ["n"],
    });
    const runner = await WebDNN.load(url.href, { backendOrder: "fallback" });
    expect(runner.inputs[0].isDynamic).toBe(true);
    expect(() => {
      runner.inputs[0].set([1]);
    }).toThrow("'x' has a dynamic shape: call setPlaceholderValue() first");
    await runner.setPlaceholderValue({ n: 3 });
    runner.inputs[0].set([1, 2, 3]);
    await runner.run();
    expect([...runner.outputs[0].toActual()]).toEqual([2, 4, 6]);
  });

  test.each<["float16" | "int64" | "bool" | "uint8", number[]]>([
    ["float16", [1, -0.5]],
    ["int64", [3, -4]],
    ["bool", [0, 1]],
    ["uint8", [7, 255]],
  ])("reads and writes %s as float32", async (dtype, values) => {
    const buffer = { ...f32("input", [2]), dtype, bytes: 16 };
    const port = { dtype, shape: [2] };
    const url = await programBundle({
      buffers: [buffer, { ...buffer, role: "output" }],
      steps: [{ copy: [0, 1] }],
      inputs: [{ name: "x", ...port }],
      outputs: [{ name: "y", ...port }],
    });
    const runner = await WebDNN.load(url.href, { backendOrder: "fallback" });
    runner.inputs[0].set(values);
    await runner.run();
    expect([...runner.outputs[0].toActual()]).toEqual(values);
    expect(toFloat16([1])[0]).toBe(0x3c00);
  });

  test("asks what is available", () => {
    expect(WebDNN.getBackendAvailability()).toEqual({
      status: { webgpu: false, webgl: false, webassembly: true, fallback: true },
      defaultOrder: ["webassembly", "fallback"],
    });
    WebDNN.setConfiguration("DEBUG", true);
    expect(WebDNN.getConfiguration("DEBUG", false)).toBe(true);
  });

  test("with an unknown backend is told the names", async () => {
    await expect(WebDNN.load("x", { backendOrder: "cuda" as never })).rejects.toThrow(
      "unknown backend 'cuda': expected webgpu, webgl, webassembly, fallback",
    );
  });
});

test("argmax and argmin list positions, best first, ties in order", () => {
  expect(WebDNN.Math.argmax([1, 5, 3, 5, 2], 3)).toEqual([1, 3, 2]);
  expect(WebDNN.Math.argmin(Float32Array.of(1, 5, 0, 5, 0), 2)).toEqual([2, 4]);
  expect(WebDNN.Math.argmax([3, 4])).toEqual([1]);
  expect(WebDNN.Math.argmax([3, 4], 9)).toEqual([1, 0]);
});

describe("images", () => {
  // Two pixels: (10, 20, 30, 255) and (40, 50, 60, 128).
  const picture = { width: 2, height: 1, data: Uint8ClampedArray.of(10, 20, 30, 255, 40, 50, 60, 128) };
  const array = (options: WebDNN.Image.ImageArrayOptions): number[] => [
    ...WebDNN.Image.getImageArrayFromImageData(picture, options),
  ];

  test.each([
    ["RGB HWC", {}, [10, 20, 30, 40, 50, 60]],
    ["BGR HWC", { color: Color.BGR }, [30, 20, 10, 60, 50, 40]],
    ["RGB CHW", { order: Order.CHW }, [10, 40, 20, 50, 30, 60]],
    ["BGR CHW", { color: Color.BGR, order: Order.CHW }, [30, 60, 20, 50, 10, 40]],
    ["RGBA HWC", { color: Color.RGBA }, [10, 20, 30, 255, 40, 50, 60, 128]],
    ["BGRA CHW", { color: Color.BGRA, order: Order.CHW }, [30, 60, 20, 50, 10, 40, 255, 128]],
    ["one bias and scale", { bias: 10, scale: [10] }, [0, 1, 2, 3, 4, 5]],
    [
      "bias and scale by component, in RGB order even for BGR",
      { color: Color.BGR, bias: [0, 20, 30], scale: [10, 1, 2] },
      [0, 0, 1, 15, 30, 4],
    ],
    ["Int32Array", { type: Int32Array, scale: 20 }, [0, 1, 1, 2, 2, 3]],
  ])("%s", (_, options, expected) => {
    expect(array(options)).toEqual(expected);
  });

  test("grey is luma by Rec. 709, and grey stays grey", () => {
    const [first] = array({ color: Color.GREY });
    expect(first).toBeCloseTo(0.2126 * 10 + 0.7152 * 20 + 0.0722 * 30, 5);
    const white = { width: 1, height: 1, data: Uint8ClampedArray.of(200, 200, 200, 255) };
    expect(WebDNN.Image.getImageArrayFromImageData(white as ImageData, { color: Color.GREY })[0]).toBeCloseTo(200, 4);
  });

  test("what cannot be is refused", () => {
    expect(() => array({ bias: [1, 2] })).toThrow("expected a number or 1, 3 or 4 of them, got 2");
    expect(() => array({ color: 9 as never })).toThrow("color: expected one of RGB, BGR, GREY, RGBA, BGRA, got 9");
  });

  test.each(
    Object.entries(Color).flatMap(([name, color]) =>
      Object.entries(Order).map(([order, value]) => [`${name} ${order}`, color, value] as const),
    ),
  )("%s survives the way back to pixels", (_, color, order) => {
    const grey = {
      width: 2,
      height: 2,
      data: Uint8ClampedArray.of(9, 9, 9, 255, 50, 50, 50, 255, 99, 99, 99, 255, 200, 200, 200, 255),
    };
    const options = { color, order, bias: 3, scale: 2 };
    const there = WebDNN.Image.getImageArrayFromImageData(grey, options);
    expect([...toPixels(there, 2, 2, options)].map(Math.round)).toEqual([...grey.data]);
  });
});
