// The WebGPU backend: one command encoder and one submit per run, bind groups made once, results through one staging buffer.

import type { Backend, Command, CommandShape, Storage } from "./backend.ts";
import { BackendError, DeviceLostError, OutOfMemoryError, reasonOf } from "./errors.ts";
import type { Files } from "./files.ts";
import { acquireDevice, checkRequirements, scoped, USAGE, type GPUChoice } from "./gpu-device.ts";
import { Readback } from "./gpu-readback.ts";
import { GPUTimer } from "./gpu-timer.ts";
import { grown } from "./heap.ts";
import type { Buffer, Kernel, Manifest, Program } from "./manifest.ts";
import { walkSteps } from "./plan.ts";

type GPUStorage = Storage & { readonly buffer: GPUBuffer; readonly id: number };
type GPUCommand = Command & { readonly pipeline: GPUComputePipeline; readonly group: GPUBindGroup; readonly grid: readonly number[] };

/** GPUShaderStage.COMPUTE */
const COMPUTE = 4;

const MARK = "//# kernel ";

/** Ready-made uniforms and bind groups of calls that change from run to run; beyond this many, old ones are forgotten. */
const KEPT = 4096;

/** Idle buffers kept for sizes that only a run knows. */
const POOLED = 64;

/** Sections of kernels.wgsl by kernel name. What precedes the first mark belongs to every section. */
export function splitShaders(text: string): Map<string, string> {
  const [prelude, ...sections] = `\n${text}`.split(`\n${MARK}`);
  return new Map(
    sections.map((section) => {
      const end = section.indexOf("\n");
      return [section.slice(0, end < 0 ? undefined : end).trim(), prelude + (end < 0 ? "" : section.slice(end))];
    }),
  );
}

function oldest(map: Map<string, unknown>): void {
  if (map.size > KEPT) map.delete(map.keys().next().value ?? "");
}

export class WebGPUBackend implements Backend {
  readonly name = "webgpu";
  readonly threads = 1;
  readonly notes: string[] = [];
  readonly adapter: string;
  readonly files = ["kernels.wgsl"];
  readonly layout = "slots";
  epoch = 0;
  lost: DeviceLostError | undefined;
  private readonly pipelines: GPUComputePipeline[] = [];
  private readonly layouts = new Map<string, GPUPipelineLayout>();
  private readonly slots: GPUStorage[] = [];
  private pool: GPUBuffer[] = [];
  private nextId = 0;
  private readonly owned = new Set<GPUBuffer>();
  private readonly adopted = new WeakMap<GPUBuffer, GPUStorage>();
  private readonly uniforms = new Map<string, GPUBuffer>();
  private readonly groups = new Map<string, GPUBindGroup>();
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
    const { vendor, architecture, device: model, description } = device.adapterInfo;
    this.adapter = [vendor, architecture, model, description].filter(Boolean).join(" ");
    this.readback = new Readback(device, (copies) => {
      copies(this.encode());
      return this.submit();
    });
    void device.lost.then(({ reason, message }) => {
      if (!this.disposed) this.lost = new DeviceLostError(`webgpu: the device was lost (${reason}): ${message.split("\n")[0] || "no message"}`);
    });
  }

  static async open(choice: GPUChoice, program: Program, manifest: Manifest, files: Files): Promise<WebGPUBackend> {
    const device = await acquireDevice(choice);
    checkRequirements(device, program);
    return new WebGPUBackend(device, program, manifest, files);
  }

  async prepare(): Promise<void> {
    if (this.program.kernels.length === 0) return;
    const facts = this.manifest.files?.["kernels.wgsl"];
    if (!facts) throw new BackendError("webgpu: model.json does not list kernels.wgsl");
    const shaders = splitShaders(new TextDecoder().decode(await this.source.verified("kernels.wgsl", facts)));
    const withParameters = new Set<number>();
    walkSteps(this.program.steps, (step) => {
      if ("run" in step && step.on !== "js" && step.params?.length) withParameters.add(step.run);
    });
    await Promise.all(
      this.program.kernels.map(async (kernel, index) => {
        const code = shaders.get(kernel.name);
        if (code === undefined) throw new BackendError(`kernel ${kernel.name}: kernels.wgsl has no section of this name`, { kernel: kernel.name });
        this.pipelines[index] = await this.compile(kernel, code, withParameters.has(index));
      }),
    );
  }

  /** Explicit, because the automatic layout drops bindings that a shader does not use; equal ones are shared. */
  private layoutOf({ bindings = [] }: Kernel, uniform: boolean): GPUPipelineLayout {
    const types: GPUBufferBindingType[] = bindings.map((access) => (access === "read" ? "read-only-storage" : "storage"));
    if (uniform) types.push("uniform");
    const key = types.join();
    let layout = this.layouts.get(key);
    if (!layout) {
      const entries = types.map((type, binding) => ({ binding, visibility: COMPUTE, buffer: { type } }));
      layout = this.device.createPipelineLayout({ bindGroupLayouts: [this.device.createBindGroupLayout({ entries })] });
      this.layouts.set(key, layout);
    }
    return layout;
  }

  private async compile(kernel: Kernel, code: string, uniform: boolean): Promise<GPUComputePipeline> {
    const { device } = this;
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label: kernel.name, code });
    const invalid = device.popErrorScope();
    try {
      const pipeline = device.createComputePipelineAsync({ label: kernel.name, layout: this.layoutOf(kernel, uniform), compute: { module, entryPoint: kernel.entry ?? "main" } });
      const [compiled] = await Promise.all([pipeline, invalid]);
      return compiled;
    } catch (error) {
      if (this.lost) throw this.lost;
      const found = await module.getCompilationInfo().then(
        ({ messages }) => messages.find(({ type }) => type === "error"),
        () => undefined,
      );
      const reason = found ? `line ${found.lineNum}: ${found.message}` : reasonOf(error);
      throw new BackendError(`kernel ${kernel.name} (webgpu): ${reason}`, { kernel: kernel.name, cause: error });
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
      }),
    );
    this.owned.add(buffer);
    return buffer;
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
    if (old) void this.submit().then(() => {
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
      this.groups.clear();
      this.epoch++;
    });
  }

  place(place: number, bytes: number): GPUStorage {
    return { ...this.slots[place], bytes };
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
    encoder.copyBufferToBuffer((source as GPUStorage).buffer, sourceOffset, (target as GPUStorage).buffer, targetOffset, Math.ceil(bytes / 4) * 4);
  }

  command(index: number, args: readonly Storage[], _buffers: readonly Buffer[], { params, grid }: CommandShape): GPUCommand {
    const kernel = this.program.kernels[index];
    const limit = this.device.limits.maxComputeWorkgroupsPerDimension;
    if (grid.some((groups) => groups > limit)) {
      throw new BackendError(`kernel ${kernel.name} (webgpu): grid ${grid.join(" x ")}: at most ${limit} workgroups per dimension`, { kernel: kernel.name });
    }
    const pipeline = this.pipelines[index];
    const key = `${index}:${args.map((storage) => (storage as GPUStorage).id).join()}:${params.join()}`;
    let group = this.groups.get(key);
    if (!group) {
      this.problems.push(
        scoped(
          this.device,
          `kernel ${kernel.name} (webgpu)`,
          () => {
            const resources = args.map((storage) => (storage as GPUStorage).buffer);
            if (params.length > 0) resources.push(this.uniform(params));
            const entries = resources.map((buffer, binding) => ({ binding, resource: { buffer } }));
            group = this.device.createBindGroup({ label: kernel.name, layout: pipeline.getBindGroupLayout(0), entries });
          },
          kernel.name,
        ),
      );
      this.groups.set(key, group as unknown as GPUBindGroup);
      oldest(this.groups);
    }
    return { kernel, pipeline, group: group as unknown as GPUBindGroup, grid };
  }

  /** Parameters never change once written, so equal ones share a buffer. */
  private uniform(params: readonly number[]): GPUBuffer {
    const key = params.join();
    let buffer = this.uniforms.get(key);
    if (buffer) return buffer;
    buffer = this.device.createBuffer({ label: "parameters", size: Math.ceil(params.length / 4) * 16, usage: USAGE.UNIFORM, mappedAtCreation: true });
    new Int32Array(buffer.getMappedRange()).set(params);
    buffer.unmap();
    this.uniforms.set(key, buffer);
    oldest(this.uniforms);
    return buffer;
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
    return scoped(this.device, "webgpu", () => {
      this.device.queue.submit([encoder.finish()]);
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
    for (const buffer of [...this.owned, ...this.uniforms.values()]) buffer.destroy();
    this.owned.clear();
    this.pool = [];
  }
}
