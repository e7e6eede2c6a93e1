// The interface of the first WebDNN over this runtime, so that programs written for it run unchanged on a converted
// folder.

import { ClassicArray, decodeValues, encodeValues } from "./classic-array.ts";
import { evaluate, product, type Symbols } from "./dims.ts";
import { BackendError, InputError } from "./errors.ts";
import { load as loadModel, type LoadOptions } from "./load.ts";
import { tensorType, type BackendName, type Port } from "./manifest.ts";
import type { Model, Outputs } from "./model.ts";
import type { Tensor, TypedArray } from "./tensors.ts";

export * as Image from "./classic-image.ts";
export * as Math from "./classic-math.ts";

export type ClassicBackend = "webgpu" | "webgl" | "webassembly" | "fallback";

const NAMES: Record<ClassicBackend, BackendName | undefined> = {
  webgpu: "webgpu",
  webgl: undefined,
  webassembly: "wasm",
  fallback: "js",
};

export type InitOption = {
  backendOrder?: ClassicBackend | readonly ClassicBackend[] | null;
  /** Has no effect, as in the first WebDNN. */
  backendOptions?: unknown;
  progressCallback?: (loaded: number, total: number) => unknown;
  weightDirectory?: string;
  transformUrlDelegate?: (url: string) => string;
  /**
   * Files are kept by the hash of their content, so the newest are always used and nothing is fetched twice;
   * "networkOnly" turns that off.
   */
  cacheStrategy?: "latest" | "networkFirst" | "cacheFirst" | "networkOnly" | "cacheOnly";
  saveCache?: boolean;
};

const configuration = new Map<string, unknown>();

export function getConfiguration<T>(key: string, defaultValue?: T): T | undefined {
  return configuration.has(key) ? (configuration.get(key) as T) : defaultValue;
}

export function setConfiguration(key: string, value: unknown): void {
  configuration.set(key, value);
}

/** What this browser could run; the reason why it does not, in a given case, is what `load` reports. */
export function getBackendAvailability(): { status: Record<ClassicBackend, boolean>; defaultOrder: ClassicBackend[] } {
  const status = {
    webgpu: (globalThis.navigator as Navigator | undefined)?.gpu !== undefined,
    webgl: false,
    webassembly: typeof WebAssembly === "object",
    fallback: true,
  };
  const order: ClassicBackend[] = ["webgpu", "webgl", "webassembly", "fallback"];
  return { status, defaultOrder: order.filter((name) => status[name]) };
}

/** Number of elements of a port, or undefined while a placeholder in its shape has no value. */
function sizeOf(port: Port, placeholders: Symbols): number | undefined {
  const { shape } = tensorType(port) ?? { shape: [] };
  try {
    return product(shape.map((dim) => evaluate(dim, placeholders)));
  } catch {
    return undefined;
  }
}

export class DescriptorRunner {
  readonly inputs: readonly ClassicArray[];
  readonly outputs: readonly ClassicArray[];
  readonly backendName: ClassicBackend;
  private readonly placeholders: Symbols = new Map();
  /** Sizes that only the last run knows. */
  private readonly actualSizes = new Map<string, number>();

  constructor(
    /** The model behind it, for what this interface has no word for. */
    readonly model: Model,
  ) {
    const names = Object.keys(NAMES) as ClassicBackend[];
    this.backendName = names.find((name) => NAMES[name] === model.backend) ?? "fallback";
    const arrayOf = (port: Port): ClassicArray => {
      const type = tensorType(port);
      if (!type || type.dtype === "string")
        throw new InputError(
          `'${port.name}' is no tensor of numbers: use the model's own load() instead of WebDNN.load()`,
        );
      const isDynamic = type.shape.some((dim) => typeof dim !== "number");
      return new ClassicArray(
        port.name,
        () => sizeOf(port, this.placeholders) ?? this.actualSizes.get(port.name),
        isDynamic,
      );
    };
    this.inputs = model.inputs.map(arrayOf);
    this.outputs = model.outputs.map(arrayOf);
  }

  getInputViews(): readonly ClassicArray[] {
    return this.inputs;
  }

  getOutputViews(): readonly ClassicArray[] {
    return this.outputs;
  }

  /** Gives symbolic dimensions their values; input arrays get their size from them. */
  setPlaceholderValue(values: Readonly<Record<string, number>>): Promise<void> {
    for (const [name, value] of Object.entries(values)) this.placeholders.set(name, value);
    return Promise.resolve();
  }

  async run(): Promise<void> {
    const inputs = this.model.inputs.map((port, index) => {
      const { dtype, shape } = tensorType(port) ?? { dtype: "float32", shape: [] };
      const values = this.inputs[index].toActual();
      return [
        port.name,
        { data: encodeValues(dtype, values), dims: shape.map((dim) => evaluate(dim, this.placeholders)) },
      ] as const;
    });
    const results: Outputs = await this.model.run(Object.fromEntries(inputs));
    this.outputs.forEach((array) => {
      const { dtype, data, dims } = results[array.name] as Tensor;
      this.actualSizes.set(array.name, product(dims));
      array.set(decodeValues(dtype, data as TypedArray));
    });
  }
}

/** Loads a converted folder on the first backend of the order that works here. */
export async function load(directory: string, initOption: InitOption = {}): Promise<DescriptorRunner> {
  const {
    backendOrder,
    progressCallback,
    weightDirectory,
    transformUrlDelegate,
    cacheStrategy = "latest",
    saveCache = true,
  } = initOption;
  const order = backendOrder
    ? typeof backendOrder === "string"
      ? [backendOrder]
      : [...backendOrder]
    : getBackendAvailability().defaultOrder;
  // The first WebDNN meant to end every order with this one.
  if (!order.includes("fallback")) order.push("fallback");
  const backends: BackendName[] = [];
  for (const name of order) {
    if (!Object.hasOwn(NAMES, name))
      throw new BackendError(`unknown backend '${name}': expected ${Object.keys(NAMES).join(", ")}`);
    const backend = NAMES[name];
    if (backend) backends.push(backend);
    else console.warn(`WebDNN: there is no ${name} backend any more, the next one of backendOrder is used`);
  }
  const options: LoadOptions = {
    backend: backends,
    cache: saveCache && cacheStrategy !== "networkOnly",
    ...(progressCallback && {
      onProgress: ({ loaded, total }) => {
        progressCallback(loaded, total);
      },
    }),
    ...(weightDirectory !== undefined && { weightDirectory }),
    ...(transformUrlDelegate && { transformUrl: transformUrlDelegate }),
  };
  const model = await loadModel(directory, options);
  for (const { backend, reason } of model.fallbacks) console.warn(`WebDNN: ${backend} is not used: ${reason}`);
  return new DescriptorRunner(model);
}
