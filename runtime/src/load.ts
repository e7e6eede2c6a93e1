// From a bundle's URL to a model: which backend, which files, all of them in parallel.

import type { Backend } from "./backend.ts";
import { isKnown } from "./dims.ts";
import { BackendError, ModelError, WebDNNError, reasonOf } from "./errors.ts";
import { Files, nodeModule, type Progress } from "./files.ts";
import type { GPUChoice } from "./gpu-device.ts";
import { JSBackend, type KernelModule } from "./js.ts";
import { parseManifest } from "./manifest-check.ts";
import type { BackendName, Manifest, Program } from "./manifest.ts";
import {
  LocalModel,
  type Engine,
  type Fallback,
  type Inputs,
  type Model,
  type Outputs,
  type Placement,
} from "./model.ts";
import { walkSteps } from "./plan.ts";
import { ProgramRunner } from "./program.ts";
import { WasmBackend, chooseModule } from "./wasm.ts";
import { WebGPUBackend } from "./webgpu.ts";
import { decodedBytes, loadWeights, storageBytes, weightFiles } from "./weights.ts";
import { loadInWorker } from "./worker-client.ts";

export type LoadOptions = GPUChoice & {
  /** One backend, several in order of preference, or "auto": webgpu, wasm, js, as far as the bundle has them and the GPU is one. */
  readonly backend?: "auto" | BackendName | readonly BackendName[];
  readonly onProgress?: (progress: Progress) => void;
  readonly signal?: AbortSignal;
  /** Keep verified files in the Cache API under their hash (default true; there is none outside of browsers). */
  readonly cache?: boolean;
  /**
   * Threads of the wasm backend; "auto" (default) goes by the number of cores, and gives one to a tiny model. More than
   * one needs a cross-origin isolated page.
   */
  readonly threads?: number | "auto";
  /** Where the weight shards are, when not beside model.json. */
  readonly weightDirectory?: string | URL;
  /** Last word on every URL that is fetched. */
  readonly transformUrl?: (url: string) => string;
  /** Where webdnn.worker.js is, when not beside webdnn.js. */
  readonly workerUrl?: string | URL;
  /** False gives every buffer memory of its own, for telling a planning error from a kernel error (default true). */
  readonly reuse?: boolean;
};

const ORDER: readonly BackendName[] = ["webgpu", "wasm", "js"];

type Loading = {
  readonly manifest: Manifest;
  readonly files: Files;
  readonly options: LoadOptions;
  readonly base: URL;
  /** Whether a GPU that is software may be used: not where wasm is there and the choice is ours. */
  readonly software: boolean;
};

/** URL of the worker file: beside this very file, unless told otherwise. */
export function workerUrl(options: Pick<LoadOptions, "workerUrl">): URL {
  return options.workerUrl
    ? new URL(options.workerUrl, documentBase())
    : new URL("./webdnn.worker.js", import.meta.url);
}

export function documentBase(): string | undefined {
  return (globalThis as { location?: { href?: string } }).location?.href;
}

/** The folder of a bundle as a URL that ends in a slash; `model.json` at its end is taken off. */
function folder(url: string | URL): URL {
  let absolute: URL;
  try {
    absolute = new URL(url, documentBase());
  } catch (error) {
    throw new ModelError(
      `'${String(url)}' is not a URL; outside of a page it must be absolute: new URL("./model/", import.meta.url)`,
      { cause: error },
    );
  }
  if (absolute.pathname.endsWith("/model.json")) return new URL(".", absolute);
  if (!absolute.pathname.endsWith("/")) absolute.pathname += "/";
  return absolute;
}

/**
 * Loads a bundle that `webdnn convert` wrote. `url` is its folder.
 *
 * A backend that is not available here is passed over for the next one only if `backend` leaves a choice, and the
 * reason is kept
 * in `model.fallbacks`. Damaged files are an error whatever the choice.
 */
export async function load<I = Inputs, O = Outputs>(
  url: string | URL,
  options: LoadOptions = {},
): Promise<Model<I, O>> {
  options.signal?.throwIfAborted();
  const base = folder(url);
  const files = new Files(base, {
    signal: options.signal,
    cache: options.cache ?? true,
    transformUrl: options.transformUrl,
    weightDirectory: options.weightDirectory === undefined ? undefined : folder(options.weightDirectory),
    onProgress: options.onProgress,
  });
  const manifest = parseManifest(await files.text("model.json"));
  const choice = options.backend ?? "auto";
  const wanted =
    choice === "auto"
      ? ORDER.filter((name) => manifest.programs[name])
      : typeof choice === "string"
        ? [choice]
        : choice;
  const software = choice !== "auto" || !manifest.programs.wasm;
  const fallbacks: Fallback[] = [];
  for (const name of wanted) {
    try {
      return (await open(name, { manifest, files, options, base, software }, fallbacks)) as Model<
        unknown,
        unknown
      > as Model<I, O>;
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!(error instanceof BackendError)) throw error;
      if (wanted.length === 1) throw error;
      fallbacks.push({ backend: name, reason: error.message });
    }
  }
  throw new BackendError(
    `no backend is available: ${fallbacks.map(({ backend, reason }) => `${backend}: ${reason}`).join("; ") || "the bundle has none"}`,
  );
}

async function open(name: BackendName, loading: Loading, fallbacks: readonly Fallback[]): Promise<Model> {
  const { manifest, options } = loading;
  const program = manifest.programs[name];
  if (!program)
    throw new BackendError(
      `the bundle has no ${name} program: it was converted for ${Object.keys(manifest.programs).join(", ")}`,
    );
  const notes: string[] = [];
  const threads = name === "wasm" ? threadCount(options.threads ?? "auto", manifest, program, notes) : 1;
  if (threads > 1 && isPage()) {
    // A page's main thread may not wait for other threads: the whole model moves into a worker.
    try {
      return await loadInWorker(loading.base, { ...options, backend: "wasm", threads }, fallbacks);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!(error instanceof BackendError)) throw error;
      notes.push(`one thread: ${error.message}`);
    }
  }
  const reopen = (count: number): Promise<Engine> => start(name, loading, program, count);
  let engine: Engine;
  try {
    engine = await reopen(isPage() ? 1 : threads);
  } catch (error) {
    if (threads === 1 || isPage() || !(error instanceof BackendError)) throw error;
    notes.push(`one thread: ${reasonOf(error)}`);
    engine = await reopen(1);
  }
  return new LocalModel(manifest, engine, [...fallbacks], notes, () => reopen(1));
}

function isPage(): boolean {
  return typeof document !== "undefined";
}

/** Bytes that kernels name, below which a run is over before a worker has been told about it. */
const TINY = 1 << 19;

/** Whether the kernels of a program without control flow and late sizes name few bytes altogether. */
function isTiny({ steps, buffers }: Program): boolean {
  let bytes = 0;
  for (const step of steps) {
    if (!("run" in step)) return false;
    for (const arg of step.args)
      bytes += isKnown(buffers[arg].bytes, new Map()) ? storageBytes(buffers[arg]) : Infinity;
  }
  return bytes < TINY;
}

/** Threads to use; the reason why it is one is added to the notes. */
function threadCount(wanted: number | "auto", manifest: Manifest, program: Program, notes: string[]): number {
  if (wanted === 1) return 1;
  if (wanted === "auto" && isTiny(program)) {
    notes.push("one thread: the model is too small to gain by more");
    return 1;
  }
  if (!Object.keys(manifest.files ?? {}).some((file) => file.endsWith(".threads.wasm"))) {
    if (wanted !== "auto") notes.push("one thread: the bundle was converted without threads");
    return 1;
  }
  const isolated =
    (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated ??
    nodeModule("node:worker_threads") !== undefined;
  if (!isolated || typeof SharedArrayBuffer === "undefined") {
    notes.push(
      "one thread: the page is not cross-origin isolated; serve it with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp",
    );
    return 1;
  }
  if (wanted !== "auto") return Math.max(1, Math.floor(wanted));
  const os = nodeModule("node:os") as { availableParallelism(): number } | undefined;
  const cores = os?.availableParallelism() ?? (globalThis.navigator as Navigator | undefined)?.hardwareConcurrency ?? 1;
  // Two hardware threads of one core share its multipliers.
  return cores <= 4 ? cores : Math.min(8, Math.ceil(cores / 2));
}

/** Opens a backend, compiles its kernels and loads its weights, side by side. */
async function start(name: BackendName, loading: Loading, program: Program, threads: number): Promise<Engine> {
  const { manifest, files, options, base } = loading;
  const needsModule = name === "js" || (program.hostKernels?.length ?? 0) > 0 || hasHostSteps(program);
  const module = needsModule ? importKernels(files, moduleOf(name, manifest)) : Promise.resolve({});
  module.catch(() => undefined);
  const backend = await openBackend(name, loading, program, threads, module);
  files.expect(
    new Map([
      ...backend.files.map((file): [string, number] => [file, manifest.files?.[file]?.bytes ?? 0]),
      ...weightFiles(manifest, program),
    ]),
  );
  const preparing = backend.prepare();
  // The first failure decides; the other work must not end as an unhandled rejection.
  const weighing = loadWeights(files, manifest, program, backend);
  try {
    const [weights, kernels] = await Promise.all([weighing, module, preparing]);
    await backend.finish();
    const runner = new ProgramRunner(program, backend, weights, kernels, options.reuse ?? true);
    return { backend, runner, program, placement: placementOf(program, name) };
  } catch (error) {
    await Promise.allSettled([weighing, preparing]);
    const { lost } = backend;
    backend.dispose();
    if (error instanceof WebDNNError || options.signal?.aborted) throw lost ?? error;
    throw new BackendError(`${name}: ${base.href}: ${reasonOf(error)}`, { cause: error });
  }
}

async function openBackend(
  name: BackendName,
  { manifest, files, options, software }: Loading,
  program: Program,
  threads: number,
  module: Promise<KernelModule>,
): Promise<Backend> {
  switch (name) {
    case "js":
      return new JSBackend(program.kernels, await module);
    case "wasm": {
      const choice = chooseModule(manifest, threads);
      const arena = typeof program.arenaBytes === "number" ? program.arenaBytes : 0;
      return new WasmBackend(
        program,
        choice,
        manifest,
        files,
        decodedBytes(program) + arena,
        choice.threads > 1 ? workerUrl(options) : undefined,
      );
    }
    case "webgpu":
      return WebGPUBackend.open(options, program, manifest, files, !software);
    default:
      return name satisfies never;
  }
}

function hasHostSteps(program: Program): boolean {
  let found = false;
  walkSteps(program.steps, (step) => (found ||= "host" in step));
  return found;
}

/** The file of a program's JavaScript. */
function moduleOf(name: BackendName, { files }: Manifest): string {
  const own = `${name}.host.js`;
  return files && own in files ? own : "kernels.js";
}

async function importKernels(files: Files, file: string): Promise<KernelModule> {
  const { href } = files.url(file);
  try {
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ href)) as KernelModule;
  } catch (error) {
    throw new ModelError(`${file} cannot be imported from ${href}: ${reasonOf(error)}`, { cause: error });
  }
}

/** Every step that leaves the backend to compute something; a host function without results only checks. */
function placementOf(program: Program, backend: BackendName): Placement[] {
  const placement: Placement[] = [];
  walkSteps(program.steps, (step, path) => {
    const add = (name: string, reason: string): void => {
      placement.push({ path, name, on: "js", reason });
    };
    if ("host" in step) {
      if (step.outs.length > 0) add(step.host, "host function: its values live on the JavaScript side");
    } else if ("run" in step && step.on === "js" && backend !== "js")
      add(program.hostKernels?.[step.run].name ?? "", `the ${backend} target has no kernel for it`);
  });
  return placement;
}
