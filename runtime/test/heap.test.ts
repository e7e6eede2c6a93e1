import { expect, test } from "vitest";
import { Heap, grown } from "../src/heap.ts";

test("freed ranges are merged and used again", () => {
  const heap = new Heap(10);
  const [a, b, c] = [heap.take(100), heap.take(1), heap.take(64)];
  expect([a, b, c, heap.end]).toEqual([64, 192, 256, 320]);
  heap.give(a, 100);
  heap.give(c, 64);
  heap.give(b, 1);
  expect(heap.take(256)).toBe(64);
  expect(heap.end).toBe(320);
});

test("the last gap grows instead of being left behind", () => {
  const heap = new Heap(0);
  heap.take(64);
  const last = heap.take(64);
  heap.give(last, 64);
  expect(heap.take(640)).toBe(last);
  expect(heap.end).toBe(64 + 640);
});

test("random takes and gives never overlap", () => {
  const heap = new Heap(0);
  const live = new Map<number, number>();
  let seed = 1;
  const random = (below: number): number => (seed = (seed * 48271) % 2147483647) % below;
  for (let round = 0; round < 3000; round++) {
    if (live.size > 20 || (live.size > 0 && random(2))) {
      const [offset, bytes] = [...live][random(live.size)];
      heap.give(offset, bytes);
      live.delete(offset);
    } else {
      const bytes = random(1000);
      const offset = heap.take(bytes);
      for (const [other, size] of live)
        expect(offset + Heap.round(bytes) <= other || other + Heap.round(size) <= offset).toBe(true);
      live.set(offset, bytes);
    }
  }
});

test("memory grows by half at least", () => {
  expect([grown(100, 0), grown(101, 100), grown(1000, 100)]).toEqual([100, 160, 1000]);
});
