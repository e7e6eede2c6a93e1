// The JavaScript backend: kernels are functions over typed arrays.

import type { Backend, Command, CommandShape, Storage } from "./backend.ts";
import { BackendError, reasonOf } from "./errors.ts";
import { allocating, grown } from "./heap.ts";
import type { Buffer, Kernel } from "./manifest.ts";
import { Stopwatch } from "./stopwatch.ts";
import { storedBytes, viewOf, type TypedArray } from "./tensors.ts";

/** What kernels.js exports: kernels take typed arrays and numbers, host functions take values. */
export type KernelModule = Readonly<Record<string, unknown>>;

type JSStorage = Storage & { readonly memory: ArrayBuffer; readonly offset: number };
type JSFunction = (...args: (TypedArray | number)[]) => void;
type JSCommand = Command & { readonly call: JSFunction; readonly args: readonly (TypedArray | number)[] };

/** The function behind a kernel. Throws BackendError if kernels.js lacks it. */
export function findKernel(module: KernelModule, kernel: Kernel): JSFunction {
  const found = module[kernel.export ?? kernel.name];
  if (typeof found !== "function")
    throw new BackendError(`kernel ${kernel.name}: kernels.js exports no '${kernel.export ?? kernel.name}'`, {
      kernel: kernel.name,
    });
  return found as JSFunction;
}

/** Typed array over `bytes` bytes, as many whole elements as fit. */
export function viewBuffer(buffer: Buffer, memory: ArrayBufferLike, offset: number, bytes: number): TypedArray {
  if (buffer.dtype === "string") throw new BackendError("strings are held in value slots only");
  return viewOf(buffer.dtype, memory, offset, Math.floor(bytes / storedBytes(buffer.dtype)));
}

function allocate(bytes: number): ArrayBuffer {
  // Views of every width must fit, and a zero-sized tensor still has an address.
  return allocating(bytes, () => new ArrayBuffer(Math.max(16, Math.ceil(bytes / 16) * 16)));
}

export class JSBackend implements Backend {
  readonly name = "js";
  readonly threads = 1;
  readonly notes: readonly string[] = [];
  readonly adapter = "";
  readonly files: readonly string[] = [];
  readonly layout = "arena";
  epoch = 0;
  private arena = new ArrayBuffer(0);
  private readonly stopwatch = new Stopwatch();

  constructor(
    private readonly kernels: readonly Kernel[],
    private readonly module: KernelModule,
  ) {}

  prepare(): Promise<void> {
    for (const kernel of this.kernels) findKernel(this.module, kernel);
    return Promise.resolve();
  }

  alloc(bytes: number): JSStorage {
    return { bytes, memory: allocate(bytes), offset: 0 };
  }

  free(): void {
    // The garbage collector takes it once the last command is gone.
  }

  reserve([bytes]: readonly number[]): void {
    if (bytes <= this.arena.byteLength) return;
    this.arena = allocate(grown(bytes, this.arena.byteLength));
    this.epoch++;
  }

  place(place: number, bytes: number): JSStorage {
    return { bytes, memory: this.arena, offset: place };
  }

  private bytes(storage: Storage, offset: number, bytes: number): Uint8Array {
    const { memory, offset: base } = storage as JSStorage;
    return new Uint8Array(memory, base + offset, bytes);
  }

  write(storage: Storage, offset: number, bytes: Uint8Array): void {
    this.bytes(storage, offset, bytes.length).set(bytes);
  }

  read(storage: Storage, offset: number, bytes: number): Uint8Array {
    return allocating(bytes, () => this.bytes(storage, offset, bytes).slice());
  }

  copy(source: Storage, sourceOffset: number, target: Storage, targetOffset: number, bytes: number): void {
    this.bytes(target, targetOffset, bytes).set(this.bytes(source, sourceOffset, bytes));
  }

  view(storage: Storage, buffer: Buffer): TypedArray {
    const { memory, offset, bytes } = storage as JSStorage;
    return viewBuffer(buffer, memory, offset, bytes);
  }

  command(kernel: number, args: readonly Storage[], buffers: readonly Buffer[], shape: CommandShape): JSCommand {
    const found = this.kernels[kernel];
    const views = args.map((storage, index) => this.view(storage, buffers[index]));
    return { kernel: found, call: findKernel(this.module, found), args: [...views, ...shape.params] };
  }

  dispatch(command: Command): void {
    const { kernel, call, args } = command as JSCommand;
    const end = this.stopwatch.begin(kernel.name);
    try {
      call(...args);
    } catch (error) {
      throw new BackendError(`kernel ${kernel.name} (js): ${reasonOf(error)}`, { kernel: kernel.name, cause: error });
    }
    end?.();
  }

  finish(): Promise<void> {
    return Promise.resolve();
  }

  profile(): ReturnType<Backend["profile"]> {
    return this.stopwatch.start();
  }

  dispose(): void {
    this.arena = new ArrayBuffer(0);
    this.epoch++;
  }
}
