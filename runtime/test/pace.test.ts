import { expect, test } from "vitest";
import { Pace } from "../src/pace.ts";
import { callInParts } from "../src/wasm.ts";

/** Which way each of eight runs takes, if sharing takes `together` milliseconds and running alone `alone`. */
function ways(together: number, alone: number): string {
  const pace = new Pace();
  let clock = 0;
  let taken = "";
  const way = (name: string, time: number) => (): void => {
    taken += name;
    clock += time;
  };
  for (let run = 0; run < 8; run++) pace.run(way("t", together), way("a", alone), () => clock);
  return taken;
}

test("a short call goes the faster way after three trials of each", () => {
  expect(ways(0.05, 0.01)).toBe("tatataaa");
  expect(ways(0.05, 0.08)).toBe("tatatatt");
});

test("one trial that the machine disturbed does not decide", () => {
  const pace = new Pace();
  const times = [0.9, 0.2, 0.1, 0.2, 0.1, 0.2];
  let clock = 0;
  let taken = "";
  const way = (name: string) => (): void => {
    taken += name;
    clock += times.shift() ?? 0;
  };
  for (let run = 0; run < 7; run++) pace.run(way("t"), way("a"), () => clock);
  expect(taken).toBe("tatatat");
});

test("a long call is always shared", () => {
  expect(ways(3, 5)).toBe("tttttttt");
});

test("a first run is made of consecutive parts", () => {
  const ranges: number[][] = [];
  const call = (...args: number[]): void => void ranges.push(args);
  callInParts(call, [7, 0, 5], 5);
  expect(ranges).toEqual([0, 1, 2, 3, 4].map((begin) => [7, begin, begin + 1]));
  ranges.length = 0;
  callInParts(call, [7, 0, 100], 100);
  expect(ranges.length).toBe(32);
  expect(ranges.map(([, begin]) => begin).slice(1)).toEqual(ranges.map(([, , end]) => end).slice(0, -1));
  expect([ranges[0][1], ranges[31][2]]).toEqual([0, 100]);
});
