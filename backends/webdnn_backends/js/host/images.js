// ImageDecoder. BMP, PNG, portable and plain TIFF images are read here, in a page and in Node alike; JPEG by the
// decoder in jpeg.js and JPEG 2000 by the one in jpeg2000.js; what else the browser can decode (WebP, AVIF, ...) is left
// to it.

/** Pixels of an encoded image as uint8 [height, width, channels]; an empty one where nothing can read it. */
export async function image_decoder([stream], { format }) {
  const bytes = stream.data;
  let image = null;
  for (const reader of [readBmp, readPortable, readPng, readTiff, readJpeg, readJpeg2000, readByBrowser]) {
    try {
      image ??= await reader(bytes);
    } catch {
      // A damaged stream gives an empty image, as one of an unknown format does.
    }
  }
  const channels = format === "Grayscale" ? 1 : 3;
  if (!image) return [{ dtype: "uint8", dims: [0, 0, channels], data: new Uint8Array(0) }];
  const { width, height, rgb } = image;
  const data = new Uint8Array(width * height * channels);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const [red, green, blue] = rgb.subarray(3 * pixel, 3 * pixel + 3);
    if (format === "Grayscale") {
      // Rec. 601 luma in 16-bit fixed point.
      data[pixel] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    } else if (format === "BGR") data.set([blue, green, red], 3 * pixel);
    else data.set([red, green, blue], 3 * pixel);
  }
  return [{ dtype: "uint8", dims: [height, width, channels], data }];
}

/** Windows bitmaps without compression: 1, 4 and 8 bits with a palette, 16, 24 and 32 bits. */
const readBmp = (bytes) => {
  if (bytes[0] !== 0x42 || bytes[1] !== 0x4d) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = view.getUint32(10, true);
  const header = view.getUint32(14, true);
  const width = view.getInt32(18, true);
  const rows = view.getInt32(22, true);
  const height = Math.abs(rows);
  const bits = view.getUint16(28, true);
  const compression = view.getUint32(30, true);
  if (header < 40 || (compression !== 0 && compression !== 3)) return null;
  const pitch = Math.floor((bits * width + 31) / 32) * 4;
  const masks = [0x7c00, 0x3e0, 0x1f];
  if (compression === 3) masks.forEach((_, channel) => (masks[channel] = view.getUint32(54 + 4 * channel, true)));
  const field = (word, mask) => {
    const shift = 31 - Math.clz32(mask & -mask);
    return Math.floor((((word & mask) >>> shift) * 255) / (mask >>> shift));
  };
  const rgb = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const line = start + (rows > 0 ? height - 1 - y : y) * pitch;
    for (let x = 0; x < width; x++) {
      const at = 3 * (y * width + x);
      if (bits === 24 || (bits === 32 && compression === 0)) {
        const from = line + (x * bits) / 8;
        rgb.set([bytes[from + 2], bytes[from + 1], bytes[from]], at);
      } else if (bits === 16 || bits === 32) {
        const word = bits === 16 ? view.getUint16(line + 2 * x, true) : view.getUint32(line + 4 * x, true);
        rgb.set(
          masks.map((mask) => field(word, mask)),
          at,
        );
      } else {
        const entry = (bytes[line + ((x * bits) >> 3)] >> (8 - bits - ((x * bits) & 7))) & ((1 << bits) - 1);
        const from = 14 + header + 4 * entry;
        rgb.set([bytes[from + 2], bytes[from + 1], bytes[from]], at);
      }
    }
  }
  return { width, height, rgb };
};

/** Portable bitmaps, greymaps and pixmaps, as text or as bytes. */
const readPortable = (bytes) => {
  const kind = bytes[1] - 0x30;
  if (bytes[0] !== 0x50 || !(kind >= 1 && kind <= 6)) return null;
  let at = 2;
  const number = () => {
    for (;;) {
      while (bytes[at] <= 0x20) at++;
      if (bytes[at] !== 0x23) break;
      while (bytes[at] !== 0x0a) at++;
    }
    let value = 0;
    while (bytes[at] >= 0x30 && bytes[at] <= 0x39) value = value * 10 + bytes[at++] - 0x30;
    return value;
  };
  const width = number();
  const height = number();
  const most = kind % 3 === 1 ? 1 : number();
  const channels = kind % 3 === 0 ? 3 : 1;
  const rgb = new Uint8Array(width * height * 3);
  if (kind > 3) at++;
  const sample = (index) => {
    if (kind === 1) {
      while (bytes[at] <= 0x20) at++;
      return 1 - (bytes[at++] - 0x30);
    }
    if (kind < 4) return number();
    if (kind === 4) {
      const [y, x] = [Math.floor(index / width), index % width];
      return 1 - ((bytes[at + y * Math.ceil(width / 8) + (x >> 3)] >> (7 - (x & 7))) & 1);
    }
    return most > 255 ? bytes[at + 2 * index] * 256 + bytes[at + 2 * index + 1] : bytes[at + index];
  };
  for (let index = 0; index < width * height * channels; index++) {
    const value = Math.round((sample(index) * 255) / most);
    if (channels === 3) rgb[index] = value;
    else rgb.fill(value, 3 * index, 3 * index + 3);
  }
  return { width, height, rgb };
};

/** Bytes of a zlib stream. */
const inflate = async (bytes) => {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};

/** PNG, every colour type and depth, interlaced or not. Transparency is dropped. */
const readPng = async (bytes) => {
  if (bytes[0] !== 0x89 || bytes[1] !== 0x50) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let palette = null;
  const parts = [];
  let header = null;
  for (let at = 8; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (type === "IHDR") {
      const [depth, colour, , , interlace] = body.subarray(8);
      header = { width: view.getUint32(at + 8), height: view.getUint32(at + 12), depth, colour, interlace };
    } else if (type === "PLTE") palette = body;
    else if (type === "IDAT") parts.push(body);
    at += 12 + length;
  }
  const { width, height, depth, colour, interlace } = header;
  const data = await inflate(new Uint8Array(await new Blob(parts).arrayBuffer()));
  const channels = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }[colour];
  const rgb = new Uint8Array(width * height * 3);
  const passes = interlace
    ? [
        [0, 0, 8, 8],
        [4, 0, 8, 8],
        [0, 4, 4, 8],
        [2, 0, 4, 4],
        [0, 2, 2, 4],
        [1, 0, 2, 2],
        [0, 1, 1, 2],
      ]
    : [[0, 0, 1, 1]];
  let at = 0;
  for (const [left, top, across, down] of passes) {
    const columns = Math.ceil((width - left) / across);
    const rows = Math.ceil((height - top) / down);
    if (columns <= 0 || rows <= 0) continue;
    const pitch = Math.ceil((columns * channels * depth) / 8);
    const step = Math.max(1, (channels * depth) >> 3);
    let above = new Uint8Array(pitch);
    for (let row = 0; row < rows; row++) {
      const filter = data[at++];
      const line = data.slice(at, at + pitch);
      at += pitch;
      unfilter(filter, line, above, step);
      above = line;
      for (let column = 0; column < columns; column++) {
        const value = (channel) => {
          const index = column * channels + channel;
          if (depth === 16) return line[2 * index];
          if (depth === 8) return line[index];
          const raw = (line[(index * depth) >> 3] >> (8 - depth - ((index * depth) & 7))) & ((1 << depth) - 1);
          return colour === 3 ? raw : Math.round((raw * 255) / ((1 << depth) - 1));
        };
        const place = 3 * ((top + row * down) * width + left + column * across);
        if (colour === 3) rgb.set(palette.subarray(3 * value(0), 3 * value(0) + 3), place);
        else if (channels < 3) rgb.fill(value(0), place, place + 3);
        else rgb.set([value(0), value(1), value(2)], place);
      }
    }
  }
  return { width, height, rgb };
};

/** Undoes a PNG line filter in place. */
const unfilter = (filter, line, above, step) => {
  for (let index = 0; index < line.length; index++) {
    const left = index >= step ? line[index - step] : 0;
    const up = above[index];
    const corner = index >= step ? above[index - step] : 0;
    if (filter === 1) line[index] += left;
    else if (filter === 2) line[index] += up;
    else if (filter === 3) line[index] += (left + up) >> 1;
    else if (filter === 4) {
      const guess = left + up - corner;
      const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
      line[index] += a <= b && a <= c ? left : b <= c ? up : corner;
    }
  }
};

/** TIFF: 8-bit grey, RGB or palette strips, without compression or with deflate or PackBits. */
const readTiff = async (bytes) => {
  const little = bytes[0] === 0x49 && bytes[1] === 0x49;
  if (!little && !(bytes[0] === 0x4d && bytes[1] === 0x4d)) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const directory = view.getUint32(4, little);
  const tags = new Map();
  for (let entry = 0; entry < view.getUint16(directory, little); entry++) {
    const at = directory + 2 + 12 * entry;
    const type = view.getUint16(at + 2, little);
    const length = view.getUint32(at + 4, little);
    const size = { 1: 1, 3: 2, 4: 4 }[type];
    if (!size) continue;
    const from = length * size > 4 ? view.getUint32(at + 8, little) : at + 8;
    const read = { 1: "getUint8", 3: "getUint16", 4: "getUint32" }[type];
    tags.set(
      view.getUint16(at, little),
      Array.from({ length }, (_, index) => view[read](from + index * size, little)),
    );
  }
  const tag = (id, fallback) => tags.get(id) ?? [fallback];
  const [width] = tag(256);
  const [height] = tag(257);
  const [photometric] = tag(262, 1);
  const [samples] = tag(277, 1);
  const [compression] = tag(259, 1);
  const [predictor] = tag(317, 1);
  if (tag(258, 1).some((bits) => bits !== 8) || tag(284, 1)[0] !== 1) return null;
  const rowsPerStrip = tag(278, height)[0];
  const rgb = new Uint8Array(width * height * 3);
  const offsets = tag(273);
  for (let strip = 0; strip < offsets.length; strip++) {
    let data = bytes.subarray(offsets[strip], offsets[strip] + tag(279)[strip]);
    if (compression === 8 || compression === 32946) data = await inflate(data);
    else if (compression === 32773) data = unpackBits(data);
    else if (compression !== 1) return null;
    const rows = Math.min(rowsPerStrip, height - strip * rowsPerStrip);
    if (predictor === 2) {
      data = data.slice();
      for (let row = 0; row < rows; row++) {
        for (let index = samples; index < width * samples; index++) {
          data[row * width * samples + index] += data[row * width * samples + index - samples];
        }
      }
    }
    for (let pixel = 0; pixel < rows * width; pixel++) {
      const place = 3 * (strip * rowsPerStrip * width + pixel);
      const first = data[pixel * samples];
      if (photometric === 3) {
        const map = tag(320);
        for (let channel = 0; channel < 3; channel++) rgb[place + channel] = map[channel * 256 + first] >> 8;
      } else if (samples >= 3) rgb.set(data.subarray(pixel * samples, pixel * samples + 3), place);
      else rgb.fill(photometric === 0 ? 255 - first : first, place, place + 3);
    }
  }
  return { width, height, rgb };
};

/** Undoes PackBits: a count, then so many bytes, or one byte to repeat. */
const unpackBits = (data) => {
  const out = [];
  for (let at = 0; at < data.length; ) {
    const head = data[at++];
    if (head < 128) {
      for (let index = 0; index <= head; index++) out.push(data[at++]);
    } else if (head > 128) {
      for (let index = 0; index <= 256 - head; index++) out.push(data[at]);
      at++;
    }
  }
  return Uint8Array.from(out);
};

/** Whatever the browser decodes, without colour management or premultiplication. */
const readByBrowser = async (bytes) => {
  if (typeof createImageBitmap !== "function" || typeof OffscreenCanvas !== "function") return null;
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(new Blob([bytes]), options);
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  canvas.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = canvas.getImageData(0, 0, width, height);
  const rgb = new Uint8Array(width * height * 3);
  for (let pixel = 0; pixel < width * height; pixel++) rgb.set(data.subarray(4 * pixel, 4 * pixel + 3), 3 * pixel);
  return { width, height, rgb };
};
