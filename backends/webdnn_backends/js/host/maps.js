// Maps of ai.onnx.ml: JavaScript Maps from labels to scalar tensors.

const kindOf = {
  float32: (list) => Float32Array.from(list, Number),
  float64: (list) => Float64Array.from(list, Number),
  int64: (list) => BigInt64Array.from(list, (item) => BigInt(Math.trunc(Number(item)))),
  string: (list) => list.map(String),
};

/** The element of a scalar tensor. */
const scalarOf = (value) => (value !== null && typeof value === "object" ? value.data[0] : value);

/** Rows as maps from class labels to values. */
export function zip_map([input], { labels }) {
  const rows = input.dims.length > 1 ? input.dims[0] : 1;
  if (input.dims.at(-1) !== labels.length) {
    throw new RangeError(`ZipMap: expected ${labels.length} columns, one for each label, got [${input.dims}]`);
  }
  const scalar = (index) => ({ dtype: input.dtype, dims: [], data: input.data.slice(index, index + 1) });
  return [
    Array.from(
      { length: rows },
      (_, row) => new Map(labels.map((label, column) => [label, scalar(row * labels.length + column)])),
    ),
  ];
}

/** The values of a map from integers as a row: by ascending key, or (size > 0) each where its key says. */
export function cast_map([map], { dtype, size }) {
  const keys = [...map.keys()].sort((left, right) => Number(left) - Number(right));
  const cast = (value) => (dtype === "string" && typeof value !== "string" ? Number(value).toFixed(6) : value);
  const values = keys.map((key) => cast(scalarOf(map.get(key))));
  if (!size) return [{ dtype, dims: [1, keys.length], data: kindOf[dtype](values) }];
  const row = new Array(size).fill(dtype === "string" ? "" : 0);
  keys.forEach((key, index) => {
    if (Number(key) < 0 || Number(key) >= size) throw new RangeError(`CastMap: expected keys below ${size}, got ${key}`);
    row[Number(key)] = values[index];
  });
  return [{ dtype, dims: [1, size], data: kindOf[dtype](row) }];
}

/** The values of a map in the order of a vocabulary; zero or "" for absent keys. */
export function dict_vectorizer([map], { vocabulary, dtype }) {
  const places = new Map(vocabulary.map((word, index) => [word, index]));
  const row = new Array(vocabulary.length).fill(dtype === "string" ? "" : 0);
  for (const [key, value] of map) {
    const at = places.get(typeof key === "bigint" ? Number(key) : key);
    if (at === undefined) throw new RangeError(`DictVectorizer: expected keys of the vocabulary, got ${key}`);
    row[at] = scalarOf(value);
  }
  return [{ dtype, dims: [1, vocabulary.length], data: kindOf[dtype](row) }];
}

/** A row of zeros for each element, with a one at the place of its category. */
export function one_hot_encoder([input], { categories, zeros }) {
  const places = new Map(categories.map((category, index) => [category, index]));
  const data = new Float32Array(input.data.length * categories.length);
  Array.from(input.data).forEach((item, index) => {
    const place = places.get(typeof item === "string" ? item : Math.trunc(Number(item)));
    if (place !== undefined) data[index * categories.length + place] = 1;
    else if (!zeros) throw new RangeError(`OneHotEncoder: expected a known category, got ${item}`);
  });
  return [{ dtype: "float32", dims: [...input.dims, categories.length], data }];
}
