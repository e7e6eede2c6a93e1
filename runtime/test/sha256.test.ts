import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { sha256 } from "../src/sha256.ts";

const inScript = null as unknown as SubtleCrypto;

test.each([0, 1, 3, 55, 56, 63, 64, 65, 119, 120, 1000, 70001])(
  "%d bytes hash the same in script, on the platform and in Node",
  async (length) => {
    const bytes = Uint8Array.from({ length }, (_, index) => (index * 7 + length) & 255);
    const expected = createHash("sha256").update(bytes).digest("hex");
    expect(await sha256(bytes, inScript)).toBe(expected);
    expect(await sha256(bytes)).toBe(expected);
  },
);
