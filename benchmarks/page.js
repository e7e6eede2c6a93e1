// Measures a bundle and onnxruntime-web in one page, run by run in turn. Called from benchmarks/web.py.

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

async function ours(bundle, backend, threads) {
  const { load } = await import(`${bundle}/index.js`);
  const model = await load({ backend, threads, cache: false });
  return { model, run: (inputs) => model.run(inputs), name: model.backend, threads: model.threads };
}

async function theirs(model, backend, threads) {
  const ort = await import(backend === "webgpu" ? "/ort/ort.webgpu.min.mjs" : "/ort/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = "/ort/";
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(model, { executionProviders: [backend] });
  const run = async (inputs) => {
    const feeds = {};
    for (const [name, { data, dims, dtype }] of Object.entries(inputs)) feeds[name] = new ort.Tensor(dtype, data, dims);
    const results = await session.run(feeds);
    return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, tensor]));
  };
  return { run, session };
}

function makeInputs(specs) {
  const inputs = {};
  let seed = 1;
  for (const { name, dims, dtype } of specs) {
    const data = new Float32Array(dims.reduce((a, b) => a * b, 1));
    for (let i = 0; i < data.length; i++) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      data[i] = seed / 2 ** 32;
    }
    inputs[name] = { data, dims, dtype };
  }
  return inputs;
}

/** Milliseconds per run of both, interleaved: `{ours: [...], theirs: [...], difference}`. */
export async function compare({ bundle, model, backend, threads, inputs, runs, warmups }) {
  const feeds = makeInputs(inputs);
  const a = await ours(bundle, backend, threads);
  const b = await theirs(model, backend, threads);
  const times = { ours: [], theirs: [] };
  let difference = 0;
  for (let i = -warmups; i < runs; i++) {
    const begin = performance.now();
    const left = await a.run(feeds);
    const middle = performance.now();
    const right = await b.run(feeds);
    const end = performance.now();
    if (i >= 0) {
      times.ours.push(middle - begin);
      times.theirs.push(end - middle);
    } else {
      for (const [name, tensor] of Object.entries(right)) {
        const own = left[name].data ?? left[name];
        const peak = tensor.data.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
        for (let k = 0; k < own.length; k++) difference = Math.max(difference, Math.abs(own[k] - tensor.data[k]) / (peak || 1));
      }
    }
  }
  a.model.dispose();
  return { ...times, difference, oursMedian: median(times.ours), theirsMedian: median(times.theirs), threads: a.threads };
}

/**
 * Median milliseconds per run of onnxruntime-web on WebGPU when it replays a captured graph: its input is written to one
 * buffer of the GPU, and its output read back.
 */
export async function captured({ model, inputs, runs, warmups }) {
  const ort = await import("/ort/ort.webgpu.min.mjs");
  ort.env.wasm.wasmPaths = "/ort/";
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(model, {
    executionProviders: ["webgpu"],
    enableGraphCapture: true,
    preferredOutputLocation: "gpu-buffer",
  });
  const device = await ort.env.webgpu.device;
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
  const uploads = [];
  const feeds = {};
  for (const [name, { data, dims, dtype }] of Object.entries(makeInputs(inputs))) {
    const buffer = device.createBuffer({ size: Math.ceil(data.byteLength / 16) * 16, usage });
    uploads.push([buffer, data]);
    feeds[name] = ort.Tensor.fromGpuBuffer(buffer, { dataType: dtype, dims });
  }
  const times = [];
  for (let i = -warmups; i < runs; i++) {
    const begin = performance.now();
    for (const [buffer, data] of uploads) device.queue.writeBuffer(buffer, 0, data);
    const results = await session.run(feeds);
    await Promise.all(Object.values(results).map((tensor) => tensor.getData()));
    if (i >= 0) times.push(performance.now() - begin);
  }
  return { median: median(times) };
}

/**
 * Median milliseconds per run of our bundle with one thread and with so many, block by block in turn and with no other
 * engine in the page, whose threads would share the cores: `{one, many}`.
 */
export async function scaling({ bundle, backend, threads, inputs, blocks, runs }) {
  const feeds = makeInputs(inputs);
  const models = { one: await ours(bundle, backend, 1), many: await ours(bundle, backend, threads) };
  const medians = { one: [], many: [] };
  for (let block = -1; block < blocks; block++) {
    for (const [kind, { run }] of Object.entries(models)) {
      const times = [];
      for (let i = 0; i < runs; i++) {
        const begin = performance.now();
        await run(feeds);
        times.push(performance.now() - begin);
      }
      if (block >= 0) medians[kind].push(median(times));
    }
  }
  return { one: median(medians.one), many: median(medians.many) };
}

/** Milliseconds from nothing loaded to the first result, of one engine in a fresh page. */
export async function coldStart({ engine, bundle, model, backend, threads, inputs }) {
  const feeds = makeInputs(inputs);
  const begin = performance.now();
  const loaded = engine === "ours" ? await ours(bundle, backend, threads) : await theirs(model, backend, threads);
  await loaded.run(feeds);
  return performance.now() - begin;
}
