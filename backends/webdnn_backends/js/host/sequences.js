// Sequences and optionals. None of the functions changes what it is given.

export function sequence_construct(elements) {
  return [elements];
}

export function sequence_empty() {
  return [[]];
}

export function sequence_at([sequence, position]) {
  return [sequence[place(position, sequence.length, "SequenceAt")]];
}

export function sequence_insert([sequence, tensor, position]) {
  const length = sequence.length;
  let at = position ? Number(position.data[0]) : length;
  if (at < -length || at > length) {
    throw new RangeError(`SequenceInsert: expected a position in [${-length}, ${length}], got ${at}`);
  }
  if (at < 0) at += length;
  return [[...sequence.slice(0, at), tensor, ...sequence.slice(at)]];
}

export function sequence_erase([sequence, position]) {
  const at = position ? place(position, sequence.length, "SequenceErase") : sequence.length - 1;
  if (at < 0) throw new RangeError("SequenceErase: expected an element to erase, got an empty sequence");
  return [sequence.filter((_, index) => index !== at)];
}

export function sequence_length([sequence]) {
  return [int64s([], [sequence.length])];
}

/** The elements one after the other along `axis`, or stacked along a new one. */
export function concat_from_sequence([sequence], { axis, newAxis }) {
  if (!sequence.length) throw new RangeError("ConcatFromSequence: expected at least one tensor, got none");
  const dtype = sequence[0].dtype;
  const rank = sequence[0].dims.length + newAxis;
  const at = axis < 0 ? axis + rank : axis;
  const parts = sequence.map(({ dims }) => (newAxis ? [...dims.slice(0, at), 1, ...dims.slice(at)] : dims));
  const fits = (dims) => dims.length === rank && dims.every((size, index) => index === at || size === parts[0][index]);
  if (!parts.every(fits)) {
    throw new RangeError(`ConcatFromSequence: expected shapes that differ in axis ${at} only, got ${JSON.stringify(parts)}`);
  }
  const outer = count(parts[0].slice(0, at));
  const lengths = parts.map((dims) => count(dims.slice(at)));
  const row = lengths.reduce((total, length) => total + length, 0);
  const arrays = sequence.map(unpacked);
  const result = emptyLike(arrays[0], outer * row);
  let start = 0;
  arrays.forEach((array, index) => {
    const length = lengths[index];
    for (let line = 0; line < outer; line++) {
      for (let offset = 0; offset < length; offset++) result[line * row + start + offset] = array[line * length + offset];
    }
    start += length;
  });
  const dims = [...parts[0]];
  dims[at] = parts.reduce((total, part) => total + part[at], 0);
  return [packed(dtype, dims, result)];
}

/** Pieces along `axis`: single slices, pieces of one size, or of the given sizes. */
export function split_to_sequence([input, split], { axis, keepdims }) {
  const { dtype, dims } = input;
  const at = axis < 0 ? axis + dims.length : axis;
  const size = dims[at];
  let sizes = new Array(size).fill(1);
  if (split && split.dims.length === 0) {
    const step = Number(split.data[0]);
    if (step < 1) throw new RangeError(`SplitToSequence: expected a positive size, got ${step}`);
    sizes = Array.from({ length: Math.ceil(size / step) }, (_, index) => Math.min(step, size - index * step));
  } else if (split) sizes = Array.from(split.data, Number);
  if (sizes.reduce((total, part) => total + part, 0) !== size || sizes.some((part) => part < 0)) {
    throw new RangeError(`SplitToSequence: expected sizes that add up to ${size}, got ${sizes}`);
  }
  const source = unpacked(input);
  const outer = count(dims.slice(0, at));
  const inner = count(dims.slice(at + 1));
  const pieces = [];
  let start = 0;
  for (const part of sizes) {
    const result = emptyLike(source, outer * part * inner);
    for (let line = 0; line < outer; line++) {
      const from = (line * size + start) * inner;
      for (let offset = 0; offset < part * inner; offset++) result[line * part * inner + offset] = source[from + offset];
    }
    const rest = split || keepdims ? [part] : [];
    pieces.push(packed(dtype, [...dims.slice(0, at), ...rest, ...dims.slice(at + 1)], result));
    start += part;
  }
  return [pieces];
}

/** An optional: what it holds, or null. */
export function optional([value]) {
  return [value ?? null];
}

export function optional_has_element([value]) {
  return [bools([], [value !== null && value !== undefined])];
}

export function optional_get_element([value]) {
  if (value === null || value === undefined) {
    throw new TypeError("OptionalGetElement: expected an optional that holds a value, got an empty one");
  }
  return [value];
}

/** A tensor of unknown rank in the given shape, where 0 copies a size and -1 is the rest. */
export function reshape([input, shape], { allowzero }) {
  const sizes = Array.from(shape.data, Number);
  const dims = sizes.map((size, axis) => (size === 0 && !allowzero ? input.dims[axis] : size));
  const rest = dims.indexOf(-1);
  if (rest >= 0) dims[rest] = count(input.dims) / count(dims.filter((_, axis) => axis !== rest));
  if (count(dims) !== count(input.dims)) {
    throw new RangeError(`Reshape: expected ${count(input.dims)} elements, got [${sizes}]`);
  }
  return [{ ...input, dims }];
}

/** A tensor without the axes whose flag is set, which have size 1. */
export function squeeze([input, flags]) {
  const gone = flags ? (axis) => Number(flags.data[axis]) !== 0 : (axis) => input.dims[axis] === 1;
  return [{ ...input, dims: input.dims.filter((_, axis) => !gone(axis)) }];
}
