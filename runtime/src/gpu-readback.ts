// Results from the GPU: staging buffers, and how to wait for them.

import type { BackendError } from "./errors.ts";
import { MAP_READ, USAGE } from "./gpu-device.ts";

/**
 * Longest time, in milliseconds, that the waiting loop keeps the GPU process busy; after that an ordinary wait takes
 * over.
 */
const NUDGE_MILLISECONDS = 100;
const NUDGES = 2000;

/**
 * Waits until a buffer is mapped.
 *
 * When work is not done at Chromium's first look, its GPU process looks again only milliseconds later, longer than
 * many models run.
 * Every round trip makes it look at once, and popping an empty error scope is the cheapest round trip there is. The
 * loop is bounded
 * in time and in turns, never has more than one round trip in flight, and ends as soon as the promise settles.
 */
export async function waitForMap(device: GPUDevice, mapped: Promise<unknown>): Promise<void> {
  let settled = false as boolean;
  const done = mapped.then(
    () => {
      settled = true;
    },
    () => {
      settled = true;
    },
  );
  const deadline = performance.now() + NUDGE_MILLISECONDS;
  for (let turn = 0; turn < NUDGES && performance.now() < deadline; turn++) {
    device.pushErrorScope("validation");
    const answered = device.popErrorScope().then(
      () => undefined,
      () => undefined,
    );
    await Promise.race([done, answered]);
    if (settled) break;
  }
  await mapped;
}

type Waiting = {
  readonly source: GPUBuffer;
  readonly offset: number;
  readonly bytes: number;
  readonly at: number;
  resolve: (bytes: Uint8Array) => void;
  reject: (reason: unknown) => void;
};

const ALIGNMENT = 8;

/** Collects the reads of one turn of the event loop into one staging buffer, one submit and one wait. */
export class Readback {
  private waiting: Waiting[] = [];
  private size = 0;
  /** Unmapped staging buffers, smallest first. */
  private idle: GPUBuffer[] = [];

  /** `submit` records `copies` after everything recorded before, submits, and resolves to what was wrong with it. */
  constructor(
    private readonly device: GPUDevice,
    private readonly submit: (copies: (encoder: GPUCommandEncoder) => void) => Promise<BackendError | undefined>,
  ) {}

  read(source: GPUBuffer, offset: number, bytes: number): Promise<Uint8Array> {
    if (bytes === 0) return Promise.resolve(new Uint8Array());
    return new Promise((resolve, reject) => {
      if (this.waiting.length === 0) {
        queueMicrotask(() => {
          void this.flush();
        });
      }
      this.waiting.push({ source, offset, bytes, at: this.size, resolve, reject });
      this.size += Math.ceil((bytes + (offset % 4)) / ALIGNMENT) * ALIGNMENT + ALIGNMENT;
    });
  }

  /** Sends off what was asked for so far; called by itself at the end of the turn, or before the sources change. */
  async flush(): Promise<void> {
    const { waiting, size } = this;
    if (waiting.length === 0) return;
    this.waiting = [];
    this.size = 0;
    try {
      const staging = this.staging(size);
      const problem = this.submit((encoder) => {
        for (const { source, offset, bytes, at } of waiting) {
          const begin = Math.floor(offset / 4) * 4;
          encoder.copyBufferToBuffer(source, begin, staging, at, Math.ceil((offset + bytes) / 4) * 4 - begin);
        }
      });
      const mapped = staging.mapAsync(MAP_READ, 0, size);
      // The reason behind a failed submit says more than the failed mapping that follows from it.
      mapped.catch(() => undefined);
      try {
        await waitForMap(this.device, mapped);
      } catch (error) {
        throw (await problem) ?? error;
      }
      const error = await problem;
      if (error) throw error;
      const bytes = new Uint8Array(staging.getMappedRange(0, size));
      for (const { offset, bytes: length, at, resolve } of waiting)
        resolve(bytes.slice(at + (offset % 4), at + (offset % 4) + length));
      staging.unmap();
      this.idle.push(staging);
      this.idle.sort((left, right) => left.size - right.size);
      // One small and one large staging buffer serve a model that alternates between scalars and outputs.
      if (this.idle.length > 2) this.idle.shift()?.destroy();
    } catch (error) {
      for (const { reject } of waiting) reject(error);
    }
  }

  private staging(size: number): GPUBuffer {
    const index = this.idle.findIndex((buffer) => buffer.size >= size);
    if (index >= 0) return this.idle.splice(index, 1)[0];
    return this.device.createBuffer({
      label: "readback",
      size: Math.ceil(size / 256) * 256,
      usage: USAGE.MAP_READ | USAGE.COPY_DST,
    });
  }

  dispose(): void {
    for (const buffer of this.idle) buffer.destroy();
    this.idle = [];
  }
}
