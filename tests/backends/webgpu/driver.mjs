// Runs WGSL kernels in Dawn under Node. node driver.mjs JOB.json: {data, output, runs: [{name, text, entry, bindings,
// buffers: [{offset, bytes}], parameters, grid}]}; `data` holds the buffers of all runs, `output` receives them as they are
// afterwards, and `answer` {adapter, errors: {run: message}, times} or {unavailable: why}.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { performance } from "node:perf_hooks";
import { pathToFileURL } from "node:url";

const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const give = (answer) => {
  writeFileSync(job.answer, JSON.stringify(answer));
  process.exit(0);
};

let dawn;
try {
  const require = createRequire(pathToFileURL(process.argv[3] + "/").href);
  dawn = await import(pathToFileURL(require.resolve("webgpu")).href);
} catch (error) {
  give({ unavailable: `the npm package webgpu: ${error.message.split("\n")[0]}` });
}
Object.assign(globalThis, dawn.globals);
// SwiftShader compiles the zeros of workgroup memory one by one: seconds for each kernel that has a few KiB of it.
const gpu = dawn.create(["disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension"]);
const adapter = await gpu.requestAdapter();
if (!adapter) {
  give({ unavailable: "no WebGPU adapter" });
}
const device = await adapter.requestDevice();
const data = readFileSync(job.data);
const output = new Uint8Array(data);
const errors = {}, times = {};

const { STORAGE, COPY_SRC, COPY_DST, MAP_READ, UNIFORM } = GPUBufferUsage;

async function run(run) {
  const started = performance.now();
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code: run.text });
  const entries = run.bindings.map((kind, binding) => ({
    binding,
    visibility: GPUShaderStage.COMPUTE,
    buffer: { type: kind === "read" ? "read-only-storage" : "storage" },
  }));
  const buffers = run.buffers.map(({ offset, bytes }) => {
    const buffer = device.createBuffer({ size: Math.max(16, bytes), usage: STORAGE | COPY_SRC | COPY_DST });
    device.queue.writeBuffer(buffer, 0, data.subarray(offset, offset + bytes));
    return buffer;
  });
  const resources = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
  if (run.parameters.length > 0) {
    const words = new Int32Array(Math.ceil(run.parameters.length / 4) * 4);
    words.set(run.parameters);
    const buffer = device.createBuffer({ size: words.byteLength, usage: UNIFORM | COPY_DST });
    device.queue.writeBuffer(buffer, 0, words);
    entries.push({ binding: buffers.length, visibility: GPUShaderStage.COMPUTE, buffer: { type: "uniform" } });
    resources.push({ binding: buffers.length, resource: { buffer } });
  }
  const bindGroupLayout = device.createBindGroupLayout({ entries });
  const layout = device.createPipelineLayout({ bindGroupLayouts: [bindGroupLayout] });
  const pipeline = device.createComputePipeline({ layout, compute: { module, entryPoint: run.entry } });
  const group = device.createBindGroup({ layout: bindGroupLayout, entries: resources });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(...run.grid);
  pass.end();
  const readers = buffers.map((source) => {
    const target = device.createBuffer({ size: source.size, usage: MAP_READ | COPY_DST });
    encoder.copyBufferToBuffer(source, 0, target, 0, source.size);
    return target;
  });
  device.queue.submit([encoder.finish()]);
  const error = await device.popErrorScope();
  if (error) {
    const info = await module.getCompilationInfo();
    const messages = info.messages.map(({ lineNum, message }) => `line ${lineNum}: ${message}`);
    errors[run.name] = [error.message, ...messages].join("\n");
    return;
  }
  for (const [at, reader] of readers.entries()) {
    await reader.mapAsync(GPUMapMode.READ);
    const { offset, bytes } = run.buffers[at];
    output.set(new Uint8Array(reader.getMappedRange(), 0, bytes), offset);
    reader.unmap();
  }
  for (const buffer of [...buffers, ...readers]) buffer.destroy();
  times[run.name] = performance.now() - started;
}

for (const each of job.runs) await run(each);
writeFileSync(job.output, output);
const { vendor, architecture, description } = adapter.info;
give({ adapter: [vendor, architecture, description].filter(Boolean).join(" "), errors, times });
