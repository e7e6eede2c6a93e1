// The WebGPU backend: one command encoder and one submit per run, bind groups made once, results through one staging
// buffer.

import type { Backend, Command, CommandShape, Storage } from "./backend.ts";
import { BackendError, DeviceLostError, OutOfMemoryError } from "./errors.ts";
import type { Files } from "./files.ts";
import { Bindings } from "./gpu-bindings.ts";
import { acquireDevice, checkRequirements, describeAdapter, scoped, USAGE, type GPUChoice } from "./gpu-device.ts";
import { compilePipelines } from "./gpu-pipelines.ts";
import { Readback } from "./gpu-readback.ts";
import { GPUTimer } from "./gpu-timer.ts";
import { grown } from "./heap.ts";
import type { Buffer, Manifest, Program } from "./manifest.ts";

type GPUStorage = Storage & { readonly buffer: GPUBuffer; readonly id: number };
type GPUCommand = Command & {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly grid: readonly number[];
};

/** Idle buffers kept for sizes that only a run knows. */
const POOLED = 64;

export class WebGPUBackend implements Backend {
  readonly name = "webgpu";
  readonly threads = 1;
  readonly notes: string[] = [];
  readonly adapter: string;
  readonly files = ["kernels.wgsl"];
  readonly layout = "slots";
  epoch = 0;
  lost: DeviceLostError | undefined;
  private pipelines: GPUComputePipeline[] = [];
  private readonly slots: (GPUStorage | undefined)[] = [];
  private pool: GPUBuffer[] = [];
  private nextId = 0;
  private readonly owned = new Set<GPUBuffer>();
  private readonly adopted = new WeakMap<GPUBuffer, GPUStorage>();
  private readonly bindings: Bindings;
  private encoder: GPUCommandEncoder | undefined;
  private pass: GPUComputePassEncoder | undefined;
  /** What the scopes around calls made so far will have found; checked by `finish` and with every result. */
  private problems: Promise<BackendError | undefined>[] = [];
  private timer: GPUTimer | undefined;
  private readonly readback: Readback;
  private disposed = false;

  private constructor(
    readonly device: GPUDevice,
    private readonly program: Program,
    private readonly manifest: Manifest,
    private readonly source: Files,
  ) {
    this.adapter = describeAdapter(device.adapterInfo);
    this.bindings = new Bindings(device, (problem) => this.problems.push(problem));
    this.readback = new Readback(device, (copies) => {
      copies(this.encode());
      return this.submit();
    });
    void device.lost.then(({ reason, message }) => {
      if (!this.disposed)
        this.lost = new DeviceLostError(
          `webgpu: the device was lost (${reason}): ${message.split("\n")[0] || "no message"}`,
        );
    });
  }

  /** `hardware` refuses a software adapter. */
  static async open(
    choice: GPUChoice,
    program: Program,
    manifest: Manifest,
    files: Files,
    hardware: boolean,
  ): Promise<WebGPUBackend> {
    const device = await acquireDevice(choice, hardware);
    checkRequirements(device, program);
    return new WebGPUBackend(device, program, manifest, files);
  }

  async prepare(): Promise<void> {
    if (this.program.kernels.length === 0) return;
    const facts = this.manifest.files?.["kernels.wgsl"];
    if (!facts) throw new BackendError("webgpu: model.json does not list kernels.wgsl");
    const text = new TextDecoder().decode(await this.source.verified("kernels.wgsl", facts));
    try {
      const { length } = this.program.kernels;
      this.pipelines = await compilePipelines(this.device, this.program, text, (compiled) => {
        this.source.compiled(compiled, length);
      });
    } catch (error) {
      throw this.lost ?? error;
    }
  }

  private create(bytes: number): GPUBuffer {
    // Whole vec4s, so that a kernel may declare its array as such.
    const size = Math.max(16, Math.ceil(bytes / 16) * 16);
    const { limits } = this.device;
    const most = Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize);
    if (size > most) throw new OutOfMemoryError(`webgpu: a buffer of ${size} bytes is needed, this GPU allows ${most}`);
    let buffer!: GPUBuffer;
    this.problems.push(
      scoped(this.device, `webgpu: a buffer of ${size} bytes`, () => {
        buffer = this.device.createBuffer({ size, usage: USAGE.STORAGE | USAGE.COPY_SRC | USAGE.COPY_DST });
      }).then((error) => {
        if (error) this.forget(buffer);
        return error;
      }),
    );
    this.owned.add(buffer);
    return buffer;
  }

  /** A buffer that could not be made must not be what the next run gets. */
  private forget(buffer: GPUBuffer): void {
    this.owned.delete(buffer);
    this.pool = this.pool.filter((other) => other !== buffer);
    const slot = this.slots.findIndex((storage) => storage?.buffer === buffer);
    if (slot < 0) return;
    this.slots[slot] = undefined;
    this.bindings.clear();
    this.epoch++;
  }

  private destroy(buffer: GPUBuffer): void {
    this.owned.delete(buffer);
    buffer.destroy();
  }

  alloc(bytes: number): GPUStorage {
    const index = this.pool.findIndex(({ size }) => size >= bytes && size <= 2 * bytes + 4096);
    const buffer = index >= 0 ? this.pool.splice(index, 1)[0] : this.create(bytes);
    return { bytes, buffer, id: this.nextId++ };
  }

  free(storage: Storage): void {
    const { buffer } = storage as GPUStorage;
    if (!this.owned.has(buffer)) return;
    this.pool.push(buffer);
    if (this.pool.length <= POOLED) return;
    const old = this.pool.shift();
    // Recorded commands may still name it.
    if (old)
      void this.submit().then(() => {
        this.destroy(old);
      });
  }

  reserve(sizes: readonly number[]): void {
    sizes.forEach((bytes, slot) => {
      const old = this.slots.at(slot);
      if (old && old.bytes >= bytes) return;
      const size = grown(bytes, old?.bytes ?? 0);
      const buffer = this.create(size);
      this.slots[slot] = { bytes: size, buffer, id: this.nextId++ };
      if (!old) return;
      this.destroy(old.buffer);
      this.bindings.clear();
      this.epoch++;
    });
  }

  place(place: number, bytes: number): GPUStorage {
    const slot = this.slots[place];
    if (!slot) throw new OutOfMemoryError(`webgpu: buffer ${place} of the plan could not be made`);
    return { ...slot, bytes };
  }

  adopt(buffer: GPUBuffer, bytes: number): GPUStorage {
    let storage = this.adopted.get(buffer);
    if (!storage) this.adopted.set(buffer, (storage = { bytes, buffer, id: this.nextId++ }));
    return storage;
  }

  owns(buffer: GPUBuffer): boolean {
    return this.owned.has(buffer);
  }

  reveal(storage: Storage): GPUBuffer {
    return (storage as GPUStorage).buffer;
  }

  write(storage: Storage, offset: number, bytes: Uint8Array): void {
    // Writes go past the encoder: what is recorded before must be submitted before.
    if (this.encoder) this.problems.push(this.submit());
    const { buffer } = storage as GPUStorage;
    const whole = bytes.byteLength - (bytes.byteLength % 4);
    const { queue } = this.device;
    if (whole > 0) queue.writeBuffer(buffer, offset, bytes.buffer, bytes.byteOffset, whole);
    if (whole === bytes.byteLength) return;
    const rest = new Uint8Array(4);
    rest.set(bytes.subarray(whole));
    queue.writeBuffer(buffer, offset + whole, rest);
  }

  async read(storage: Storage, offset: number, bytes: number): Promise<Uint8Array> {
    try {
      const result = this.readback.read((storage as GPUStorage).buffer, offset, bytes);
      const [content] = await Promise.all([result, this.checkProblems()]);
      return content;
    } catch (error) {
      await this.rethrow(error);
      throw error;
    }
  }

  copy(source: Storage, sourceOffset: number, target: Storage, targetOffset: number, bytes: number): void {
    const encoder = this.encode();
    encoder.copyBufferToBuffer(
      (source as GPUStorage).buffer,
      sourceOffset,
      (target as GPUStorage).buffer,
      targetOffset,
      Math.ceil(bytes / 4) * 4,
    );
  }

  command(
    index: number,
    args: readonly Storage[],
    _buffers: readonly Buffer[],
    { params, grid }: CommandShape,
  ): GPUCommand {
    const kernel = this.program.kernels[index];
    const limit = this.device.limits.maxComputeWorkgroupsPerDimension;
    if (grid.some((groups) => groups > limit)) {
      throw new BackendError(
        `kernel ${kernel.name} (webgpu): grid ${grid.join(" x ")}: at most ${limit} workgroups per dimension`,
        { kernel: kernel.name },
      );
    }
    const pipeline = this.pipelines[index];
    const storages = args as readonly GPUStorage[];
    const group = this.bindings.group(
      pipeline,
      storages.map(({ buffer }) => buffer),
      storages.map(({ id }) => id),
      params,
    );
    return { kernel, pipeline, group, grid };
  }

  /** The open encoder, outside of any pass. */
  private encode(): GPUCommandEncoder {
    this.pass?.end();
    this.pass = undefined;
    return (this.encoder ??= this.device.createCommandEncoder());
  }

  dispatch(command: Command): void {
    const { kernel, pipeline, group, grid } = command as GPUCommand;
    const [x = 1, y = 1, z = 1] = grid;
    if (x * y * z === 0) return;
    const timestampWrites = this.timer?.next(kernel.name);
    if (this.timer || !this.pass) {
      const encoder = this.encode();
      this.pass = encoder.beginComputePass(timestampWrites ? { label: kernel.name, timestampWrites } : {});
    }
    this.pass.setPipeline(pipeline);
    this.pass.setBindGroup(0, group);
    this.pass.dispatchWorkgroups(x, y, z);
  }

  private submit(): Promise<BackendError | undefined> {
    if (!this.encoder) return Promise.resolve(undefined);
    const encoder = this.encode();
    this.encoder = undefined;
    const problem = scoped(this.device, "webgpu", () => {
      this.device.queue.submit([encoder.finish()]);
    });
    return problem.then((error) => error && this.named(error));
  }

  /** A browser quotes the label of the pipeline that it complains about, which is the kernel's name. */
  private named(error: BackendError): BackendError {
    const found = this.program.kernels.find(({ name }) => error.message.includes(`"${name}"`));
    if (!found || error instanceof DeviceLostError || error instanceof OutOfMemoryError) return error;
    return new BackendError(`kernel ${found.name} (${error.message.replace(": ", "): ")}`, {
      kernel: found.name,
      cause: error.cause,
    });
  }

  private async checkProblems(): Promise<void> {
    const { problems } = this;
    this.problems = [];
    for (const error of await Promise.all(problems)) if (error) throw error;
  }

  /** A lost device explains every other failure. */
  private async rethrow(error: unknown): Promise<never> {
    // `lost` resolves a moment after the calls that it lets fail.
    await Promise.race([this.device.lost, new Promise((resolve) => setTimeout(resolve, 20))]);
    throw this.lost ?? error;
  }

  async finish(): Promise<void> {
    this.problems.push(this.submit());
    try {
      await this.checkProblems();
    } catch (error) {
      await this.rethrow(error);
    }
    if (this.lost) throw this.lost;
  }

  profile(): ReturnType<Backend["profile"]> {
    if (!this.device.features.has("timestamp-query")) return { stop: () => Promise.resolve(null) };
    const timer = (this.timer = new GPUTimer(this.device));
    return {
      stop: async () => {
        this.timer = undefined;
        await this.finish();
        return timer.times();
      },
    };
  }

  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.epoch++;
    this.readback.dispose();
    this.bindings.dispose();
    for (const buffer of this.owned) buffer.destroy();
    this.owned.clear();
    this.pool = [];
  }
}
