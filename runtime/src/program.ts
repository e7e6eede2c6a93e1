// The steps of a program, executed on a backend. No operator is known here: kernels compute, this file moves and decides.

import type { Backend, Storage } from "./backend.ts";
import { evaluate, product, type Dim, type Symbols } from "./dims.ts";
import { BackendError, ModelError, ShapeError, reasonOf } from "./errors.ts";
import { findKernel, viewBuffer, type KernelModule } from "./js.ts";
import type { Access, Buffer, HostStep, Kernel, Loop, Program, RunStep, Step } from "./manifest.ts";
import { stepKind } from "./manifest.ts";
import { Outline, Plan, buffersOf } from "./plan.ts";
import { bytesOf, storedBytes, storedLength, viewOf, type Tensor, type TypedArray, type Value } from "./tensors.ts";

/** Called around every step. Reading and writing buffers here does not change what the kernels are. */
export type Observer = {
  readonly before?: (point: ObservationPoint) => void | Promise<void>;
  readonly after?: (point: ObservationPoint) => void | Promise<void>;
};

export type ObservationPoint = {
  /** Position of the step; inside of control flow, one position per level. */
  readonly path: readonly number[];
  readonly kind: ReturnType<typeof stepKind>;
  /** Kernel or host function, where the step runs one. */
  readonly name: string | undefined;
  /** The buffers that the step names. */
  readonly buffers: readonly number[];
  /** Physical bytes of a buffer, copied; null for a value slot. */
  readonly read: (buffer: number) => Promise<Uint8Array | null>;
  readonly write: (buffer: number, bytes: Uint8Array) => void;
};

export type Execution = {
  readonly symbols: Symbols;
  /** Values of the input slots that are no device buffers. */
  readonly values: Map<number, Value>;
  /** Bytes of the inputs that are. */
  readonly uploads: ReadonlyMap<number, Uint8Array>;
  /** A caller's GPU buffers in place of the program's own. */
  readonly overrides: ReadonlyMap<number, Storage>;
  /** GPU memory that is copied into an input. */
  readonly copies: ReadonlyMap<number, Storage>;
  readonly observe?: Observer | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** Assignments of the symbols whose plans are kept ready. All plans share one memory, so they cost little. */
const PLANS = 8;

type Elements = TypedArray | readonly string[];

export class ProgramRunner {
  private readonly outline: Outline;
  private readonly plans = new Map<string, Plan>();
  private overrideIds = new WeakMap<Storage, number>();
  private nextId = 0;

  constructor(
    private readonly program: Program,
    private readonly backend: Backend,
    private readonly weights: ReadonlyMap<number, Storage>,
    private readonly module: KernelModule,
    private readonly reuse: boolean,
  ) {
    this.outline = new Outline(program, backend.layout);
    for (const kernel of program.hostKernels ?? []) findKernel(module, kernel);
  }

  private plan(run: Execution): Plan {
    const ids = [...run.overrides].map(([buffer, storage]) => {
      let id = this.overrideIds.get(storage);
      if (id === undefined) this.overrideIds.set(storage, (id = this.nextId++));
      return `${buffer}@${id}`;
    });
    const key = [...[...run.symbols].map(([symbol, value]) => `${symbol}=${value}`).sort(), ...ids].join();
    let plan = this.plans.get(key);
    this.plans.delete(key);
    if (plan?.epoch !== this.backend.epoch) {
      plan = new Plan(this.outline, this.backend, this.weights, run.symbols, run.overrides, this.reuse);
      // Growing the shared memory voids every plan made before.
      for (const [old, { epoch }] of this.plans) if (epoch !== plan.epoch) this.plans.delete(old);
    }
    this.plans.set(key, plan);
    if (this.plans.size > PLANS) this.plans.delete(this.plans.keys().next().value ?? "");
    return plan;
  }

  /** Executes every step. The frame gives access to the outputs until `release`, before which no other run may start. */
  async run(run: Execution): Promise<Frame> {
    const frame = new Frame(this.program, this.backend, this.module, this.outline, this.plan(run), run);
    try {
      await frame.execute(this.program.steps, []);
      return frame;
    } catch (error) {
      frame.release();
      throw error;
    }
  }
}

/** One run: the plan, the values, and the memory whose size only this run knows. */
export class Frame {
  private readonly late = new Map<number, Storage>();
  private readonly symbols: Symbols;
  private readonly values: Map<number, Value>;

  constructor(
    private readonly program: Program,
    private readonly backend: Backend,
    private readonly module: KernelModule,
    private readonly outline: Outline,
    private readonly plan: Plan,
    private readonly options: Execution,
  ) {
    this.symbols = new Map(options.symbols);
    this.values = options.values;
    for (const [buffer, bytes] of options.uploads) backend.write(this.storage(buffer), 0, bytes);
    for (const [buffer, source] of options.copies) backend.copy(source, 0, this.storage(buffer), 0, this.bytes(buffer));
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

  /** Integer at a position of a buffer or of a tensor in a value slot; negative positions read dimension -1-k of the latter. */
  private async integer(index: number, position: number): Promise<number> {
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
    return position < 0 ? tensor.dims[-1 - position] : Number((tensor.data as Elements)[position]);
  }

  async execute(steps: readonly Step[], path: readonly number[]): Promise<void> {
    const { observe, signal } = this.options;
    for (let index = 0; index < steps.length; index++) {
      signal?.throwIfAborted();
      const step = steps[index];
      if (observe) await observe.before?.(this.point(step, [...path, index]));
      const pending = this.start(step, path, index);
      if (pending) await pending;
      if (observe) await observe.after?.(this.point(step, [...path, index]));
      if (path.length === 0 && this.late.size > 0) this.drop(index);
    }
  }

  /** Gives back memory of this run whose last reader is done. */
  private drop(step: number): void {
    for (const [index, storage] of this.late) {
      if ((this.outline.lifetimes.get(index)?.last ?? Infinity) > step) continue;
      this.late.delete(index);
      this.backend.free(storage);
    }
  }

  private point(step: Step, path: readonly number[]): ObservationPoint {
    return {
      path,
      kind: stepKind(step),
      name: "run" in step ? this.kernelOf(step).name : "host" in step ? step.host : undefined,
      buffers: [...new Set(buffersOf(step))],
      read: async (buffer) => {
        if (this.isSlot(buffer)) return null;
        return this.backend.read(this.storage(buffer), 0, this.bytes(buffer));
      },
      write: (buffer, bytes) => {
        this.backend.write(this.storage(buffer), 0, bytes);
      },
    };
  }

  private kernelOf(step: RunStep): Kernel {
    const kernels = step.on === "js" ? this.program.hostKernels : this.program.kernels;
    return (kernels ?? [])[step.run];
  }

  /** Starts a step; returns a promise only where the step has to wait for something. */
  private start(step: Step, path: readonly number[], index: number): Promise<void> | undefined {
    if ("run" in step) {
      if (step.on === "js" && this.backend.name !== "js") return this.runOnHost(step);
      this.backend.dispatch(this.plan.command(step, this.symbols, this.storage));
      return undefined;
    }
    if ("copy" in step) return this.copy(...step.copy);
    if ("bind" in step) return this.bind(step.bind);
    if ("host" in step) return this.host(step);
    if ("if" in step) return this.branch(step, [...path, index]);
    if ("loop" in step) return this.loop(step.loop, [...path, index]);
    return step satisfies never;
  }

  private async branch(step: Extract<Step, { if: number }>, path: readonly number[]): Promise<void> {
    const taken = (await this.integer(step.if, 0)) !== 0;
    await this.execute(taken ? step.then : step.else, [...path, taken ? 0 : 1]);
  }

  private async bind(pairs: Extract<Step, { bind: unknown }>["bind"]): Promise<void> {
    const values = await Promise.all(pairs.map(([, buffer, position]) => this.integer(buffer, position)));
    pairs.forEach(([symbol], index) => {
      const value = values[index];
      if (!Number.isSafeInteger(value)) throw new ShapeError(`dimension '${symbol}': expected an integer, got ${value}`);
      this.symbols.set(symbol, value);
    });
  }

  /** A JavaScript kernel inside of another backend's program: works on the memory itself, or on copies of it. */
  private async runOnHost(step: RunStep): Promise<void> {
    const kernel = this.kernelOf(step);
    const { backend, program } = this;
    const buffers = step.args.map((arg) => program.buffers[arg]);
    const storages = step.args.map(this.storage);
    const access = (arg: number): Access => kernel.bindings?.[arg] ?? "read_write";
    const views = await Promise.all(
      storages.map(async (storage, arg) => {
        // Where the host can address the memory, the view is made below: allocations may still move it.
        if (backend.view) return undefined;
        const bytes = await backend.read(storage, 0, this.bytes(step.args[arg]));
        return viewBuffer(buffers[arg], bytes.buffer, bytes.byteOffset, bytes.length);
      }),
    );
    const params = (step.params ?? []).map((dim) => evaluate(dim, this.symbols));
    const args = storages.flatMap((storage, arg) => views[arg] ?? backend.view?.(storage, buffers[arg]) ?? []);
    try {
      findKernel(this.module, kernel)(...args, ...params);
    } catch (error) {
      throw new BackendError(`kernel ${kernel.name} (js): ${reasonOf(error)}`, { kernel: kernel.name, cause: error });
    }
    views.forEach((view, arg) => {
      if (view && access(arg) === "read_write") backend.write(storages[arg], 0, bytesOf(view));
    });
  }

  private async host(step: HostStep): Promise<void> {
    const call = this.module[step.host];
    if (typeof call !== "function") throw new ModelError(`kernels.js exports no host function '${step.host}'`);
    const args = await Promise.all(step.args.map(async (arg) => (arg === null ? null : this.isSlot(arg) ? this.value(arg) : this.tensor(arg))));
    let results: readonly (Value | undefined)[];
    try {
      results = await (call as (args: readonly Value[], options: Readonly<Record<string, unknown>>) => typeof results | Promise<typeof results>)(args, step.options ?? {});
    } catch (error) {
      throw new BackendError(`host function ${step.host}: ${reasonOf(error)}`, { kernel: step.host, cause: error });
    }
    step.outs.forEach((out, index) => {
      const result = results[index];
      if (out !== null && result !== undefined) this.put(out, result, `host function ${step.host}`);
    });
  }

  /** Stores a value in its slot, or a tensor in a buffer, whose dims it must have. */
  private put(index: number, value: Value, where: string): void {
    if (this.isSlot(index)) {
      this.values.set(index, value);
      return;
    }
    const tensor = value as Tensor<"uint8">;
    const dims = this.dims(index);
    if (product(tensor.dims) !== product(dims)) throw new ShapeError(`${where}: buffer ${index}: expected [${dims.join(", ")}], got [${tensor.dims.join(", ")}]`);
    this.backend.write(this.storage(index), 0, bytesOf(tensor.data));
  }

  private copy(source: number, target: number): Promise<void> | undefined {
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

  private async loop(loop: Loop, path: readonly number[]): Promise<void> {
    const { carried = [], gather = [], scatter = [] } = loop;
    const trip = typeof loop.trip === "number" ? await this.integer(loop.trip, 0) : Infinity;
    let going = typeof loop.condition === "number" ? (await this.integer(loop.condition, 0)) !== 0 : true;
    const collected = new Map<number, Tensor[]>();
    for (const [, sequence] of scatter) if (this.isSlot(sequence)) collected.set(sequence, []);
    for (const [initial, state] of carried) await this.copy(initial, state);
    let iteration = 0;
    for (; iteration < trip && going; iteration++) {
      this.options.signal?.throwIfAborted();
      if (typeof loop.iteration === "number") this.putIteration(loop.iteration, iteration);
      if (loop.symbol) this.symbols.set(loop.symbol, iteration);
      const position = (reverse: boolean | undefined): number => (reverse ? trip - 1 - iteration : iteration);
      for (const [sequence, element, reverse] of gather) await this.moveElement(sequence, element, position(reverse), true);
      await this.execute(loop.body, path);
      for (const [element, sequence, reverse] of scatter) {
        const list = collected.get(sequence);
        if (list) list.push(this.isSlot(element) ? (this.value(element) as Tensor) : await this.tensor(element));
        else await this.moveElement(sequence, element, position(reverse), false);
      }
      if (typeof loop.next === "number") going = (await this.integer(loop.next, 0)) !== 0;
      for (const [, state, next] of carried) await this.copy(next, state);
    }
    if (loop.count) this.symbols.set(loop.count, iteration);
    for (const [element, sequence, reverse] of scatter) {
      const list = collected.get(sequence);
      if (list) this.values.set(sequence, stack(reverse ? list.reverse() : list, this.program.buffers[element]));
    }
  }

  private putIteration(index: number, iteration: number): void {
    const { dtype } = this.program.buffers[index];
    this.backend.write(this.storage(index), 0, bytesOf(dtype === "int64" ? BigInt64Array.of(BigInt(iteration)) : Int32Array.of(iteration)));
  }

  /** Moves one element between its own buffer and its place in a sequence along the leading axis. */
  private async moveElement(sequence: number, element: number, position: number, out: boolean): Promise<void> {
    const { dtype } = this.program.buffers[element];
    if (dtype === "string") throw new ModelError("strings cannot be scanned");
    const bytes = storedLength(dtype, product(this.dims(element))) * storedBytes(dtype);
    const whole = this.storage(sequence);
    const part = this.storage(element);
    const [from, fromOffset, to, toOffset] = out ? [whole, position * bytes, part, 0] : [part, 0, whole, position * bytes];
    if (this.backend.view || (bytes % 4 === 0 && (position * bytes) % 4 === 0)) {
      if (bytes > 0) this.backend.copy(from, fromOffset, to, toOffset, bytes);
      return;
    }
    // WebGPU copies whole words only: patch the words around the element on the host.
    const begin = Math.floor(toOffset / 4) * 4;
    const end = Math.ceil((toOffset + bytes) / 4) * 4;
    const source = await this.backend.read(from, Math.floor(fromOffset / 4) * 4, Math.ceil(((fromOffset % 4) + bytes) / 4) * 4);
    const words = (await this.backend.read(to, begin, end - begin)).slice();
    words.set(source.subarray(fromOffset % 4, (fromOffset % 4) + bytes), toOffset - begin);
    this.backend.write(to, begin, words);
  }
}

/** Tensors of equal dims, stacked along a new leading axis. */
function stack(list: readonly Tensor[], { dtype, shape }: Buffer): Tensor {
  const dims = list.at(0)?.dims ?? shape.map((dim) => (typeof dim === "number" ? dim : 0));
  if (dtype === "string") return { dtype, dims: [list.length, ...dims], data: list.flatMap((item) => item.data as string[]) };
  const length = storedLength(dtype, product(dims));
  const memory = new ArrayBuffer(list.length * length * storedBytes(dtype));
  const bytes = new Uint8Array(memory);
  list.forEach((item, index) => {
    if (item.dims.join() !== dims.join()) throw new ShapeError(`loop output: expected [${dims.join(", ")}] in every iteration, got [${item.dims.join(", ")}]`);
    bytes.set(bytesOf(item.data as TypedArray), index * length * storedBytes(dtype));
  });
  return { dtype, dims: [list.length, ...dims], data: viewOf(dtype, memory, 0, list.length * length) };
}
