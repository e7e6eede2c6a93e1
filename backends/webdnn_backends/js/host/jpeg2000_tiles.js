// The tiles of a JPEG 2000 codestream: resolutions, sub-bands, precincts and code-blocks (T.800 annex B), the packets
// that fill them, and the way from their coefficients to samples (annexes E and G).

/** What the packets of a tile are sorted by, for each progression order. */
const PACKET_ORDERS = [
  ["layer", "resolution", "component", "index"],
  ["resolution", "layer", "component", "index"],
  ["resolution", "y", "x", "component", "index", "layer"],
  ["y", "x", "component", "resolution", "index", "layer"],
  ["component", "y", "x", "resolution", "index", "layer"],
];

/** A region on a grid that is coarser by the given factors and begins at an offset. */
const shrunk = ({ x0, y0, x1, y1 }, across, down, right = 0, below = 0) => ({
  x0: Math.ceil((x0 - right) / across),
  y0: Math.ceil((y0 - below) / down),
  x1: Math.ceil((x1 - right) / across),
  y1: Math.ceil((y1 - below) / down),
});

/** The cells of a grid of 2^x by 2^y that a region touches, as a region of the grid; an empty one has none. */
const gridCells = ({ x0, y0, x1, y1 }, x, y) => {
  if (x0 >= x1 || y0 >= y1) return { x0: 0, y0: 0, x1: 0, y1: 0 };
  const [width, height] = [2 ** x, 2 ** y];
  return {
    x0: Math.floor(x0 / width),
    y0: Math.floor(y0 / height),
    x1: Math.ceil(x1 / width),
    y1: Math.ceil(y1 / height),
  };
};

/** The part of a region within one cell of such a grid. */
const withinCell = (box, column, row, x, y) => ({
  x0: Math.max(box.x0, column * 2 ** x),
  y0: Math.max(box.y0, row * 2 ** y),
  x1: Math.min(box.x1, (column + 1) * 2 ** x),
  y1: Math.min(box.y1, (row + 1) * 2 ** y),
});

/** A quadtree of least values, told bit by bit (B.10.2). */
class TagTree {
  constructor(width, height) {
    this.levels = [];
    for (;;) {
      this.levels.unshift({ width, least: new Uint32Array(width * height), known: new Uint8Array(width * height) });
      if (width * height <= 1) break;
      [width, height] = [Math.ceil(width / 2), Math.ceil(height / 2)];
    }
  }

  /** The value of a leaf if it is below `limit`, else -1. */
  value(bits, x, y, limit) {
    let value = 0;
    let found = false;
    this.levels.forEach(({ width, least, known }, depth) => {
      const shift = this.levels.length - 1 - depth;
      const node = (y >> shift) * width + (x >> shift);
      value = Math.max(value, least[node]);
      while (value < limit && !known[node]) {
        if (bits.bit()) known[node] = 1;
        else value++;
      }
      least[node] = value;
      found = Boolean(known[node]);
    });
    return found && value < limit ? value : -1;
  }
}

/** Bits of packet headers; a byte after 0xff holds seven. */
class PacketBits {
  constructor(bytes) {
    Object.assign(this, { bytes, at: 0, byte: 0, count: 0 });
  }

  bit() {
    if (!this.count) {
      if (this.at >= this.bytes.length) throw jpeg2000Error("a tile ends within a packet");
      this.count = this.byte === 0xff ? 7 : 8;
      this.byte = this.bytes[this.at++];
    }
    return (this.byte >> --this.count) & 1;
  }

  bits(length) {
    let value = 0;
    while (length--) value = value * 2 + this.bit();
    return value;
  }

  /** Goes on to the next whole byte. */
  align() {
    if (this.byte === 0xff) this.at++;
    this.byte = this.count = 0;
  }

  /** Passes over a marker segment, if it is the one that comes next. */
  skipMarker(marker, length) {
    if (this.bytes[this.at] === 0xff && this.bytes[this.at + 1] === marker) this.at += length;
  }

  passes() {
    if (!this.bit()) return 1;
    if (!this.bit()) return 2;
    const few = this.bits(2);
    if (few < 3) return 3 + few;
    const more = this.bits(5);
    return more < 31 ? 6 + more : 37 + this.bits(7);
  }
}

/** Decodes a tile into the planes of the components that are shown. */
const decodeJpeg2000Tile = (size, tile, main, planes) => {
  const [column, row] = [tile.index % size.tilesAcross, Math.floor(tile.index / size.tilesAcross)];
  const [left, top] = [size.tileX + column * size.tileWidth, size.tileY + row * size.tileHeight];
  const box = {
    x0: Math.max(left, size.x0),
    y0: Math.max(top, size.y0),
    x1: Math.min(left + size.tileWidth, size.x1),
    y1: Math.min(top + size.tileHeight, size.y1),
  };
  const common = tile.parameters.common ?? main.common;
  const parameter = (kind, index) => {
    const found = [tile.parameters[kind], main[kind]].flatMap((map) => [map.get(index), map.get(-1)]).find(Boolean);
    if (!found) throw jpeg2000Error(`there is no ${kind} for component ${index}`);
    return found;
  };
  const components = size.components.map((component, index) =>
    tileComponent(box, component, parameter("coding", index), parameter("quantisation", index)),
  );
  if (!common) throw jpeg2000Error("there is no coding style");
  const { progressions } = tile.parameters.progressions.length ? tile.parameters : main;
  readPackets(tile, components, common, progressions, box);
  const shown = components.slice(0, planes.length);
  const samples = shown.map(componentSamples);
  if (common.transform) undoColourTransform(shown, samples);
  shown.forEach((component, index) => storeSamples(component, samples[index], size.components[index], planes[index]));
};

/** Resolutions and sub-bands of one component within a tile. */
const tileComponent = (tileBox, component, coding, { guard, derived, steps }) => {
  const { levels } = coding;
  const box = shrunk(tileBox, component.across, component.down);
  const resolutions = coding.precincts.map((precinct, resolution) => {
    const level = resolution ? levels - resolution + 1 : levels;
    const scale = 2 ** level;
    const bands = (resolution ? [1, 2, 3] : [0]).map((kind) => {
      const [right, below] = [kind & 1, kind >> 1];
      const step = steps[derived || !resolution ? 0 : 3 * (resolution - 1) + kind];
      if (!step) throw jpeg2000Error("a sub-band has no quantisation");
      const exponent = derived ? step.exponent - levels + level : step.exponent;
      const delta = 2 ** (component.depth + right + below - exponent) * (1 + step.mantissa / 2048);
      const region = shrunk(box, scale, scale, (right * scale) / 2, (below * scale) / 2);
      return { ...region, kind, planes: guard + exponent - 1, delta, blocks: [] };
    });
    const scaled = shrunk(box, 2 ** (levels - resolution), 2 ** (levels - resolution));
    return { ...scaled, bands, precinct, cells: gridCells(scaled, precinct.x, precinct.y) };
  });
  return { ...box, across: component.across, down: component.down, coding, resolutions };
};

const joinedBytes = (parts) => {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
};

/** Reads the packets of a tile in the order of its progressions. */
const readPackets = (tile, components, common, progressions, box) => {
  const bytes = joinedBytes(tile.parts);
  const area = ({ cells }) => (cells.x1 - cells.x0) * (cells.y1 - cells.y0);
  const precincts = components.flatMap(({ resolutions }) => resolutions).reduce((sum, next) => sum + area(next), 0);
  if (precincts * common.layers > bytes.length) throw jpeg2000Error(`tile ${tile.index} ends before its packets`);
  let packets = components.flatMap((component, index) =>
    component.resolutions.flatMap((_, resolution) => resolutionPackets(component, index, resolution, common, box)),
  );
  const bits = new PacketBits(bytes);
  const { layers, order } = common;
  const whole = {
    firstResolution: 0,
    firstComponent: 0,
    layers,
    resolutions: 33,
    components: components.length,
    order,
  };
  for (const part of progressions.length ? progressions : [whole]) {
    const chosen = ({ resolution, component, layer }) =>
      resolution >= part.firstResolution &&
      resolution < part.resolutions &&
      component >= part.firstComponent &&
      component < part.components &&
      layer < part.layers;
    const keys = PACKET_ORDERS[part.order];
    const now = packets.filter(chosen).sort((a, b) => {
      const key = keys.find((name) => a[name] !== b[name]);
      return key ? a[key] - b[key] : 0;
    });
    packets = packets.filter((packet) => !chosen(packet));
    for (const packet of now) readPacket(bits, packet);
  }
};

/** One packet per precinct and layer; x and y place the precinct on the reference grid. */
const resolutionPackets = (component, index, resolution, { layers }, box) => {
  const { cells, precinct, bands } = component.resolutions[resolution];
  const { levels, blockX, blockY, style } = component.coding;
  const scale = 2 ** (levels - resolution);
  const halved = resolution ? 1 : 0;
  const packets = [];
  for (let row = cells.y0; row < cells.y1; row++) {
    for (let column = cells.x0; column < cells.x1; column++) {
      const [x, y] = [precinct.x - halved, precinct.y - halved];
      const parts = bands.map((band) =>
        precinctBlocks(band, withinCell(band, column, row, x, y), Math.min(blockX, x), Math.min(blockY, y)),
      );
      const packet = {
        parts,
        style,
        resolution,
        component: index,
        index: packets.length,
        x: Math.max(box.x0, column * 2 ** precinct.x * scale * component.across),
        y: Math.max(box.y0, row * 2 ** precinct.y * scale * component.down),
      };
      for (let layer = 0; layer < layers; layer++) packets.push({ ...packet, layer });
    }
  }
  return packets;
};

/** The code-blocks of a sub-band within a precinct, and the trees that describe them. */
const precinctBlocks = (band, box, x, y) => {
  const cells = gridCells(box, x, y);
  const blocks = [];
  for (let row = cells.y0; row < cells.y1; row++) {
    for (let column = cells.x0; column < cells.x1; column++) {
      const region = withinCell(box, column, row, x, y);
      const place = { column: column - cells.x0, row: row - cells.y0 };
      blocks.push({ ...region, ...place, lengthBits: 3, passes: 0, zeroPlanes: -1, segments: [] });
    }
  }
  for (const block of blocks) band.blocks.push(block);
  const [width, height] = [cells.x1 - cells.x0, cells.y1 - cells.y0];
  return { blocks, inclusion: new TagTree(width, height), zeroPlanes: new TagTree(width, height) };
};

/** Reads one packet: which code-blocks go on, by how many passes, and their bytes. */
const readPacket = (bits, { parts, layer, style }) => {
  const pieces = [];
  bits.skipMarker(0x91, 6);
  if (bits.bit()) {
    for (const { blocks, inclusion, zeroPlanes } of parts) {
      for (const block of blocks) {
        const { column, row } = block;
        if (block.zeroPlanes >= 0) {
          if (!bits.bit()) continue;
        } else {
          if (inclusion.value(bits, column, row, layer + 1) < 0) continue;
          block.zeroPlanes = zeroPlanes.value(bits, column, row, 75);
          if (block.zeroPlanes < 0) throw jpeg2000Error("a code-block of too few bit planes");
        }
        let passes = bits.passes();
        while (bits.bit()) block.lengthBits++;
        while (passes) {
          const segment = openSegment(block, style);
          const count = Math.min(passes, segment.most - segment.passes);
          const length = bits.bits(block.lengthBits + 31 - Math.clz32(count));
          pieces.push({ segment, length });
          segment.passes += count;
          block.passes += count;
          passes -= count;
        }
      }
    }
  }
  bits.align();
  bits.skipMarker(0x92, 2);
  for (const { segment, length } of pieces) {
    if (length > bits.bytes.length - bits.at) throw jpeg2000Error("a tile ends within a packet");
    segment.parts.push(bits.bytes.subarray(bits.at, bits.at + length));
    bits.at += length;
  }
};

/** The segment that the next pass of a code-block belongs to. A segment ends where the arithmetic coder does. */
const openSegment = (block, style) => {
  const last = block.segments.at(-1);
  if (last && last.passes < last.most) return last;
  let most = Infinity;
  if (style & BLOCK_STYLES.terminate) most = 1;
  else if (style & BLOCK_STYLES.bypass) most = block.passes < 10 ? 10 : (block.passes - 10) % 3 ? 1 : 2;
  const segment = { passes: 0, most, parts: [] };
  block.segments.push(segment);
  return segment;
};

/** Samples of a component within a tile: dequantised sub-bands, joined from the coarsest on. */
const componentSamples = ({ coding, resolutions }) => {
  let samples = null;
  resolutions.forEach((resolution, level) => {
    const coefficients = resolution.bands.map((band) => bandCoefficients(band, coding));
    if (!level) [samples] = coefficients;
    else
      samples = joinBands(
        resolution,
        [resolutions[level - 1], ...resolution.bands],
        [samples, ...coefficients],
        coding,
      );
  });
  return samples;
};

/** Coefficients of a sub-band. Code-blocks come in halves of a quantisation step, so that a middle is an integer. */
const bandCoefficients = ({ x0, y0, x1, y1, kind, planes, delta, blocks }, { reversible, style }) => {
  const pitch = x1 - x0;
  const size = pitch * (y1 - y0);
  const coefficients = reversible ? new Int32Array(size) : new Float32Array(size);
  for (const block of blocks) {
    if (!block.passes) continue;
    const width = block.x1 - block.x0;
    const values = decodeCodeBlock(block, width, block.y1 - block.y0, kind, style, planes - block.zeroPlanes);
    for (let index = 0; index < values.length; index++) {
      const row = block.y0 - y0 + Math.floor(index / width);
      // An Int32Array drops the half.
      coefficients[row * pitch + block.x0 - x0 + (index % width)] = (values[index] / 2) * (reversible ? 1 : delta);
    }
  }
  return coefficients;
};

/** Undoes the reversible or the irreversible transform of the first three components, in place. */
const undoColourTransform = (components, samples) => {
  const [first, second, third] = samples;
  if (samples.length < 3 || first.length !== second.length || first.length !== third.length) {
    throw jpeg2000Error("a colour transform needs three components of one size");
  }
  const { reversible } = components[0].coding;
  if (components.some(({ coding }) => coding.reversible !== reversible))
    throw jpeg2000Error("two wavelets in one colour");
  for (let index = 0; index < first.length; index++) {
    const [luma, blue, red] = [first[index], second[index], third[index]];
    const green = reversible ? luma - ((blue + red) >> 2) : luma - 0.344136 * blue - 0.714136 * red;
    first[index] = reversible ? red + green : luma + 1.402 * red;
    second[index] = green;
    third[index] = reversible ? blue + green : luma + 1.772 * blue;
  }
};

/** Rounds (a half to the even number), shifts and clips the samples of a tile into the plane of their component. */
const storeSamples = ({ x0, y0, x1, y1 }, samples, component, plane) => {
  const half = 2 ** (component.depth - 1);
  const offset = component.signed ? 0 : half;
  const [least, most] = [offset - half, offset + half - 1];
  const width = x1 - x0;
  for (let y = y0; y < y1; y++) {
    for (let x = x0; x < x1; x++) {
      const value = samples[(y - y0) * width + x - x0];
      let rounded = Math.round(value);
      if (rounded - value === 0.5 && rounded % 2) rounded--;
      plane[(y - component.y0) * component.width + x - component.x0] = Math.min(
        most,
        Math.max(least, rounded + offset),
      );
    }
  }
};
