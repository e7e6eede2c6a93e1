// WebDNN.Image: pictures to arrays and back, with the options of the first WebDNN.

export const Order = { CHW: 0, HWC: 1 } as const;
export const Color = { RGB: 0, BGR: 1, GREY: 2, RGBA: 3, BGRA: 4 } as const;

export type Order = (typeof Order)[keyof typeof Order];
export type Color = (typeof Color)[keyof typeof Color];

/**
 * One number for all channels, or 1, 3 or 4 of them: red, green, blue, alpha, whatever the color order of the array.
 */
export type PerChannel = number | readonly number[];

export type ImageArrayOptions = {
  /** Type of the array (default Float32Array). */
  type?: new (length: number) => Float32Array | Int32Array;
  /** Channels of the array (default RGB). */
  color?: Color;
  /** Whether channels come first or last (default HWC). */
  order?: Order;
  /** An array value y and a pixel value x (0 to 255) relate as y = (x - bias) / scale. */
  bias?: PerChannel;
  scale?: PerChannel;
};

export type Rectangles = {
  srcX?: number;
  srcY?: number;
  srcW?: number;
  srcH?: number;
  dstX?: number;
  dstY?: number;
  dstW?: number;
  dstH?: number;
};
export type ImageOptions = ImageArrayOptions & Rectangles;
export type Drawable = HTMLImageElement | HTMLVideoElement | HTMLCanvasElement | ImageData;
export type ImageSource = string | HTMLInputElement | Drawable;

/** Which pixel component (0 red ... 3 alpha) each channel of the array holds. Grey is made of three. */
const CHANNELS: Record<Color, readonly number[]> = {
  [Color.RGB]: [0, 1, 2],
  [Color.BGR]: [2, 1, 0],
  [Color.GREY]: [0],
  [Color.RGBA]: [0, 1, 2, 3],
  [Color.BGRA]: [2, 1, 0, 3],
};

/** Luma of Rec. ITU-R BT.709. */
const LUMA = [0.2126, 0.7152, 0.0722];

function perChannel(given: PerChannel): readonly number[] {
  const list = typeof given === "number" ? [given] : given;
  if (list.length === 1) return [list[0], list[0], list[0], list[0]];
  if (list.length === 3) return [...list, list[0]];
  if (list.length === 4) return list;
  throw new TypeError(`bias and scale: expected a number or 1, 3 or 4 of them, got ${list.length}`);
}

function channelsOf(color: Color): readonly number[] {
  const channels = CHANNELS[color] as readonly number[] | undefined;
  if (!channels) throw new TypeError(`color: expected one of ${Object.keys(Color).join(", ")}, got ${String(color)}`);
  return channels;
}

/** Where a channel starts in an array of `pixels` pixels, and how far apart its values are. */
function layout(order: Order, channel: number, count: number, pixels: number): [start: number, stride: number] {
  return order === Order.CHW ? [channel * pixels, 1] : [channel, count];
}

function context2D(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this canvas has no 2D context: it is in use for something else");
  return context;
}

/** Pixels of a picture, cropped to the source rectangle and scaled into the destination rectangle of a new canvas. */
function pixelsOf(image: CanvasImageSource, width: number, height: number, options: Rectangles): ImageData {
  const { srcX = 0, srcY = 0, srcW = width, srcH = height, dstX = 0, dstY = 0 } = options;
  const { dstW = srcW, dstH = srcH } = options;
  const canvas = document.createElement("canvas");
  canvas.width = dstX + dstW;
  canvas.height = dstY + dstH;
  const context = context2D(canvas);
  context.drawImage(image, srcX, srcY, srcW, srcH, dstX, dstY, dstW, dstH);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

export function getImageArrayFromImageData(
  imageData: Pick<ImageData, "width" | "height" | "data">,
  options: ImageArrayOptions = {},
): Float32Array | Int32Array {
  const { type: Type = Float32Array, color = Color.RGB, order = Order.HWC } = options;
  const bias = perChannel(options.bias ?? 0);
  const scale = perChannel(options.scale ?? 1);
  const { width, height, data } = imageData;
  const pixels = width * height;
  const channels = channelsOf(color);
  const array = new Type(pixels * channels.length);
  if (color === Color.GREY) {
    for (let pixel = 0; pixel < pixels; pixel++) {
      array[pixel] = LUMA.reduce(
        (sum, weight, component) => sum + (weight * (data[4 * pixel + component] - bias[component])) / scale[component],
        0,
      );
    }
    return array;
  }
  channels.forEach((component, channel) => {
    const [start, stride] = layout(order, channel, channels.length, pixels);
    for (let pixel = 0; pixel < pixels; pixel++) {
      array[start + stride * pixel] = (data[4 * pixel + component] - bias[component]) / scale[component];
    }
  });
  return array;
}

export function getImageArrayFromCanvas(
  canvas: HTMLCanvasElement,
  options: ImageOptions = {},
): Float32Array | Int32Array {
  return getImageArrayFromImageData(pixelsOf(canvas, canvas.width, canvas.height, options), options);
}

export function getImageArrayFromDrawable(drawable: Drawable, options: ImageOptions = {}): Float32Array | Int32Array {
  if (drawable instanceof HTMLCanvasElement) return getImageArrayFromCanvas(drawable, options);
  if (drawable instanceof ImageData) return getImageArrayFromImageData(drawable, options);
  if (drawable instanceof HTMLVideoElement)
    return getImageArrayFromImageData(pixelsOf(drawable, drawable.videoWidth, drawable.videoHeight, options), options);
  if (drawable instanceof HTMLImageElement)
    return getImageArrayFromImageData(
      pixelsOf(drawable, drawable.naturalWidth, drawable.naturalHeight, options),
      options,
    );
  throw new TypeError("image: expected an image, video, canvas or ImageData");
}

/** Array of a picture: a URL, a file input with a chosen file, or anything that can be drawn. */
export async function getImageArray(
  image: ImageSource,
  options: ImageOptions = {},
): Promise<Float32Array | Int32Array> {
  if (typeof image === "string") return getImageArrayFromDrawable(await loadImageByUrl(image), options);
  if (image instanceof HTMLInputElement) return getImageArrayFromDrawable(await loadImageFromFileInput(image), options);
  return getImageArrayFromDrawable(image, options);
}

function flatten(array: ArrayLike<unknown>): ArrayLike<number> {
  return Array.isArray(array) ? (array.flat(Infinity) as number[]) : (array as ArrayLike<number>);
}

/** Pixels of an array: the inverse of `getImageArrayFromImageData`. What the array has no channel for is opaque. */
export function toPixels(
  array: ArrayLike<unknown>,
  width: number,
  height: number,
  options: ImageArrayOptions = {},
): Uint8ClampedArray<ArrayBuffer> {
  const { color = Color.RGB, order = Order.HWC } = options;
  const bias = perChannel(options.bias ?? 0);
  const scale = perChannel(options.scale ?? 1);
  const values = flatten(array);
  const pixels = width * height;
  const channels = channelsOf(color);
  const data = new Uint8ClampedArray(4 * pixels).fill(255);
  channels.forEach((component, channel) => {
    const [start, stride] = layout(order, channel, channels.length, pixels);
    const targets = color === Color.GREY ? [0, 1, 2] : [component];
    for (let pixel = 0; pixel < pixels; pixel++) {
      const value = values[start + stride * pixel] * scale[component] + bias[component];
      for (const target of targets) data[4 * pixel + target] = value;
    }
  });
  return data;
}

/** Draws an array on a canvas, scaled into the destination rectangle, which is the whole canvas unless given. */
export function setImageArrayToCanvas(
  array: ArrayLike<unknown>,
  imageW: number,
  imageH: number,
  canvas: HTMLCanvasElement,
  options: ImageOptions = {},
): void {
  const {
    srcX = 0,
    srcY = 0,
    srcW = imageW - srcX,
    srcH = imageH - srcY,
    dstX = 0,
    dstY = 0,
    dstW = canvas.width,
    dstH = canvas.height,
  } = options;
  const picture = document.createElement("canvas");
  picture.width = imageW;
  picture.height = imageH;
  context2D(picture).putImageData(new ImageData(toPixels(array, imageW, imageH, options), imageW, imageH), 0, 0);
  const context = context2D(canvas);
  context.clearRect(dstX, dstY, dstW, dstH);
  context.drawImage(picture, srcX, srcY, srcW, srcH, dstX, dstY, dstW, dstH);
}

export async function loadImageByUrl(url: string): Promise<HTMLImageElement> {
  const image = document.createElement("img");
  if (new URL(url, location.href).origin !== location.origin) image.crossOrigin = "anonymous";
  await new Promise<void>((resolve, reject) => {
    image.onload = () => {
      resolve();
    };
    image.onerror = () => {
      reject(new Error(`image '${url}' cannot be loaded`));
    };
    image.src = url;
  });
  return image;
}

export async function loadImageFromFileInput(input: HTMLInputElement): Promise<HTMLImageElement> {
  const file = input.files?.[0];
  if (!file) throw new Error("no file is selected");
  const url = URL.createObjectURL(file);
  try {
    return await loadImageByUrl(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Lets the user choose a picture. Must be called from an event of theirs; rejects if they cancel. */
export function loadImageByDialog(): Promise<HTMLImageElement> {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = "image/*";
  input.hidden = true;
  // In the document, so that it is not collected while the dialog is open.
  document.body.append(input);
  return new Promise<HTMLImageElement>((resolve, reject) => {
    input.onchange = () => {
      resolve(loadImageFromFileInput(input));
    };
    input.oncancel = () => {
      reject(new Error("no file is selected"));
    };
    input.click();
  }).finally(() => {
    input.remove();
  });
}
