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
import type { Manifest, Program } from "../src/manifest.ts";

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

describe("an adapter that is software", () => {
  const software = {
    vendor: "google",
    architecture: "swiftshader",
    device: "",
    description: "",
    isFallbackAdapter: false,
  };
  const choose = async (backend: NonNullable<LoadOptions["backend"]>, url?: URL): Promise<Model> =>
    load(url ?? (await writeBundle()), { backend, gpu: gpu as unknown as GPU, threads: 1 });

  test("is not preferred to wasm, and the reason is kept", async () => {
    gpu.info = software;
    const model = await choose("auto");
    expect([model.backend, gpu.counts.devices]).toEqual(["wasm", 0]);
    expect(model.fallbacks).toEqual([
      {
        backend: "webgpu",
        reason:
          "webgpu: the adapter 'google swiftshader' is software, which wasm outruns; backend: \"webgpu\" takes it all the same",
      },
    ]);
  });

  test.each([
    { description: "llvmpipe (LLVM 19.1.7, 256 bits)" },
    { vendor: "microsoft", description: "Microsoft Basic Render Driver" },
    { isFallbackAdapter: true },
  ])("is known by %o", async (facts) => {
    gpu.info = { ...gpu.info, ...facts };
    expect((await choose("auto")).backend).toBe("wasm");
  });

  test("is used where it is asked for, or where there is no wasm", async () => {
    gpu.info = software;
    expect((await choose("webgpu")).backend).toBe("webgpu");
    expect((await choose(["webgpu", "wasm"])).backend).toBe("webgpu");
    expect((await choose("auto")).backend).toBe("wasm");
    const { js, webgpu } = scaleManifest().programs;
    const url = await writeBundle(
      bundleFiles({ ...scaleManifest(), programs: { js, webgpu } as Manifest["programs"] }),
    );
    expect((await choose("auto", url)).backend).toBe("webgpu");
  });

  test("is no other: a GPU stays the first choice, and is asked for once", async () => {
    expect((await choose("auto")).backend).toBe("webgpu");
    expect((await choose("auto")).backend).toBe("webgpu");
    expect(gpu.counts.devices).toBe(1);
  });
});

test("progress counts compiled kernels", async () => {
  const seen: string[] = [];
  await open({ onProgress: ({ compiled, kernels }) => seen.push(`${compiled}/${kernels}`) });
  expect(seen).toContain("0/2");
  expect(seen).toContain("1/2");
  expect(seen.at(-1)).toMatch(/2\/2/);
});

describe("what the device refuses", () => {
  test("a submit: the kernel is named if the browser names its pipeline", async () => {
    const model = await open();
    gpu.invalidSubmit = 'While encoding [ComputePipeline "add"]: too many workgroups';
    await expect(model.run({ x: X })).rejects.toMatchObject({
      name: "BackendError",
      kernel: "add",
      message: 'kernel add (webgpu): While encoding [ComputePipeline "add"]: too many workgroups',
    });
  });

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
