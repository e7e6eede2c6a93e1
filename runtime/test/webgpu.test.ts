import { describe, expect, test } from "vitest";
import { load, type GPUTensor, type Model, type Tensor } from "../src/index.ts";
import type { Program } from "../src/manifest.ts";
import { bundleFiles, KERNELS_WGSL, scaleManifest, writeBundle } from "./bundle.ts";
import { gpu, noGPU } from "./gpu.ts";

const X = Float32Array.of(1, 1, 1, 2, 2, 2);
const Y = [2, 3, 4, 10, 12, 14];

const open = async (url?: URL): Promise<Model> => load(url ?? (await writeBundle()), { backend: "webgpu", gpu });

describe.skipIf(noGPU)("on a real WebGPU implementation", () => {
  test("buffers of the caller's go in and out without a copy through the host", async () => {
    const adapter = await gpu?.requestAdapter();
    const device = (await adapter?.requestDevice()) as GPUDevice;
    const model = await load(await writeBundle(), { backend: "webgpu", device });
    const usage = 128 | 8 | 4; // STORAGE, COPY_DST, COPY_SRC
    const [input, output] = [device.createBuffer({ size: 24, usage }), device.createBuffer({ size: 32, usage })];
    device.queue.writeBuffer(input, 0, X);
    const { y } = (await model.run({ x: input }, { outputs: { y: output } })) as { y: GPUTensor };
    expect(y).toMatchObject({ dtype: "float32", dims: [2, 3], buffer: output });
    // What came out goes in again: y = (x * w + x) twice.
    const { y: twice } = (await model.run({ x: { buffer: output, dims: [2, 3] } })) as { y: Tensor<"float32"> };
    expect([...twice.data]).toEqual(Y.map((value, index) => value * (index + 2)));
    const { y: own } = (await model.run({ x: X }, { outputs: { y: "gpu" } })) as { y: GPUTensor };
    const { y: again } = (await model.run({ x: own })) as { y: Tensor<"float32"> };
    expect([...again.data]).toEqual(Y.map((value, index) => value * (index + 2)));
    await expect(model.run({ x: device.createBuffer({ size: 16, usage }) })).rejects.toThrow(
      "'x': expected a GPUBuffer of at least 24 bytes, got 16",
    );
    await model.dispose();
    device.destroy();
  });

  test("a buffer without the right usage is an error, not a wrong answer", async () => {
    const adapter = await gpu?.requestAdapter();
    const device = (await adapter?.requestDevice()) as GPUDevice;
    const model = await load(await writeBundle(), { backend: "webgpu", device });
    await expect(model.run({ x: device.createBuffer({ size: 24, usage: 8 }) })).rejects.toMatchObject({
      name: "BackendError",
      kernel: "mul",
    });
    const { y } = (await model.run({ x: X })) as { y: Tensor<"float32"> };
    expect([...y.data]).toEqual(Y);
    device.destroy();
  });

  test("a shader that does not compile is named with its line", async () => {
    const url = await writeBundle(
      bundleFiles(undefined, { "kernels.wgsl": KERNELS_WGSL.replace("a[id.x] +", "a[id.x] ++") }),
    );
    await expect(open(url)).rejects.toMatchObject({
      name: "BackendError",
      kernel: "add",
      message: expect.stringMatching(/^kernel add \(webgpu\): line \d+: /) as string,
    });
  });

  test("text before the first section belongs to every kernel", async () => {
    const text = `fn twice(x: f32) -> f32 { return 2.0 * x; }\n${KERNELS_WGSL.replaceAll("= a[id.x]", "= twice(a[id.x])")}`;
    const model = await open(await writeBundle(bundleFiles(undefined, { "kernels.wgsl": text })));
    const { y } = (await model.run({ x: X })) as { y: Tensor<"float32"> };
    expect([...y.data]).toEqual([5, 9, 13, 34, 42, 50]);
  });

  test("kernels and host kernels alternate over the same buffers", async () => {
    const manifest = scaleManifest();
    const program = manifest.programs.webgpu as Program;
    const [first] = program.steps;
    const changed: Program = {
      ...program,
      hostKernels: [{ name: "add", export: "add", bindings: ["read", "read", "read_write"] }],
      steps: [
        first,
        { run: 0, args: [2, 0, 3], params: [6], on: "js" },
        { copy: [3, 2] },
        { run: 1, args: [2, 0, 3], params: [6], grid: [2, 1, 1] },
      ],
    };
    const model = await open(await writeBundle(bundleFiles({ ...manifest, programs: { webgpu: changed } })));
    expect(model.placement).toEqual([
      { path: [1], name: "add", on: "js", reason: "the webgpu target has no kernel for it" },
    ]);
    const { y } = (await model.run({ x: X })) as { y: Tensor<"float32"> };
    expect([...y.data]).toEqual(Y.map((value, index) => value + X[index]));
  });

  test("a device that is destroyed under the model is replaced", async () => {
    const devices: GPUDevice[] = [];
    const device = async (): Promise<GPUDevice> => {
      const fresh = (await (await gpu?.requestAdapter())?.requestDevice()) as GPUDevice;
      devices.push(fresh);
      return fresh;
    };
    const model = await load(await writeBundle(), { backend: "webgpu", device });
    devices[0].destroy();
    const { y } = (await model.run({ x: X })) as { y: Tensor<"float32"> };
    expect([...y.data]).toEqual(Y);
    expect(devices).toHaveLength(2);
    devices[1].destroy();
  });

  test("profile measures kernels where the GPU has timestamps", async () => {
    const model = await open();
    const times = await model.profile({ x: X });
    if (times) expect(times.map(({ kernel }) => kernel)).toEqual(["mul", "add"]);
    await model.dispose();
  });
});
