// model.json, parsed and checked once, so that the rest of the runtime can trust it.

import { checkDim, type Dim } from "./dims.ts";
import { ModelError } from "./errors.ts";
import {
  FORMAT,
  piecesOf,
  stepKind,
  type BackendName,
  type FileFacts,
  type Manifest,
  type Program,
  type Step,
  type Weight,
} from "./manifest.ts";
import { isDType } from "./tensors.ts";

function need(condition: unknown, where: string, message: string): asserts condition {
  if (!condition) throw new ModelError(`model.json: ${where}: ${message}`);
}

const isArray: (value: unknown) => value is readonly unknown[] = Array.isArray;

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/**
 * Parses and checks the text of model.json. Throws ModelError; what it returns can be trusted by the rest of the
 * runtime.
 */
export function parseManifest(text: string): Manifest {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (error) {
    throw new ModelError(
      "model.json is not JSON: is this the folder that `webdnn convert` wrote, and does the server find it?",
      {
        cause: error,
      },
    );
  }
  try {
    return check(data);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    // A list where an object should be, or nothing at all, in a place that no check below looks at by itself.
    throw new ModelError(`model.json is malformed: ${error.message}`, { cause: error });
  }
}

function check(data: unknown): Manifest {
  need(isObject(data), "file", "expected an object");
  need(
    data.format === FORMAT,
    "format",
    `expected ${FORMAT}, got ${JSON.stringify(data.format)}: convert the model again, or use the webdnn.js next to it`,
  );
  need(typeof data.name === "string", "name", "expected a string");
  const symbols = new Set<string>();
  for (const symbol of isArray(data.symbols) ? data.symbols : []) symbols.add(String(symbol));
  for (const kind of ["inputs", "outputs"] as const) {
    const ports = data[kind];
    need(isArray(ports), kind, "expected a list");
    for (const port of ports) {
      need(isObject(port) && typeof port.name === "string", kind, "expected named types");
      checkType(port, symbols, `${kind} '${port.name}'`);
    }
  }
  const shards = isObject(data.weights) && isArray(data.weights.shards) ? data.weights.shards : [];
  for (const shard of shards) {
    need(
      isObject(shard) && typeof shard.file === "string" && isCount(shard.bytes) && typeof shard.sha256 === "string",
      "weights",
      "expected shards of {file, bytes, sha256}",
    );
  }
  need(isObject(data.programs), "programs", "expected an object");
  for (const [name, program] of Object.entries(data.programs)) {
    need(name === "webgpu" || name === "wasm" || name === "js", "programs", `unknown backend '${name}'`);
    checkProgram(program, name, symbols, shards as readonly FileFacts[], data as unknown as Manifest);
  }
  return data as unknown as Manifest;
}

function checkType(type: unknown, symbols: ReadonlySet<string>, where: string): void {
  need(isObject(type), where, "expected a type");
  if ("sequence" in type) checkType(type.sequence, symbols, where);
  else if ("optional" in type) checkType(type.optional, symbols, where);
  else if ("map" in type) need(isArray(type.map) && type.map.length === 2, where, "expected [key dtype, type]");
  else {
    need(isDType(type.dtype), where, `unknown dtype ${JSON.stringify(type.dtype)}`);
    need(isArray(type.shape), where, "expected a shape");
    for (const dim of type.shape) checkDim(dim, symbols, `model.json: ${where}`);
  }
}

function checkProgram(
  program: unknown,
  backend: BackendName,
  symbols: ReadonlySet<string>,
  shards: readonly FileFacts[],
  manifest: Manifest,
): void {
  const where = `program ${backend}`;
  need(isObject(program), where, "expected an object");
  for (const key of ["buffers", "kernels", "steps", "inputs", "outputs"])
    need(isArray(program[key]), where, `expected a list of ${key}`);
  const trusted = program as unknown as Program;
  need(
    trusted.inputs.length === manifest.inputs.length,
    where,
    `expected ${manifest.inputs.length} inputs, got ${trusted.inputs.length}`,
  );
  need(
    trusted.outputs.length === manifest.outputs.length,
    where,
    `expected ${manifest.outputs.length} outputs, got ${trusted.outputs.length}`,
  );
  trusted.buffers.forEach((buffer, index) => {
    const place = `${where}: buffer ${index}`;
    need(
      isObject(buffer) && ["input", "output", "weight", "temporary", "value"].includes(buffer.role),
      place,
      "unknown role",
    );
    if (buffer.role === "value") return;
    need(
      isDType(buffer.dtype) && buffer.dtype !== "string",
      place,
      `dtype ${JSON.stringify(buffer.dtype)} cannot be stored`,
    );
    checkDim(buffer.bytes, symbols, `model.json: ${place}`);
    need(
      typeof buffer.bytes !== "number" || buffer.bytes % 4 === 0,
      place,
      `expected bytes to be a multiple of 4, got ${String(buffer.bytes)}`,
    );
    need(
      buffer.offset === undefined || (isCount(buffer.offset) && buffer.offset % 16 === 0),
      place,
      "expected an offset that is a multiple of 16",
    );
    need(
      (buffer.role === "weight") === (buffer.weight !== undefined),
      place,
      "a weight, and only a weight, names its bytes",
    );
    if (buffer.weight) checkWeight(buffer.weight, shards, place);
  });
  for (const buffer of [...trusted.inputs, ...trusted.outputs]) checkBuffer(buffer, trusted, where);
  checkSteps(trusted.steps, trusted, symbols, where);
}

function checkWeight(weight: Weight, shards: readonly FileFacts[], where: string): void {
  switch (weight.encoding) {
    case "fill":
      need(typeof weight.value === "number", where, "fill needs a value");
      return;
    case "int8":
      need(
        isArray(weight.scales) && isCount(weight.channel) && weight.channel > 0,
        where,
        "int8 needs scales and channel",
      );
      need(weight.channel % (weight.lanes ?? 1) === 0, where, "channel is no multiple of lanes");
      break;
    case "raw":
    case "f16":
      break;
    default:
      throw new ModelError(
        `model.json: ${where}: unknown encoding ${JSON.stringify((weight satisfies never as { encoding: unknown }).encoding)}`,
      );
  }
  need(isArray(weight.pieces), where, "a weight lists its pieces");
  for (const { shard, offset, bytes } of piecesOf(weight)) {
    need(
      isCount(shard) &&
        isCount(offset) &&
        isCount(bytes) &&
        shard < shards.length &&
        offset + bytes <= shards[shard].bytes,
      where,
      "its bytes lie outside the shards",
    );
  }
}

function checkBuffer(index: unknown, program: Program, where: string): void {
  need(isCount(index) && index < program.buffers.length, where, `there is no buffer ${JSON.stringify(index)}`);
}

function checkSteps(steps: readonly Step[], program: Program, symbols: ReadonlySet<string>, where: string): void {
  steps.forEach((step, index) => {
    const place = `${where}: step ${index}`;
    const buffers: (number | null | undefined)[] = [];
    const dims: Dim[] = [];
    need(isObject(step), place, "expected an object");
    const kind = stepKind(step, place);
    if ("run" in step) {
      const kernels = step.on === "js" ? program.hostKernels : program.kernels;
      need(
        isCount(step.run) && kernels && step.run < kernels.length,
        place,
        `there is no kernel ${JSON.stringify(step.run)}`,
      );
      buffers.push(...step.args);
      dims.push(...(step.params ?? []), ...(step.grid ?? []), step.extent ?? 0);
    } else if ("copy" in step) buffers.push(...step.copy);
    else if ("define" in step) for (const pair of step.define) dims.push(...pair);
    else if ("bind" in step) {
      for (const [symbol, buffer] of step.bind) {
        buffers.push(buffer);
        dims.push(symbol);
      }
    } else if ("host" in step) buffers.push(...step.args, ...step.outs);
    else if ("if" in step) {
      buffers.push(step.if);
      checkSteps(step.then, program, symbols, `${place}: then`);
      checkSteps(step.else, program, symbols, `${place}: else`);
    } else if ("loop" in step) {
      const { loop } = step;
      buffers.push(loop.trip, loop.condition, loop.iteration, loop.next, ...(loop.carried ?? []).flat());
      for (const [from, to] of [...(loop.gather ?? []), ...(loop.scatter ?? [])]) buffers.push(from, to);
      for (const symbol of [loop.symbol, loop.count]) if (symbol) dims.push(symbol);
      checkSteps(loop.body, program, symbols, `${place}: ${kind}`);
    } else step satisfies never;
    for (const buffer of buffers) if (buffer !== null && buffer !== undefined) checkBuffer(buffer, program, place);
    for (const dim of dims) checkDim(dim, symbols, `model.json: ${place}`);
  });
}
