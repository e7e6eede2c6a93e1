// The process that the Node engine starts. Standard input and output carry messages, each after its length as a
// little-endian u32; everything that is printed goes to standard error.

import { writeSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { decode, describeError, encode, serve } from "./session.js";

for (const name of ["log", "info", "debug", "dir", "table"]) console[name] = console.error;

/** Offers WebGPU through the npm package `webgpu`, if there is one where Python says; else the runtime says what is missing. */
async function offerWebGPU(folder) {
  if (!folder || globalThis.navigator?.gpu) return;
  let location;
  try {
    location = createRequire(`${folder}/x.js`).resolve("webgpu");
  } catch {
    return;
  }
  const { create, globals } = await import(pathToFileURL(location));
  Object.assign(globalThis, globals);
  if (!globalThis.navigator) globalThis.navigator = {};
  const software = (process.env.VK_ICD_FILENAMES ?? "").includes("swiftshader");
  // SwiftShader compiles the zeros of workgroup memory one by one: seconds for each kernel that has a few KiB of it.
  const options = software ? ["disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension"] : [];
  Object.defineProperty(globalThis.navigator, "gpu", { value: create(options), configurable: true });
}

function write(bytes) {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, bytes.length, true);
  for (let part of [length, bytes]) {
    while (part.length) {
      try {
        part = part.subarray(writeSync(1, part));
      } catch (error) {
        if (error.code !== "EAGAIN") throw error;
      }
    }
  }
}

async function answer(buffer) {
  const { header } = decode(buffer);
  try {
    if (header.evaluate !== undefined) {
      const value = await (0, eval)(header.evaluate);
      return encode({ value: JSON.parse(JSON.stringify(value ?? null) ?? "null") }, {});
    }
    if (header.backend === "webgpu" || header.backend === "auto" || header.module) await offerWebGPU(process.env.WEBDNN_NODE_MODULES);
    return await serve(buffer);
  } catch (error) {
    return encode({ error: describeError(error) }, {});
  }
}

async function* messages() {
  let chunks = [];
  let size = 0;
  for await (const chunk of process.stdin) {
    chunks.push(chunk);
    size += chunk.length;
    while (size >= 4) {
      if (chunks[0].length < 4) chunks = [Buffer.concat(chunks)];
      const end = 4 + chunks[0].readUInt32LE(0);
      if (size < end) break;
      const all = Buffer.concat(chunks);
      yield Uint8Array.from(all.subarray(4, end)).buffer;
      chunks = [all.subarray(end)];
      size -= end;
    }
  }
}

for await (const message of messages()) write(await answer(message));
process.exit(0);
