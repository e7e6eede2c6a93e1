// SHA-256 (FIPS 180-4). crypto.subtle exists only in secure contexts; a page served over plain http from another
// machine has none.

const round = new Uint32Array(64);
const initial = new Uint32Array(8);

/** First 32 bits of the fractional parts of the square (8) and cube (64) roots of the first primes. */
function fillConstants(): void {
  const fraction = (root: number): number => ((root - Math.floor(root)) * 2 ** 32) >>> 0;
  for (let candidate = 2, count = 0; count < 64; candidate++) {
    let prime = true;
    for (let divisor = 2; divisor * divisor <= candidate; divisor++) if (candidate % divisor === 0) prime = false;
    if (!prime) continue;
    if (count < 8) initial[count] = fraction(Math.sqrt(candidate));
    round[count++] = fraction(Math.cbrt(candidate));
  }
}

const rotate = (word: number, by: number): number => (word >>> by) | (word << (32 - by));

function sha256InScript(bytes: Uint8Array): Uint8Array {
  if (round[0] === 0) fillConstants();
  const state = initial.slice();
  const words = new Uint32Array(64);
  const tail = new Uint8Array((bytes.length % 64) + 9 > 64 ? 128 : 64);
  const whole = bytes.length - (bytes.length % 64);
  tail.set(bytes.subarray(whole));
  tail[bytes.length % 64] = 0x80;
  const end = new DataView(tail.buffer);
  end.setUint32(tail.length - 8, Math.floor(bytes.length / 2 ** 29));
  end.setUint32(tail.length - 4, bytes.length * 8);
  const body = new DataView(bytes.buffer, bytes.byteOffset, whole);
  for (const [view, length] of [
    [body, whole],
    [end, tail.length],
  ] as const) {
    for (let offset = 0; offset < length; offset += 64) digestBlock(view, offset, state, words);
  }
  const digest = new DataView(new ArrayBuffer(32));
  state.forEach((word, index) => {
    digest.setUint32(4 * index, word);
  });
  return new Uint8Array(digest.buffer);
}

function digestBlock(view: DataView, offset: number, state: Uint32Array, words: Uint32Array): void {
  for (let index = 0; index < 16; index++) words[index] = view.getUint32(offset + 4 * index);
  for (let index = 16; index < 64; index++) {
    const early = words[index - 15];
    const late = words[index - 2];
    words[index] =
      words[index - 16] +
      words[index - 7] +
      (rotate(early, 7) ^ rotate(early, 18) ^ (early >>> 3)) +
      (rotate(late, 17) ^ rotate(late, 19) ^ (late >>> 10));
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let index = 0; index < 64; index++) {
    const first =
      (h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + round[index] + words[index]) | 0;
    const second = ((rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, index) => (state[index] += word));
}

/** The platform's, which is missing where the page is not a secure context. */
function platformCrypto(): SubtleCrypto | undefined {
  return (globalThis as { crypto?: { subtle?: SubtleCrypto } }).crypto?.subtle;
}

/** Lower-case hexadecimal SHA-256, by the platform where it offers it, else in script. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>, subtle = platformCrypto()): Promise<string> {
  const digest = subtle ? new Uint8Array(await subtle.digest("SHA-256", bytes)) : sha256InScript(bytes);
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
