// Whether a kernel call is faster on a team of threads or alone: small ones are not worth waking anybody.

/** A call that takes longer than this, in milliseconds, is shared without further trials. */
const LONG = 1;

/** Runs of each way. The shortest counts, because what else the machine does only ever adds. */
const TRIALS = 3;

export class Pace {
  private trials = 0;
  private readonly best = { together: Infinity, alone: Infinity };
  private shared: boolean | undefined;

  /** Tries both ways in turn; from then on the faster way is taken. */
  run(together: () => void, alone: () => void, now: () => number = () => performance.now()): void {
    if (this.shared !== undefined) {
      if (this.shared) together();
      else alone();
      return;
    }
    const way = this.trials++ % 2 === 0 ? "together" : "alone";
    const begin = now();
    if (way === "together") together();
    else alone();
    const { best } = this;
    best[way] = Math.min(best[way], now() - begin);
    if (best.together > LONG) this.shared = true;
    else if (this.trials === 2 * TRIALS) this.shared = best.together < best.alone;
  }
}
