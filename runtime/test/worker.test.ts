// Over the built files: `npm run build` comes first.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, test, vi } from "vitest";
import {
  BackendError,
  InputError,
  IntegrityError,
  WebDNNError,
  load,
  loadInWorker,
  type Progress,
  type Tensor,
} from "../src/index.ts";
import { ThreadPool } from "../src/wasm-threads.ts";
import { assemble } from "./wasm-assembler.ts";
import { bundleFiles, scaleManifest, writeBundle } from "./bundle.ts";
import type { Program } from "../src/manifest.ts";

const workerUrl = new URL("../dist/webdnn.worker.js", import.meta.url);
const X = Float32Array.of(1, 1, 1, 2, 2, 2);
const Y = [2, 3, 4, 10, 12, 14];
const value = (outputs: Record<string, unknown>): number[] => [...(outputs as { y: Tensor<"float32"> }).y.data];

describe("a model in a worker", () => {
  test("runs like one outside", async () => {
    const seen: Progress[] = [];
    const model = await loadInWorker(await writeBundle(), {
      backend: "wasm",
      threads: 1,
      workerUrl,
      onProgress: (progress) => seen.push(progress),
    });
    expect([model.name, model.backend, model.threads, model.notes[0]]).toEqual([
      "scale",
      "wasm",
      1,
      "runs in a worker",
    ]);
    expect(seen.length).toBeGreaterThan(0);
    const results = await Promise.all([model.run({ x: X }), model.run({ x: X }, { outputs: ["y"] })]);
    for (const outputs of results) expect(value(outputs)).toEqual(Y);
    expect((await model.profile({ x: X }))?.length).toBe(2);
    expect(X.length).toBe(6);
    await model.dispose();
    await expect(model.run({ x: X })).rejects.toThrow(WebDNNError);
  });

  test("throws the same errors", async () => {
    const model = await loadInWorker(await writeBundle(), { backend: "js", workerUrl });
    for (const inputs of [{}, undefined as never])
      await expect(model.run(inputs)).rejects.toThrow(new InputError("input 'x' is missing: this model needs x"));
    await expect(model.run({ x: X }, { observe: {} })).rejects.toThrow(InputError);
    await model.dispose();
    const files = bundleFiles();
    const url = await writeBundle({ ...files, "weights-00.bin": new Uint8Array(24) });
    await expect(loadInWorker(url, { backend: "js", workerUrl })).rejects.toThrow(IntegrityError);
  });

  test("can be aborted before it is loaded and while it runs", async () => {
    await expect(
      loadInWorker(await writeBundle(), { backend: "js", workerUrl, signal: AbortSignal.abort(new Error("no")) }),
    ).rejects.toThrow("no");
    const model = await loadInWorker(await writeBundle(), { backend: "js", workerUrl });
    const abort = new AbortController();
    const running = model.run({ x: X }, { signal: abort.signal });
    abort.abort(new Error("enough"));
    await expect(running).rejects.toThrow("enough");
    expect(value(await model.run({ x: X }))).toEqual(Y);
    await model.dispose();
  });

  test("whose file is missing is a BackendError", async () => {
    const missing = new URL("../dist/gone.js", import.meta.url);
    await expect(loadInWorker(await writeBundle(), { backend: "js", workerUrl: missing })).rejects.toThrow(
      BackendError,
    );
  });
});

describe("threads", () => {
  test.each([2, 3, 5])("%d of them give the same answer, again and again", async (threads) => {
    const model = await load(await writeBundle(), { backend: "wasm", threads, workerUrl });
    expect(model.threads).toBe(threads);
    for (let round = 0; round < 200; round++) expect(value(await model.run({ x: X }))).toEqual(Y);
    await model.dispose();
  });

  test("divide calls of every extent without losing or repeating a piece", async () => {
    const memory = new WebAssembly.Memory({ initial: 4, maximum: 65536, shared: true });
    const module = await WebAssembly.compile(assemble({ shared: true }));
    const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
    const team = { module, memory, kernels: ["add"], scratch: { address: 0, bytes: 0 }, threads: 4 };
    const pool = new ThreadPool(team, workerUrl);
    await pool.ready;
    const view = (address: number): Float32Array => new Float32Array(memory.buffer, address, 10000);
    const [ones, sums] = [view(1024), view(65536)];
    ones.fill(1);
    // sums += 1: a piece that is done twice, or not at all, shows.
    for (let round = 1; round <= 2000; round++) {
      // Helpers fall asleep between runs and must be there again for the next one.
      if (round % 50 === 0) pool.rest();
      pool.run(0, exports.add as () => void, [65536, 1024, 65536, 0, 0], round % 7 ? (round * 37) % 10000 : 10000);
    }
    const expected = new Float32Array(10000);
    for (let round = 1; round <= 2000; round++) {
      const extent = round % 7 ? (round * 37) % 10000 : 10000;
      for (let index = 0; index < extent; index++) expected[index]++;
    }
    expect(sums).toEqual(expected);
    pool.dispose();
  });

  test("that cannot start leave one, and a note", async () => {
    const model = await load(await writeBundle(), {
      backend: "wasm",
      threads: 2,
      workerUrl: new URL("../dist/gone.js", import.meta.url),
    });
    await vi.waitFor(() => {
      expect(model.threads).toBe(1);
    });
    expect(model.notes.at(-1)).toMatch(/^one thread: wasm threads: .*gone\.js/);
    expect(value(await model.run({ x: X }))).toEqual(Y);
    await model.dispose();
  });

  test("that trap are an error with the kernel's name", async () => {
    const manifest = scaleManifest();
    const program = manifest.programs.wasm as Program;
    const kernels = [program.kernels[0], { name: "trap", export: "trap", parallel: true }];
    const url = await writeBundle(bundleFiles({ ...manifest, programs: { wasm: { ...program, kernels } } }));
    const model = await load(url, { backend: "wasm", threads: 2, workerUrl });
    await expect(model.run({ x: X })).rejects.toMatchObject({ name: "BackendError", kernel: "trap" });
    await expect(model.run({ x: X })).rejects.toMatchObject({ name: "BackendError", kernel: "trap" });
    await model.dispose();
  });

  test("do not keep a Node process alive, nor let it end too early", async () => {
    const url = await writeBundle();
    const script = `
      import { load, loadInWorker } from ${JSON.stringify(new URL("../dist/webdnn.js", import.meta.url).href)};
      const threaded = await load(${JSON.stringify(url.href)}, { backend: "wasm", threads: 2 });
      const remote = await loadInWorker(${JSON.stringify(url.href)}, { backend: "wasm", threads: 2 });
      for (const model of [threaded, remote]) console.log(model.threads, (await model.run({ x: new Float32Array(6).fill(1) })).y.data.join());
    `;
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], {
      timeout: 20000,
    });
    expect(stdout).toBe("2 2,3,4,5,6,7\n2 2,3,4,5,6,7\n");
  }, 30000);
});
