// Times of kernels on the GPU, by one compute pass per dispatch with a timestamp at either end.

import type { KernelTime } from "./backend.ts";
import { MAP_READ, USAGE } from "./gpu-device.ts";

/** WebGPU allows 4096 queries in a set: two a dispatch. Dispatches beyond that go unmeasured. */
const DISPATCHES = 2048;

export class GPUTimer {
  private readonly queries: GPUQuerySet;
  private readonly names: string[] = [];

  constructor(private readonly device: GPUDevice) {
    this.queries = device.createQuerySet({ type: "timestamp", count: 2 * DISPATCHES });
  }

  /** The timestamps of the next dispatch, or undefined when the set is full. */
  next(kernel: string): GPUComputePassTimestampWrites | undefined {
    if (this.names.length === DISPATCHES) return undefined;
    const index = 2 * (this.names.push(kernel) - 1);
    return { querySet: this.queries, beginningOfPassWriteIndex: index, endOfPassWriteIndex: index + 1 };
  }

  async times(): Promise<readonly KernelTime[]> {
    const { device, names } = this;
    const size = Math.max(256, 16 * names.length);
    const resolved = device.createBuffer({ size, usage: USAGE.QUERY_RESOLVE | USAGE.COPY_SRC });
    const staging = device.createBuffer({ size, usage: USAGE.MAP_READ | USAGE.COPY_DST });
    const encoder = device.createCommandEncoder();
    if (names.length > 0) encoder.resolveQuerySet(this.queries, 0, 2 * names.length, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, size);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(MAP_READ);
    const stamps = new BigUint64Array(staging.getMappedRange().slice(0));
    for (const disposable of [resolved, staging, this.queries]) disposable.destroy();
    return names.map((kernel, index) => ({
      kernel,
      milliseconds: Number(stamps[2 * index + 1] - stamps[2 * index]) / 1e6,
    }));
  }
}
