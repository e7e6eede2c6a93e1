// First-fit allocation of byte ranges in one growing address space.

import { OutOfMemoryError, reasonOf } from "./errors.ts";

type Block = { offset: number; bytes: number };

const ALIGNMENT = 64;

/**
 * Size of memory that has to grow: by half at least, so that shapes that grow step by step do not move it every time.
 */
export function grown(needed: number, present: number): number {
  return Math.max(needed, Math.ceil((present * 1.5) / 16) * 16);
}

/** What `make` gives, which takes `bytes` bytes of JavaScript's memory. Throws OutOfMemoryError. */
export function allocating<T>(bytes: number, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw new OutOfMemoryError(`cannot allocate ${bytes} bytes: ${reasonOf(error)}`, { cause: error });
  }
}

export class Heap {
  /** Free ranges in ascending order, never adjacent to each other. */
  private readonly gaps: Block[] = [];
  /** Every byte from here on has never been handed out. */
  end: number;

  constructor(base: number) {
    this.end = Math.ceil(base / ALIGNMENT) * ALIGNMENT;
  }

  static round(bytes: number): number {
    return Math.max(1, Math.ceil(bytes / ALIGNMENT)) * ALIGNMENT;
  }

  /** Offset of a range of at least `bytes` bytes, a multiple of 64. */
  take(bytes: number): number {
    const size = Heap.round(bytes);
    const index = this.gaps.findIndex((gap) => gap.bytes >= size);
    if (index >= 0) {
      const gap = this.gaps[index];
      const { offset } = gap;
      gap.offset += size;
      gap.bytes -= size;
      if (gap.bytes === 0) this.gaps.splice(index, 1);
      return offset;
    }
    const last = this.gaps.at(-1);
    const offset = last && last.offset + last.bytes === this.end ? last.offset : this.end;
    if (offset < this.end) this.gaps.pop();
    this.end = offset + size;
    return offset;
  }

  /** Gives a range back; `bytes` as it was taken. */
  give(offset: number, bytes: number): void {
    const size = Heap.round(bytes);
    let index = this.gaps.findIndex((gap) => gap.offset > offset);
    if (index < 0) index = this.gaps.length;
    this.gaps.splice(index, 0, { offset, bytes: size });
    const [before, block, after] = [this.gaps[index - 1], this.gaps[index], this.gaps[index + 1]] as (
      Block | undefined
    )[];
    if (block && block.offset + block.bytes === after?.offset) {
      block.bytes += after.bytes;
      this.gaps.splice(index + 1, 1);
    }
    if (before && before.offset + before.bytes === block?.offset) {
      before.bytes += block.bytes;
      this.gaps.splice(index, 1);
    }
  }
}
