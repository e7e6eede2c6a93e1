// A GPU made of JavaScript: enough of WebGPU to test what the runtime does with devices, buffers, scopes and losses.

type Kernel = (buffers: Float32Array[], params: Int32Array | undefined) => void;

const KERNELS: Record<string, Kernel> = {
  mul: ([a, b, y], p) => {
    for (let index = 0; index < (p?.[0] ?? 0); index++) y[index] = a[index] * b[index];
  },
  add: ([a, b, y], p) => {
    for (let index = 0; index < (p?.[0] ?? 0); index++) y[index] = a[index] + b[index];
  },
};

export type Counts = {
  devices: number;
  submits: number;
  passes: number;
  dispatches: number;
  bindGroups: number;
  buffers: number;
  destroyed: number;
  maps: number;
};

class FakeBuffer {
  readonly memory: ArrayBuffer;
  mapState = "unmapped";
  constructor(
    readonly device: FakeDevice,
    readonly size: number,
    readonly usage: number,
  ) {
    this.memory = new ArrayBuffer(size);
  }
  mapAsync(): Promise<void> {
    this.device.counts.maps++;
    return this.device.isLost ? Promise.reject(new Error("mapping was aborted")) : Promise.resolve();
  }
  getMappedRange(): ArrayBuffer {
    return this.memory;
  }
  unmap(): void {
    this.mapState = "unmapped";
  }
  destroy(): void {
    this.device.counts.destroyed++;
  }
}

type BindGroup = { entries: { resource: { buffer: FakeBuffer } }[] };

export class FakeDevice {
  isLost = false;
  readonly lost: Promise<{ reason: string; message: string }>;
  readonly features = new Set<string>();
  readonly limits = {
    maxBufferSize: 1 << 20,
    maxStorageBufferBindingSize: 1 << 20,
    maxComputeWorkgroupsPerDimension: 65535,
  };
  readonly adapterInfo;
  readonly queue;
  private lose!: (info: { reason: string; message: string }) => void;
  private readonly scopes: { filter: string; error: { message: string } | null }[] = [];

  constructor(
    readonly counts: Counts,
    private readonly gpu: FakeGPU,
  ) {
    this.adapterInfo = gpu.info;
    this.lost = new Promise((resolve) => (this.lose = resolve));
    this.queue = {
      writeBuffer: (buffer: FakeBuffer, offset: number, data: ArrayBuffer | Uint8Array, begin = 0, size?: number) => {
        const source = data instanceof ArrayBuffer ? new Uint8Array(data, begin, size) : data;
        new Uint8Array(buffer.memory).set(source, offset);
      },
      submit: (lists: (() => void)[][]) => {
        counts.submits++;
        if (this.gpu.invalidSubmit) this.report("validation", this.gpu.invalidSubmit);
        if (this.gpu.loseAtSubmit > 0 && --this.gpu.loseAtSubmit === 0) this.die("as asked");
        if (!this.isLost) for (const command of lists.flat()) command();
      },
    };
  }

  die(message: string): void {
    this.isLost = true;
    this.lose({ reason: "unknown", message });
  }

  pushErrorScope(filter: string): void {
    this.scopes.push({ filter, error: null });
  }

  popErrorScope(): Promise<{ message: string } | null> {
    return Promise.resolve(this.scopes.pop()?.error ?? null);
  }

  private report(filter: string, message: string): void {
    const scope = this.scopes.findLast((candidate) => candidate.filter === filter);
    if (scope) scope.error ??= { message };
  }

  createBuffer({ size, usage }: { size: number; usage: number }): FakeBuffer {
    this.counts.buffers++;
    if (size >= this.gpu.outOfMemoryAt) this.report("out-of-memory", "no room");
    return new FakeBuffer(this, size, usage);
  }

  createShaderModule({ label }: { label: string }): unknown {
    return {
      label,
      getCompilationInfo: () => Promise.resolve({ messages: [{ type: "error", lineNum: 3, message: "expected ';'" }] }),
    };
  }

  createBindGroupLayout(descriptor: unknown): unknown {
    return descriptor;
  }

  createPipelineLayout(descriptor: unknown): unknown {
    return descriptor;
  }

  createComputePipelineAsync({ label }: { label: string }): Promise<unknown> {
    if (this.gpu.invalidShader === label) return Promise.reject(new Error("invalid shader"));
    return Promise.resolve({ label, getBindGroupLayout: () => ({}) });
  }

  createBindGroup({ label, ...group }: BindGroup & { label: string }): BindGroup {
    this.counts.bindGroups++;
    if (this.gpu.invalidBindGroup === label) this.report("validation", "binding 1 is too small");
    return group;
  }

  createCommandEncoder(): unknown {
    const commands: (() => void)[] = [];
    return {
      beginComputePass: () => {
        this.counts.passes++;
        let [kernel, group]: [string, BindGroup | undefined] = ["", undefined];
        return {
          setPipeline: ({ label }: { label: string }) => (kernel = label),
          setBindGroup: (_: number, bound: BindGroup) => (group = bound),
          dispatchWorkgroups: () => {
            this.counts.dispatches++;
            const [name, bound] = [kernel, group];
            const memories = (bound?.entries ?? []).map(({ resource }) => resource.buffer.memory);
            commands.push(() => {
              KERNELS[name](
                memories.slice(0, 3).map((memory) => new Float32Array(memory)),
                memories.length > 3 ? new Int32Array(memories[3]) : undefined,
              );
            });
          },
          end: () => undefined,
        };
      },
      copyBufferToBuffer: (source: FakeBuffer, from: number, target: FakeBuffer, to: number, bytes: number) => {
        commands.push(() => {
          new Uint8Array(target.memory).set(new Uint8Array(source.memory, from, bytes), to);
        });
      },
      finish: () => commands,
    };
  }
}

export class FakeGPU {
  readonly counts: Counts = {
    devices: 0,
    submits: 0,
    passes: 0,
    dispatches: 0,
    bindGroups: 0,
    buffers: 0,
    destroyed: 0,
    maps: 0,
  };
  /** Counts down with every submit; the device dies in the one that reaches 0. */
  loseAtSubmit = 0;
  outOfMemoryAt = Infinity;
  invalidShader = "";
  invalidBindGroup = "";
  /** What `submit` complains about. */
  invalidSubmit = "";
  noDevices = false;
  info = { vendor: "fake", architecture: "paper", device: "", description: "", isFallbackAdapter: false };
  device: FakeDevice | undefined;

  requestAdapter(): Promise<unknown> {
    if (this.noDevices) return Promise.resolve(null);
    return Promise.resolve({
      limits: {},
      info: this.info,
      features: new Set(),
      requestDevice: () => {
        this.counts.devices++;
        this.device = new FakeDevice(this.counts, this);
        return Promise.resolve(this.device);
      },
    });
  }
}
