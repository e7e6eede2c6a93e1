import { describe, expect, test } from "vitest";
import { load } from "../src/index.ts";
import type { Tensor } from "../src/index.ts";
import { bundleFiles, scaleManifest, scaleProgram, writeBundle } from "./bundle.ts";
import { gpu, noGPU } from "./gpu.ts";

const X = Float32Array.of(1, 1, 1, 2, 2, 2);
const Y = [2, 3, 4, 10, 12, 14];

describe.each([["js"], ["wasm"], ["webgpu"]] as const)("a static program on %s", (backend) => {
  test.skipIf(backend === "webgpu" && noGPU)("gives y = x * w + x", async () => {
    const model = await load(await writeBundle(), { backend, gpu, threads: 1 });
    expect(model.backend).toBe(backend);
    const { y } = (await model.run({ x: X })) as { y: Tensor<"float32"> };
    expect(y.dims).toEqual([2, 3]);
    expect(y.dtype).toBe("float32");
    expect([...y.data]).toEqual(Y);
    await model.dispose();
  });
});

describe.each([["js"], ["wasm"], ["webgpu"]] as const)("a weight of one value on %s", (backend) => {
  test.skipIf(backend === "webgpu" && noGPU)("fills its buffer", async () => {
    const manifest = scaleManifest();
    const program = scaleProgram(backend);
    const buffers = program.buffers.map((buffer) =>
      buffer.weight ? { ...buffer, weight: { encoding: "fill" as const, value: 2.5 } } : buffer,
    );
    const url = await writeBundle(bundleFiles({ ...manifest, programs: { [backend]: { ...program, buffers } } }));
    const model = await load(url, { backend, gpu, threads: 1 });
    const { y } = (await model.run({ x: X })) as { y: Tensor<"float32"> };
    expect([...y.data]).toEqual([3.5, 3.5, 3.5, 7, 7, 7]);
    await model.dispose();
  });
});

test("threads divide a parallel kernel", async () => {
  const model = await load(await writeBundle(), {
    backend: "wasm",
    threads: 3,
    workerUrl: new URL("../dist/webdnn.worker.js", import.meta.url),
  });
  expect(model.threads).toBe(3);
  for (let round = 0; round < 50; round++) {
    const { y } = (await model.run({ x: X })) as { y: Tensor<"float32"> };
    expect([...y.data]).toEqual(Y);
  }
  await model.dispose();
  expect(bundleFiles()).toBeDefined();
});
