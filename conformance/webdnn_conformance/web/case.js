// Runs one converted case on several backends from memory: in a page or under Node, in the harness or in the
// visitor's own browser.

/** Where the files of a case seem to lie; every URL below it is replaced by one of a file in memory. */
const FOLDER = "https://case.invalid/";

const TYPES = { js: "text/javascript", json: "application/json" };

/** The module that the harness calls; see Engine.exchange. */
export async function answer(header, values) {
  const { load } = await import(header.runtime);
  const files = part(values, "file/");
  const results = {};
  const outputs = {};
  for (const backend of header.backends) {
    const { outputs: sets, ...facts } = await runCase(load, files, backend, inputsOf(values), header.options ?? {});
    results[backend] = facts;
    sets.forEach((set, number) => {
      for (const [name, value] of Object.entries(set)) outputs[`${backend}/${number}/${name}`] = value;
    });
  }
  return { header: { results }, values: outputs };
}

/** The data sets in a message: `0/in/NAME` and so on. */
export function inputsOf(values) {
  const sets = [];
  for (const [name, value] of Object.entries(values)) {
    const found = /^(\d+)\/in\/(.*)$/s.exec(name);
    if (found) (sets[Number(found[1])] ??= {})[found[2]] = value;
  }
  return sets.length ? Array.from(sets, (set) => set ?? {}) : [{}];
}

/** The values under a prefix, as bytes, by the rest of their names. */
export function part(values, prefix) {
  const entries = Object.entries(values).filter(([name]) => name.startsWith(prefix));
  return Object.fromEntries(entries.map(([name, { data }]) => [name.slice(prefix.length), data]));
}

/** Loads the files with a backend, runs every data set, frees everything; an error becomes part of the answer. */
export async function runCase(load, files, backend, sets, options) {
  const made = new Map();
  const outputs = [];
  const runMs = [];
  let [loadMs, model, error] = [0, undefined, undefined];
  const transformUrl = (url) => {
    const name = url.startsWith(FOLDER) ? url.slice(FOLDER.length) : "";
    // Each backend has its own host functions; the others' files are not part of the bundle that this one loads.
    const source = files[name];
    if (!source) return url;
    if (!made.has(name)) made.set(name, urlOf(source, TYPES[name.split(".").pop()] ?? "application/octet-stream"));
    return made.get(name);
  };
  try {
    let start = performance.now();
    model = await load(FOLDER, { cache: false, threads: 1, ...options, backend, transformUrl });
    loadMs = performance.now() - start;
    for (const inputs of sets) {
      start = performance.now();
      outputs.push(await model.run(inputs));
      runMs.push(performance.now() - start);
    }
  } catch (thrown) {
    error = { name: thrown?.name ?? "Error", message: String(thrown?.message ?? thrown) };
  }
  const { adapter = "", notes = [], placement = [] } = model ?? {};
  try {
    await model?.dispose();
  } catch (thrown) {
    error ??= { name: thrown.name, message: `dispose: ${thrown.message}` };
  }
  for (const url of made.values()) if (url.startsWith("blob:")) URL.revokeObjectURL(url);
  return { error, adapter, notes, placement: placement.map(({ name, reason }) => ({ name, reason })), loadMs, runMs, outputs };
}

function urlOf(bytes, type) {
  if (typeof document !== "undefined") return URL.createObjectURL(new Blob([bytes], { type }));
  return `data:${type};base64,${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")}`;
}
