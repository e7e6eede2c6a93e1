// The page: strokes in, probabilities out, on the backend of the user's choice.

import { EXAMPLES, rasterize, trace } from "./strokes.js";
import { load } from "./model/index.js";

const LINE = 0.055; // of the board's width
const MEDIAN_OF = 31;

const element = (id) => document.getElementById(id);
const paper = element("paper");
const board = paper.parentElement;
const seen = element("seen").getContext("2d");

let strokes = [];
let model = null;
let times = [];
let generation = 0; // raised by every switch of backends, so that a late answer of the old one is dropped
let running = false;
let stale = false;

const bars = Array.from({ length: 10 }, (_, digit) => {
  const row = document.createElement("li");
  row.innerHTML = `<span>${digit}</span><div class="track"><div class="bar"></div></div><span class="value">0 %</span>`;
  element("bars").append(row);
  return { row, bar: row.querySelector(".bar"), value: row.querySelector(".value") };
});

// --- the board

function draw() {
  const size = Math.round(paper.clientWidth * devicePixelRatio);
  if (paper.width !== size) paper.width = paper.height = size;
  const context = paper.getContext("2d");
  context.clearRect(0, 0, size, size);
  context.strokeStyle = getComputedStyle(paper).color;
  if (strokes.length > 0) trace(context, strokes, ([x, y]) => [x * size, y * size], LINE * size);
  board.classList.toggle("drawn", strokes.length > 0);
}

function pointAt(event) {
  const box = paper.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

let stroke = null;

paper.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  event.preventDefault();
  paper.setPointerCapture(event.pointerId);
  stopExample();
  stroke = [pointAt(event)];
  strokes.push(stroke);
  changed();
});

paper.addEventListener("pointermove", (event) => {
  if (!stroke) return;
  const events = event.getCoalescedEvents?.() ?? [];
  stroke.push(...(events.length > 0 ? events : [event]).map(pointAt));
  changed();
});

for (const type of ["pointerup", "pointercancel"]) {
  paper.addEventListener(type, () => {
    stroke = null;
  });
}

function clear() {
  stopExample();
  stroke = null;
  strokes = [];
  changed();
}

element("clear").addEventListener("click", clear);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" || event.key === "Delete" || event.key === "Backspace") clear();
  if (/^[0-9]$/.test(event.key)) playExample(Number(event.key));
});
new ResizeObserver(draw).observe(paper);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  draw();
  showSeen(rasterize(strokes));
});

// --- examples

let player = 0;
let shown = -1;

function stopExample() {
  cancelAnimationFrame(player);
}

function playExample(digit) {
  clear();
  shown = digit;
  const tilt = (Math.random() - 0.5) * 0.2;
  const script = EXAMPLES[digit].map((points) => points.map(([x, y]) => [x + (0.5 - y) * tilt, y]));
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const step = () => {
    for (let moves = 0; moves < (still ? Infinity : 1); moves++) {
      const active = strokes.length - 1;
      if (active >= 0 && strokes[active].length < script[active].length) strokes[active].push(script[active][strokes[active].length]);
      else if (strokes.length < script.length) strokes.push([script[strokes.length][0]]);
      else return;
      changed();
    }
    player = requestAnimationFrame(step);
  };
  step();
}

element("example").addEventListener("click", () => {
  playExample((shown + 1 + Math.floor(Math.random() * 8)) % 10);
});

// --- the network

function changed() {
  draw();
  stale = true;
  void recognise();
}

/** Runs the network on what is drawn; while one run is under way, the next waits and takes the newest strokes. */
async function recognise() {
  if (running || !model) return;
  running = true;
  while (stale && model) {
    stale = false;
    const image = rasterize(strokes);
    showSeen(image);
    if (strokes.length === 0) {
      showNothing();
      continue;
    }
    const turn = generation;
    try {
      const start = performance.now();
      const { probabilities } = await model.run({ image });
      times = [...times.slice(1 - MEDIAN_OF), performance.now() - start];
      if (turn === generation) show(probabilities.data);
    } catch (error) {
      if (turn === generation) report(error.message, true);
    }
  }
  running = false;
}

async function choose(backend) {
  const turn = ++generation;
  const old = model;
  model = null;
  times = [];
  element("startup").textContent = element("latency").textContent = "–";
  report(`starting ${backend}`);
  await old?.dispose();
  const start = performance.now();
  let fresh;
  try {
    fresh = await load({ backend, threads: 1 });
    await fresh.run({ image: new Float32Array(64) }); // the first run compiles what browsers compile lazily
  } catch (error) {
    if (turn !== generation) return;
    const input = document.querySelector(`input[value="${backend}"]`);
    if (input) input.disabled = true;
    report(error.message, true);
    return;
  }
  if (turn !== generation) {
    await fresh.dispose();
    return;
  }
  model = fresh;
  element("startup").textContent = milliseconds(performance.now() - start);
  for (const input of document.querySelectorAll("input[name=backend]")) {
    if (input.value === model.backend) input.checked = true;
    const reason = model.fallbacks?.find((fallback) => fallback.backend === input.value)?.reason;
    if (reason) input.parentElement.title = reason;
  }
  document.body.dataset.backend = model.backend;
  report(await describe(model));
  stale = true;
  await recognise();
}

async function describe({ backend, notes }) {
  if (backend === "webgpu") {
    const adapter = await navigator.gpu.requestAdapter();
    const { vendor, architecture, description } = adapter?.info ?? {};
    return `on ${[description || vendor, architecture].filter(Boolean).join(", ") || "the GPU"}`;
  }
  if (backend === "wasm") return notes?.length ? notes.join("; ") : "SIMD, one thread";
  return "typed arrays and nothing else";
}

element("backends").addEventListener("change", (event) => void choose(event.target.value));

// --- what is shown

function show(probabilities) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  bars.forEach(({ row, bar, value }, digit) => {
    const percent = 100 * probabilities[digit];
    bar.style.transform = `translateX(${percent - 100}%)`;
    value.textContent = `${percent.toFixed(1)} %`;
    row.classList.toggle("best", digit === best);
  });
  const digit = element("digit");
  if (digit.textContent !== String(best)) digit.textContent = String(best);
  element("certainty").textContent = `${(100 * probabilities[best]).toFixed(1)} %`;
  element("latency").textContent = milliseconds([...times].sort((a, b) => a - b)[times.length >> 1]);
}

function showNothing() {
  for (const { row, bar, value } of bars) {
    bar.style.transform = "";
    value.textContent = "0 %";
    row.classList.remove("best");
  }
  element("digit").textContent = "?";
  element("certainty").textContent = "–";
}

function showSeen(image) {
  const [red, green, blue] = matchMedia("(prefers-color-scheme: dark)").matches ? [244, 245, 255] : [27, 29, 51];
  const pixels = seen.createImageData(8, 8);
  image.forEach((value, index) => pixels.data.set([red, green, blue, 255 * value], 4 * index));
  seen.putImageData(pixels, 0, 0);
}

function report(text, problem = false) {
  element("status").textContent = text;
  element("status").classList.toggle("problem", problem);
}

function milliseconds(value) {
  return value < 10 ? `${value.toFixed(2)} ms` : `${value.toFixed(0)} ms`;
}

draw();
await choose("auto");
