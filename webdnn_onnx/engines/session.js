// Runs bundles for Python, in a page or under Node: one message of tensors in, one out (see tensors.py for the layout).

const ALIGNMENT = 8;
const ARRAYS = {
  float64: Float64Array, float32: Float32Array, float16: Uint16Array, bfloat16: Uint16Array,
  int64: BigInt64Array, uint64: BigUint64Array, int32: Int32Array, uint32: Uint32Array,
  int16: Int16Array, uint16: Uint16Array, int8: Int8Array, uint8: Uint8Array,
};

let current = null; // { key, model }

/** Reads a message: its header, and its values as the runtime takes them. */
export function decode(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const base = 4 + length;
  const values = {};
  for (const [name, spec] of Object.entries(header.values ?? {})) values[name] = restore(spec, buffer, base);
  return { header, values };
}

function restore(spec, buffer, base) {
  if (spec.absent) return null;
  if (spec.sequence) return spec.sequence.map((item) => restore(item, buffer, base));
  if (spec.keys) return new Map(spec.keys.map((key, index) => [key, restore(spec.items[index], buffer, base)]));
  if (spec.strings) return { data: spec.strings, dims: spec.shape, dtype: "string" };
  const type = ARRAYS[spec.dtype] ?? Uint8Array;
  const data = new type(buffer, base + spec.offset, spec.bytes / type.BYTES_PER_ELEMENT);
  return { data, dims: spec.shape, dtype: spec.dtype };
}

/** Writes a message from a header and values as the runtime gives them. */
export function encode(header, values) {
  const parts = [];
  let size = 0;
  const describe = (value) => {
    if (value === null || value === undefined) return { absent: true };
    if (Array.isArray(value)) return { sequence: value.map(describe) };
    if (value instanceof Map) return { keys: [...value.keys()], items: [...value.values()].map(describe) };
    const { data, dims, dtype } = value;
    if (dtype === "string") return { dtype, shape: [...dims], strings: [...data] };
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const offset = size;
    const padding = (ALIGNMENT - (bytes.length % ALIGNMENT)) % ALIGNMENT;
    parts.push(bytes, new Uint8Array(padding));
    size += bytes.length + padding;
    return { dtype, shape: [...dims], offset, bytes: bytes.length };
  };
  const described = {};
  for (const [name, value] of Object.entries(values)) described[name] = describe(value);
  let text = JSON.stringify({ ...header, values: described });
  let head = new TextEncoder().encode(text);
  const padding = (ALIGNMENT - ((head.length + 4) % ALIGNMENT)) % ALIGNMENT;
  if (padding) head = new TextEncoder().encode(text + " ".repeat(padding));
  const message = new Uint8Array(4 + head.length + size);
  new DataView(message.buffer).setUint32(0, head.length, true);
  message.set(head, 4);
  let at = 4 + head.length;
  for (const part of parts) {
    message.set(part, at);
    at += part.length;
  }
  return message;
}

/** One request to a module of the program's own. */
async function delegate(header, values) {
  const { answer } = await import(header.module);
  const reply = await answer(header, values);
  return encode(reply.header, reply.values);
}

/** One request: loads the bundle unless it is the one at hand, runs it, answers with outputs and observations. */
export async function serve(buffer) {
  const { header, values } = decode(buffer);
  if (header.module) return delegate(header, values);
  const key = `${header.entry} ${header.backend}`;
  let loadMs = 0;
  if (current?.key !== key) {
    await release();
    const start = performance.now();
    const { load } = await import(header.entry);
    const model = await load({ ...header.options, backend: header.backend });
    loadMs = performance.now() - start;
    current = { key, model };
  }
  const { model } = current;
  const runMs = [];
  let outputs = {};
  for (let index = 0; index < header.repeat; index++) {
    const start = performance.now();
    outputs = await model.run(values);
    runMs.push(performance.now() - start);
  }
  const { backend, threads = 1, notes = [], placement = [] } = model;
  const adapter = backend === "webgpu" ? await describeAdapter() : "";
  const info = { backend, adapter, threads, notes, loadMs, runMs, placement: placement.map(describeStep) };
  return encode({ info }, outputs);
}

/** The GPU that WebGPU uses, in words. */
async function describeAdapter() {
  const adapter = await globalThis.navigator?.gpu?.requestAdapter({ powerPreference: "high-performance" });
  const { vendor, architecture, description } = adapter?.info ?? {};
  return [vendor, architecture, description].filter(Boolean).join(" ");
}

/** A step that left its backend, in words. */
function describeStep({ name, on, reason }) {
  return `${name} on ${on}: ${reason}`;
}

/** Frees the loaded model. */
export async function release() {
  const model = current?.model;
  current = null;
  await model?.dispose?.();
}

/** An error as JSON: what Python shows. */
export function describeError(error) {
  return { name: error?.name ?? "Error", message: String(error?.message ?? error), stack: String(error?.stack ?? "") };
}
