// The GPU device: one per page, shared by all models, with everything that the adapter offers.

import { BackendError, DeviceLostError, OutOfMemoryError, reasonOf } from "./errors.ts";
import type { Program } from "./manifest.ts";

/** Bits of GPUBufferUsage and GPUMapMode: in Node the constants are no globals. */
export const USAGE = { MAP_READ: 1, COPY_SRC: 4, COPY_DST: 8, UNIFORM: 64, STORAGE: 128, QUERY_RESOLVE: 512 } as const;
export const MAP_READ = 1;

const FEATURES = ["shader-f16", "subgroups", "timestamp-query"] as const;

const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxUniformBufferBindingSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupsPerDimension",
] as const;

export type GPUChoice = {
  /**
   * A device of the caller's, which is never destroyed here, or a function that gives one, asked again after a loss.
   */
  readonly device?: GPUDevice | (() => Promise<GPUDevice>) | undefined;
  /** The entry point where there is no `navigator.gpu`: Dawn's in Node. */
  readonly gpu?: GPU | undefined;
  readonly powerPreference?: GPUPowerPreference | undefined;
};

const shared = new Map<string, { readonly gpu: GPU; readonly device: Promise<GPUDevice> }>();

/** Names of adapters that compute on the processor: Chromium's, Mesa's and Windows' own. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|basic render|\bwarp\b/i;

/** The GPU as the browser names it. */
export function describeAdapter({ vendor, architecture, device, description }: GPUAdapterInfo): string {
  return [vendor, architecture, device, description].filter(Boolean).join(" ");
}

/** Throws BackendError if there is no GPU behind an adapter. */
function refuseSoftware(info: GPUAdapterInfo): void {
  const name = describeAdapter(info);
  if ((info as { isFallbackAdapter?: boolean }).isFallbackAdapter || SOFTWARE.test(name))
    throw new BackendError(
      `webgpu: the adapter${name && ` '${name}'`} is software, which wasm outruns; backend: "webgpu" takes it all the same`,
    );
}

/**
 * A device that is alive. `hardware` refuses one that is software, unless it is the caller's own. Throws BackendError with
 * the reason why there is none.
 */
export async function acquireDevice(choice: GPUChoice, hardware = false): Promise<GPUDevice> {
  if (typeof choice.device === "function") return choice.device();
  if (choice.device) return choice.device;
  const gpu = choice.gpu ?? (globalThis.navigator as Navigator | undefined)?.gpu;
  if (!gpu) {
    const why =
      (globalThis as { isSecureContext?: boolean }).isSecureContext === false
        ? "the page is not a secure context (https or localhost)"
        : "this browser has no navigator.gpu";
    throw new BackendError(`webgpu: ${why}`);
  }
  const preference = choice.powerPreference ?? "high-performance";
  let adapter: GPUAdapter | undefined;
  if (hardware && shared.get(preference)?.gpu !== gpu) {
    adapter = await requestAdapter(gpu, preference);
    refuseSoftware(adapter.info);
  }
  const known = shared.get(preference);
  if (known?.gpu === gpu) {
    const device = await known.device;
    if (hardware) refuseSoftware(device.adapterInfo);
    return device;
  }
  const device = requestDevice(adapter ?? requestAdapter(gpu, preference));
  const entry = { gpu, device };
  shared.set(preference, entry);
  const forget = (): void => {
    if (shared.get(preference) === entry) shared.delete(preference);
  };
  device.then((alive) => alive.lost.then(forget), forget);
  return device;
}

async function requestAdapter(gpu: GPU, powerPreference: GPUPowerPreference): Promise<GPUAdapter> {
  let adapter: GPUAdapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference });
  } catch (error) {
    throw new BackendError(`webgpu: no adapter: ${reasonOf(error)}`, { cause: error });
  }
  if (!adapter) throw new BackendError("webgpu: no adapter: the browser found no usable GPU");
  return adapter;
}

async function requestDevice(requested: GPUAdapter | Promise<GPUAdapter>): Promise<GPUDevice> {
  const adapter = await requested;
  const requiredLimits: Record<string, number> = {};
  for (const limit of LIMITS) requiredLimits[limit] = adapter.limits[limit];
  const offered = adapter.features;
  try {
    return await adapter.requestDevice({
      requiredLimits,
      requiredFeatures: FEATURES.filter((feature) => offered.has(feature)),
    });
  } catch (error) {
    throw new BackendError(`webgpu: no device: ${reasonOf(error)}`, { cause: error });
  }
}

/** Throws BackendError unless the device has what the program was compiled for. */
export function checkRequirements(device: GPUDevice, { requires }: Program): void {
  const missing = (requires?.features ?? []).filter((feature) => !device.features.has(feature));
  if (missing.length > 0)
    throw new BackendError(`webgpu: this GPU lacks ${missing.join(", ")}, which the bundle was converted for`);
  for (const [limit, needed] of Object.entries(requires?.limits ?? {})) {
    const offered = device.limits[limit as keyof GPUSupportedLimits] as number | undefined;
    if (offered !== undefined && offered < needed)
      throw new BackendError(`webgpu: ${limit}: the bundle needs ${needed}, this GPU has ${offered}`);
  }
}

/**
 * Runs `work` inside of error scopes. The promise resolves to the error that the device found in it, if any; it never
 * rejects,
 * and may be awaited later. `work` itself may throw.
 */
export function scoped(
  device: GPUDevice,
  where: string,
  work: () => void,
  kernel?: string,
): Promise<BackendError | undefined> {
  device.pushErrorScope("out-of-memory");
  device.pushErrorScope("validation");
  let popped: Promise<(GPUError | null)[]>;
  try {
    work();
  } finally {
    // Whatever happens: scopes are a stack.
    popped = Promise.all([device.popErrorScope(), device.popErrorScope()]);
  }
  return popped.then(
    ([invalid, exhausted]) => {
      const error = exhausted ?? invalid;
      if (!error) return undefined;
      const message = `${where}: ${error.message.split("\n").find(Boolean) ?? "unknown error"}`;
      const options = { cause: error, ...(kernel !== undefined && { kernel }) };
      return exhausted ? new OutOfMemoryError(message, options) : new BackendError(message, options);
    },
    (reason: unknown) => new DeviceLostError(`${where}: ${reasonOf(reason)}`),
  );
}
