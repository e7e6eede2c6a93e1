import { afterEach, describe, expect, test, vi } from "vitest";
import { BackendError, IntegrityError, ModelError, load, type Progress, type Tensor } from "../src/index.ts";
import type { Program } from "../src/manifest.ts";
import { bundleFiles, scaleManifest, writeBundle, WEIGHTS } from "./bundle.ts";
import { serve } from "./server.ts";

const X = new Float32Array(6).fill(1);
const wasm = { backend: "wasm", threads: 1 } as const;

async function result(url: string | URL, options = {}): Promise<number[]> {
  const model = await load(url, { ...wasm, ...options });
  const { y } = (await model.run({ x: X })) as { y: Tensor<"float32"> };
  await model.dispose();
  return [...y.data];
}

const Y = [...WEIGHTS].map((weight) => weight + 1);

describe("over http", () => {
  test("a bundle is loaded, with progress that ends at its total", async () => {
    const { url } = await serve(bundleFiles());
    const seen: Progress[] = [];
    expect(await result(url, { onProgress: (progress: Progress) => seen.push(progress) })).toEqual(Y);
    const last = seen.at(-1);
    expect(last?.loaded).toBe(last?.total);
    expect(new Set(seen.map(({ total }) => total)).size).toBe(1);
    expect(seen.map(({ loaded }) => loaded)).toEqual(seen.map(({ loaded }) => loaded).sort((a, b) => a - b));
  });

  test("only files that the backend needs are fetched", async () => {
    const { url, requests } = await serve(bundleFiles());
    await result(url);
    expect([...requests.keys()].sort()).toEqual(["kernels.wasm", "model.json", "weights-00.bin"]);
  });

  test("a folder's URL may end in model.json or lack its slash", async () => {
    const { url } = await serve(bundleFiles());
    expect(await result(`${url}model.json`)).toEqual(Y);
    expect(await result(url.slice(0, -1))).toEqual(Y);
  });

  test("a tiny model gets one thread unless more are asked for", async () => {
    const url = await writeBundle();
    const model = await load(url, { backend: "wasm" });
    expect([model.threads, model.notes[0]]).toEqual([1, "one thread: the model is too small to gain by more"]);
    const manifest = scaleManifest();
    const wasm = manifest.programs.wasm as Program;
    const large = { ...wasm, buffers: [...wasm.buffers, { ...wasm.buffers[2], bytes: 1 << 20, offset: 128 }] };
    const steps = [...wasm.steps.slice(0, 1), { run: 0, args: [0, 1, 4], extent: 6 }, ...wasm.steps.slice(1)];
    const other = await load(
      await writeBundle(
        bundleFiles({ ...manifest, programs: { wasm: { ...large, steps, arenaBytes: (1 << 20) + 128 } } }),
      ),
      { backend: "wasm", workerUrl: new URL("../dist/webdnn.worker.js", import.meta.url) },
    );
    expect(other.notes).not.toContain(model.notes[0]);
    await other.dispose();
  });

  test("a server that is briefly overloaded is asked again", async () => {
    const { url, requests } = await serve(bundleFiles(), (name, _, response, count) => {
      if (name !== "weights-00.bin" || count > 1) return false;
      response.writeHead(503).end();
      return true;
    });
    expect(await result(url)).toEqual(Y);
    expect(requests.get("weights-00.bin")).toBe(2);
  });

  test("a connection that breaks off is tried again", async () => {
    const { url } = await serve(bundleFiles(), (name, bytes, response, count) => {
      if (name !== "weights-00.bin" || count > 1) return false;
      response.writeHead(200, { "content-length": bytes.length });
      response.write(bytes.subarray(0, 5), () => response.destroy());
      return true;
    });
    expect(await result(url)).toEqual(Y);
  });

  test("a truncated shard is an IntegrityError that says so", async () => {
    const { url, requests } = await serve(bundleFiles(), (name, bytes, response) => {
      if (name !== "weights-00.bin") return false;
      response.writeHead(200).end(bytes.subarray(0, 20));
      return true;
    });
    const error = await load(url, wasm).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(IntegrityError);
    expect(String(error)).toContain("weights-00.bin: expected 24 bytes, got 20");
    expect(requests.get("weights-00.bin")).toBe(3);
  });

  test("a shard with other bytes is an IntegrityError, whatever backends are left", async () => {
    const { url } = await serve(bundleFiles(), (name, bytes, response) => {
      if (name !== "weights-00.bin") return false;
      response.writeHead(200).end(bytes.map((byte) => byte ^ 1));
      return true;
    });
    const error = await load(url, { backend: ["wasm", "js"], threads: 1 }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(IntegrityError);
    expect(String(error)).toMatch(/weights-00\.bin: expected SHA-256 .* damaged or belongs to another conversion/);
  });

  test("a missing folder is a ModelError with the answer of the server", async () => {
    const { url } = await serve({});
    await expect(load(url)).rejects.toThrow(new ModelError(`model.json: ${url}model.json answered 404`));
  });

  test("a page in the place of the manifest is a ModelError", async () => {
    const { url } = await serve({ "model.json": "<!doctype html>" });
    await expect(load(url)).rejects.toThrow(ModelError);
  });

  test("an abort stops the download and rejects with the signal's reason", async () => {
    const abort = new AbortController();
    const { url } = await serve(bundleFiles(), (name, bytes, response) => {
      if (name !== "weights-00.bin") return false;
      response.writeHead(200, { "content-length": bytes.length }).write(bytes.subarray(0, 4));
      setTimeout(() => {
        abort.abort();
      }, 20);
      return true;
    });
    await expect(load(url, { ...wasm, signal: abort.signal })).rejects.toMatchObject({ name: "AbortError" });
  });

  test("weightDirectory and transformUrl redirect", async () => {
    const files = bundleFiles();
    const { "weights-00.bin": shard, ...rest } = files;
    const { url } = await serve({ ...rest, "elsewhere/weights-00.bin": shard });
    expect(await result(url, { weightDirectory: `${url}elsewhere` })).toEqual(Y);
    const transformUrl = (href: string): string => href.replace("weights-00", "elsewhere/weights-00");
    expect(await result(url, { transformUrl })).toEqual(Y);
  });
});

describe("the cache", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
  });

  function fakeCaches(): Map<string, Uint8Array<ArrayBuffer>> {
    const kept = new Map<string, Uint8Array<ArrayBuffer>>();
    const cache = {
      match: (key: string) => Promise.resolve(kept.has(key) ? new Response(kept.get(key)) : undefined),
      put: async (key: string, response: Response) => {
        kept.set(key, new Uint8Array(await response.arrayBuffer()));
      },
      delete: (key: string) => Promise.resolve(kept.delete(key)),
    };
    vi.stubGlobal("caches", { open: () => Promise.resolve(cache) });
    return kept;
  }

  test("keeps verified files by hash and saves their download", async () => {
    const kept = fakeCaches();
    const { url, requests } = await serve(bundleFiles());
    await result(url);
    await vi.waitFor(() => {
      expect(kept.size).toBe(2);
    });
    expect(await result(url)).toEqual(Y);
    expect(requests.get("weights-00.bin")).toBe(1);
  });

  test("a damaged entry is dropped and fetched again", async () => {
    const kept = fakeCaches();
    const { url, requests } = await serve(bundleFiles());
    await result(url);
    await vi.waitFor(() => {
      expect(kept.size).toBe(2);
    });
    for (const bytes of kept.values()) bytes[3] ^= 1;
    expect(await result(url)).toEqual(Y);
    expect(requests.get("weights-00.bin")).toBe(2);
  });

  test("can be turned off", async () => {
    const kept = fakeCaches();
    const { url } = await serve(bundleFiles());
    await result(url, { cache: false });
    expect(kept.size).toBe(0);
  });
});

describe("from files in Node", () => {
  test("a truncated shard is an IntegrityError", async () => {
    const files = bundleFiles();
    const url = await writeBundle({
      ...files,
      "weights-00.bin": (files["weights-00.bin"] as Uint8Array).subarray(0, 8),
    });
    await expect(load(url, wasm)).rejects.toThrow(IntegrityError);
  });

  test("a missing file is a ModelError", async () => {
    const files = Object.fromEntries(Object.entries(bundleFiles()).filter(([name]) => name !== "weights-00.bin"));
    await expect(load(await writeBundle(files), wasm)).rejects.toThrow(/weights-00\.bin: ENOENT/);
  });

  test("a relative URL has nothing to be relative to", async () => {
    await expect(load("./model")).rejects.toThrow(/'\.\/model' is not a URL; outside of a page it must be absolute/);
  });
});

describe("the choice of a backend", () => {
  test("passes over what is not available and keeps the reason", async () => {
    const model = await load(await writeBundle(), { threads: 1 });
    expect(model.backend).toBe("wasm");
    expect(model.fallbacks).toEqual([{ backend: "webgpu", reason: "webgpu: this browser has no navigator.gpu" }]);
    await model.dispose();
  });

  test("leaves no way out where there is one backend only", async () => {
    await expect(load(await writeBundle(), { backend: "webgpu" })).rejects.toThrow(
      new BackendError("webgpu: this browser has no navigator.gpu"),
    );
  });

  test("a wasm module that cannot be compiled falls through to js", async () => {
    const url = await writeBundle(bundleFiles(undefined, { "kernels.wasm": Uint8Array.of(0, 97, 115, 109, 9) }));
    const model = await load(url, { backend: ["wasm", "js"], threads: 1 });
    expect(model.backend).toBe("js");
    expect(model.fallbacks[0].reason).toMatch(/^wasm: kernels.wasm: /);
    await model.dispose();
  });

  test("a kernel that the module lacks is named", async () => {
    const manifest = JSON.parse(bundleFiles()["model.json"] as string) as {
      programs: { wasm: { kernels: { export: string }[] } };
    };
    manifest.programs.wasm.kernels[1].export = "gone";
    const url = await writeBundle({ ...bundleFiles(), "model.json": JSON.stringify(manifest) });
    await expect(load(url, wasm)).rejects.toMatchObject({
      name: "BackendError",
      kernel: "add",
      message: "kernel add: kernels.wasm exports no 'gone'",
    });
  });
});
