// Baseline and progressive JPEG, with the integer arithmetic of the common decoders, so that pixels come out the same.

const ZIGZAG = Uint8Array.of(
  0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
  35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55,
  62, 63,
);

/** Bits of an entropy-coded segment, most significant first; stuffed zeros are skipped. */
class JpegBits {
  constructor(bytes, at) {
    Object.assign(this, { bytes, at, word: 0, count: 0 });
  }

  bit() {
    if (!this.count) {
      this.word = this.bytes[this.at] ?? 0;
      if (this.word === 0xff) {
        if (this.bytes[this.at + 1] === 0) this.at++;
        else this.at--; // a marker: zeros from here on
        this.word = this.bytes[this.at + 1] === 0 || this.bytes[this.at] === 0 ? 0xff : 0;
      }
      this.at++;
      this.count = 8;
    }
    return (this.word >> --this.count) & 1;
  }

  bits(length) {
    let value = 0;
    while (length--) value = (value << 1) | this.bit();
    return value;
  }

  /** A number whose leading bit tells its sign. */
  signed(length) {
    const value = this.bits(length);
    return length && value < 1 << (length - 1) ? value - (1 << length) + 1 : value;
  }

  symbol({ lengths, symbols }) {
    let code = 0;
    let first = 0;
    let index = 0;
    for (let length = 0; length < 16; length++) {
      code |= this.bit();
      const found = lengths[length];
      if (code - first < found) return symbols[index + code - first];
      index += found;
      first = (first + found) << 1;
      code <<= 1;
    }
    throw new RangeError("no such code");
  }
}

/** Reads a JPEG stream. */
const readJpeg = (bytes) => {
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return null;
  const tables = { quantisation: [], dc: [], ac: [] };
  let frame = null;
  let interval = 0;
  let transform = -1;
  for (let at = 2; at < bytes.length; ) {
    if (bytes[at] !== 0xff) {
      at++;
      continue;
    }
    const marker = bytes[at + 1];
    at += 2;
    if (marker === 0xd9) break;
    if (marker === 0xff || marker === 0 || (marker >= 0xd0 && marker <= 0xd8)) {
      if (marker === 0xff) at--;
      continue;
    }
    const length = bytes[at] * 256 + bytes[at + 1];
    const body = bytes.subarray(at + 2, at + length);
    at += length;
    if (marker === 0xdb) readQuantisation(body, tables.quantisation);
    else if (marker === 0xc4) readHuffman(body, tables);
    else if (marker >= 0xc0 && marker <= 0xc2) frame = jpegFrame(body, marker === 0xc2);
    else if (marker === 0xdd) interval = body[0] * 256 + body[1];
    else if (marker === 0xee && body[0] === 0x41) transform = body[11];
    else if (marker === 0xda) at = decodeScan(bytes, at, jpegScan(body, frame, tables), frame, interval);
    else if (marker >= 0xc3 && marker <= 0xcf && marker !== 0xc8 && marker !== 0xcc) return null;
  }
  frame.components.forEach((component) => reconstruct(component, tables.quantisation[component.table]));
  return jpegPixels(frame, transform);
};

const readQuantisation = (body, tables) => {
  for (let at = 0; at < body.length; ) {
    const [wide, id] = [body[at] >> 4, body[at++] & 15];
    const table = new Uint16Array(64);
    for (let index = 0; index < 64; index++) {
      table[ZIGZAG[index]] = wide ? body[at++] * 256 + body[at++] : body[at++];
    }
    tables[id] = table;
  }
};

const readHuffman = (body, tables) => {
  for (let at = 0; at < body.length; ) {
    const kind = body[at] >> 4 ? tables.ac : tables.dc;
    const id = body[at++] & 15;
    const lengths = body.slice(at, at + 16);
    const total = lengths.reduce((sum, length) => sum + length, 0);
    kind[id] = { lengths, symbols: body.slice(at + 16, at + 16 + total) };
    at += 16 + total;
  }
};

const jpegFrame = (body, progressive) => {
  if (body[0] !== 8) throw new RangeError("not 8 bits per sample");
  const height = body[1] * 256 + body[2];
  const width = body[3] * 256 + body[4];
  const components = Array.from({ length: body[5] }, (_, index) => {
    const [id, factors, table] = body.subarray(6 + 3 * index);
    return { id, across: factors >> 4, down: factors & 15, table, previous: 0 };
  });
  const across = Math.max(...components.map((component) => component.across));
  const down = Math.max(...components.map((component) => component.down));
  const columns = Math.ceil(width / (8 * across));
  const rows = Math.ceil(height / (8 * down));
  for (const component of components) {
    component.width = Math.ceil((width * component.across) / across);
    component.height = Math.ceil((height * component.down) / down);
    component.columns = columns * component.across;
    component.rows = rows * component.down;
    component.blocks = new Int16Array(component.columns * component.rows * 64);
  }
  return { width, height, components, across, down, columns, rows, progressive };
};

const jpegScan = (body, frame, tables) => {
  const count = body[0];
  const components = Array.from({ length: count }, (_, index) => {
    const [id, choice] = body.subarray(1 + 2 * index);
    const component = frame.components.find((candidate) => candidate.id === id);
    return Object.assign(component, { dc: tables.dc[choice >> 4], ac: tables.ac[choice & 15], previous: 0 });
  });
  const [first, last, approximation] = body.subarray(1 + 2 * count);
  return { components, first, last, high: approximation >> 4, low: approximation & 15, skipped: 0 };
};

/** Decodes one scan; returns where it ends. */
const decodeScan = (bytes, at, scan, frame, interval) => {
  let bits = new JpegBits(bytes, at);
  const { components } = scan;
  const single = components.length === 1;
  const [only] = components;
  const columns = single ? Math.ceil(only.width / 8) : frame.columns;
  const rows = single ? Math.ceil(only.height / 8) : frame.rows;
  const decode = !frame.progressive
    ? decodeBaseline
    : scan.first === 0
      ? scan.high
        ? refineDc
        : decodeDc
      : scan.high
        ? refineAc
        : decodeAc;
  for (let unit = 0; unit < columns * rows; unit++) {
    if (interval && unit && unit % interval === 0) {
      let next = bits.at;
      while (!(bytes[next] === 0xff && bytes[next + 1] >= 0xd0 && bytes[next + 1] <= 0xd7)) {
        if (next >= bytes.length) return next;
        next++;
      }
      bits = new JpegBits(bytes, next + 2);
      scan.skipped = 0;
      for (const component of components) component.previous = 0;
    }
    const [row, column] = [Math.floor(unit / columns), unit % columns];
    for (const component of components) {
      const [down, across] = single ? [1, 1] : [component.down, component.across];
      for (let y = 0; y < down; y++) {
        for (let x = 0; x < across; x++) {
          const block = ((row * down + y) * component.columns + column * across + x) * 64;
          decode(bits, scan, component, component.blocks.subarray(block, block + 64));
        }
      }
    }
  }
  return bits.at;
};

const decodeBaseline = (bits, scan, component, block) => {
  component.previous += bits.signed(bits.symbol(component.dc));
  block[0] = component.previous;
  for (let index = 1; index < 64; index++) {
    const symbol = bits.symbol(component.ac);
    const [zeros, length] = [symbol >> 4, symbol & 15];
    if (!length) {
      if (zeros < 15) break;
      index += 15;
      continue;
    }
    index += zeros;
    block[ZIGZAG[index]] = bits.signed(length);
  }
};

const decodeDc = (bits, scan, component, block) => {
  component.previous += bits.signed(bits.symbol(component.dc));
  block[0] = component.previous * (1 << scan.low);
};

const refineDc = (bits, scan, component, block) => {
  block[0] |= bits.bit() << scan.low;
};

const decodeAc = (bits, scan, component, block) => {
  if (scan.skipped) {
    scan.skipped--;
    return;
  }
  for (let index = scan.first; index <= scan.last; index++) {
    const symbol = bits.symbol(component.ac);
    const [zeros, length] = [symbol >> 4, symbol & 15];
    if (!length) {
      if (zeros < 15) {
        scan.skipped = (1 << zeros) - 1 + bits.bits(zeros);
        break;
      }
      index += 15;
      continue;
    }
    index += zeros;
    block[ZIGZAG[index]] = bits.signed(length) * (1 << scan.low);
  }
};

const refineAc = (bits, scan, component, block) => {
  const step = 1 << scan.low;
  const refine = (at) => {
    if (bits.bit() && !(block[at] & step)) block[at] += block[at] < 0 ? -step : step;
  };
  let index = scan.first;
  if (!scan.skipped) {
    for (; index <= scan.last; index++) {
      const symbol = bits.symbol(component.ac);
      let zeros = symbol >> 4;
      let value = 0;
      if (symbol & 15) value = bits.bit() ? step : -step;
      else if (zeros < 15) {
        scan.skipped = (1 << zeros) + bits.bits(zeros);
        break;
      }
      for (; index <= scan.last; index++) {
        const at = ZIGZAG[index];
        if (block[at]) refine(at);
        else if (zeros-- === 0) {
          if (value) block[at] = value;
          break;
        }
      }
    }
  }
  if (scan.skipped) {
    for (; index <= scan.last; index++) if (block[ZIGZAG[index]]) refine(ZIGZAG[index]);
    scan.skipped--;
  }
};

/** Coefficients to samples: the accurate integer transform (Loeffler, Ligtenberg and Moschytz, 1989), 13-bit constants. */
const reconstruct = (component, table) => {
  const { columns, rows, blocks } = component;
  const pitch = columns * 8;
  const samples = new Uint8Array(pitch * rows * 8);
  const work = new Int32Array(64);
  for (let block = 0; block < columns * rows; block++) {
    for (let index = 0; index < 64; index++) work[index] = blocks[block * 64 + index] * table[index];
    for (let column = 0; column < 8; column++) transformLine(work, column, 8, 11);
    for (let row = 0; row < 8; row++) transformLine(work, row * 8, 1, 18);
    const place = Math.floor(block / columns) * 8 * pitch + (block % columns) * 8;
    for (let index = 0; index < 64; index++) {
      samples[place + (index >> 3) * pitch + (index & 7)] = Math.min(255, Math.max(0, work[index] + 128));
    }
  }
  Object.assign(component, { samples, pitch });
};

/** Eight coefficients in place; `shift` takes off the scale. */
const transformLine = (work, start, step, shift) => {
  const value = (index) => work[start + index * step];
  const middle = (value(2) + value(6)) * 4433;
  const two = middle + value(6) * -15137;
  const three = middle + value(2) * 6270;
  const zero = (value(0) + value(4)) * 8192;
  const one = (value(0) - value(4)) * 8192;
  const even = [zero + three, one + two, one - two, zero - three];
  const [a, b, c, d] = [value(7), value(5), value(3), value(1)];
  const common = (a + c + b + d) * 9633;
  const first = (a + d) * -7373;
  const second = (b + c) * -20995;
  const third = (a + c) * -16069 + common;
  const fourth = (b + d) * -3196 + common;
  const odd = [d * 12299 + first + fourth, c * 25172 + second + third, b * 16819 + second + fourth, a * 2446 + first + third];
  const half = 2 ** (shift - 1);
  const scale = 2 ** shift;
  for (let index = 0; index < 4; index++) {
    work[start + index * step] = Math.floor((even[index] + odd[index] + half) / scale);
    work[start + (7 - index) * step] = Math.floor((even[index] - odd[index] + half) / scale);
  }
};

/** A component at the size of the image: doubled axes by a triangle filter, other ratios by repetition. */
const enlarged = (component, frame) => {
  const { samples, pitch } = component;
  const across = frame.across / component.across;
  const down = frame.down / component.down;
  const { width, height } = frame;
  const result = new Uint8Array(width * height);
  const at = (y, x) => samples[y * pitch + x];
  const wide = component.width;
  const tall = component.height;
  const smooth = across === 2 && (down === 1 || down === 2) && wide > 2;
  for (let y = 0; y < height; y++) {
    const row = Math.floor(y / down);
    const near = down === 2 ? Math.min(tall - 1, Math.max(0, row + (y % 2 ? 1 : -1))) : row;
    for (let x = 0; x < width; x++) {
      const column = Math.floor(x / across);
      if (!smooth) {
        result[y * width + x] = at(row, column);
        continue;
      }
      const other = Math.min(wide - 1, Math.max(0, column + (x % 2 ? 1 : -1)));
      if (down === 1) {
        const edge = other === column;
        result[y * width + x] = edge ? at(row, column) : (3 * at(row, column) + at(row, other) + (x % 2 ? 2 : 1)) >> 2;
        continue;
      }
      const own = 3 * at(row, column) + at(near, column);
      const beside = 3 * at(row, other) + at(near, other);
      result[y * width + x] = (3 * own + beside + (x % 2 ? 7 : 8)) >> 4;
    }
  }
  return result;
};

const jpegPixels = (frame, transform) => {
  const { width, height, components } = frame;
  const planes = components.map((component) => enlarged(component, frame));
  const rgb = new Uint8Array(width * height * 3);
  const coloured = components.length === 3 && transform !== 0 && String.fromCharCode(...components.map(({ id }) => id)) !== "RGB";
  const clamp = (value) => Math.min(255, Math.max(0, value));
  const fixed = (value) => Math.floor(value * 65536 + 0.5);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const [first, second, third] = planes.map((plane) => plane[pixel]);
    if (components.length === 1) rgb.fill(first, 3 * pixel, 3 * pixel + 3);
    else if (!coloured) rgb.set([first, second, third], 3 * pixel);
    else {
      const [blue, red] = [second - 128, third - 128];
      const green = (-fixed(0.34414) * blue - fixed(0.71414) * red + 32768) >> 16;
      rgb[3 * pixel] = clamp(first + ((fixed(1.402) * red + 32768) >> 16));
      rgb[3 * pixel + 1] = clamp(first + green);
      rgb[3 * pixel + 2] = clamp(first + ((fixed(1.772) * blue + 32768) >> 16));
    }
  }
  return { width, height, rgb };
};
