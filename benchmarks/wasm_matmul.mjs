// Times the modules that benchmarks/wasm_matmul.py wrote, in GFLOPS: median and best of interleaved rounds, beside the peak
// loop of the same rounds. A busy sibling thread halves what a core gives; then only the best rounds say something.
import { readFileSync } from "node:fs";
import { join } from "node:path";

const folder = process.argv[2];
const { peakMultiplyAdds, cases } = JSON.parse(readFileSync(join(folder, "cases.json"), "utf8"));
const rounds = Number(process.argv[3] ?? 15);
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
const page = 65536;

function load(variant) {
  const bytes = readFileSync(join(folder, `${variant}.wasm`));
  const memory = new WebAssembly.Memory({ initial: 1024 });
  const started = performance.now();
  const module = new WebAssembly.Module(bytes);
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  return { bytes: bytes.length, compile: performance.now() - started, exports, memory };
}

function prepare(variant, instance, item) {
  let end = 4096;
  const places = [];
  const place = (size) => {
    places.push(end);
    end = (end + size + 4095) & ~4095;
  };
  const inputs = item.inputs.map((name) => readFileSync(join(folder, name)));
  for (const data of inputs) place(data.length);
  place(item.bytes);
  const scratch = end;
  const short = end + (1 << 20) - instance.memory.buffer.byteLength;
  if (short > 0) instance.memory.grow(Math.ceil(short / page));
  const bytes = new Uint8Array(instance.memory.buffer);
  inputs.forEach((data, i) => bytes.set(data, places[i]));
  instance.exports.scratch.value = scratch;
  const run = () => instance.exports[item.name](...places, 0, item.tasks);
  return { run, output: places.at(-1) };
}

function check(instance, item, output) {
  const got = new Float32Array(instance.memory.buffer, output, item.bytes / 4);
  const data = readFileSync(join(folder, item.output));
  const expected = new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
  let worst = 0;
  let most = 0;
  for (let i = 0; i < got.length; i++) {
    worst = Math.max(worst, Math.abs(got[i] - expected[i]));
    most = Math.max(most, Math.abs(expected[i]));
  }
  if (!(worst <= 1e-4 * most)) throw new Error(`${item.name}: largest difference ${worst} of ${most}`);
}

for (const variant of ["relaxed", "plain"]) {
  const peak = load(`peak.${variant}`);
  const instance = load(variant);
  console.log(`${variant}: ${instance.bytes} bytes, compiled in ${instance.compile.toFixed(1)} ms`);
  const iterations = 200000;
  const timePeak = () => {
    const started = performance.now();
    peak.exports.peak(iterations);
    return (iterations * peakMultiplyAdds * 2) / (performance.now() - started) / 1e6;
  };
  for (let i = 0; i < 20; i++) timePeak();
  for (const item of cases) {
    const { run, output } = prepare(variant, instance, item);
    const warm = performance.now();
    do run(); while (performance.now() - warm < 300);
    const repeat = Math.max(1, Math.round(2e8 / item.macs));
    const speeds = [];
    const peaks = [];
    for (let round = 0; round < rounds; round++) {
      peaks.push(timePeak());
      const started = performance.now();
      for (let i = 0; i < repeat; i++) run();
      speeds.push((repeat * item.macs * 2) / (performance.now() - started) / 1e6);
    }
    check(instance, item, output);
    const columns = [[median(speeds), median(peaks)], [Math.max(...speeds), Math.max(...peaks)]].map(([speed, most]) => {
      const share = ((100 * speed) / most).toFixed(0);
      return `${speed.toFixed(1).padStart(6)} of ${most.toFixed(1)} (${share.padStart(3)} %)`;
    });
    console.log(`  ${item.name.padEnd(40)} median ${columns[0]}   best ${columns[1]}`);
  }
}
