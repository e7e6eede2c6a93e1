// Times of kernels that run on the calling thread.

import type { KernelTime } from "./backend.ts";

export class Stopwatch {
  private times: KernelTime[] | null = null;

  start(): { stop(): Promise<readonly KernelTime[]> } {
    const times: KernelTime[] = (this.times = []);
    return {
      stop: () => {
        this.times = null;
        return Promise.resolve(times);
      },
    };
  }

  /** If a measurement is on: starts the time of a kernel; the function that it gives ends it. */
  begin(kernel: string): (() => void) | undefined {
    const { times } = this;
    if (!times) return undefined;
    const begin = performance.now();
    return () => {
      times.push({ kernel, milliseconds: performance.now() - begin });
    };
  }
}
