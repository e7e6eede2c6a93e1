// Threads of the wasm backend: helper workers that share its memory and divide the iterations of one kernel at a time.
//
// The control block is the first KiB of the shared memory, as 32-bit words. To start a kernel the coordinator fills in
// the
// call, sets PENDING to the number of helpers and raises GENERATION; each helper runs its share and lowers PENDING.
// Both sides
// spin for a moment before they sleep, because most kernels are shorter than waking up a thread. The coordinator
// sleeps too,
// so it must not be the main thread of a page: load() moves such a model into a worker.

import { BackendError, reasonOf } from "./errors.ts";
import { nodeModule } from "./files.ts";

export const GENERATION = 0;
export const PENDING = 1;
export const STOP = 2;
export const FAILED = 3;
export const KERNEL = 4;
export const EXTENT = 5;
export const COUNT = 6;
export const ARGS = 8;
const MAXIMUM_ARGS = 248;

/** Looks at a word this many times before sleeping on it: about 20 microseconds. */
const SPINS = 4000;

/** What every thread of a pool shares. Thread 0 is the coordinator. */
export type Team = {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly kernels: readonly string[];
  readonly scratch: { readonly address: number; readonly bytes: number };
  readonly threads: number;
};

export type HelperStart = Team & { readonly role: "helper"; readonly index: number };

/** Tells an instance where its thread's local arrays go. */
export function setScratch(exports: WebAssembly.Exports, address: number): void {
  const { scratch } = exports;
  if (scratch instanceof WebAssembly.Global) scratch.value = address;
}

/** The worker API that browsers and Node share, more or less. */
export interface AnyWorker {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  terminate(): unknown;
  /** Whether the process stays alive for it; pages do anyway. */
  hold(held: boolean): void;
  listen(onMessage: (data: unknown) => void, onError: (reason: string) => void): void;
}

type NodeWorkers = {
  Worker: new (
    url: URL,
    options: { execArgv: readonly string[] },
  ) => {
    postMessage(message: unknown, transfer?: Transferable[]): void;
    terminate(): unknown;
    on(event: string, listener: (data: unknown) => void): void;
    ref(): void;
    unref(): void;
  };
};

/** Starts the bundle's worker file. */
export function startWorker(url: URL): AnyWorker {
  if (typeof Worker === "function") {
    const worker = new Worker(url, { type: "module", name: "webdnn" });
    return {
      postMessage: (message, transfer) => {
        worker.postMessage(message, transfer ?? []);
      },
      terminate: () => {
        worker.terminate();
      },
      hold: () => undefined,
      listen: (onMessage, onError) => {
        worker.onmessage = (event) => {
          onMessage(event.data);
        };
        worker.onerror = (event) => {
          onError(event.message || `${url.href} cannot be started as a worker`);
        };
      },
    };
  }
  const node = nodeModule("node:worker_threads") as NodeWorkers | undefined;
  if (!node) throw new BackendError("there are no workers here");
  // Options of this process, such as --input-type, need not fit the worker; engine flags hold for all threads anyway.
  const worker = new node.Worker(url, { execArgv: [] });
  return {
    postMessage: (message, transfer) => {
      worker.postMessage(message, transfer);
    },
    terminate: () => worker.terminate(),
    hold: (held) => {
      if (held) worker.ref();
      else worker.unref();
    },
    listen: (onMessage, onError) => {
      worker.on("message", onMessage);
      worker.on("error", (error) => {
        onError(reasonOf(error));
      });
    },
  };
}

/** First and last-but-one iteration that thread `index` of `threads` runs. */
export function share(extent: number, index: number, threads: number): [begin: number, end: number] {
  return [Math.floor((extent * index) / threads), Math.floor((extent * (index + 1)) / threads)];
}

/** Waits until the word is no longer `value`. */
export function waitWhile(words: Int32Array, word: number, value: number): void {
  for (let spin = 0; spin < SPINS; spin++) if (Atomics.load(words, word) !== value) return;
  while (Atomics.load(words, word) === value) Atomics.wait(words, word, value, 1000);
}

export class ThreadPool {
  readonly ready: Promise<void>;
  private readonly workers: AnyWorker[] = [];
  private readonly words: Int32Array;
  private broken: string | undefined;

  constructor(
    private readonly team: Team,
    workerUrl: URL,
  ) {
    const { memory, threads } = team;
    this.words = new Int32Array(memory.buffer, 0, ARGS + MAXIMUM_ARGS);
    const started: Promise<void>[] = [];
    for (let index = 1; index < threads; index++) {
      const worker = startWorker(workerUrl);
      this.workers.push(worker);
      started.push(
        new Promise((resolve, reject) => {
          worker.listen(
            (data) => {
              const problem = (data as { error?: string }).error;
              if (problem === undefined) resolve();
              else reject(new BackendError(`wasm threads: ${problem}`));
            },
            (reason) => {
              this.broken = reason;
              reject(new BackendError(`wasm threads: ${reason}`));
            },
          );
        }),
      );
      worker.postMessage({ ...team, role: "helper", index } satisfies HelperStart);
    }
    this.ready = Promise.all(started).then(() => {
      for (const worker of this.workers) worker.hold(false);
    });
  }

  /** Runs a parallel kernel on every thread; `args` end with the range, which this method replaces. */
  run(kernel: number, call: (...args: number[]) => void, args: readonly number[], extent: number): void {
    if (this.broken) throw new BackendError(`a thread died: ${this.broken}`);
    const { words } = this;
    const { threads } = this.team;
    const shared = args.length - 2;
    if (shared > MAXIMUM_ARGS)
      throw new BackendError(`${shared} arguments, at most ${MAXIMUM_ARGS} can be shared with threads`);
    for (let index = 0; index < shared; index++) words[ARGS + index] = args[index];
    words[KERNEL] = kernel;
    words[EXTENT] = extent;
    words[COUNT] = shared;
    words[FAILED] = 0;
    Atomics.store(words, PENDING, threads - 1);
    Atomics.add(words, GENERATION, 1);
    Atomics.notify(words, GENERATION);
    let own: unknown;
    try {
      const range = share(extent, 0, threads);
      call(...args.slice(0, shared), ...range);
    } catch (error) {
      own = error;
    }
    for (let pending = Atomics.load(words, PENDING); pending > 0; pending = Atomics.load(words, PENDING))
      waitWhile(words, PENDING, pending);
    if (own !== undefined) throw own as Error;
    if (words[FAILED]) throw new BackendError("a thread trapped in it");
  }

  dispose(): void {
    Atomics.store(this.words, STOP, 1);
    Atomics.add(this.words, GENERATION, 1);
    Atomics.notify(this.words, GENERATION);
    for (const worker of this.workers) worker.terminate();
  }
}
