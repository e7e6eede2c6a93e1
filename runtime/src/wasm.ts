// The WebAssembly backend: one linear memory holds a control block, the weights and everything else.

import type { Backend, Command, CommandShape, Storage } from "./backend.ts";
import { BackendError, OutOfMemoryError, reasonOf } from "./errors.ts";
import type { Files } from "./files.ts";
import { Heap, allocating, grown } from "./heap.ts";
import { viewBuffer } from "./js.ts";
import type { Buffer, Kernel, Manifest, Program } from "./manifest.ts";
import { Stopwatch } from "./stopwatch.ts";
import type { TypedArray } from "./tensors.ts";
import { Pace } from "./pace.ts";
import { ThreadPool, setScratch } from "./wasm-threads.ts";

const PAGE = 65536;
const MAXIMUM_PAGES = 65536;

/**
 * Engines put better code in place between the calls of a function, never within one: a first call of seconds would end in
 * the code that it began with. So the first run of a call is made of up to this many.
 */
const FIRST_PARTS = 32;

/** Addresses below this one belong to the runtime: the control block of the threads. */
export const RESERVED = 1024;

const NO_ARENA = { offset: 0, bytes: -1 };

type WasmStorage = Storage & { readonly address: number };
type WasmFunction = (...args: number[]) => void;
type WasmCommand = Command & {
  readonly index: number;
  readonly call: WasmFunction;
  readonly args: number[];
  readonly extent: number;
  /** Whether this call is worth sharing among threads; found out by its first runs. */
  readonly pace: Pace;
  /** Not run yet: its code may be the compiler's first draft. */
  isFirst: boolean;
};

/** A module whose only function is one f32x4.relaxed_madd. */
// prettier-ignore
const RELAXED_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0,
  65, 0, 253, 15, 65, 0, 253, 15, 65, 0, 253, 15, 253, 133, 2, 11,
]);

/** A module whose only function is one i8x16.splat. */
// prettier-ignore
const SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11,
]);

export type WasmChoice = { readonly file: string; readonly threads: number; readonly notes: readonly string[] };

/** Which of the bundle's modules fits this engine. Throws BackendError if none does. */
export function chooseModule(manifest: Manifest, threads: number): WasmChoice {
  if (typeof WebAssembly === "undefined" || !WebAssembly.validate(SIMD_PROBE)) {
    throw new BackendError("wasm: this browser has no WebAssembly SIMD");
  }
  const notes: string[] = [];
  const has = (file: string): boolean => Object.hasOwn(manifest.files ?? {}, file);
  const shared = threads > 1 && (has("kernels.threads.wasm") || has("kernels.relaxed.threads.wasm"));
  if (threads > 1 && !shared) notes.push("one thread: the bundle was converted without threads");
  const relaxed = WebAssembly.validate(RELAXED_PROBE);
  const suffix = shared ? ".threads.wasm" : ".wasm";
  const order = relaxed ? [`kernels.relaxed${suffix}`, `kernels${suffix}`] : [`kernels${suffix}`];
  const file = order.find(has);
  if (!file) throw new BackendError(`wasm: the bundle has none of ${order.join(", ")}`);
  if (!relaxed) notes.push("no relaxed SIMD in this browser: plain SIMD kernels are used");
  return { file, threads: shared ? threads : 1, notes };
}

/** A parallel call as several, over consecutive ranges. */
export function callInParts(call: WasmFunction, args: readonly number[], extent: number): void {
  const shared = args.slice(0, -2);
  const parts = Math.min(extent, FIRST_PARTS);
  for (let part = 0; part < parts; part++)
    call(...shared, Math.floor((extent * part) / parts), Math.floor((extent * (part + 1)) / parts));
}

export class WasmBackend implements Backend {
  readonly name = "wasm";
  readonly adapter = "";
  readonly files: readonly string[];
  readonly layout = "arena";
  readonly notes: string[];
  epoch = 0;
  threads = 1;
  private memory!: WebAssembly.Memory;
  private exports!: WebAssembly.Exports;
  private pool: ThreadPool | undefined;
  private readonly heap = new Heap(RESERVED);
  private arena: typeof NO_ARENA = NO_ARENA;
  private readonly stopwatch = new Stopwatch();
  private readonly kernels: readonly Kernel[];
  /** Each thread's own piece of memory, for the kernels' local arrays. */
  private readonly scratch: { readonly address: number; readonly bytes: number };

  /** `initialBytes` is what weights and planned memory will need, so that the memory need not grow. */
  constructor(
    program: Program,
    private readonly choice: WasmChoice,
    private readonly manifest: Manifest,
    private readonly source: Files,
    initialBytes: number,
    private readonly workerUrl: URL | undefined,
  ) {
    this.kernels = program.kernels;
    this.files = [choice.file];
    this.notes = [...choice.notes];
    const scratch = Heap.round(program.scratchBytes ?? 0);
    this.scratch = { address: this.heap.take(scratch * choice.threads), bytes: scratch };
    const initial = Math.ceil((this.heap.end + initialBytes + RESERVED) / PAGE) + 1;
    const shared = choice.threads > 1;
    try {
      this.memory = new WebAssembly.Memory({ initial, maximum: MAXIMUM_PAGES, ...(shared && { shared }) });
    } catch (error) {
      throw new OutOfMemoryError(`wasm: cannot allocate ${initial * PAGE} bytes of memory: ${reasonOf(error)}`, {
        cause: error,
      });
    }
  }

  async prepare(): Promise<void> {
    const { file } = this.choice;
    const facts = this.manifest.files?.[file];
    if (!facts) throw new BackendError(`wasm: model.json does not list ${file}`);
    const bytes = await this.source.verified(file, facts);
    try {
      const module = await WebAssembly.compile(bytes);
      this.exports = (await WebAssembly.instantiate(module, { env: { memory: this.memory } })).exports;
      for (const kernel of this.kernels) this.find(kernel);
      setScratch(this.exports, this.scratch.address);
      if (this.choice.threads > 1 && this.workerUrl) this.startThreads(module, this.workerUrl);
    } catch (error) {
      if (error instanceof BackendError) throw error;
      throw new BackendError(`wasm: ${file}: ${reasonOf(error)}`, { cause: error });
    }
  }

  /** Helpers join when they are ready: until then, and if they never are, this thread works alone. */
  private startThreads(module: WebAssembly.Module, workerUrl: URL): void {
    const { memory, scratch } = this;
    const { threads } = this.choice;
    const kernels = this.kernels.map((kernel) => kernel.export ?? kernel.name);
    const pool = new ThreadPool({ module, memory, kernels, scratch, threads }, workerUrl);
    this.threads = threads;
    this.pool = pool;
    pool.ready.catch((error: unknown) => {
      pool.dispose();
      if (this.pool !== pool) return;
      this.pool = undefined;
      this.threads = 1;
      this.notes.push(`one thread: ${reasonOf(error)}`);
    });
  }

  private find(kernel: Kernel): WasmFunction {
    const found = this.exports[kernel.export ?? kernel.name];
    if (typeof found !== "function")
      throw new BackendError(
        `kernel ${kernel.name}: ${this.choice.file} exports no '${kernel.export ?? kernel.name}'`,
        { kernel: kernel.name },
      );
    return found as WasmFunction;
  }

  private take(bytes: number): number {
    const offset = this.heap.take(bytes);
    const missing = offset + Heap.round(bytes) - this.memory.buffer.byteLength;
    if (missing > 0) {
      try {
        this.memory.grow(Math.ceil(missing / PAGE));
      } catch (error) {
        this.heap.give(offset, bytes);
        throw new OutOfMemoryError(
          `wasm: cannot grow the memory by ${missing} bytes beyond ${this.memory.buffer.byteLength}: ${reasonOf(error)}`,
          { cause: error },
        );
      }
    }
    return offset;
  }

  alloc(bytes: number): WasmStorage {
    return { bytes, address: this.take(bytes) };
  }

  free(storage: Storage): void {
    this.heap.give((storage as WasmStorage).address, storage.bytes);
  }

  reserve([bytes]: readonly number[]): void {
    if (bytes <= this.arena.bytes) return;
    const size = grown(bytes, Math.max(0, this.arena.bytes));
    if (this.arena.bytes >= 0) this.heap.give(this.arena.offset, this.arena.bytes);
    this.arena = NO_ARENA;
    this.arena = { offset: this.take(size), bytes: size };
    this.epoch++;
  }

  place(place: number, bytes: number): WasmStorage {
    return { bytes, address: this.arena.offset + place };
  }

  private bytes(storage: Storage, offset: number, bytes: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, (storage as WasmStorage).address + offset, bytes);
  }

  write(storage: Storage, offset: number, bytes: Uint8Array): void {
    this.bytes(storage, offset, bytes.length).set(bytes);
  }

  read(storage: Storage, offset: number, bytes: number): Uint8Array {
    // Not slice(): on shared memory it would give a shared copy, which many platform functions refuse.
    return allocating(bytes, () => new Uint8Array(this.bytes(storage, offset, bytes)));
  }

  copy(source: Storage, sourceOffset: number, target: Storage, targetOffset: number, bytes: number): void {
    this.bytes(target, targetOffset, bytes).set(this.bytes(source, sourceOffset, bytes));
  }

  view(storage: Storage, buffer: Buffer): TypedArray {
    return viewBuffer(buffer, this.memory.buffer, (storage as WasmStorage).address, storage.bytes);
  }

  command(kernel: number, args: readonly Storage[], _buffers: readonly Buffer[], shape: CommandShape): WasmCommand {
    const found = this.kernels[kernel];
    const numbers = [...args.map((storage) => (storage as WasmStorage).address), ...shape.params];
    if (found.parallel) numbers.push(0, shape.extent);
    return {
      kernel: found,
      index: kernel,
      call: this.find(found),
      args: numbers,
      extent: shape.extent,
      pace: new Pace(),
      isFirst: found.parallel === true && shape.extent > 1,
    };
  }

  dispatch(command: Command): void {
    const { kernel } = command;
    const end = this.stopwatch.begin(kernel.name);
    try {
      this.run(command as WasmCommand);
    } catch (error) {
      throw new BackendError(`kernel ${kernel.name} (wasm): ${reasonOf(error)}`, { kernel: kernel.name, cause: error });
    }
    end?.();
  }

  private run(command: WasmCommand): void {
    const { kernel, index, call, args, extent, pace, isFirst } = command;
    const pool = this.pool?.isReady && kernel.parallel && extent > 1 ? this.pool : undefined;
    command.isFirst = false;
    if (isFirst && pool) pool.run(index, call, args, extent, FIRST_PARTS);
    else if (isFirst) callInParts(call, args, extent);
    else if (!pool) call(...args);
    else
      pace.run(
        () => {
          pool.run(index, call, args, extent);
        },
        () => {
          call(...args);
        },
      );
  }

  finish(): Promise<void> {
    this.pool?.rest();
    return Promise.resolve();
  }

  profile(): ReturnType<Backend["profile"]> {
    return this.stopwatch.start();
  }

  dispose(): void {
    this.pool?.dispose();
    this.pool = undefined;
    this.exports = {};
    this.memory = new WebAssembly.Memory({ initial: 0 });
    this.epoch++;
  }
}
