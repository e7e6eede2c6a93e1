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

  /** Calls `work`, timing it if a measurement is on. */
  around(kernel: string, work: () => void): void {
    if (!this.times) {
      work();
      return;
    }
    const begin = performance.now();
    work();
    this.times.push({ kernel, milliseconds: performance.now() - begin });
  }
}
