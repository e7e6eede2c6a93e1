// A model that lives in a worker: the same interface, every call a message. worker.ts is the other side.

import type { KernelTime } from "./backend.ts";
import { BackendError, InputError, WebDNNError, reviveError } from "./errors.ts";
import type { Progress } from "./files.ts";
import { documentBase, workerUrl, type LoadOptions } from "./load.ts";
import type { BackendName, Port } from "./manifest.ts";
import type { Fallback, Inputs, Model, ModelFacts, Outputs, Placement, RunOptions } from "./model.ts";
import { Staging } from "./staging.ts";
import { startWorker, type AnyWorker } from "./wasm-threads.ts";

/** Load options that survive a message. */
export type PlainOptions = Pick<LoadOptions, "backend" | "cache" | "threads" | "reuse" | "powerPreference"> & {
  readonly weightDirectory?: string;
  readonly workerUrl: string;
};

export type Request =
  | { readonly role: "model"; readonly id: number; readonly url: string; readonly options: PlainOptions }
  | { readonly role: "run"; readonly id: number; readonly inputs: Inputs; readonly outputs: RunOptions["outputs"] }
  | { readonly role: "abort"; readonly id: number }
  | { readonly role: "profile"; readonly id: number; readonly inputs: Inputs }
  | { readonly role: "dispose"; readonly id: number };

export type Reply =
  | { readonly progress: Progress }
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: { readonly name: string; readonly message: string } };

type Pending = { readonly resolve: (result: unknown) => void; readonly reject: (reason: Error) => void };
type Ask = Request extends infer R ? (R extends Request ? Omit<R, "id"> : never) : never;

class Channel {
  private readonly worker: AnyWorker;
  private readonly pending = new Map<number, Pending>();
  private next = 0;

  constructor(url: URL, onProgress: LoadOptions["onProgress"]) {
    this.worker = startWorker(url);
    this.worker.listen(
      (data) => {
        const reply = data as Reply;
        if ("progress" in reply) {
          onProgress?.(reply.progress);
          return;
        }
        const waiting = this.take(reply.id);
        if ("error" in reply) waiting?.reject(reviveError(reply.error.name, reply.error.message));
        else waiting?.resolve(reply.result);
      },
      (reason) => {
        this.close(new BackendError(`worker: ${reason}`));
      },
    );
  }

  /** Sends a request. An abort rejects at once, whatever the worker is busy with. */
  ask<T>(request: Ask, signal?: AbortSignal): Promise<T> {
    const id = this.next++;
    return new Promise<T>((resolve, reject) => {
      signal?.throwIfAborted();
      const abort = (): void => {
        this.take(id);
        this.worker.postMessage({ role: "abort", id } satisfies Request);
        reject(signal?.reason as Error);
      };
      signal?.addEventListener("abort", abort, { once: true });
      const settled = (): void => signal?.removeEventListener("abort", abort);
      this.pending.set(id, {
        resolve: (result) => {
          settled();
          resolve(result as T);
        },
        reject: (reason) => {
          settled();
          reject(reason);
        },
      });
      this.worker.hold(true);
      this.worker.postMessage({ ...request, id });
    });
  }

  /** The request that a reply is for. In Node, a worker that nobody waits for does not keep the process alive. */
  private take(id: number): Pending | undefined {
    const waiting = this.pending.get(id);
    this.pending.delete(id);
    if (this.pending.size === 0) this.worker.hold(false);
    return waiting;
  }

  close(reason: Error): void {
    for (const { reject } of this.pending.values()) reject(reason);
    this.pending.clear();
    void this.worker.terminate();
  }
}

class RemoteModel implements Model {
  readonly name: string;
  readonly backend: BackendName;
  readonly fallbacks: readonly Fallback[];
  readonly notes: readonly string[];
  readonly threads: number;
  readonly adapter: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly placement: readonly Placement[];
  private readonly staging = new Staging();
  private disposed = false;

  constructor(
    facts: ModelFacts,
    earlier: readonly Fallback[],
    private readonly channel: Channel,
  ) {
    this.name = facts.name;
    this.backend = facts.backend;
    this.fallbacks = [...earlier, ...facts.fallbacks];
    this.notes = ["runs in a worker", ...facts.notes];
    this.threads = facts.threads;
    this.adapter = facts.adapter;
    this.inputs = facts.inputs;
    this.outputs = facts.outputs;
    this.placement = facts.placement;
  }

  async run(inputs: Inputs, options: RunOptions = {}): Promise<Outputs> {
    this.checkAlive();
    if (options.observe) throw new InputError("observe cannot reach into a worker: load the model with threads: 1");
    const staged = this.staging.put(inputs);
    try {
      const request = { role: "run", inputs: staged.inputs, outputs: options.outputs } as const;
      return await this.channel.ask<Outputs>(request, options.signal);
    } finally {
      // After an abort the worker may still read what the next run writes: nobody sees what it makes of it.
      staged.release();
    }
  }

  async profile(inputs: Inputs): Promise<readonly KernelTime[] | null> {
    this.checkAlive();
    return this.channel.ask({ role: "profile", inputs });
  }

  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    await this.channel.ask({ role: "dispose" });
    this.channel.close(new WebDNNError(`model '${this.name}' has been disposed`));
  }

  private checkAlive(): void {
    if (this.disposed) throw new WebDNNError(`model '${this.name}' has been disposed`);
  }
}

/**
 * Loads a bundle in a worker of its own, so that the page stays responsive while it runs. GPU buffers and observers
 * stay outside.
 */
export async function loadInWorker<I = Inputs, O = Outputs>(
  url: string | URL,
  options: LoadOptions = {},
  earlier: readonly Fallback[] = [],
): Promise<Model<I, O>> {
  if (options.transformUrl ?? options.device ?? options.gpu)
    throw new BackendError("transformUrl, device and gpu cannot be handed to a worker");
  const { backend, cache, threads, reuse, powerPreference, signal } = options;
  const file = workerUrl(options);
  const plain: PlainOptions = {
    ...(backend !== undefined && { backend }),
    ...(cache !== undefined && { cache }),
    ...(threads !== undefined && { threads }),
    ...(reuse !== undefined && { reuse }),
    ...(powerPreference !== undefined && { powerPreference }),
    ...(options.weightDirectory !== undefined && {
      weightDirectory: new URL(options.weightDirectory, documentBase()).href,
    }),
    workerUrl: file.href,
  };
  const channel = new Channel(file, options.onProgress);
  try {
    const facts = await channel.ask<ModelFacts>(
      { role: "model", url: new URL(url, documentBase()).href, options: plain },
      signal,
    );
    return new RemoteModel(facts, earlier, channel) as Model<unknown, unknown> as Model<I, O>;
  } catch (error) {
    channel.close(error as Error);
    throw error;
  }
}
