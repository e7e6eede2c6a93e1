// The worker file. It becomes what its first message says: one thread of a wasm kernel, or the home of a whole model.

import { nodeModule } from "./files.ts";
import type * as Runtime from "./index.ts";
import type { Model, ModelFacts } from "./model.ts";
import { help, setScratch, type HelperStart } from "./wasm-threads.ts";
import type { Reply, Request } from "./worker-client.ts";

type Port = {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  on(event: "message", listener: (data: unknown) => void): void;
  close(): void;
};

const node = nodeModule("node:worker_threads") as { parentPort: Port | null } | undefined;
const port = node?.parentPort ?? undefined;

function post(message: unknown, transfer: Transferable[] = []): void {
  if (port) port.postMessage(message, transfer);
  else (globalThis as unknown as Port).postMessage(message, transfer);
}

async function startHelper({ module, memory, kernels, scratch, index }: HelperStart): Promise<void> {
  let functions: ((...args: number[]) => void)[];
  try {
    const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
    setScratch(exports, scratch.address + index * scratch.bytes);
    functions = kernels.map((name) => exports[name] as (...args: number[]) => void);
  } catch (error) {
    post({ error: String(error) });
    return;
  }
  post({ ready: true });
  help(memory, functions);
}

/** The sibling file; a variable, because it exists only once it is built. */
const RUNTIME = "./webdnn.js" as string;

let model: Promise<Model> | undefined;
const aborts = new Map<number, AbortController>();

/** The typed arrays' memory in a result, so that it moves instead of being copied. */
function transferables(value: unknown, found: Transferable[] = []): Transferable[] {
  if (ArrayBuffer.isView(value)) {
    if (value.buffer instanceof ArrayBuffer && !found.includes(value.buffer)) found.push(value.buffer);
  } else if (typeof value === "object" && value !== null)
    for (const part of value instanceof Map ? value.values() : Object.values(value)) transferables(part, found);
  return found;
}

async function serve(request: Request): Promise<unknown> {
  switch (request.role) {
    case "model": {
      // A sibling file rather than a part of this one: helpers never need it.
      const { load } = (await import(RUNTIME)) as typeof Runtime;
      const onProgress: NonNullable<Runtime.LoadOptions["onProgress"]> = (progress) => {
        post({ progress } satisfies Reply);
      };
      model = load(request.url, { ...request.options, onProgress });
      const { name, backend, fallbacks, notes, threads, adapter, inputs, outputs, placement } = await model;
      return { name, backend, fallbacks, notes, threads, adapter, inputs, outputs, placement } satisfies ModelFacts;
    }
    case "run": {
      const abort = new AbortController();
      aborts.set(request.id, abort);
      try {
        return await (
          await model
        )?.run(request.inputs, { signal: abort.signal, ...(request.outputs && { outputs: request.outputs }) });
      } finally {
        aborts.delete(request.id);
      }
    }
    case "profile":
      return (await model)?.profile(request.inputs);
    case "abort":
      aborts.get(request.id)?.abort();
      return undefined;
    case "dispose":
      return (await model)?.dispose();
    default:
      return request satisfies never;
  }
}

function receive(data: unknown): void {
  const message = data as HelperStart | Request;
  if (message.role === "helper") {
    void startHelper(message);
    return;
  }
  serve(message).then(
    (result) => {
      if (message.role !== "abort") post({ id: message.id, result } satisfies Reply, transferables(result));
    },
    (error: unknown) => {
      const { name, message: text } = error instanceof Error ? error : new Error(String(error));
      post({ id: message.id, error: { name, message: text } } satisfies Reply);
    },
  );
}

if (port) port.on("message", receive);
else
  addEventListener("message", (event) => {
    receive(event.data);
  });
