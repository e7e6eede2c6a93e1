// A program on a backend: plans kept ready for the shapes seen last, runs one at a time.

import type { Backend, Storage } from "./backend.ts";
import type { Symbols } from "./dims.ts";
import { Executor, type Watch } from "./executor.ts";
import { Frame, type Feed } from "./frame.ts";
import { findKernel, type KernelModule } from "./js.ts";
import type { Program } from "./manifest.ts";
import { Outline, Plan } from "./plan.ts";

/** Assignments of the symbols whose plans are kept ready. All plans share one memory, so they cost little. */
const PLANS = 8;

export class ProgramRunner {
  private readonly outline: Outline;
  private readonly plans = new Map<string, Plan>();
  private overrideIds = new WeakMap<Storage, number>();
  private nextId = 0;

  constructor(
    private readonly program: Program,
    private readonly backend: Backend,
    private readonly weights: ReadonlyMap<number, Storage>,
    private readonly module: KernelModule,
    private readonly reuse: boolean,
  ) {
    this.outline = new Outline(program, backend.layout);
    for (const kernel of program.hostKernels ?? []) findKernel(module, kernel);
  }

  /** Symbols of the inputs, and those that the program defines by them. */
  complete(symbols: Symbols): Symbols {
    return this.outline.complete(symbols);
  }

  private plan(feed: Feed): Plan {
    const ids = [...feed.overrides].map(([buffer, storage]) => {
      let id = this.overrideIds.get(storage);
      if (id === undefined) this.overrideIds.set(storage, (id = this.nextId++));
      return `${buffer}@${id}`;
    });
    const key = [...[...feed.symbols].map(([symbol, value]) => `${symbol}=${value}`).sort(), ...ids].join();
    let plan = this.plans.get(key);
    this.plans.delete(key);
    if (plan?.epoch !== this.backend.epoch) {
      plan = new Plan(this.outline, this.backend, this.weights, feed.symbols, feed.overrides, this.reuse);
      // Growing the shared memory voids every plan made before.
      for (const [old, { epoch }] of this.plans) if (epoch !== plan.epoch) this.plans.delete(old);
    }
    this.plans.set(key, plan);
    if (this.plans.size > PLANS) this.plans.delete(this.plans.keys().next().value ?? "");
    return plan;
  }

  /**
   * Executes every step. The frame gives access to the outputs until `release`, before which no other run may start.
   */
  async run(feed: Feed, watch: Watch): Promise<Frame> {
    const plan = this.plan(feed);
    const frame = new Frame(this.program, this.backend, this.outline, plan, feed);
    try {
      await new Executor(this.program, this.backend, this.module, plan, frame, watch).execute(this.program.steps, []);
      return frame;
    } catch (error) {
      frame.release();
      throw error;
    }
  }
}
