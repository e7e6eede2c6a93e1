// Bind groups and parameter buffers, made once for every combination that is used.

import type { BackendError } from "./errors.ts";
import { USAGE, scoped } from "./gpu-device.ts";

/**
 * Ready-made uniforms and bind groups of calls that change from run to run; beyond this many, old ones are forgotten.
 */
const KEPT = 4096;

function oldest(map: Map<string, unknown>): void {
  if (map.size > KEPT) map.delete(map.keys().next().value ?? "");
}

export class Bindings {
  private readonly uniforms = new Map<string, GPUBuffer>();
  private readonly groups = new Map<string, GPUBindGroup>();

  /** `report` receives what the device thinks of each new bind group. */
  constructor(
    private readonly device: GPUDevice,
    private readonly report: (problem: Promise<BackendError | undefined>) => void,
  ) {}

  /** The bind group of a pipeline over buffers, which `ids` tell apart, and parameters. */
  group(
    pipeline: GPUComputePipeline,
    buffers: readonly GPUBuffer[],
    ids: readonly number[],
    params: readonly number[],
  ): GPUBindGroup {
    const name = pipeline.label;
    const key = `${name}:${ids.join()}:${params.join()}`;
    const known = this.groups.get(key);
    if (known) return known;
    let group!: GPUBindGroup;
    const make = (): void => {
      const resources = params.length > 0 ? [...buffers, this.uniform(params)] : buffers;
      const entries = resources.map((buffer, binding) => ({ binding, resource: { buffer } }));
      group = this.device.createBindGroup({ label: name, layout: pipeline.getBindGroupLayout(0), entries });
    };
    this.report(scoped(this.device, `kernel ${name} (webgpu)`, make, name));
    this.groups.set(key, group);
    oldest(this.groups);
    return group;
  }

  /** Parameters never change once written, so equal ones share a buffer. */
  private uniform(params: readonly number[]): GPUBuffer {
    const key = params.join();
    let buffer = this.uniforms.get(key);
    if (buffer) return buffer;
    const size = Math.ceil(params.length / 4) * 16;
    buffer = this.device.createBuffer({ label: "parameters", size, usage: USAGE.UNIFORM, mappedAtCreation: true });
    new Int32Array(buffer.getMappedRange()).set(params);
    buffer.unmap();
    this.uniforms.set(key, buffer);
    oldest(this.uniforms);
    return buffer;
  }

  /** Forgets groups over buffers that are gone. */
  clear(): void {
    this.groups.clear();
  }

  dispose(): void {
    for (const buffer of this.uniforms.values()) buffer.destroy();
    this.clear();
  }
}
