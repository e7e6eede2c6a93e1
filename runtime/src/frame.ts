// One run of a program: its memory, its values, and what its symbols are worth.

import type { Backend, Storage } from "./backend.ts";
import { evaluate, product, type Dim, type Symbols } from "./dims.ts";
import { ModelError, ShapeError } from "./errors.ts";
import type { Program } from "./manifest.ts";
import type { Outline, Plan } from "./plan.ts";
import { bytesOf, storedBytes, storedLength, viewOf, type Tensor, type TypedArray, type Value } from "./tensors.ts";

/** What a run starts from. */
export type Feed = {
  readonly symbols: Symbols;
  /** Values of the input slots that are no device buffers. */
  readonly values: Map<number, Value>;
  /** Bytes of the inputs that are. */
  readonly uploads: ReadonlyMap<number, Uint8Array>;
  /** A caller's GPU buffers in place of the program's own. */
  readonly overrides: ReadonlyMap<number, Storage>;
  /** GPU memory that is copied into an input. */
  readonly copies: ReadonlyMap<number, Storage>;
};

export class Frame {
  readonly symbols: Symbols;
  private readonly values: Map<number, Value>;
  /** Memory whose size was not known when the run began. */
  private readonly late = new Map<number, Storage>();

  constructor(
    private readonly program: Program,
    private readonly backend: Backend,
    private readonly outline: Outline,
    private readonly plan: Plan,
    feed: Feed,
  ) {
    this.symbols = new Map(feed.symbols);
    this.values = feed.values;
    for (const [buffer, bytes] of feed.uploads) backend.write(this.storage(buffer), 0, bytes);
    for (const [buffer, source] of feed.copies) backend.copy(source, 0, this.storage(buffer), 0, this.bytes(buffer));
  }

  release(): void {
    for (const storage of this.late.values()) this.backend.free(storage);
    this.late.clear();
  }

  /** Memory of a buffer; allocated here and now if its size was not known when the run began. */
  storage = (index: number): Storage => {
    const planned = this.plan.storages.get(index);
    if (planned) return planned;
    const bytes = this.bytes(index);
    const late = this.late.get(index);
    if (late && late.bytes >= bytes) return late;
    if (late) this.backend.free(late);
    const fresh = this.backend.alloc(bytes);
    this.late.set(index, fresh);
    return fresh;
  };

  isSlot(index: number): boolean {
    return this.program.buffers[index].role === "value";
  }

  /** Shape under the symbols as they are now. */
  evaluateShape(shape: readonly Dim[]): number[] {
    return shape.map((dim) => evaluate(dim, this.symbols));
  }

  dims(index: number): number[] {
    return this.evaluateShape(this.program.buffers[index].shape);
  }

  /** Storage bytes under the symbols as they are now. */
  bytes(index: number): number {
    return evaluate(this.program.buffers[index].bytes, this.symbols);
  }

  value(index: number): Value {
    const value = this.values.get(index);
    if (value === undefined) throw new ModelError(`value slot ${index} is read before anything was put there`);
    return value;
  }

  /** The dense content of a buffer as a tensor. */
  async tensor(index: number, dims = this.dims(index)): Promise<Tensor> {
    const { dtype } = this.program.buffers[index];
    if (dtype === "string") throw new ModelError(`buffer ${index}: strings are held in value slots only`);
    const length = storedLength(dtype, product(dims));
    const bytes = await this.backend.read(this.storage(index), 0, length * storedBytes(dtype));
    return { dtype, dims, data: viewOf(dtype, bytes.buffer, bytes.byteOffset, length) };
  }

  /**
   * Integer at a position of a buffer or of a tensor in a value slot; negative positions read dimension -1-k of the
   * latter.
   */
  async integer(index: number, position: number): Promise<number> {
    if (!this.isSlot(index)) {
      const { dtype } = this.program.buffers[index];
      const size = dtype === "string" ? 1 : storedBytes(dtype);
      const bytes = await this.backend.read(this.storage(index), position * size, size);
      return Number(viewOf(dtype, bytes.buffer, bytes.byteOffset, 1)[0]);
    }
    const value = this.value(index);
    if (Array.isArray(value)) return value.length;
    if (value === null) return 0;
    const tensor = value as Tensor;
    return position < 0
      ? tensor.dims[-1 - position]
      : Number((tensor.data as TypedArray | readonly string[])[position]);
  }

  /** Gives back memory of this run whose last reader is done. */
  drop(step: number): void {
    for (const [index, storage] of this.late) {
      if ((this.outline.lifetimes.get(index)?.last ?? Infinity) > step) continue;
      this.late.delete(index);
      this.backend.free(storage);
    }
  }

  /** Stores a value in its slot, or a tensor in a buffer, whose dims it must have. */
  put(index: number, value: Value, where: string): void {
    if (this.isSlot(index)) {
      this.values.set(index, value);
      return;
    }
    const tensor = value as Tensor<"uint8">;
    const dims = this.dims(index);
    if (product(tensor.dims) !== product(dims))
      throw new ShapeError(`${where}: buffer ${index}: expected [${dims.join(", ")}], got [${tensor.dims.join(", ")}]`);
    this.backend.write(this.storage(index), 0, bytesOf(tensor.data));
  }

  copy(source: number, target: number): Promise<void> | undefined {
    if (this.isSlot(source)) {
      this.put(target, this.value(source), "copy");
      return undefined;
    }
    if (this.isSlot(target)) {
      return this.tensor(source).then((tensor) => {
        this.values.set(target, tensor);
      });
    }
    const bytes = this.bytes(source);
    const from = this.storage(source);
    const to = this.storage(target);
    if (from !== to && bytes > 0) this.backend.copy(from, 0, to, 0, bytes);
    return undefined;
  }

  /** Moves one element between its own buffer and its place in a sequence along the leading axis. */
  async moveElement(sequence: number, element: number, position: number, out: boolean): Promise<void> {
    const { dtype } = this.program.buffers[element];
    if (dtype === "string") throw new ModelError("strings cannot be scanned");
    const bytes = storedLength(dtype, product(this.dims(element))) * storedBytes(dtype);
    const whole = this.storage(sequence);
    const part = this.storage(element);
    const [from, fromOffset, to, toOffset] = out
      ? [whole, position * bytes, part, 0]
      : [part, 0, whole, position * bytes];
    if (this.backend.view || (bytes % 4 === 0 && (position * bytes) % 4 === 0)) {
      if (bytes > 0) this.backend.copy(from, fromOffset, to, toOffset, bytes);
      return;
    }
    // WebGPU copies whole words only: patch the words around the element on the host.
    const begin = Math.floor(toOffset / 4) * 4;
    const end = Math.ceil((toOffset + bytes) / 4) * 4;
    const source = await this.backend.read(
      from,
      Math.floor(fromOffset / 4) * 4,
      Math.ceil(((fromOffset % 4) + bytes) / 4) * 4,
    );
    const words = (await this.backend.read(to, begin, end - begin)).slice();
    words.set(source.subarray(fromOffset % 4, (fromOffset % 4) + bytes), toOffset - begin);
    this.backend.write(to, begin, words);
  }
}
