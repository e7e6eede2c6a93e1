// Strokes: what is drawn, as lists of points in a unit square, and the image that the network was trained on.

const SIZE = 8; // the network's image
const BLOCK = 4; // each of its pixels counts the ink in a block of this size
const FULL = SIZE * BLOCK;
const WIDEST = 0.85; // the training digits fill the height, and at most this share of the width
const INK = 0.3; // the share of the bitmap that their strokes cover, whatever the digit
const THINNEST = 2.5;
const THICKEST = 9;

const scratch = new OffscreenCanvas(FULL, FULL).getContext("2d", { willReadFrequently: true });

/** Traces strokes on a canvas; `place` maps a point to the canvas. A single point is a dot. */
export function trace(context, strokes, place, width) {
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  for (const stroke of strokes) {
    const points = stroke.map(place);
    context.moveTo(...points[0]);
    if (points.length === 1) context.lineTo(...points[0]);
    for (let index = 1; index < points.length - 1; index++) {
      const [x, y] = points[index];
      const [nextX, nextY] = points[index + 1];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(...points.at(-1));
  }
  context.stroke();
}

/** The strokes as 8x8 values from 0 to 1: scaled to fill the height, centred, in a pen that gives the usual amount of ink. */
export function rasterize(strokes) {
  const points = strokes.flat();
  const [left, right] = extent(points.map(([x]) => x));
  const [top, bottom] = extent(points.map(([, y]) => y));
  const image = new Float32Array(SIZE * SIZE);
  if (points.length === 0) return image;
  let [thin, thick] = [THINNEST, THICKEST];
  for (let attempt = 0; attempt < 6; attempt++) {
    const width = (thin + thick) / 2;
    const room = FULL - width;
    const scale = Math.min(room / Math.max(bottom - top, 1e-3), (WIDEST * FULL - width) / Math.max(right - left, 1e-3));
    const place = ([x, y]) => [
      FULL / 2 + (x - (left + right) / 2) * scale,
      FULL / 2 + (y - (top + bottom) / 2) * scale,
    ];
    scratch.clearRect(0, 0, FULL, FULL);
    trace(scratch, strokes, place, width);
    if (countInk(image) > INK) thick = width;
    else thin = width;
  }
  return image;
}

function extent(values) {
  return [Math.min(...values), Math.max(...values)];
}

/** Fills the image from the scratch bitmap and returns its mean. */
function countInk(image) {
  const { data } = scratch.getImageData(0, 0, FULL, FULL);
  image.fill(0);
  for (let y = 0; y < FULL; y++) {
    for (let x = 0; x < FULL; x++) {
      image[Math.floor(y / BLOCK) * SIZE + Math.floor(x / BLOCK)] += data[(y * FULL + x) * 4 + 3] / 255 / BLOCK ** 2;
    }
  }
  return image.reduce((sum, value) => sum + value, 0) / image.length;
}

const arc = (x, y, width, height, from, to) =>
  Array.from({ length: 25 }, (_, index) => {
    const angle = ((from + ((to - from) * index) / 24) * Math.PI) / 180;
    return [x + width * Math.cos(angle), y + height * Math.sin(angle)];
  });

/** How each digit is drawn, for those who would rather watch. */
export const EXAMPLES = [
  [arc(0.5, 0.5, 0.24, 0.35, -90, 270)],
  [[[0.36, 0.32], [0.44, 0.25], [0.53, 0.15], [0.53, 0.4], [0.53, 0.6], [0.53, 0.85]]],
  [[...arc(0.49, 0.34, 0.22, 0.19, -170, 40), [0.5, 0.62], [0.36, 0.74], [0.26, 0.85], [0.5, 0.85], [0.76, 0.85]]],
  [[...arc(0.47, 0.33, 0.21, 0.18, -160, 85), ...arc(0.47, 0.67, 0.24, 0.18, -80, 160)]],
  [[[0.56, 0.15], [0.45, 0.35], [0.34, 0.5], [0.26, 0.62], [0.5, 0.62], [0.76, 0.62]], [[0.6, 0.42], [0.6, 0.62], [0.6, 0.86]]],
  [[[0.7, 0.16], [0.5, 0.16], [0.34, 0.16], [0.33, 0.3], [0.32, 0.46], ...arc(0.48, 0.65, 0.22, 0.2, -110, 150)]],
  [[[0.6, 0.14], [0.46, 0.24], [0.35, 0.42], [0.3, 0.6], ...arc(0.5, 0.67, 0.2, 0.18, 180, -170)]],
  [[[0.26, 0.16], [0.5, 0.16], [0.74, 0.16], [0.64, 0.34], [0.54, 0.54], [0.47, 0.7], [0.44, 0.86]]],
  [[...arc(0.5, 0.32, 0.18, 0.17, -30, -250), [0.5, 0.5], ...arc(0.5, 0.68, 0.2, 0.17, -50, 230), [0.52, 0.5], [0.66, 0.36], [0.655, 0.24]]],
  [[...arc(0.5, 0.34, 0.2, 0.19, 0, -350), [0.69, 0.5], [0.66, 0.68], [0.6, 0.86]]],
];
