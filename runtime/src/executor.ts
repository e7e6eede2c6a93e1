// The steps of a program, one after the other. No operator is known here: kernels compute, this file moves and decides.

import type { Backend } from "./backend.ts";
import { evaluate, product } from "./dims.ts";
import { BackendError, ModelError, ShapeError, reasonOf } from "./errors.ts";
import type { Frame } from "./frame.ts";
import { findKernel, viewBuffer, type KernelModule } from "./js.ts";
import {
  stepKind,
  type Access,
  type Buffer,
  type HostStep,
  type Kernel,
  type Loop,
  type Program,
  type RunStep,
  type Step,
  type StepKind,
} from "./manifest.ts";
import { buffersOf, type Plan } from "./plan.ts";
import { bytesOf, storedBytes, storedLength, viewOf, type Tensor, type TypedArray, type Value } from "./tensors.ts";

/** Called around every step. Reading and writing buffers here does not change what the kernels are. */
export type Observer = {
  readonly before?: (point: ObservationPoint) => void | Promise<void>;
  readonly after?: (point: ObservationPoint) => void | Promise<void>;
};

export type ObservationPoint = {
  /** Position of the step; inside of control flow, one position per level. */
  readonly path: readonly number[];
  readonly kind: StepKind;
  /** Kernel or host function, where the step runs one. */
  readonly name: string | undefined;
  /** The buffers that the step names. */
  readonly buffers: readonly number[];
  /** Physical bytes of a buffer, copied; null for a value slot. */
  readonly read: (buffer: number) => Promise<Uint8Array | null>;
  readonly write: (buffer: number, bytes: Uint8Array) => void;
};

/** Who looks on, and who may stop it. */
export type Watch = { readonly observe?: Observer | undefined; readonly signal?: AbortSignal | undefined };

export class Executor {
  constructor(
    private readonly program: Program,
    private readonly backend: Backend,
    private readonly module: KernelModule,
    private readonly plan: Plan,
    private readonly frame: Frame,
    private readonly watch: Watch,
  ) {}

  async execute(steps: readonly Step[], path: readonly number[]): Promise<void> {
    const { observe, signal } = this.watch;
    for (let index = 0; index < steps.length; index++) {
      signal?.throwIfAborted();
      const step = steps[index];
      if (observe) await observe.before?.(this.point(step, [...path, index]));
      const pending = this.start(step, path, index);
      if (pending) await pending;
      if (observe) await observe.after?.(this.point(step, [...path, index]));
      if (path.length === 0) this.frame.drop(index);
    }
  }

  private point(step: Step, path: readonly number[]): ObservationPoint {
    return {
      path,
      kind: stepKind(step),
      name: "run" in step ? this.kernelOf(step).name : "host" in step ? step.host : undefined,
      buffers: [...new Set(buffersOf(step))],
      read: async (buffer) => {
        if (this.frame.isSlot(buffer)) return null;
        return this.backend.read(this.frame.storage(buffer), 0, this.frame.bytes(buffer));
      },
      write: (buffer, bytes) => {
        this.backend.write(this.frame.storage(buffer), 0, bytes);
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
      this.backend.dispatch(this.plan.command(step, this.frame.symbols, this.frame.storage));
      return undefined;
    }
    if ("copy" in step) return this.frame.copy(...step.copy);
    if ("bind" in step) return this.bind(step.bind);
    if ("define" in step) {
      for (const [symbol, dim] of step.define) this.frame.symbols.set(symbol, evaluate(dim, this.frame.symbols));
      return undefined;
    }
    if ("host" in step) return this.host(step);
    if ("if" in step) return this.branch(step, [...path, index]);
    if ("loop" in step) return this.loop(step.loop, [...path, index]);
    return step satisfies never;
  }

  private async branch(step: Extract<Step, { if: number }>, path: readonly number[]): Promise<void> {
    const taken = (await this.frame.integer(step.if, 0)) !== 0;
    await this.execute(taken ? step.then : step.else, [...path, taken ? 0 : 1]);
  }

  private async bind(pairs: Extract<Step, { bind: unknown }>["bind"]): Promise<void> {
    const values = await Promise.all(pairs.map(([, buffer, position]) => this.frame.integer(buffer, position)));
    pairs.forEach(([symbol], index) => {
      const value = values[index];
      if (!Number.isSafeInteger(value))
        throw new ShapeError(`dimension '${symbol}': expected an integer, got ${value}`);
      this.frame.symbols.set(symbol, value);
    });
  }

  /** A JavaScript kernel inside of another backend's program: works on the memory itself, or on copies of it. */
  private async runOnHost(step: RunStep): Promise<void> {
    const kernel = this.kernelOf(step);
    const { backend, program } = this;
    const buffers = step.args.map((arg) => program.buffers[arg]);
    const storages = step.args.map(this.frame.storage);
    const access = (arg: number): Access => kernel.bindings?.[arg] ?? "read_write";
    const views = await Promise.all(
      storages.map(async (storage, arg) => {
        // Where the host can address the memory, the view is made below: allocations may still move it.
        if (backend.view) return undefined;
        const bytes = await backend.read(storage, 0, this.frame.bytes(step.args[arg]));
        return viewBuffer(buffers[arg], bytes.buffer, bytes.byteOffset, bytes.length);
      }),
    );
    const params = (step.params ?? []).map((dim) => evaluate(dim, this.frame.symbols));
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
    const args = await Promise.all(
      step.args.map(async (arg) =>
        arg === null ? null : this.frame.isSlot(arg) ? this.frame.value(arg) : this.frame.tensor(arg),
      ),
    );
    let results: readonly (Value | undefined)[];
    try {
      results = await (
        call as (
          args: readonly Value[],
          options: Readonly<Record<string, unknown>>,
        ) => typeof results | Promise<typeof results>
      )(args, step.options ?? {});
    } catch (error) {
      throw new BackendError(`host function ${step.host}: ${reasonOf(error)}`, { kernel: step.host, cause: error });
    }
    step.outs.forEach((out, index) => {
      const result = results[index];
      if (out !== null && result !== undefined) this.frame.put(out, result, `host function ${step.host}`);
    });
  }

  private async loop(loop: Loop, path: readonly number[]): Promise<void> {
    const { carried = [], gather = [], scatter = [] } = loop;
    const trip = typeof loop.trip === "number" ? await this.frame.integer(loop.trip, 0) : Infinity;
    let going = typeof loop.condition === "number" ? (await this.frame.integer(loop.condition, 0)) !== 0 : true;
    const collected = new Map<number, Tensor[]>();
    for (const [, sequence] of scatter) if (this.frame.isSlot(sequence)) collected.set(sequence, []);
    for (const [initial, state] of carried) await this.frame.copy(initial, state);
    let iteration = 0;
    for (; iteration < trip && going; iteration++) {
      this.watch.signal?.throwIfAborted();
      if (typeof loop.iteration === "number") this.putIteration(loop.iteration, iteration);
      if (loop.symbol) this.frame.symbols.set(loop.symbol, iteration);
      const position = (reverse: boolean | undefined): number => (reverse ? trip - 1 - iteration : iteration);
      for (const [sequence, element, reverse] of gather)
        await this.frame.moveElement(sequence, element, position(reverse), true);
      await this.execute(loop.body, path);
      for (const [element, sequence, reverse] of scatter) {
        const list = collected.get(sequence);
        if (list)
          list.push(
            this.frame.isSlot(element) ? (this.frame.value(element) as Tensor) : await this.frame.tensor(element),
          );
        else await this.frame.moveElement(sequence, element, position(reverse), false);
      }
      if (typeof loop.next === "number") going = (await this.frame.integer(loop.next, 0)) !== 0;
      for (const [, state, next] of carried) await this.frame.copy(next, state);
    }
    if (loop.count) this.frame.symbols.set(loop.count, iteration);
    for (const [element, sequence, reverse] of scatter) {
      const list = collected.get(sequence);
      if (list) this.frame.put(sequence, stack(reverse ? list.reverse() : list, this.program.buffers[element]), "loop");
    }
  }

  private putIteration(index: number, iteration: number): void {
    const { dtype } = this.program.buffers[index];
    this.backend.write(
      this.frame.storage(index),
      0,
      bytesOf(dtype === "int64" ? BigInt64Array.of(BigInt(iteration)) : Int32Array.of(iteration)),
    );
  }
}

/** Tensors of equal dims, stacked along a new leading axis. */
function stack(list: readonly Tensor[], { dtype, shape }: Buffer): Tensor {
  const dims = list.at(0)?.dims ?? shape.map((dim) => (typeof dim === "number" ? dim : 0));
  if (dtype === "string")
    return { dtype, dims: [list.length, ...dims], data: list.flatMap((item) => item.data as string[]) };
  const length = storedLength(dtype, product(dims));
  const memory = new ArrayBuffer(list.length * length * storedBytes(dtype));
  const bytes = new Uint8Array(memory);
  list.forEach((item, index) => {
    if (item.dims.join() !== dims.join())
      throw new ShapeError(
        `loop output: expected [${dims.join(", ")}] in every iteration, got [${item.dims.join(", ")}]`,
      );
    bytes.set(bytesOf(item.data as TypedArray), index * length * storedBytes(dtype));
  });
  return { dtype, dims: [list.length, ...dims], data: viewOf(dtype, memory, 0, list.length * length) };
}
