// Code-blocks of JPEG 2000: the arithmetic decoder (T.800 annex C) and the coding passes over bit planes (annex D).

const BLOCK_STYLES = { bypass: 1, reset: 2, terminate: 4, causal: 8, symbols: 32 };

/** Probability, next state after the likely and the unlikely symbol, and whether the latter swaps them (table C.2). */
const MQ_STATES = [
  [0x5601, 1, 1, 1], [0x3401, 2, 6, 0], [0x1801, 3, 9, 0], [0x0ac1, 4, 12, 0], [0x0521, 5, 29, 0], [0x0221, 38, 33, 0],
  [0x5601, 7, 6, 1], [0x5401, 8, 14, 0], [0x4801, 9, 14, 0], [0x3801, 10, 14, 0], [0x3001, 11, 17, 0],
  [0x2401, 12, 18, 0], [0x1c01, 13, 20, 0], [0x1601, 29, 21, 0], [0x5601, 15, 14, 1], [0x5401, 16, 14, 0],
  [0x5101, 17, 15, 0], [0x4801, 18, 16, 0], [0x3801, 19, 17, 0], [0x3401, 20, 18, 0], [0x3001, 21, 19, 0],
  [0x2801, 22, 19, 0], [0x2401, 23, 20, 0], [0x2201, 24, 21, 0], [0x1c01, 25, 22, 0], [0x1801, 26, 23, 0],
  [0x1601, 27, 24, 0], [0x1401, 28, 25, 0], [0x1201, 29, 26, 0], [0x1101, 30, 27, 0], [0x0ac1, 31, 28, 0],
  [0x09c1, 32, 29, 0], [0x08a1, 33, 30, 0], [0x0521, 34, 31, 0], [0x0441, 35, 32, 0], [0x02a1, 36, 33, 0],
  [0x0221, 37, 34, 0], [0x0141, 38, 35, 0], [0x0111, 39, 36, 0], [0x0085, 40, 37, 0], [0x0049, 41, 38, 0],
  [0x0025, 42, 39, 0], [0x0015, 43, 40, 0], [0x0009, 44, 41, 0], [0x0005, 45, 42, 0], [0x0001, 45, 43, 0],
  [0x5601, 46, 46, 0],
];

/** Flags of a coefficient: its significant neighbours, its own state, and which of the first four are negative. */
const COEFFICIENT = {
  west: 1,
  east: 2,
  north: 4,
  south: 8,
  northwest: 16,
  northeast: 32,
  southwest: 64,
  southeast: 128,
  neighbours: 255,
  significant: 256,
  visited: 512,
  refined: 1024,
  negative: 2048,
};

/** What the row below contributes; a vertically causal context leaves it out at the end of a stripe. */
const BELOW =
  COEFFICIENT.south | COEFFICIENT.southwest | COEFFICIENT.southeast | (COEFFICIENT.south * COEFFICIENT.negative);

/** Contexts of significance by neighbours (table D.1), for sub-bands LL, HL, LH and HH. */
const SIGNIFICANCE_CONTEXTS = [0, 1, 2, 3].map((kind) =>
  Uint8Array.from({ length: 256 }, (_, flags) => {
    const count = (...shifts) => shifts.reduce((sum, shift) => sum + ((flags >> shift) & 1), 0);
    const [beside, diagonal] = [count(0, 1), count(4, 5, 6, 7)];
    const upright = count(2, 3);
    if (kind === 3) {
      const straight = Math.min(2, beside + upright);
      if (diagonal >= 3) return 8;
      if (diagonal === 2) return straight ? 7 : 6;
      return diagonal * 3 + straight;
    }
    const [main, other] = kind === 1 ? [upright, beside] : [beside, upright];
    if (main === 2) return 8;
    if (main === 1) return other ? 7 : diagonal ? 6 : 5;
    return other ? 2 + other : Math.min(2, diagonal);
  }),
);

/** The arithmetic decoder. Beyond the end of a segment it reads ones. */
class MqDecoder {
  constructor(bytes, contexts) {
    Object.assign(this, { bytes, contexts, at: 0, interval: 0x8000, count: 0, code: (bytes[0] ?? 0xff) << 16 });
    this.fill();
    this.code <<= 7;
    this.count -= 7;
  }

  fill() {
    const next = this.bytes[this.at + 1] ?? 0xff;
    if ((this.bytes[this.at] ?? 0xff) === 0xff) {
      if (next > 0x8f) {
        this.code += 0xff00;
        this.count = 8;
        return;
      }
      this.code += next << 9;
      this.count = 7;
    } else {
      this.code += next << 8;
      this.count = 8;
    }
    this.at++;
  }

  bit(context) {
    const { states, symbols } = this.contexts;
    const [probability, likely, unlikely, swap] = MQ_STATES[states[context]];
    let symbol = symbols[context];
    const lower = this.code >>> 16 < probability;
    this.interval -= probability;
    if (!lower) {
      this.code -= probability << 16;
      if (this.interval & 0x8000) return symbol;
    }
    if (lower === this.interval < probability) states[context] = likely;
    else {
      states[context] = unlikely;
      symbol ^= 1;
      if (swap) symbols[context] ^= 1;
    }
    if (lower) this.interval = probability;
    do {
      if (!this.count) this.fill();
      this.interval <<= 1;
      this.code <<= 1;
      this.count--;
    } while (!(this.interval & 0x8000));
    return symbol;
  }
}

/** Bits of a segment that bypasses the arithmetic decoder; a byte after 0xff holds seven. */
class BypassBits {
  constructor(bytes) {
    Object.assign(this, { bytes, at: 0, byte: 0, count: 0 });
  }

  bit() {
    if (!this.count) {
      this.count = this.byte === 0xff ? 7 : 8;
      this.byte = this.bytes[this.at++] ?? 0xff;
    }
    return (this.byte >> --this.count) & 1;
  }
}

/** A code-block while its passes are decoded. Flags have a margin of one coefficient on every side. */
class CodeBlock {
  constructor(width, height, kind, style) {
    const pitch = width + 2;
    const flags = new Uint16Array(pitch * (height + 2));
    const values = new Int32Array(width * height);
    const significance = SIGNIFICANCE_CONTEXTS[kind];
    const causal = Boolean(style & BLOCK_STYLES.causal);
    Object.assign(this, { width, height, pitch, flags, values, significance, causal, coder: null, raw: false });
  }

  /** Calls `visit` with the place of every coefficient: in stripes of four rows, column by column. */
  scan(visit, begin = () => 0) {
    for (let top = 0; top < this.height; top += 4) {
      const bottom = Math.min(top + 4, this.height);
      for (let x = 0; x < this.width; x++) {
        for (let y = top + begin(x, top, bottom); y < bottom; y++) visit(x, y, (y + 1) * this.pitch + x + 1);
      }
    }
  }

  seen(y, at) {
    return this.causal && (y & 3) === 3 ? this.flags[at] & ~BELOW : this.flags[at];
  }

  /** A coefficient turns out not to be zero: its sign, and what its neighbours have to know (table D.3). */
  found(x, y, at, plane) {
    const { flags, pitch, coder } = this;
    const { west, east, north, south, negative } = COEFFICIENT;
    const seen = this.seen(y, at);
    const sign = (side) => (seen & side ? (seen & (side * negative) ? -1 : 1) : 0);
    const across = Math.sign(sign(west) + sign(east));
    const down = Math.sign(sign(north) + sign(south));
    const flip = across < 0 || (!across && down < 0);
    const context = across ? 12 + across * down : 9 + Math.abs(down);
    const minus = this.raw ? coder.bit() : coder.bit(context) ^ flip;
    const value = 3 << plane;
    this.values[y * this.width + x] = minus ? -value : value;
    const own = minus ? 1 + negative : 1;
    flags[at] |= COEFFICIENT.significant;
    flags[at - 1] |= east * own;
    flags[at + 1] |= west * own;
    flags[at - pitch] |= south * own;
    flags[at + pitch] |= north * own;
    flags[at - pitch - 1] |= COEFFICIENT.southeast;
    flags[at - pitch + 1] |= COEFFICIENT.southwest;
    flags[at + pitch - 1] |= COEFFICIENT.northeast;
    flags[at + pitch + 1] |= COEFFICIENT.northwest;
  }

  /** Significance propagation: zeros that have a significant neighbour. */
  propagate(plane) {
    const { significant, neighbours, visited } = COEFFICIENT;
    this.scan((x, y, at) => {
      const seen = this.seen(y, at);
      if (seen & significant || !(seen & neighbours)) return;
      if (this.coder.bit(this.significance[seen & neighbours])) this.found(x, y, at, plane);
      this.flags[at] |= visited;
    });
  }

  /** Magnitude refinement: one more bit of what was significant before this plane. */
  refine(plane) {
    const { significant, neighbours, visited, refined } = COEFFICIENT;
    this.scan((x, y, at) => {
      const seen = this.seen(y, at);
      if ((seen & (significant | visited)) !== significant) return;
      const bit = this.coder.bit(seen & refined ? 16 : seen & neighbours ? 15 : 14);
      const index = y * this.width + x;
      const half = 1 << plane;
      this.values[index] += (bit === 1) === this.values[index] > 0 ? half : -half;
      this.flags[at] |= refined;
    });
  }

  /** Cleanup: all the others. A column of four without significant neighbours is coded as a run. */
  cleanUp(plane) {
    const { significant, neighbours, visited } = COEFFICIENT;
    let run = -1;
    const begin = (x, top, bottom) => {
      run = -1;
      if (bottom - top < 4) return 0;
      for (let y = top; y < bottom; y++) {
        if (this.seen(y, (y + 1) * this.pitch + x + 1) & (neighbours | significant | visited)) return 0;
      }
      if (!this.coder.bit(17)) return 4;
      const skipped = this.coder.bit(18) * 2 + this.coder.bit(18);
      run = top + skipped;
      return skipped;
    };
    this.scan((x, y, at) => {
      const seen = this.seen(y, at);
      if (!(seen & (significant | visited))) {
        if (y === run || this.coder.bit(this.significance[seen & neighbours])) this.found(x, y, at, plane);
      }
      this.flags[at] &= ~visited;
    }, begin);
  }
}

/** Coefficients of a code-block in halves of a step: where bits are missing, the middle of what is left. */
const decodeCodeBlock = ({ passes, segments }, width, height, kind, style, planes) => {
  if (planes < 1 || planes > 30 || passes > 3 * planes - 2) {
    throw jpeg2000Error(`${passes} passes over ${planes} bit planes`);
  }
  const fresh = () => ({
    states: Uint8Array.from({ length: 19 }, (_, context) => ({ 0: 4, 17: 3, 18: 46 })[context] ?? 0),
    symbols: new Uint8Array(19),
  });
  const block = new CodeBlock(width, height, kind, style);
  let contexts = fresh();
  let pass = 0;
  for (const segment of segments) {
    const bytes = joinedBytes(segment.parts);
    block.raw = Boolean(style & BLOCK_STYLES.bypass) && pass >= 10 && (pass - 10) % 3 < 2;
    block.coder = block.raw ? new BypassBits(bytes) : new MqDecoder(bytes, contexts);
    for (const end = pass + segment.passes; pass < end; pass++) {
      const plane = planes - 1 - Math.floor((pass + 2) / 3);
      if (pass % 3 === 1) block.propagate(plane);
      else if (pass % 3 === 2) block.refine(plane);
      else {
        block.cleanUp(plane);
        if (style & BLOCK_STYLES.symbols) {
          for (const bit of [1, 0, 1, 0]) if (block.coder.bit(18) !== bit) throw jpeg2000Error("a damaged code-block");
        }
      }
      if (style & BLOCK_STYLES.reset) {
        contexts = fresh();
        block.coder.contexts = contexts;
      }
    }
  }
  return block.values;
};
