// Just enough of a WebAssembly assembler for kernels of the form  y[i] = a[i] <op> b[i]  for i in [begin, end).

const leb = (value: number): number[] => {
  const bytes: number[] = [];
  do {
    bytes.push((value & 127) | (value > 127 ? 128 : 0));
    value >>>= 7;
  } while (value > 0);
  return bytes;
};
const vector = (items: readonly number[][]): number[] => [...leb(items.length), ...items.flat()];
const section = (id: number, body: number[]): number[] => [id, ...leb(body.length), ...body];
const text = (name: string): number[] => [...leb(name.length), ...new TextEncoder().encode(name)];

const OPCODES = { add: 0x92, mul: 0x94 } as const;

/** Address of element `local 3` of the f32 array at `local`. */
const address = (local: number): number[] => [0x20, local, 0x20, 3, 0x41, 2, 0x74, 0x6a];

function elementwise(op: keyof typeof OPCODES): number[] {
  // Parameters: a, b, y, begin, end.
  const load = (local: number): number[] => [...address(local), 0x2a, 2, 0];
  // prettier-ignore
  const body = [
    0x02, 0x40, 0x03, 0x40, // block, loop
    0x20, 3, 0x20, 4, 0x4e, 0x0d, 1, // begin >= end: leave
    ...address(2), ...load(0), ...load(1), OPCODES[op], 0x38, 2, 0,
    0x20, 3, 0x41, 1, 0x6a, 0x21, 3, 0x0c, 0, // begin++, again
    0x0b, 0x0b, 0x0b,
  ];
  return [...leb(body.length + 1), 0, ...body];
}

/** A function that traps. */
const TRAP = [3, 0, 0x00, 0x0b];

/** A module with kernels `add`, `mul` and `trap` over an imported memory. */
export function assemble({ shared = false } = {}): Uint8Array<ArrayBuffer> {
  const i32 = 0x7f;
  const limits = shared ? [3, 0, ...leb(65536)] : [0, 0];
  // prettier-ignore
  return new Uint8Array([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, vector([[0x60, ...vector([[i32], [i32], [i32], [i32], [i32]]), 0]])),
    ...section(2, vector([[...text("env"), ...text("memory"), 2, ...limits]])),
    ...section(3, vector([[0], [0], [0]])),
    ...section(7, vector([[...text("add"), 0, 0], [...text("mul"), 0, 1], [...text("trap"), 0, 2]])),
    ...section(10, vector([elementwise("add"), elementwise("mul"), TRAP])),
  ]);
}
