// The public names of the package.

export {
  BackendError,
  DeviceLostError,
  InputError,
  IntegrityError,
  ModelError,
  OutOfMemoryError,
  ShapeError,
  WebDNNError,
} from "./errors.ts";
export type { Dim } from "./dims.ts";
export type { KernelTime } from "./backend.ts";
export type { Progress } from "./files.ts";
export { load, type LoadOptions } from "./load.ts";
export type { BackendName, Port, ValueType } from "./manifest.ts";
export type { Fallback, Inputs, Model, Outputs, OutputTarget, Placement, RunOptions } from "./model.ts";
export type { ObservationPoint, Observer } from "./executor.ts";
export {
  fromFloat16,
  toFloat16,
  type ArrayOf,
  type DType,
  type GPUTensor,
  type InputTensor,
  type InputValue,
  type OutputTensor,
  type Tensor,
  type TypedArray,
  type Value,
} from "./tensors.ts";
export { loadInWorker } from "./worker-client.ts";
