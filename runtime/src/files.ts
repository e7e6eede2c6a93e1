// The files of a bundle: fetched over http or read in Node, counted, checked by length and hash, cached by content.

import { IntegrityError, ModelError, reasonOf } from "./errors.ts";
import type { FileFacts } from "./manifest.ts";
import { sha256 } from "./sha256.ts";

export type FileOptions = {
  readonly signal?: AbortSignal | undefined;
  /** Keep verified files in the Cache API under their hash. */
  readonly cache: boolean;
  /** Last word on every URL. */
  readonly transformUrl?: ((url: string) => string) | undefined;
  /** Where the weight shards are, when not beside model.json. */
  readonly weightDirectory?: URL | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
};

export type Progress = {
  /** Bytes of the files that this backend needs: so many of so many. */
  readonly loaded: number;
  readonly total: number;
  /** GPU kernels that are compiled, of how many; 0 of 0 on the other backends. */
  readonly compiled: number;
  readonly kernels: number;
};

const ATTEMPTS = 3;
const CACHE = "webdnn-onnx";

type NodeProcess = { getBuiltinModule?: (name: string) => unknown };
type NodeFiles = { readFile(url: URL, options: { signal?: AbortSignal }): Promise<Uint8Array<ArrayBuffer>> };

/** A module of Node, or undefined elsewhere. No `import`, so that bundlers for the web see nothing to resolve. */
export function nodeModule(name: "node:fs/promises" | "node:worker_threads" | "node:os"): unknown {
  return (globalThis as { process?: NodeProcess }).process?.getBuiltinModule?.(name);
}

/** A response that another attempt may turn out differently. */
class Transient extends Error {}

export class Files {
  private readonly received = new Map<string, number>();
  private expected = new Map<string, number>();
  private kernels = { compiled: 0, kernels: 0 };

  constructor(
    readonly base: URL,
    private readonly options: FileOptions,
  ) {}

  url(name: string): URL {
    const base = name.endsWith(".bin") ? (this.options.weightDirectory ?? this.base) : this.base;
    const url = new URL(name, base);
    return this.options.transformUrl ? new URL(this.options.transformUrl(url.href), this.base) : url;
  }

  /** Says which files will be read, so that progress knows its total from the start. */
  expect(sizes: ReadonlyMap<string, number>): void {
    this.expected = new Map(sizes);
    this.kernels = { compiled: 0, kernels: 0 };
  }

  /** A file whose length and hash are not known beforehand: the manifest itself. */
  async text(name: string): Promise<string> {
    return new TextDecoder().decode(
      await this.attempt(name, () => this.download(this.url(name), name, undefined, "no-cache")),
    );
  }

  /** A file with known length and hash. Throws IntegrityError if what arrives is something else. */
  async verified(name: string, facts: FileFacts): Promise<Uint8Array<ArrayBuffer>> {
    const key = `https://webdnn-onnx.invalid/sha256/${facts.sha256}`;
    const cache =
      this.options.cache && typeof caches !== "undefined" ? await caches.open(CACHE).catch(() => undefined) : undefined;
    const kept = await cache?.match(key);
    if (kept) {
      const bytes = new Uint8Array(await kept.arrayBuffer());
      if (bytes.length === facts.bytes && (await sha256(bytes)) === facts.sha256) {
        this.count(name, bytes.length);
        return bytes;
      }
      await cache?.delete(key);
    }
    const url = this.url(name);
    let bytes = await this.attempt(name, () => this.download(url, name, facts.bytes, "default"));
    let actual = await sha256(bytes);
    if (actual !== facts.sha256 && url.protocol !== "file:") {
      // A stale copy in the browser's own cache looks exactly like this.
      bytes = await this.attempt(name, () => this.download(url, name, facts.bytes, "reload"));
      actual = await sha256(bytes);
    }
    if (actual !== facts.sha256) {
      throw new IntegrityError(
        `${name}: expected SHA-256 ${facts.sha256.slice(0, 12)}…, got ${actual.slice(0, 12)}…: the file is damaged or belongs to another conversion; upload the whole folder again`,
      );
    }
    // Neither waited for nor missed: a full disk must not keep the model from running.
    cache?.put(key, new Response(bytes)).catch(() => undefined);
    return bytes;
  }

  private count(name: string, bytes: number): void {
    this.received.set(name, bytes);
    if (this.expected.has(name)) this.report();
  }

  /** Says how many kernels are ready. */
  compiled(compiled: number, kernels: number): void {
    this.kernels = { compiled, kernels };
    this.report();
  }

  private report(): void {
    let [loaded, total] = [0, 0];
    for (const [file, size] of this.expected) {
      loaded += Math.min(this.received.get(file) ?? 0, size);
      total += size;
    }
    this.options.onProgress?.({ loaded, total, ...this.kernels });
  }

  private async attempt<T>(name: string, download: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await download();
      } catch (error) {
        this.options.signal?.throwIfAborted();
        if (!(error instanceof Transient)) throw error;
        if (attempt === ATTEMPTS)
          throw error.cause instanceof IntegrityError
            ? error.cause
            : new ModelError(`${name}: ${error.message} (${ATTEMPTS} attempts)`, { cause: error.cause });
        await new Promise((resolve) => setTimeout(resolve, 100 * 4 ** attempt));
        this.options.signal?.throwIfAborted();
      }
    }
  }

  private async download(
    url: URL,
    name: string,
    expected: number | undefined,
    cache: RequestCache,
  ): Promise<Uint8Array<ArrayBuffer>> {
    this.options.signal?.throwIfAborted();
    if (url.protocol === "file:") return this.readLocal(url, name, expected);
    let response: Response;
    try {
      response = await fetch(url, { cache, ...(this.options.signal && { signal: this.options.signal }) });
    } catch (error) {
      throw new Transient(`cannot be fetched from ${url.href}: ${reasonOf(error)}`, { cause: error });
    }
    if (!response.ok) {
      const message = `${url.href} answered ${response.status}`;
      if (response.status >= 500 || response.status === 408 || response.status === 429) throw new Transient(message);
      throw new ModelError(`${name}: ${message}`);
    }
    const chunks: Uint8Array[] = [];
    let length = 0;
    let whole = expected === undefined ? undefined : new Uint8Array(expected);
    const reader = response.body?.getReader();
    try {
      for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
        if (whole && length + part.value.length <= whole.length) whole.set(part.value, length);
        else if (!whole) chunks.push(part.value);
        length += part.value.length;
        this.count(name, length);
      }
    } catch (error) {
      throw new Transient(`broke off after ${length} bytes: ${reasonOf(error)}`, { cause: error });
    }
    if (expected !== undefined && length !== expected)
      throw new Transient("wrong length", { cause: wrongLength(name, expected, length) });
    if (whole) return whole;
    whole = new Uint8Array(length);
    let offset = 0;
    for (const chunk of chunks) {
      whole.set(chunk, offset);
      offset += chunk.length;
    }
    return whole;
  }

  private async readLocal(url: URL, name: string, expected: number | undefined): Promise<Uint8Array<ArrayBuffer>> {
    const files = nodeModule("node:fs/promises") as NodeFiles | undefined;
    if (!files)
      throw new ModelError(`${name}: pages cannot read ${url.href}: serve the folder over http (webdnn serve)`);
    let bytes: Uint8Array<ArrayBuffer>;
    try {
      bytes = await files.readFile(url, this.options.signal ? { signal: this.options.signal } : {});
    } catch (error) {
      throw new ModelError(`${name}: ${reasonOf(error)}`, { cause: error });
    }
    if (expected !== undefined && bytes.length !== expected) throw wrongLength(name, expected, bytes.length);
    this.count(name, bytes.length);
    return bytes;
  }
}

function wrongLength(name: string, expected: number, got: number): IntegrityError {
  return new IntegrityError(
    `${name}: expected ${expected} bytes, got ${got}: the file is truncated or belongs to another conversion; upload the whole folder again`,
  );
}
