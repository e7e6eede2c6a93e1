import { beforeEach, describe, expect, test } from "vitest";
import {
  BackendError,
  DeviceLostError,
  OutOfMemoryError,
  load,
  type LoadOptions,
  type Model,
  type Tensor,
} from "../src/index.ts";
import { bundleFiles, scaleManifest, writeBundle } from "./bundle.ts";
import { FakeGPU } from "./fake-gpu.ts";
import type { Program } from "../src/manifest.ts";

const X = Float32Array.of(1, 1, 1, 2, 2, 2);
const Y = [2, 3, 4, 10, 12, 14];

let gpu: FakeGPU;
beforeEach(() => {
  gpu = new FakeGPU();
});

const open = async (options: LoadOptions = {}): Promise<Model> =>
  load(await writeBundle(), { backend: "webgpu", gpu: gpu as unknown as GPU, ...options });
const result = async (model: Model): Promise<number[]> => [
  ...((await model.run({ x: X })) as { y: Tensor<"float32"> }).y.data,
];

test("a run is one pass, one submit and one mapping; bind groups and staging are made once", async () => {
  const model = await open();
  await result(model);
  const before = { ...gpu.counts };
  expect(await result(model)).toEqual(Y);
  const after = gpu.counts;
  const spent = Object.fromEntries(
    Object.entries(after).map(([key, value]) => [key, value - before[key as keyof typeof before]]),
  );
  expect(spent).toEqual({
    devices: 0,
    submits: 1,
    passes: 1,
    dispatches: 2,
    bindGroups: 0,
    buffers: 0,
    destroyed: 0,
    maps: 1,
  });
  expect(model.adapter).toBe("fake paper");
});

test("models of a page share a device and leave it alive", async () => {
  const [one, two] = [await open(), await open()];
  expect(gpu.counts.devices).toBe(1);
  await one.dispose();
  expect(await result(two)).toEqual(Y);
});

describe("a lost device", () => {
  test("in the middle of a run is replaced, and the run repeated", async () => {
    const model = await open();
    gpu.loseAtSubmit = 1;
    expect(await result(model)).toEqual(Y);
    expect(gpu.counts.devices).toBe(2);
  });

  test("between runs is replaced before the next", async () => {
    const model = await open();
    expect(await result(model)).toEqual(Y);
    gpu.device?.die("driver update");
    await Promise.resolve();
    expect(await result(model)).toEqual(Y);
    expect(gpu.counts.devices).toBe(2);
  });

  test("that is lost again rejects, and the run after that has another chance", async () => {
    const model = await open();
    const { requestAdapter } = gpu;
    gpu.requestAdapter = function () {
      gpu.loseAtSubmit = 1;
      return requestAdapter.call(gpu);
    };
    gpu.loseAtSubmit = 1;
    await expect(model.run({ x: X })).rejects.toThrow(
      new DeviceLostError("webgpu: the device was lost (unknown): as asked"),
    );
    gpu.requestAdapter = requestAdapter;
    expect(await result(model)).toEqual(Y);
  });

  test("that does not come back is a BackendError with the reason", async () => {
    const model = await open();
    gpu.loseAtSubmit = 1;
    gpu.noDevices = true;
    await expect(model.run({ x: X })).rejects.toThrow("webgpu: no adapter");
    gpu.noDevices = false;
    expect(await result(model)).toEqual(Y);
  });

  test("of the caller's is asked for again where the caller gave a function", async () => {
    const devices: unknown[] = [];
    const device = async (): Promise<GPUDevice> => {
      const adapter = (await gpu.requestAdapter()) as { requestDevice(): Promise<GPUDevice> };
      devices.push(gpu.device);
      return adapter.requestDevice();
    };
    const model = await open({ device });
    gpu.loseAtSubmit = 1;
    expect(await result(model)).toEqual(Y);
    expect(devices).toHaveLength(2);
  });
});

describe("what the device refuses", () => {
  test("a shader: the kernel, the line and the message are named", async () => {
    gpu.invalidShader = "add";
    await expect(open()).rejects.toMatchObject({
      name: "BackendError",
      kernel: "add",
      message: "kernel add (webgpu): line 3: expected ';'",
    });
  });

  test("a bind group: the kernel is named", async () => {
    gpu.invalidBindGroup = "mul";
    const model = await open();
    await expect(model.run({ x: X })).rejects.toMatchObject({
      name: "BackendError",
      kernel: "mul",
      message: "kernel mul (webgpu): binding 1 is too small",
    });
  });

  test("memory: an OutOfMemoryError, and with a choice the next backend", async () => {
    gpu.outOfMemoryAt = 32;
    await expect(open()).rejects.toThrow(OutOfMemoryError);
    const model = await open({ backend: ["webgpu", "js"] });
    expect(model.backend).toBe("js");
    expect(model.fallbacks[0].reason).toContain("webgpu: a buffer of 32 bytes: no room");
  });

  const changed = (change: Partial<Program>): Promise<URL> => {
    const manifest = scaleManifest();
    const program = manifest.programs.webgpu as Program;
    return writeBundle(bundleFiles({ ...manifest, programs: { webgpu: { ...program, ...change } } }));
  };

  test("features and limits that the bundle was converted for", async () => {
    const options = { backend: "webgpu", gpu: gpu as unknown as GPU } as const;
    const f16 = await changed({ requires: { features: ["shader-f16"] } });
    await expect(load(f16, options)).rejects.toThrow(
      new BackendError("webgpu: this GPU lacks shader-f16, which the bundle was converted for"),
    );
    const large = await changed({ requires: { limits: { maxBufferSize: 2 ** 30 } } });
    await expect(load(large, options)).rejects.toThrow(
      "webgpu: maxBufferSize: the bundle needs 1073741824, this GPU has 1048576",
    );
  });

  test("a grid beyond its limit", async () => {
    const program = scaleManifest().programs.webgpu as Program;
    const [first, ...rest] = program.steps;
    const model = await load(await changed({ steps: [{ ...first, grid: [70000, 1, 1] }, ...rest] }), {
      backend: "webgpu",
      gpu: gpu as unknown as GPU,
    });
    await expect(model.run({ x: X })).rejects.toThrow(
      "kernel mul (webgpu): grid 70000 x 1 x 1: at most 65535 workgroups per dimension",
    );
  });
});

test("dispose frees every buffer", async () => {
  const model = await open();
  await result(model);
  await model.dispose();
  expect(gpu.counts.destroyed).toBe(gpu.counts.buffers);
});
