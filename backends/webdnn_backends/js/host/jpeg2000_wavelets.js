// Inverse wavelet transforms of JPEG 2000 (T.800 annex F): lifting, with the signal mirrored at its ends.

/** Adds `update` of the two neighbours to every other element. */
const lift = (line, length, start, update) => {
  for (let index = start; index < length; index += 2) {
    const before = line[index ? index - 1 : 1];
    line[index] += update(before + (index + 1 < length ? line[index + 1] : line[index - 1]));
  }
};

const reversibleSteps = [(sum) => -((sum + 2) >> 2), (sum) => sum >> 1];

const irreversibleSteps = [-0.443506852043971, -0.882911075530934, 0.052980118572961, 1.586134342059924].map(
  (factor) => (sum) => factor * sum,
);

/** Undoes the transform of one interleaved line; `odd`: whether it begins at an odd position. */
const synthesise = (line, length, odd, reversible) => {
  if (length === 1) {
    if (odd) line[0] /= 2;
    return;
  }
  const scale = 1.230174104914001;
  if (!reversible) for (let index = 0; index < length; index++) line[index] *= (index & 1) === odd ? scale : 1 / scale;
  const steps = reversible ? reversibleSteps : irreversibleSteps;
  steps.forEach((update, step) => lift(line, length, (odd + step) & 1, update));
};

/** A resolution from the one below it and its three sub-bands (LL, HL, LH, HH). */
const joinBands = (resolution, bands, coefficients, { reversible }) => {
  const { x0, y0, x1, y1 } = resolution;
  const [width, height] = [x1 - x0, y1 - y0];
  const samples = reversible ? new Int32Array(width * height) : new Float32Array(width * height);
  bands.forEach((band, kind) => {
    const pitch = band.x1 - band.x0;
    for (let y = band.y0; y < band.y1; y++) {
      const row = (2 * y + (kind >> 1) - y0) * width;
      for (let x = band.x0; x < band.x1; x++) {
        samples[row + 2 * x + (kind & 1) - x0] = coefficients[kind][(y - band.y0) * pitch + x - band.x0];
      }
    }
  });
  for (let y = 0; y < height; y++) synthesise(samples.subarray(y * width, (y + 1) * width), width, x0 % 2, reversible);
  const line = reversible ? new Int32Array(height) : new Float32Array(height);
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) line[y] = samples[y * width + x];
    synthesise(line, height, y0 % 2, reversible);
    for (let y = 0; y < height; y++) samples[y * width + x] = line[y];
  }
  return samples;
};
