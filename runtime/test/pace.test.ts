import { expect, test } from "vitest";
import { Pace } from "../src/pace.ts";

/** Which way each of six runs takes, if sharing takes `together` milliseconds and running alone `alone`. */
function ways(together: number, alone: number): string {
  const pace = new Pace();
  let clock = 0;
  let taken = "";
  const way = (name: string, time: number) => (): void => {
    taken += name;
    clock += time;
  };
  for (let run = 0; run < 6; run++) pace.run(way("t", together), way("a", alone), () => clock);
  return taken;
}

test("a short call goes the faster way after one trial of each", () => {
  expect(ways(0.05, 0.01)).toBe("ttaaaa");
  expect(ways(0.05, 0.08)).toBe("ttattt");
});

test("a long call is always shared", () => {
  expect(ways(3, 5)).toBe("tttttt");
});
