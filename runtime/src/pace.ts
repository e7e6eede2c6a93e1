// Whether a kernel call is faster on a team of threads or alone: small ones are not worth waking anybody.

/** A call that takes longer than this, in milliseconds, is shared without further trials. */
const LONG = 0.25;

export class Pace {
  private runs = 0;
  private team = 0;
  private shared: boolean | undefined;

  /**
   * The first run is shared and does not count: code is still being compiled. The second is shared, the third is not;
   * from then on the faster way is taken.
   */
  run(together: () => void, alone: () => void, now: () => number = () => performance.now()): void {
    if (this.shared !== undefined || this.runs === 0) {
      this.runs++;
      if (this.shared === false) alone();
      else together();
      return;
    }
    const trial = this.runs++;
    const begin = now();
    if (trial === 1) together();
    else alone();
    const time = now() - begin;
    if (trial === 1) {
      this.team = time;
      if (time > LONG) this.shared = true;
    } else this.shared = this.team < time;
  }
}
