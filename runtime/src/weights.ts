// Weights: which pieces of which shards a program needs, and how they are decoded on their way to the backend.

import type { Backend, Storage } from "./backend.ts";
import { evaluate } from "./dims.ts";
import type { Files } from "./files.ts";
import { Heap } from "./heap.ts";
import { piecesOf, type Buffer, type Manifest, type Piece, type Program, type Weight } from "./manifest.ts";
import { bytesOf, fromFloat16 } from "./tensors.ts";

/** Shards fetched at the same time: enough to hide latency, few enough to keep the heap small. */
const PARALLEL = 4;

type Bytes = Uint8Array<ArrayBuffer>;

/** The shards that a program reads, in order. The others are not downloaded. */
function shardsOf(program: Program): number[] {
  const shards = new Set<number>();
  for (const { weight } of program.buffers) if (weight) for (const { shard } of piecesOf(weight)) shards.add(shard);
  return [...shards].sort((left, right) => left - right);
}

/** Files that will be downloaded for the weights of a program, and their sizes. */
export function weightFiles(manifest: Manifest, program: Program): [file: string, bytes: number][] {
  const shards = manifest.weights?.shards ?? [];
  return shardsOf(program).map((shard) => [shards[shard].file, shards[shard].bytes]);
}

/** Bytes of a buffer whose size is constant. */
export function storageBytes(buffer: Buffer): number {
  return evaluate(buffer.bytes, new Map());
}

/** Bytes that the weights of a program take once decoded, each rounded up as an allocation is. */
export function decodedBytes(program: Program): number {
  return program.buffers.reduce(
    (bytes, buffer) => (buffer.weight ? bytes + Heap.round(storageBytes(buffer)) : bytes),
    0,
  );
}

/** A typed array over bytes that may start anywhere; copies only if they are not aligned. */
function aligned<T>(
  bytes: Bytes,
  View: { new (buffer: ArrayBuffer, offset: number, length: number): T; BYTES_PER_ELEMENT: number },
): T {
  const source = bytes.byteOffset % View.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  return new View(source.buffer, source.byteOffset, Math.floor(source.byteLength / View.BYTES_PER_ELEMENT));
}

function joined(parts: readonly Bytes[]): Bytes {
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

/** Codes times scales: blocks of `channel` codes, each of which has one scale per lane, lanes running fastest. */
function dequantize(codes: Int8Array, scales: Float32Array, channel: number, lanes: number): Float32Array {
  const values = new Float32Array(codes.length);
  let index = 0;
  for (let row = 0; index < values.length; row += lanes) {
    const end = Math.min(index + channel, values.length);
    while (index < end)
      for (let lane = 0; lane < lanes; lane++, index++) values[index] = codes[index] * scales[row + lane];
  }
  return values;
}

/** Stored pieces, in the order of `piecesOf`, to what the kernels read. `bytes` is the size of the storage. */
export function decodeWeight(
  weight: Weight,
  parts: readonly Bytes[],
  { bytes, dtype }: { bytes: number; dtype: Buffer["dtype"] },
): Uint8Array {
  switch (weight.encoding) {
    case "raw":
      return joined(parts);
    case "f16":
      return bytesOf(fromFloat16(aligned(joined(parts), Uint16Array)));
    case "int8": {
      const codes = aligned(joined(parts.slice(0, weight.pieces.length)), Int8Array);
      const scales = aligned(joined(parts.slice(weight.pieces.length)), Float32Array);
      return bytesOf(dequantize(codes, scales, weight.channel, weight.lanes ?? 1));
    }
    case "fill":
      return bytesOf(
        dtype === "float32"
          ? new Float32Array(bytes / 4).fill(weight.value)
          : new Int32Array(bytes / 4).fill(weight.value),
      );
    default:
      return weight satisfies never;
  }
}

/** A weight that waits for the rest of its pieces. */
type Waiting = { missing: number; readonly parts: Bytes[] };

/** Downloads, verifies and decodes the weights of a program into fresh storages, as the shards arrive. */
export async function loadWeights(
  files: Files,
  manifest: Manifest,
  program: Program,
  backend: Backend,
): Promise<Map<number, Storage>> {
  const shards = manifest.weights?.shards ?? [];
  const storages = new Map<number, Storage>();
  const waiting = new Map<Weight, Waiting>();
  const byShard = new Map<number, { buffer: number; weight: Weight; piece: Piece; part: number }[]>();
  const put = (index: number, weight: Weight, parts: readonly Bytes[]): void => {
    const storage = storages.get(index);
    if (!storage) return;
    const buffer = program.buffers[index];
    if (weight.encoding === "fill" && backend.view) {
      (backend.view(storage, buffer) as Float32Array).fill(weight.value);
      return;
    }
    const decoded = decodeWeight(weight, parts, { bytes: storage.bytes, dtype: buffer.dtype });
    if (decoded.length > 0)
      backend.write(storage, 0, decoded.length > storage.bytes ? decoded.subarray(0, storage.bytes) : decoded);
  };
  program.buffers.forEach((buffer, index) => {
    const { weight } = buffer;
    if (!weight) return;
    // Allocated up front and in order, so that addresses do not depend on the network.
    storages.set(index, backend.alloc(storageBytes(buffer)));
    const pieces = piecesOf(weight);
    if (pieces.length === 0) put(index, weight, []);
    waiting.set(weight, { missing: pieces.length, parts: [] });
    pieces.forEach((piece, part) => {
      const list = byShard.get(piece.shard) ?? [];
      byShard.set(piece.shard, list);
      list.push({ buffer: index, weight, piece, part });
    });
  });
  const queue = shardsOf(program).values();
  const work = async (): Promise<void> => {
    for (const shard of queue) {
      const bytes = await files.verified(shards[shard].file, shards[shard]);
      for (const { buffer, weight, piece, part } of byShard.get(shard) ?? []) {
        const state = waiting.get(weight);
        if (!state) continue;
        const view = bytes.subarray(piece.offset, piece.offset + piece.bytes);
        state.missing--;
        // A copy lets the shard go while the other pieces are under way.
        state.parts[part] =
          state.missing > 0 && piecesOf(weight).some((other) => other.shard !== shard) ? view.slice() : view;
        if (state.missing > 0) continue;
        waiting.delete(weight);
        put(buffer, weight, state.parts);
      }
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  return storages;
}
