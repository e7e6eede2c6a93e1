// Runs functions of one module on typed arrays. node driver.mjs JOB.json: {module, data, output, runs: [{export, arrays:
// [{type, offset, length}], parameters}]}; `data` holds the arrays, `output` receives them all as they are afterwards.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const module = await import(pathToFileURL(job.module).href);
const data = readFileSync(job.data);
const memory = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
for (const run of job.runs) {
  const arrays = run.arrays.map(({ type, offset, length }) => new globalThis[type](memory, offset, length));
  module[run.export](...arrays, ...run.parameters);
}
writeFileSync(job.output, new Uint8Array(memory));
