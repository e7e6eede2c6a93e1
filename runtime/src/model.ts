// A loaded model: checks what it is given, runs the program, hands out what is asked for.

import type { Backend, KernelTime, Storage } from "./backend.ts";
import { checkShape, evaluate, type Symbols } from "./dims.ts";
import { DeviceLostError, InputError, ModelError, WebDNNError } from "./errors.ts";
import type { BackendName, Manifest, Port, Program } from "./manifest.ts";
import { tensorType } from "./manifest.ts";
import type { Observer } from "./executor.ts";
import type { Feed, Frame } from "./frame.ts";
import type { ProgramRunner } from "./program.ts";
import {
  bytesOf,
  checkInput,
  type GPUTensor,
  type InputValue,
  type Tensor,
  type TypedArray,
  type Value,
} from "./tensors.ts";

/**
 * Where an output goes: to a typed array, to the model's own GPU buffer, into a GPU buffer of the caller's, or
 * nowhere.
 */
export type OutputTarget = "array" | "gpu" | GPUBuffer | false;

export type RunOptions = {
  /** Names of the outputs wanted (default: all), or where each one goes; those not named are not read back. */
  readonly outputs?: readonly string[] | Readonly<Record<string, OutputTarget>>;
  readonly signal?: AbortSignal;
  readonly observe?: Observer;
};

export type Inputs = Readonly<Record<string, InputValue>>;
export type Outputs = Readonly<Record<string, unknown>>;

/** A step that does not run on the model's backend, and why. */
export type Placement = {
  readonly path: readonly number[];
  readonly name: string;
  readonly on: "js";
  readonly reason: string;
};

export type Fallback = { readonly backend: BackendName; readonly reason: string };

/** What describes a model. */
export interface ModelFacts {
  readonly name: string;
  readonly backend: BackendName;
  /** Backends that were tried before this one, and why they are not used. */
  readonly fallbacks: readonly Fallback[];
  /** What is worth knowing about how it runs: why there is one thread, which SIMD, which adapter. */
  readonly notes: readonly string[];
  readonly threads: number;
  /** The GPU as the browser names it; empty on other backends. */
  readonly adapter: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly placement: readonly Placement[];
}

export interface Model<I = Inputs, O = Outputs> extends ModelFacts {
  /**
   * Runs the model. Calls may overlap: they are executed one after the other, and each reads its inputs when its turn
   * comes.
   */
  run(inputs: I, options?: RunOptions): Promise<O>;

  /** Runs it once and measures every kernel; null where the GPU offers no timestamps. */
  profile(inputs: I): Promise<readonly KernelTime[] | null>;

  /** Frees all memory, after the run in progress. Runs that are still queued, and later ones, are rejected. */
  dispose(): Promise<void>;
}

/** What a backend and a program make once they are ready. */
export type Engine = {
  readonly backend: Backend;
  readonly runner: ProgramRunner;
  readonly program: Program;
  readonly placement: readonly Placement[];
};

export class LocalModel implements Model {
  readonly name: string;
  readonly backend: BackendName;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  private queue: Promise<unknown> = Promise.resolve();
  private disposed = false;

  constructor(
    manifest: Manifest,
    private engine: Engine,
    readonly fallbacks: readonly Fallback[],
    private readonly loadNotes: readonly string[],
    /** Opens the same backend again, after its device was lost. */
    private readonly reopen: () => Promise<Engine>,
  ) {
    this.name = manifest.name;
    this.backend = engine.backend.name;
    this.inputs = manifest.inputs;
    this.outputs = manifest.outputs;
  }

  get threads(): number {
    return this.engine.backend.threads;
  }

  get adapter(): string {
    return this.engine.backend.adapter;
  }

  get notes(): readonly string[] {
    return [...this.loadNotes, ...this.engine.backend.notes];
  }

  get placement(): readonly Placement[] {
    return this.engine.placement;
  }

  run(inputs: Inputs, options: RunOptions = {}): Promise<Outputs> {
    return this.enqueue(options.signal, () => this.recovering(inputs, options));
  }

  profile(inputs: Inputs): Promise<readonly KernelTime[] | null> {
    return this.enqueue(undefined, async () => {
      const measurement = this.engine.backend.profile();
      try {
        await this.execute(inputs, {});
      } catch (error) {
        await measurement.stop().catch(() => undefined);
        throw error;
      }
      return measurement.stop();
    });
  }

  async dispose(): Promise<void> {
    this.disposed = true;
    const free = (): void => {
      this.engine.backend.dispose();
    };
    await (this.queue = this.queue.then(free, free));
  }

  private enqueue<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const turn = async (): Promise<T> => {
      signal?.throwIfAborted();
      if (this.disposed) throw new WebDNNError(`model '${this.name}' has been disposed`);
      return work();
    };
    const result = this.queue.then(turn, turn);
    this.queue = result.catch(() => undefined);
    return result;
  }

  /** A run that survives one loss of the device: everything on it is built anew, then the run is tried once more. */
  private async recovering(inputs: Inputs, options: RunOptions): Promise<Outputs> {
    const { lost } = this.engine.backend;
    if (lost) await this.rebuild();
    try {
      return await this.execute(inputs, options);
    } catch (error) {
      if (!(error instanceof DeviceLostError) || lost) throw error;
      await this.rebuild();
      return await this.execute(inputs, options);
    }
  }

  private async rebuild(): Promise<void> {
    this.engine.backend.dispose();
    this.engine = await this.reopen();
  }

  private async execute(inputs: Inputs, options: RunOptions): Promise<Outputs> {
    const { backend, runner } = this.engine;
    const targets = this.targets(options.outputs);
    const frame = await runner.run(this.prepare(inputs), options);
    try {
      const results = await Promise.all(
        this.outputs.map(async (port, index): Promise<[string, unknown] | undefined> => {
          const target = targets.get(port.name) ?? false;
          return target === false ? undefined : [port.name, await this.collect(frame, port, index, target)];
        }),
      );
      await backend.finish();
      options.signal?.throwIfAborted();
      return Object.fromEntries(results.filter((entry) => entry !== undefined));
    } finally {
      frame.release();
    }
  }

  private targets(wanted: RunOptions["outputs"]): Map<string, OutputTarget> {
    const known = this.outputs.map(({ name }) => name);
    const targets = new Map<string, OutputTarget>();
    if (wanted === undefined) for (const name of known) targets.set(name, "array");
    else if (Array.isArray(wanted)) for (const name of wanted as readonly string[]) targets.set(name, "array");
    else for (const [name, target] of Object.entries(wanted)) targets.set(name, target as OutputTarget);
    for (const name of targets.keys()) {
      if (!known.includes(name))
        throw new InputError(`model '${this.name}' has no output '${name}': its outputs are ${known.join(", ")}`);
    }
    return targets;
  }

  /** Checks the inputs, all of them before anything is touched. */
  private prepare(given: Inputs | null | undefined): Feed {
    const { backend, program, runner } = this.engine;
    const inputs = given ?? {};
    const known = this.inputs.map(({ name }) => name);
    for (const name of Object.keys(inputs)) {
      if (!known.includes(name))
        throw new InputError(`model '${this.name}' has no input '${name}': its inputs are ${known.join(", ")}`);
    }
    const bound: Symbols = new Map();
    const values = new Map<number, Value>();
    const uploads = new Map<number, Uint8Array>();
    const overrides = new Map<number, Storage>();
    const copies = new Map<number, Storage>();
    /** What has to wait until every input has given its symbols their values. */
    const checks: ((symbols: Symbols) => void)[] = [];
    this.inputs.forEach((port, index) => {
      const slot = program.inputs[index];
      const value = inputs[port.name] as InputValue | undefined;
      const type = tensorType(port);
      if (!type) {
        if (value === undefined && !("optional" in port)) throw this.missing(port.name);
        values.set(slot, (value ?? null) as Value);
        return;
      }
      if (value === undefined) throw this.missing(port.name);
      const { dims, data } = checkInput(port.name, type.dtype, type.shape, value, bound);
      checks.push((symbols) => {
        checkShape(type.shape, dims, symbols, `input '${port.name}'`);
      });
      if (program.buffers[slot].role === "value") {
        if ("mapAsync" in data) throw new InputError(`input '${port.name}' is read on the host: give an array`);
        values.set(slot, { dtype: type.dtype, dims, data: own(data) } as Tensor);
      } else if ("mapAsync" in data) {
        checks.push((symbols) => {
          const storage = this.adopt(port.name, data, evaluate(program.buffers[slot].bytes, symbols));
          // An output of an earlier run would be read and written at once.
          (backend.owns?.(data) ? copies : overrides).set(slot, storage);
        });
      } else uploads.set(slot, bytesOf(data as TypedArray));
    });
    const symbols = runner.complete(bound);
    for (const check of checks) check(symbols);
    if (backend.lost) throw backend.lost;
    return { symbols, values, uploads, overrides, copies };
  }

  private missing(name: string): InputError {
    return new InputError(
      `input '${name}' is missing: this model needs ${this.inputs.map((port) => port.name).join(", ")}`,
    );
  }

  private adopt(name: string, buffer: GPUBuffer, bytes: number): Storage {
    const { backend } = this.engine;
    if (!backend.adopt)
      throw new InputError(`'${name}': a GPUBuffer needs the webgpu backend, this model runs on ${backend.name}`);
    if (buffer.size < bytes)
      throw new InputError(`'${name}': expected a GPUBuffer of at least ${bytes} bytes, got ${buffer.size}`);
    return backend.adopt(buffer, bytes);
  }

  private async collect(
    frame: Frame,
    port: Port,
    index: number,
    target: Exclude<OutputTarget, false>,
  ): Promise<unknown> {
    const { backend, program } = this.engine;
    const slot = program.outputs[index];
    const type = tensorType(port);
    if (frame.isSlot(slot)) {
      if (target !== "array")
        throw new InputError(`output '${port.name}' is made on the host: it cannot stay on the GPU`);
      return frame.value(slot);
    }
    if (!type) throw new ModelError(`output '${port.name}' is no tensor but is stored as one`);
    const dims = frame.evaluateShape(type.shape);
    if (target === "array") return frame.tensor(slot, dims);
    const storage = frame.storage(slot);
    if (!backend.reveal)
      throw new InputError(
        `output '${port.name}': GPU buffers need the webgpu backend, this model runs on ${backend.name}`,
      );
    if (target === "gpu") return { dtype: type.dtype, dims, buffer: backend.reveal(storage) } satisfies GPUTensor;
    const bytes = frame.bytes(slot);
    backend.copy(storage, 0, this.adopt(port.name, target, bytes), 0, bytes);
    return { dtype: type.dtype, dims, buffer: target } satisfies GPUTensor;
  }
}

/** Values live on after the call: what they came in, if it is shared memory, may be written meanwhile. */
function own(data: TypedArray | readonly string[]): TypedArray | readonly string[] {
  return "buffer" in data && !(data.buffer instanceof ArrayBuffer) ? data.slice() : data;
}
