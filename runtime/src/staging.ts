// Inputs on their way to a worker: large ones are put where the worker reads them, instead of being copied into a message.
//
// A message makes the browser copy an array into fresh memory, whose pages are then mapped one fault at a time: for an
// image that takes as long as several kernels. Shared memory that is kept from run to run costs one copy within the cache.

import type { Inputs } from "./model.ts";

/** Bytes from which shared memory is the faster way. */
const LARGE = 1 << 14;

/** Every array starts at a multiple of this, so that a view of any type fits. */
const ALIGNMENT = 64;

type Constructor = new (memory: SharedArrayBuffer, offset: number, length: number) => ArrayBufferView;

/** What a run sends, and how to give back the memory that it sends it in. */
export type Staged = { readonly inputs: Inputs; readonly release: () => void };

export class Staging {
  private readonly free: SharedArrayBuffer[] = [];

  /** Inputs to post: large arrays as copies in shared memory, everything else as it is. */
  put(given: Inputs | null | undefined): Staged {
    const inputs = given ?? {};
    const large = Object.values(inputs)
      .map(arrayOf)
      .filter((array) => array !== undefined);
    if (large.length === 0 || typeof SharedArrayBuffer === "undefined") return { inputs, release: () => undefined };
    const bytes = large.reduce((sum, array) => sum + aligned(array.byteLength), 0);
    const last = this.free.pop();
    const memory = last && last.byteLength >= bytes ? last : new SharedArrayBuffer(bytes);
    let offset = 0;
    const move = (array: ArrayBufferView): ArrayBufferView => {
      const { buffer, byteOffset, byteLength } = array;
      new Uint8Array(memory, offset, byteLength).set(new Uint8Array(buffer, byteOffset, byteLength));
      const width = (array.constructor as unknown as { readonly BYTES_PER_ELEMENT: number }).BYTES_PER_ELEMENT;
      const view = new (array.constructor as Constructor)(memory, offset, byteLength / width);
      offset += aligned(byteLength);
      return view;
    };
    const moved = Object.entries(inputs).map(([name, value]) => {
      const array = arrayOf(value);
      if (!array) return [name, value];
      return [name, ArrayBuffer.isView(value) ? move(array) : { ...(value as object), data: move(array) }];
    });
    return {
      inputs: Object.fromEntries(moved) as Inputs,
      release: () => {
        this.free.push(memory);
      },
    };
  }
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** The typed array of an input if it is a large one that is not shared already. */
function arrayOf(value: unknown): ArrayBufferView | undefined {
  const data = ArrayBuffer.isView(value) ? value : (value as { data?: unknown } | null | undefined)?.data;
  if (!ArrayBuffer.isView(data) || data instanceof DataView) return undefined;
  return data.byteLength >= LARGE && data.buffer instanceof ArrayBuffer ? data : undefined;
}
