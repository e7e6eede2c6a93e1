// What a program needs from a place that runs kernels. Three implementations: js.ts, wasm.ts, webgpu.ts.

import type { BackendName, Buffer, Kernel } from "./manifest.ts";
import type { TypedArray } from "./tensors.ts";

/** Memory that a backend handed out. Opaque to everybody but that backend; compared by identity. */
export interface Storage {
  readonly bytes: number;
}

/** One kernel call, ready to repeat: arguments, parameters and grid are fixed in it. */
export interface Command {
  readonly kernel: Kernel;
}

/** The numbers of one kernel call. */
export type CommandShape = {
  readonly params: readonly number[];
  readonly grid: readonly number[];
  readonly extent: number;
};

export type KernelTime = { readonly kernel: string; readonly milliseconds: number };

/**
 * Ordering: `write`, `copy` and `dispatch` take effect in the order of the calls; `read` sees all of those before it.
 * A backend may defer work until `read` or `finish`. Nothing here may be called concurrently with itself: Model queues
 * runs.
 *
 * Ownership: storages belong to the backend and live until `free` or `dispose`; bytes passed in are copied before the
 * call
 * returns; bytes from `read` belong to the caller. A command is void once one of its storages is freed or moved.
 */
export interface Backend {
  readonly name: BackendName;

  /** Threads that share the work of one kernel, this one included. */
  readonly threads: number;

  /** What the user should know about how this backend runs. */
  readonly notes: readonly string[];

  /** The GPU as the browser names it; empty elsewhere. */
  readonly adapter: string;

  /** Files of the bundle that `prepare` reads. */
  readonly files: readonly string[];

  /** Planned memory is one arena of bytes (places are offsets) or numbered slots (places are their numbers). */
  readonly layout: "arena" | "slots";

  /** Changes whenever planned memory moved: placed storages from before, and commands over them, are void. */
  readonly epoch: number;

  /** Set once the device is lost: every storage and command is void. */
  readonly lost?: Error | undefined;

  /** Compiles every kernel. Rejects with BackendError naming the kernel that cannot be compiled. */
  prepare(): Promise<void>;

  /** Uninitialised memory outside the plan. Throws OutOfMemoryError. */
  alloc(bytes: number): Storage;

  /** Takes back what `alloc` or `adopt` gave. */
  free(storage: Storage): void;

  /** Makes planned memory at least so large: `[bytes]` of an arena, or the bytes of every slot. All plans share it. */
  reserve(sizes: readonly number[]): void;

  /** A view of planned memory. */
  place(place: number, bytes: number): Storage;

  write(storage: Storage, offset: number, bytes: Uint8Array): void;

  /** Copies bytes out. */
  read(storage: Storage, offset: number, bytes: number): Uint8Array | Promise<Uint8Array>;

  copy(source: Storage, sourceOffset: number, target: Storage, targetOffset: number, bytes: number): void;

  /** `kernel` is a position in the program's kernels. Throws BackendError if the call exceeds a limit of the device. */
  command(kernel: number, args: readonly Storage[], buffers: readonly Buffer[], shape: CommandShape): Command;

  dispatch(command: Command): void;

  /** Resolves when everything recorded so far was submitted and found valid; rejects with what went wrong. */
  finish(): Promise<void>;

  /**
   * The memory itself, where the host can address it: valid until the next call of `alloc`, `reserve` or `dispatch`.
   */
  view?(storage: Storage, buffer: Buffer): TypedArray;

  /** Wraps a caller's GPU buffer without a copy. */
  adopt?(buffer: GPUBuffer, bytes: number): Storage;

  /** True for a buffer that `reveal` gave: it may be written by the very kernel that would read it. */
  owns?(buffer: GPUBuffer): boolean;

  /** The GPU buffer behind a storage, which goes on belonging to the backend. */
  reveal?(storage: Storage): GPUBuffer;

  /**
   * Measures every dispatch until `stop`, which resolves to their times in order; null where the platform cannot tell.
   */
  profile(): { stop(): Promise<readonly KernelTime[] | null> };

  dispose(): void;
}
