// Weights: which byte ranges a program needs, in which shards they lie, and how they are decoded on their way to the backend.

import type { Backend, Storage } from "./backend.ts";
import { evaluate } from "./dims.ts";
import type { Files } from "./files.ts";
import type { Manifest, Program, Range, Weight } from "./manifest.ts";
import { bytesOf, fromFloat16 } from "./tensors.ts";

/** Shards fetched at the same time: enough to hide latency, few enough to keep the heap small. */
const PARALLEL = 4;

type Part = { readonly buffer: number; readonly weight: Weight; readonly isScales: boolean; readonly range: Range };

/** The ranges that a program reads, by shard. Shards that hold none of them are not downloaded. */
function partsByShard(program: Program): Map<number, Part[]> {
  const shards = new Map<number, Part[]>();
  const add = (part: Part): void => {
    const parts = shards.get(part.range.shard);
    if (parts) parts.push(part);
    else shards.set(part.range.shard, [part]);
  };
  program.buffers.forEach(({ weight }, buffer) => {
    if (!weight) return;
    add({ buffer, weight, isScales: false, range: weight });
    if (weight.scales) add({ buffer, weight, isScales: true, range: weight.scales });
  });
  return shards;
}

/** Bytes of the shards that a program needs. */
export function weightBytes(manifest: Manifest, program: Program): number {
  const shards = manifest.weights?.shards ?? [];
  return [...partsByShard(program).keys()].reduce((bytes, shard) => bytes + shards[shard].bytes, 0);
}

/** Bytes that the weights of a program take once decoded, each rounded up as an allocation is. */
export function decodedBytes(program: Program): number {
  return program.buffers.reduce((bytes, buffer) => (buffer.weight ? bytes + Math.ceil(evaluate(buffer.bytes, new Map()) / 64) * 64 + 64 : bytes), 0);
}

/** A typed array over bytes that may start anywhere; copies only if they are not aligned. */
function aligned<T>(bytes: Uint8Array<ArrayBuffer>, View: { new (buffer: ArrayBuffer, offset: number, length: number): T; BYTES_PER_ELEMENT: number }): T {
  const source = bytes.byteOffset % View.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  return new View(source.buffer, source.byteOffset, Math.floor(source.byteLength / View.BYTES_PER_ELEMENT));
}

/** Stored bytes to what the kernels read. */
export function decodeWeight(weight: Weight, stored: Uint8Array<ArrayBuffer>, scales?: Uint8Array<ArrayBuffer>): Uint8Array {
  switch (weight.encoding) {
    case "raw":
      return stored;
    case "f16":
      return bytesOf(fromFloat16(aligned(stored, Uint16Array)));
    case "int8": {
      const codes = aligned(stored, Int8Array);
      const factors = aligned(scales ?? new Uint8Array(), Float32Array);
      const channel = weight.channel ?? codes.length;
      const values = new Float32Array(codes.length);
      for (let row = 0, index = 0; index < values.length; row++) {
        const factor = factors[row];
        for (const end = Math.min(index + channel, values.length); index < end; index++) values[index] = codes[index] * factor;
      }
      return bytesOf(values);
    }
    default:
      return weight.encoding satisfies never;
  }
}

/** Downloads, verifies and decodes the weights of a program into fresh storages, shard by shard as they arrive. */
export async function loadWeights(files: Files, manifest: Manifest, program: Program, backend: Backend): Promise<Map<number, Storage>> {
  const shards = manifest.weights?.shards ?? [];
  const storages = new Map<number, Storage>();
  // Allocated up front and in order, so that addresses do not depend on the network.
  program.buffers.forEach((buffer, index) => {
    if (buffer.weight) storages.set(index, backend.alloc(evaluate(buffer.bytes, new Map())));
  });
  const waiting = new Map<number, Uint8Array<ArrayBuffer>>();
  const place = ({ buffer, weight, isScales, range }: Part, shard: Uint8Array<ArrayBuffer>): void => {
    const bytes = shard.subarray(range.offset, range.offset + range.bytes);
    const other = waiting.get(buffer);
    if (weight.scales && !other) {
      // Its codes and its scales may lie in different shards; a copy lets the shard go.
      waiting.set(buffer, bytes.slice());
      return;
    }
    const decoded = isScales && other ? decodeWeight(weight, other, bytes) : decodeWeight(weight, bytes, other);
    waiting.delete(buffer);
    const storage = storages.get(buffer);
    if (storage && decoded.length > 0) backend.write(storage, 0, decoded.length > storage.bytes ? decoded.subarray(0, storage.bytes) : decoded);
  };
  const queue = [...partsByShard(program)].sort(([left], [right]) => left - right).values();
  const work = async (): Promise<void> => {
    for (const [shard, parts] of queue) {
      const bytes = await files.verified(shards[shard].file, shards[shard]);
      for (const part of parts) place(part, bytes);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  return storages;
}
