// JPEG 2000 (ITU-T T.800): boxes, the markers of a codestream, and pixels. Tiles and their packets are read in
// jpeg2000_tiles.js, code-blocks in jpeg2000_blocks.js; jpeg2000_wavelets.js joins the sub-bands. Not read: palettes,
// CMYK, regions of interest (RGN), and packet headers away from their packets (PPM, PPT).

const JPEG2000_MOST_SAMPLES = 2 ** 27;

const jpeg2000Error = (what) => new RangeError(`JPEG 2000: ${what}`);

/** Big-endian numbers, one after another. */
class Jpeg2000Fields {
  constructor(bytes, at = 0) {
    Object.assign(this, { bytes, at });
  }

  get left() {
    return this.bytes.length - this.at;
  }

  take(length) {
    if (!(length >= 0 && length <= this.left)) throw jpeg2000Error(`${length} bytes expected, ${this.left} are left`);
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  number(size) {
    return this.take(size).reduce((value, byte) => value * 256 + byte, 0);
  }
}

/** Reads a JP2 file or a bare codestream. Throws RangeError where it is damaged or of a kind that is not read. */
const readJpeg2000 = (bytes) => {
  const boxed = String.fromCharCode(...bytes.subarray(4, 8)) === "jP  ";
  if (!boxed && !(bytes[0] === 0xff && bytes[1] === 0x4f && bytes[2] === 0xff && bytes[3] === 0x51)) return null;
  const file = { stream: boxed ? null : bytes, space: 0 };
  if (boxed) readJpeg2000Boxes(bytes, file);
  if (!file.stream) throw jpeg2000Error("no codestream");
  const { size, tiles, main } = readJpeg2000Codestream(file.stream);
  const shown = size.components.slice(0, size.components.length < 3 ? 1 : 3);
  const planes = shown.map(({ width, height }) => new Int32Array(width * height));
  for (const tile of tiles.values()) decodeJpeg2000Tile(size, tile, main, planes);
  return jpeg2000Pixels(size, shown, planes, file.space);
};

/** The codestream and the enumerated colour space of a JP2 file. */
const readJpeg2000Boxes = (bytes, file) => {
  const fields = new Jpeg2000Fields(bytes);
  while (fields.left >= 8 && !file.stream) {
    const length = fields.number(4);
    const type = String.fromCharCode(...fields.take(4));
    const body = fields.take(length === 0 ? fields.left : length === 1 ? fields.number(8) - 16 : length - 8);
    if (type === "jp2h") readJpeg2000Boxes(body, file);
    else if (type === "jp2c") file.stream = body;
    else if (type === "pclr") throw jpeg2000Error("a palette is not read");
    else if (type === "colr" && body[0] === 1 && !file.space) file.space = new Jpeg2000Fields(body, 3).number(4);
  }
  if (file.space === 12) throw jpeg2000Error("CMYK is not read");
};

/** Size, tiles with the bytes of their parts, and the parameters of the main header. */
const readJpeg2000Codestream = (stream) => {
  const fields = new Jpeg2000Fields(stream, 2);
  const parameters = () => ({ common: null, coding: new Map(), quantisation: new Map(), progressions: [] });
  const main = parameters();
  const tiles = new Map();
  let size = null;
  while (fields.left >= 2) {
    const start = fields.at;
    const marker = fields.number(2);
    if (marker === 0xffd9) break;
    const body = new Jpeg2000Fields(fields.take(fields.number(2) - 2));
    if (marker === 0xff51) size = readJpeg2000Size(body);
    else if (!size) throw jpeg2000Error("the size does not come first");
    else if (marker !== 0xff90) readJpeg2000Parameters(marker, body, size, main);
    else {
      const index = body.number(2);
      const end = body.number(4);
      if (index >= size.tilesAcross * size.tilesDown) throw jpeg2000Error(`there is no tile ${index}`);
      const tile = tiles.get(index) ?? { index, parameters: parameters(), parts: [] };
      tiles.set(index, tile);
      for (let next = fields.number(2); next !== 0xff93; next = fields.number(2)) {
        const segment = new Jpeg2000Fields(fields.take(fields.number(2) - 2));
        readJpeg2000Parameters(next, segment, size, tile.parameters);
      }
      tile.parts.push(fields.take(end ? start + end - fields.at : fields.left));
    }
  }
  if (!size || tiles.size !== size.tilesAcross * size.tilesDown) throw jpeg2000Error("tiles are missing");
  return { size, tiles, main };
};

const readJpeg2000Size = (fields) => {
  fields.take(2);
  const [x1, y1, x0, y0, tileWidth, tileHeight, tileX, tileY] = Array.from({ length: 8 }, () => fields.number(4));
  const [width, height] = [x1 - x0, y1 - y0];
  if (!(width > 0 && height > 0 && tileX <= x0 && tileY <= y0 && tileX + tileWidth > x0 && tileY + tileHeight > y0)) {
    throw jpeg2000Error("sizes of the image and its tiles contradict each other");
  }
  const count = fields.number(2);
  if (!count || width * height * count > JPEG2000_MOST_SAMPLES) {
    throw jpeg2000Error(`${width} x ${height} x ${count} samples, 1 to ${JPEG2000_MOST_SAMPLES} are read`);
  }
  const components = Array.from({ length: count }, () => {
    const kind = fields.number(1);
    const [across, down] = [fields.number(1), fields.number(1)];
    const depth = (kind & 0x7f) + 1;
    if (depth > 16) throw jpeg2000Error(`${depth} bits per sample, up to 16 are read`);
    if (!across || !down) throw jpeg2000Error("a component has no size");
    const box = shrunk({ x0, y0, x1, y1 }, across, down);
    return { ...box, across, down, depth, signed: kind > 0x7f, width: box.x1 - box.x0, height: box.y1 - box.y0 };
  });
  const tilesAcross = Math.ceil((x1 - tileX) / tileWidth);
  const tilesDown = Math.ceil((y1 - tileY) / tileHeight);
  return { x0, y0, x1, y1, width, height, components, tileX, tileY, tileWidth, tileHeight, tilesAcross, tilesDown };
};

/** Keeps what a marker segment says, under the number of its component or -1 for all. */
const readJpeg2000Parameters = (marker, fields, size, parameters) => {
  const wide = size.components.length > 256 ? 2 : 1;
  if (marker === 0xff52) {
    const custom = fields.number(1) & 1;
    const common = { order: fields.number(1), layers: fields.number(2), transform: fields.number(1) };
    if (common.order > 4 || !common.layers || common.transform > 1) throw jpeg2000Error("an unknown coding style");
    parameters.common = common;
    parameters.coding.set(-1, readJpeg2000Coding(fields, custom));
  } else if (marker === 0xff53) {
    const component = fields.number(wide);
    parameters.coding.set(component, readJpeg2000Coding(fields, fields.number(1) & 1));
  } else if (marker === 0xff5c) parameters.quantisation.set(-1, readJpeg2000Quantisation(fields));
  else if (marker === 0xff5d) {
    const component = fields.number(wide);
    parameters.quantisation.set(component, readJpeg2000Quantisation(fields));
  } else if (marker === 0xff5f) {
    while (fields.left) {
      const [firstResolution, firstComponent] = [fields.number(1), fields.number(wide)];
      const [layers, resolutions, components] = [fields.number(2), fields.number(1), fields.number(wide)];
      const order = fields.number(1);
      if (order > 4) throw jpeg2000Error("an unknown progression order");
      const last = components || size.components.length;
      parameters.progressions.push({ firstResolution, firstComponent, layers, resolutions, components: last, order });
    }
  } else if (marker === 0xff5e) throw jpeg2000Error("a region of interest is not read");
  else if (marker === 0xff60 || marker === 0xff61)
    throw jpeg2000Error("packet headers away from their packets are not read");
  else if (marker < 0xff00) throw jpeg2000Error("a marker is missing");
};

const readJpeg2000Coding = (fields, custom) => {
  const levels = fields.number(1);
  const [blockX, blockY] = [fields.number(1) + 2, fields.number(1) + 2];
  const [style, wavelet] = [fields.number(1), fields.number(1)];
  if (levels > 32 || blockX > 10 || blockY > 10 || blockX + blockY > 12 || style > 63 || wavelet > 1) {
    throw jpeg2000Error("an unknown coding style");
  }
  const precincts = Array.from({ length: levels + 1 }, (_, level) => {
    const exponents = custom ? fields.number(1) : 0xff;
    const [x, y] = [exponents & 15, exponents >> 4];
    if (level && !(x && y)) throw jpeg2000Error("a precinct has no size");
    return { x, y };
  });
  return { levels, blockX, blockY, style, reversible: wavelet === 1, precincts };
};

const readJpeg2000Quantisation = (fields) => {
  const first = fields.number(1);
  const kind = first & 31;
  if (kind > 2) throw jpeg2000Error("an unknown quantisation");
  const steps = [];
  while (fields.left) {
    const step = kind ? fields.number(2) : fields.number(1) << 8;
    steps.push({ exponent: step >> 11, mantissa: step & 0x7ff });
  }
  return { guard: first >> 5, derived: kind === 1, steps };
};

/** Samples to 8 bits per channel; smaller components are repeated. A single channel of more bits is clipped. */
const jpeg2000Pixels = (size, shown, planes, space) => {
  const { width, height } = size;
  const rgb = new Uint8ClampedArray(width * height * 3);
  const single = size.components.length === 1;
  shown.forEach((component, channel) => {
    const { across, down, depth, signed } = component;
    const offset = signed ? 2 ** (depth - 1) : 0;
    const factor = 2 ** ((single && depth > 8 ? 16 : 8) - depth);
    for (let y = 0; y < height; y++) {
      const row = Math.max(0, Math.floor((size.y0 + y) / down) - component.y0) * component.width;
      for (let x = 0; x < width; x++) {
        const column = Math.max(0, Math.floor((size.x0 + x) / across) - component.x0);
        rgb[3 * (y * width + x) + channel] = Math.floor((planes[channel][row + column] + offset) * factor + 0.5);
      }
    }
  });
  for (let at = 0; at < rgb.length; at += 3) {
    if (shown.length === 1) rgb.fill(rgb[at], at + 1, at + 3);
    else if (space === 18) {
      const [luma, blue, red] = [rgb[at], rgb[at + 1] - 128, rgb[at + 2] - 128];
      rgb[at] = luma + 1.402 * red;
      rgb[at + 1] = luma - 0.344136 * blue - 0.714136 * red;
      rgb[at + 2] = luma + 1.772 * blue;
    }
  }
  return { width, height, rgb: new Uint8Array(rgb.buffer) };
};
