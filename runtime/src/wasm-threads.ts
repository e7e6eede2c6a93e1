// Threads of the wasm backend: helper workers that share its memory and the iterations of one kernel at a time.
//
// The control block is the first KiB of the shared memory, as 32-bit words. To start a kernel the coordinator fills in the
// call, opens TICKET and raises GENERATION, which wakes the helpers. Then every thread, the coordinator included, takes one
// piece of the iterations after the other by raising TICKET. So a helper that is late costs nothing: the others do its work,
// and only pieces that were taken are waited for. Threads spin for a moment before they sleep, because most kernels are
// shorter than waking up. The coordinator sleeps too, so it must not be the main thread of a page: load() moves such a
// model into a worker.
//
// A run begins with a muster: the coordinator wakes the helpers and sleeps until they are awake. Going to sleep is what
// lets the operating system give each of them a core of its own: woken by a thread that goes on working, a helper may be
// put behind that very thread, on its core, for longer than a whole run takes.

import { BackendError, reasonOf } from "./errors.ts";
import { nodeModule } from "./files.ts";

/** Words of the control block. */
const GENERATION = 0;
const STOP = 1;
const FAILED = 2;
const KERNEL = 3;
const EXTENT = 4;
const COUNT = 5;
const PIECES = 6;
/** Number of the call times 65,536, plus the next piece to take; negative while there is nothing to do. */
const TICKET = 7;
const DONE = 8;
const THREADS = 9;
/** Number of pieces of equal size; 0: pieces that become smaller. */
const EVEN = 10;
/** 1 while a run is in progress: helpers then wait awake. */
const ACTIVE = 11;
/** Helpers that are awake. */
const AWAKE = 12;
const ARGS = 16;
const MAXIMUM_ARGS = 240;

/**
 * Half of the iterations are taken in one piece per thread, half of the rest in the next, and so on: large pieces cost
 * little, small ones at the end let threads of different speed finish together.
 */
const ROUNDS = 4;

/** Milliseconds for which the coordinator looks at a word before it sleeps on it. */
const SPIN = 0.1;

/** The same for helpers while a run is in progress: longer than what lies between two shared calls of most runs. */
const HELPER_SPIN = 0.5;

/** Milliseconds that the coordinator sleeps at the most for its helpers to wake up. */
const MUSTER = 0.5;

/** Looks at the word for one look at the clock. */
const LOOKS = 64;

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

/** Whether the word changes from `value` within so many milliseconds, looking at it all the time. */
function changes(words: Int32Array, word: number, value: number, spin: number): boolean {
  const end = performance.now() + spin;
  do {
    for (let look = 0; look < LOOKS; look++) if (Atomics.load(words, word) !== value) return true;
  } while (performance.now() < end);
  return false;
}

/** Waits until the word is no longer `value`. */
function waitWhile(words: Int32Array, word: number, value: number): void {
  if (changes(words, word, value, SPIN)) return;
  while (Atomics.load(words, word) === value) Atomics.wait(words, word, value, 1000);
}

/** First iteration of a piece; of the piece after the last, the extent. */
export function pieceBegin(piece: number, extent: number, threads: number, even: number): number {
  if (even > 0) return Math.floor((extent * piece) / even);
  const round = Math.floor(piece / threads);
  if (round >= ROUNDS) return extent;
  const rest = 2 ** -round;
  const share = round === ROUNDS - 1 ? rest : rest / 2;
  return Math.floor(extent * (1 - rest + (share * (piece % threads)) / threads));
}

type Call = (...args: number[]) => void;

/** Takes pieces of the call in progress until none is left. What `find` gives is called with the shared arguments. */
function work(words: Int32Array, find: (kernel: number) => Call): void {
  for (;;) {
    const ticket = Atomics.load(words, TICKET);
    const piece = ticket & 0xffff;
    const pieces = words[PIECES];
    if (ticket < 0 || piece >= pieces) return;
    if (Atomics.compareExchange(words, TICKET, ticket, ticket + 1) !== ticket) continue;
    // From here on the call cannot end, nor its words change, before this piece is counted as done.
    const extent = words[EXTENT];
    const begin = pieceBegin(piece, extent, words[THREADS], words[EVEN]);
    const end = pieceBegin(piece + 1, extent, words[THREADS], words[EVEN]);
    try {
      if (begin < end) find(words[KERNEL])(...words.subarray(ARGS, ARGS + words[COUNT]), begin, end);
    } catch {
      words[FAILED] = 1;
    }
    if (Atomics.add(words, DONE, 1) === pieces - 1) Atomics.notify(words, DONE);
  }
}

/** A helper's life: parked on the control block, at work on every call, until told to stop. */
export function help(memory: WebAssembly.Memory, functions: readonly Call[]): void {
  const words = new Int32Array(memory.buffer, 0, ARGS + MAXIMUM_ARGS);
  Atomics.add(words, AWAKE, 1);
  for (let generation = 0; ; generation = Atomics.load(words, GENERATION)) {
    work(words, (kernel) => functions[kernel]);
    if (!Atomics.load(words, ACTIVE) || !changes(words, GENERATION, generation, HELPER_SPIN)) {
      Atomics.sub(words, AWAKE, 1);
      while (Atomics.load(words, GENERATION) === generation) Atomics.wait(words, GENERATION, generation, 1000);
      Atomics.add(words, AWAKE, 1);
      Atomics.notify(words, AWAKE);
    }
    if (Atomics.load(words, STOP)) return;
  }
}

export class ThreadPool {
  readonly ready: Promise<void>;
  isReady = false;
  private readonly workers: AnyWorker[] = [];
  private readonly words: Int32Array;
  private broken: string | undefined;
  private calls = 0;

  constructor(
    private readonly team: Team,
    workerUrl: URL,
  ) {
    const { memory, threads } = team;
    this.words = new Int32Array(memory.buffer, 0, ARGS + MAXIMUM_ARGS);
    this.words[TICKET] = -1;
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
      this.isReady = true;
      for (const worker of this.workers) worker.hold(false);
    });
  }

  /**
   * Runs a parallel kernel on the whole team; the range at the end of `args` is replaced by the pieces, `even` of equal
   * size if given.
   */
  run(kernel: number, call: Call, args: readonly number[], extent: number, even = 0): void {
    if (this.broken) throw new BackendError(`a thread died: ${this.broken}`);
    const { words } = this;
    this.muster();
    const shared = args.length - 2;
    if (shared > MAXIMUM_ARGS) {
      throw new BackendError(`${shared} arguments, at most ${MAXIMUM_ARGS} can be shared with threads`);
    }
    const { threads } = this.team;
    const pieces = even || threads * ROUNDS;
    for (let index = 0; index < shared; index++) words[ARGS + index] = args[index];
    words[KERNEL] = kernel;
    words[EXTENT] = extent;
    words[COUNT] = shared;
    words[PIECES] = pieces;
    words[THREADS] = threads;
    words[EVEN] = even;
    words[FAILED] = 0;
    words[DONE] = 0;
    this.calls = (this.calls + 1) & 0x7fff;
    Atomics.store(words, TICKET, this.calls << 16);
    Atomics.add(words, GENERATION, 1);
    Atomics.notify(words, GENERATION);
    work(words, () => call);
    for (let done = Atomics.load(words, DONE); done < pieces; done = Atomics.load(words, DONE)) {
      waitWhile(words, DONE, done);
    }
    // Closed before its words change: a late helper that still holds this ticket cannot take a piece with it.
    Atomics.store(words, TICKET, -1);
    if (words[FAILED]) throw new BackendError("it trapped");
  }

  /** Wakes the helpers for a run. */
  private muster(): void {
    const { words } = this;
    if (words[ACTIVE]) return;
    Atomics.store(words, ACTIVE, 1);
    Atomics.add(words, GENERATION, 1);
    Atomics.notify(words, GENERATION);
    const end = performance.now() + MUSTER;
    for (let awake = Atomics.load(words, AWAKE); awake < this.team.threads - 1; awake = Atomics.load(words, AWAKE)) {
      const left = end - performance.now();
      if (left <= 0) return;
      Atomics.wait(words, AWAKE, awake, left);
    }
  }

  /** Lets the helpers sleep until the next run. */
  rest(): void {
    Atomics.store(this.words, ACTIVE, 0);
    Atomics.add(this.words, GENERATION, 1);
  }

  dispose(): void {
    Atomics.store(this.words, STOP, 1);
    Atomics.add(this.words, GENERATION, 1);
    Atomics.notify(this.words, GENERATION);
    for (const worker of this.workers) worker.terminate();
  }
}
