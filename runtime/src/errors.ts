// Every error that the runtime throws. One line each: where, what, expected, got, what to do. Catch by type, never by
// text.

/**
 * Base of every error of this library. Aborting is the exception: it throws the signal's own reason, as `fetch` does.
 */
export class WebDNNError extends Error {
  override name = "WebDNNError";
}

/** The bundle is not what this runtime can read: wrong format version, a broken manifest, a missing file. */
export class ModelError extends WebDNNError {
  override name = "ModelError";
}

/** What was given to `run` does not fit: unknown name, wrong dtype, wrong length. */
export class InputError extends WebDNNError {
  override name = "InputError";
}

/** Dimensions contradict each other, or a size cannot be computed from what is known. */
export class ShapeError extends WebDNNError {
  override name = "ShapeError";
}

/** A file is shorter or longer than promised, or its hash is another one. */
export class IntegrityError extends WebDNNError {
  override name = "IntegrityError";
}

/** A backend is not available here, or refused a kernel; `kernel` names it where one is to blame. */
export class BackendError extends WebDNNError {
  override name = "BackendError";
  readonly kernel: string | undefined;

  constructor(message: string, options?: ErrorOptions & { kernel?: string }) {
    super(message, options);
    this.kernel = options?.kernel;
  }
}

/**
 * The GPU device was lost (driver reset, sleeping laptop, too long a kernel). The next run starts on a fresh device.
 */
export class DeviceLostError extends BackendError {
  override name = "DeviceLostError";
}

/** An allocation failed. */
export class OutOfMemoryError extends BackendError {
  override name = "OutOfMemoryError";
}

const byName: Record<string, (new (message: string) => WebDNNError) | undefined> = {
  WebDNNError,
  ModelError,
  InputError,
  ShapeError,
  IntegrityError,
  BackendError,
  DeviceLostError,
  OutOfMemoryError,
};

/** Rebuilds an error that crossed a worker boundary, so that `instanceof` works on the other side. */
export function reviveError(name: string, message: string): Error {
  if (name === "AbortError") return new DOMException(message, "AbortError");
  const Known = byName[name];
  if (Known) return new Known(message);
  const error = new Error(message);
  error.name = name;
  return error;
}

/** The text of anything that was thrown. */
export function reasonOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
