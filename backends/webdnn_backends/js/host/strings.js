// Strings. Tensors of them hold an array of JavaScript strings.

/** For each element of a broadcast result, the position in an operand. */
const broadcastPositions = (dims, target) => {
  const strides = new Array(target.length).fill(0);
  let stride = 1;
  for (let axis = dims.length - 1; axis >= 0; axis--) {
    strides[axis + target.length - dims.length] = dims[axis] === 1 ? 0 : stride;
    stride *= dims[axis];
  }
  return Array.from({ length: count(target) }, (_, flat) => {
    let position = 0;
    for (let axis = target.length - 1; axis >= 0; axis--) {
      position += (flat % target[axis]) * strides[axis];
      flat = Math.floor(flat / target[axis]);
    }
    return position;
  });
};

const broadcastDims = (left, right) => {
  const rank = Math.max(left.length, right.length);
  return Array.from({ length: rank }, (_, axis) => {
    const one = left[axis - rank + left.length] ?? 1;
    const other = right[axis - rank + right.length] ?? 1;
    if (one !== other && one !== 1 && other !== 1) {
      throw new RangeError(`expected shapes that broadcast, got [${left}] and [${right}]`);
    }
    return one === 1 ? other : one;
  });
};

/** Both operands' elements, pair by pair. */
const pairs = (left, right, combine) => {
  const dims = broadcastDims(left.dims, right.dims);
  const one = broadcastPositions(left.dims, dims);
  const other = broadcastPositions(right.dims, dims);
  return [dims, one.map((position, index) => combine(left.data[position], right.data[other[index]]))];
};

export function string_constant(_, { dims, strings: data }) {
  return [strings(dims, data)];
}

export function string_concat([left, right]) {
  const [dims, data] = pairs(left, right, (first, second) => first + second);
  return [strings(dims, data)];
}

export function string_equal([left, right]) {
  const [dims, flags] = pairs(left, right, (first, second) => first === second);
  return [bools(dims, flags)];
}

/** Strings by position: 0 is the empty string, then come the elements of the operands. */
export function string_pick([positions, ...operands]) {
  const pool = [""].concat(...operands.map((operand) => operand.data));
  return [strings(positions.dims, Array.from(positions.data, (position) => pool[position]))];
}

/** By code points, as UTF-8 bytes compare. */
const compareStrings = (left, right) => {
  const one = Array.from(left);
  const other = Array.from(right);
  for (let index = 0; index < Math.min(one.length, other.length); index++) {
    const difference = one[index].codePointAt(0) - other[index].codePointAt(0);
    if (difference) return difference;
  }
  return one.length - other.length;
};

/** For each string its place, from 1, among the different ones in order; and these. */
export function string_ranks([input]) {
  const different = [...new Set(input.data)].sort(compareStrings);
  const places = new Map(different.map((text, index) => [text, index + 1]));
  const ranks = Int32Array.from(input.data, (text) => places.get(text));
  return [{ dtype: "int32", dims: input.dims, data: ranks }, strings([different.length], different)];
}

export function string_copy([input]) {
  return [input];
}

export function string_normalizer([input], { action, sensitive, stopwords }) {
  const changes = { NONE: (text) => text, LOWER: (text) => text.toLowerCase(), UPPER: (text) => text.toUpperCase() };
  const fold = sensitive ? changes.NONE : changes.LOWER;
  const unwanted = new Set(stopwords.map(fold));
  const kept = input.data.filter((text) => !unwanted.has(fold(text))).map(changes[action]);
  if (!kept.length) kept.push("");
  return [strings([...input.dims.slice(0, -1), kept.length], kept)];
}

/** The parts between delimiters; runs of white space delimit where none is given. */
const splitText = (text, delimiter, limit) => {
  if (!delimiter) {
    const parts = [];
    let rest = text.replace(/^\p{White_Space}+/u, "");
    while (rest && parts.length !== limit) {
      const space = /\p{White_Space}+/u.exec(rest);
      if (!space) break;
      parts.push(rest.slice(0, space.index));
      rest = rest.slice(space.index + space[0].length);
    }
    rest = parts.length === limit ? rest.replace(/\p{White_Space}+$/u, "") : rest;
    return rest ? [...parts, rest] : parts;
  }
  const parts = text.split(delimiter);
  return limit < 0 || parts.length <= limit + 1
    ? parts
    : [...parts.slice(0, limit), parts.slice(limit).join(delimiter)];
};

export function string_split([input], { delimiter, limit }) {
  const parts = input.data.map((text) => splitText(text, delimiter, limit));
  const most = parts.reduce((longest, found) => Math.max(longest, found.length), 0);
  const data = parts.flatMap((found) => [...found, ...new Array(most - found.length).fill("")]);
  return [
    strings([...input.dims, most], data),
    int64s(
      input.dims,
      parts.map((found) => found.length),
    ),
  ];
}

export function regex_full_match([input], { pattern, flags }) {
  const expression = new RegExp(`^(?:${pattern})$`, flags);
  return [
    bools(
      input.dims,
      input.data.map((text) => expression.test(text)),
    ),
  ];
}

/** The parts of a text between matches of an expression with the flag g. */
const between = (expression, text) => {
  const pieces = [];
  let start = 0;
  for (const match of text.matchAll(expression)) {
    if (!match[0]) continue;
    pieces.push(text.slice(start, match.index));
    start = match.index + match[0].length;
  }
  return [...pieces, text.slice(start)];
};

/** The leftmost matches that do not overlap, each as long as possible; `whole` is the expression for all of a text. */
const longestMatches = (expression, whole, text) => {
  const tokens = [];
  expression.lastIndex = 0;
  for (let match = expression.exec(text); match; match = expression.exec(text)) {
    let end = text.length;
    while (end > match.index + match[0].length && !whole.test(text.slice(match.index, end))) end--;
    if (end > match.index) tokens.push(text.slice(match.index, end));
    expression.lastIndex = Math.max(end, match.index + 1);
  }
  return tokens;
};

/** Tokens of each string along a new last axis; marks around them where asked for. */
export function tokenizer([input], { kind, patterns, shortest, mark, padding }) {
  const expressions = patterns.map(({ pattern, flags }) => new RegExp(pattern, `${flags}g`));
  const wholes = patterns.map(({ pattern, flags }) => new RegExp(`^(?:${pattern})$`, flags));
  const split = {
    characters: (text) => Array.from(text),
    tokens: (text) => longestMatches(expressions[0], wholes[0], text),
    separators: (text) =>
      expressions.reduce((pieces, expression) => pieces.flatMap((piece) => between(expression, piece)), [text]),
  }[kind];
  const rows = input.data.map((text) => split(text).filter((token) => Array.from(token).length >= shortest));
  const most = rows.reduce((longest, row) => Math.max(longest, row.length), 0);
  if (!most) return [strings([...input.dims, 0], [])];
  const marked = mark ? rows.map((row) => ["\u0002", ...row, "\u0003"]) : rows;
  const width = mark ? most + 2 : most;
  const data = marked.flatMap((row) => [...row, ...new Array(width - row.length).fill(padding)]);
  return [strings([...input.dims, width], data)];
}

/** MurmurHash3_x86_32 of bytes. */
const murmur = (bytes, seed) => {
  const rotated = (word, by) => (word << by) | (word >>> (32 - by));
  const scrambled = (word) => Math.imul(rotated(Math.imul(word, 0xcc9e2d51), 15), 0x1b873593);
  const whole = bytes.length & ~3;
  let state = seed;
  for (let start = 0; start < whole; start += 4) {
    const word = bytes[start] | (bytes[start + 1] << 8) | (bytes[start + 2] << 16) | (bytes[start + 3] << 24);
    state = (Math.imul(rotated(state ^ scrambled(word), 13), 5) + 0xe6546b64) | 0;
  }
  let rest = 0;
  for (let place = bytes.length - 1; place >= whole; place--) rest = (rest << 8) | bytes[place];
  state ^= scrambled(rest) ^ bytes.length;
  state = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
  state = Math.imul(state ^ (state >>> 13), 0xc2b2ae35);
  return state ^ (state >>> 16);
};

export function murmur_hash3([input], { seed, dtype }) {
  const encoder = new TextEncoder();
  const hashes = Int32Array.from(input.data, (text) => murmur(encoder.encode(text), seed));
  return [{ dtype, dims: input.dims, data: dtype === "uint32" ? new Uint32Array(hashes.buffer) : hashes }];
}

/** Counts of the n-grams of a pool; `factors` weigh them. */
export function tf_idf([input], { mode, shortest, longest, skips, pool, starts, indexes, factors, width }) {
  const places = new Map();
  const key = (gram) => JSON.stringify(gram);
  let listed = 0;
  starts.forEach((start, n) => {
    for (let at = start; at < (starts[n + 1] ?? pool.length); at += n + 1) {
      places.set(key(pool.slice(at, at + n + 1)), indexes[listed++]);
    }
  });
  const rows = input.dims.length === 2 ? input.dims[0] : 1;
  const length = input.dims.at(-1);
  const items = input.dtype === "string" ? input.data : Array.from(input.data, Number);
  const data = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const line = items.slice(row * length, (row + 1) * length);
    for (let n = shortest; n <= longest; n++) {
      for (let step = 1; step <= (n > 1 ? skips : 0) + 1; step++) {
        for (let at = 0; at + step * (n - 1) < length; at++) {
          const place = places.get(key(Array.from({ length: n }, (_, item) => line[at + item * step])));
          if (place !== undefined) data[row * width + place]++;
        }
      }
    }
  }
  for (let index = 0; index < data.length; index++) {
    if (mode === "IDF") data[index] = Math.min(data[index], 1);
    if (mode !== "TF") data[index] *= factors[index % width];
  }
  return [{ dtype: "float32", dims: [...input.dims.slice(0, -1), width], data }];
}

/** A number as text reads: decimal, exponent, infinities, NaN. */
const numberOf = (text) => {
  const trimmed = text.trim();
  const sign = trimmed.startsWith("-") ? -1 : 1;
  const bare = trimmed.replace(/^[+-]/, "").toLowerCase();
  if (bare === "inf" || bare === "infinity") return sign * Infinity;
  if (bare === "nan") return NaN;
  const number = /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/.test(bare) ? Number(trimmed) : NaN;
  if (Number.isNaN(number)) throw new TypeError(`Cast: expected a number, got ${JSON.stringify(text)}`);
  return number;
};

/** Strings as float64, int64 or uint64 numbers, which a kernel casts on. */
export function string_parse([input], { dtype }) {
  if (dtype === "float64") return [{ dtype, dims: input.dims, data: Float64Array.from(input.data, numberOf) }];
  const whole = (text) => (/^\s*[+-]?\d+\s*$/.test(text) ? BigInt(text.trim().replace("+", "")) : BigInt(Math.trunc(numberOf(text))));
  const Kind = dtype === "uint64" ? BigUint64Array : BigInt64Array;
  return [{ dtype, dims: input.dims, data: Kind.from(input.data, whole) }];
}

/** A number as a decimal of so many digits, halves to even. */
const rounded = (value, precision) => {
  const finer = value.toExponential(precision);
  const toEven = /[02468]\.?5e/.test(finer) && Number(finer) === value;
  return Number(toEven ? finer.replace("5e", "e") : value.toPrecision(precision));
};

/** The decimal with the fewest digits that reads back as this float32. */
const fewestDigits = (value) => {
  for (let precision = 1; precision < 9; precision++) {
    const number = rounded(value, precision);
    if (Math.fround(number) === value) return number;
  }
  return rounded(value, 9);
};

/** A float as the shortest text that reads back as the same value: 1, 0.1, 1e+20, NaN, -INF. */
const floatText = (value) => {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value < 0 ? "-INF" : "INF";
  if (Object.is(value, -0)) return "-0";
  const magnitude = Math.abs(value);
  if (magnitude === 0 || (magnitude >= 1e-4 && magnitude < 1e16)) return String(value);
  return value.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
};

/** Numbers as strings. */
export function string_format([input], { kind }) {
  const text = {
    bool: (value) => (value ? "1" : "0"),
    integer: String,
    float32: (value) => floatText(Number.isFinite(value) && value !== 0 ? fewestDigits(value) : value),
    float64: floatText,
  }[kind];
  return [strings(input.dims, Array.from(input.data, (value) => text(value)))];
}

/** Each element replaced by the value of its key, or by a default. Keys and values are strings, numbers or bigints. */
export function look_up([input], { keys, values, fallback, dtype }) {
  const key = (item) => (typeof item === "bigint" ? Number(item) : Object.is(item, -0) ? 0 : item);
  const single = input.dtype === "float32" ? (item) => (typeof item === "number" ? Math.fround(item) : item) : (item) => item;
  const special = { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity };
  const number = (item) => (typeof item === "string" ? special[item] : item);
  const list = input.dtype === "string" ? keys : keys.map(number);
  const table = new Map(list.map((item, index) => [key(single(item)), values[index]]));
  const found = Array.from(input.data, (item) => {
    const at = key(item);
    return table.has(at) ? table.get(at) : fallback;
  });
  if (dtype === "string") return [strings(input.dims, found)];
  const kinds = {
    int64: (list) => BigInt64Array.from(list, (item) => BigInt(item)),
    int32: (list) => Int32Array.from(list),
    int16: (list) => Int16Array.from(list),
    float32: (list) => Float32Array.from(list, number),
    float64: (list) => Float64Array.from(list, number),
  };
  return [{ dtype, dims: input.dims, data: kinds[dtype](found) }];
}

/** The label at each position. */
export function string_labels([positions], { labels }) {
  return [strings(positions.dims, Array.from(positions.data, (position) => labels[position]))];
}
