// Draws the report from data/run.js. Classic script, so that the page also opens from the disk.
"use strict";

const state = { run: null, search: "", suite: "", show: "", details: new Map() };
const $ = (id) => document.getElementById(id);

/** An element with attributes and children; text is never parsed as HTML. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

/** How a result is coloured. */
function tone(result) {
  if (!result) return "none";
  if (result.status === "pass") return result.placed.length ? "placed" : "pass";
  if (result.status === "placed") return "placed";
  if (result.status === "unimplemented") return "none";
  if (result.status === "skip" || result.status === "xfail") return "known";
  return "fail";
}

const RANK = { fail: 4, none: 3, known: 2, placed: 1, pass: 0 };
const SHOWN = {
  "": "every result",
  bad: "anything failing",
  fail: "wrong or in error",
  unimplemented: "unimplemented",
  off: "left its backend",
  known: "expected failures",
};

function worst(results) {
  return results.map(tone).reduce((a, b) => (RANK[b] > RANK[a] ? b : a), "pass");
}

function matches(result) {
  switch (state.show) {
    case "bad": return state.run.bad.includes(result.status);
    case "fail": return state.run.bad.includes(result.status) && result.status !== "unimplemented";
    case "unimplemented": return result.status === "unimplemented";
    case "off": return (result.placed?.length ?? 0) > 0;
    case "known": return result.status === "skip" || result.status === "xfail";
    default: return true;
  }
}

function selected() {
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  return state.run.cases.filter(
    (one) =>
      (!state.suite || one.id.startsWith(state.suite)) &&
      words.every((word) => one.text.includes(word)) &&
      (!state.show || Object.values(one.results).some(matches)),
  );
}

// data/run.js calls this.
function report(run) {
  state.run = run;
  for (const one of run.cases) one.text = `${one.id} ${one.dtypes.join(" ")}`.toLowerCase();
  $("facts").textContent = facts(run).join(" · ");
  if (!run.rerun.length) $("rerun").remove();
  const suites = [...new Set(run.cases.map((one) => one.id.split("/").slice(0, 2).join("/")))].sort();
  $("suite").append(el("option", { value: "" }, "every suite"), ...suites.map((name) => el("option", { value: `${name}/` }, name)));
  $("state").append(...Object.entries(SHOWN).map(([value, text]) => el("option", { value }, text)));
  $("search").addEventListener("input", () => later(() => { state.search = $("search").value; draw(); }));
  $("suite").addEventListener("change", () => { state.suite = $("suite").value; draw(); });
  $("state").addEventListener("change", () => { state.show = $("state").value; draw(); });
  addEventListener("hashchange", () => { draw(); scrollTo(0, 0); });
  draw();
}

let timer = 0;
function later(work) {
  clearTimeout(timer);
  timer = setTimeout(work, 80);
}

function facts(run) {
  const where = [run.engine === "chromium" ? run.engineVersion || "Chromium" : run.engineVersion || run.engine, ...run.adapters.map((name) => `WebGPU: ${name}`)];
  return [
    run.generator, `onnx ${run.onnx}`, ...where, `${run.cases.length.toLocaleString("en")} cases in ${Math.round(run.seconds)} s`,
    run.date.slice(0, 16).replace("T", " ") + " UTC", ...(run.stopped ? ["stopped early"] : []), ...run.problems,
  ];
}

function draw() {
  const [, view, ...rest] = decodeURIComponent(location.hash).split("/");
  const cases = selected();
  $("count").textContent = `${cases.length.toLocaleString("en")} cases`;
  $("scores").hidden = view === "case";
  scores(cases);
  for (const link of document.querySelectorAll("nav a")) {
    const target = link.getAttribute("href");
    const here = target === "#/cases" ? view === "cases" : target === "#/" && (!view || view === "op");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const main = $("main");
  if (view === "case") drawCase(main, rest.join("/"));
  else if (view === "op") drawOperator(main, rest.join("/"), cases);
  else if (view === "cases") main.replaceChildren(list(cases));
  else drawMatrix(main, cases);
}

function scores(cases) {
  const parts = state.run.backends.map((backend) => {
    const counts = { pass: 0, placed: 0, fail: 0, none: 0, known: 0 };
    for (const one of cases) counts[tone(one.results[backend])]++;
    const passed = counts.pass + counts.placed;
    const names = { pass: "on the backend", placed: "right, partly elsewhere", fail: "failing", none: "unimplemented", known: "expected failures" };
    const bar = Object.entries(counts).filter(([, n]) => n).map(([kind, n]) => el("i", { class: kind, style: `flex:${n};background:var(--tone)`, title: `${n} ${names[kind]}` }));
    const legend = Object.entries(counts).filter(([, n]) => n).map(([kind, n]) => el("span", { class: kind }, `${n.toLocaleString("en")} ${names[kind]}`));
    return el("div", { class: "score" },
      el("h2", {}, el("span", {}, backend), el("b", {}, percent(passed, cases.length))),
      el("div", { class: "bar" }, ...bar), el("div", { class: "legend" }, ...legend));
  });
  $("scores").replaceChildren(...parts);
}

function percent(part, whole) {
  if (!whole) return "–";
  const value = (100 * part) / whole;
  return `${part === whole ? "100" : Math.min(value, 99.9).toFixed(1)} %`;
}

const ORDER = "f32 f16 bf16 f64 i64 i32 i16 i8 i4 i2 u64 u32 u16 u8 u4 u2 bool str f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz f8e8m0 f4e2m1 c64 c128 none".split(" ");

function operators(cases) {
  const groups = new Map();
  for (const one of cases) {
    const name = one.domain ? `${one.domain}.${one.op}` : one.op;
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(one);
  }
  return [...groups].sort(([a], [b]) => (a.includes(".") - b.includes(".")) || a.localeCompare(b));
}

function drawMatrix(main, cases) {
  const backends = state.run.backends;
  const types = ORDER.filter((type) => cases.some((one) => one.dtypes.includes(type)));
  const head = el("tr", {}, el("th", {}, "Operator"),
    ...backends.map((name) => el("th", { class: "num" }, name)),
    el("th", { class: "num wide", title: "worst difference from the reference, in units in the last place, over the cases that pass" }, "ULP"),
    el("th", { class: "num wide", title: "slowest case, first run" }, "ms"),
    ...types.map((type) => el("th", { class: "type" }, type)));
  const rows = operators(cases).map(([name, members]) => {
    const versions = [...new Set(members.map((one) => one.version))].sort((a, b) => a - b);
    const all = members.flatMap((one) => Object.values(one.results));
    const passing = all.filter((result) => result.status === "pass");
    return el("tr", {},
      el("td", { class: "op" }, el("a", { href: `#/op/${name}` }, name), " ", el("small", {}, versions.join(" "))),
      ...backends.map((backend) => el("td", { class: "num" }, share(members, backend))),
      el("td", { class: "num wide" }, number(Math.max(0, ...passing.map((result) => result.ulp ?? 0)))),
      el("td", { class: "num wide" }, number(Math.max(0, ...passing.map((result) => result.runMs)))),
      ...types.map((type) => typeCell(members, type)));
  });
  const legend = el("p", { class: "note" },
    `Squares: ${backends.join(", ")}, left to right, for every element type. Green: right and on its backend. Striped: right, with steps on JavaScript. Red: wrong. Grey: not implemented.`);
  main.replaceChildren(el("div", { class: "matrix" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows))), legend);
}

function share(members, backend) {
  const results = members.map((one) => one.results[backend]).filter(Boolean);
  const passed = results.filter((result) => result.status === "pass").length;
  const off = results.filter((result) => result.placed?.length).length;
  return el("span", { class: `share ${worst(results)}`, title: off ? `${off} with steps off ${backend}` : "" }, `${passed}/${results.length}`);
}

function typeCell(members, type) {
  const own = members.filter((one) => one.dtypes.includes(type));
  if (!own.length) return el("td", { class: "type" });
  const marks = state.run.backends.map((backend) => {
    const results = own.map((one) => one.results[backend]).filter(Boolean);
    const passed = results.filter((result) => result.status === "pass").length;
    return el("i", { class: worst(results), title: `${type} on ${backend}: ${passed} of ${results.length}` });
  });
  return el("td", { class: "type" }, el("span", { class: "cell" }, ...marks));
}

function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "∞";
  if (value === 0) return "0";
  return value >= 1e5 || value < 0.01 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

function drawOperator(main, name, cases) {
  const members = operators(cases).find(([key]) => key.toLowerCase() === name.toLowerCase())?.[1] ?? [];
  const first = members[0];
  const spec = first && !first.domain && first.op !== "composite" ? `https://onnx.ai/onnx/operators/onnx__${first.op}.html` : "";
  const reasons = new Map();
  for (const one of members)
    for (const [backend, result] of Object.entries(one.results))
      for (const [kernel, reason] of result.placed ?? []) {
        const text = `${backend}: ${kernel}: ${reason}`;
        reasons.set(text, (reasons.get(text) ?? 0) + 1);
      }
  main.replaceChildren(
    el("h1", {}, name, spec ? el("small", {}, " ", el("a", { href: spec }, "specification")) : ""),
    members.length ? "" : el("p", { class: "quiet" }, "No case of this operator is selected."),
    reasons.size ? el("h3", {}, "Steps that leave their backend") : "",
    reasons.size ? el("ul", { class: "placements" }, ...[...reasons].map(([text, count]) => el("li", {}, `${text} (${count})`))) : "",
    list(members));
}

const HEIGHT = 30;

/** A list of any length: only the rows in view exist. */
function list(cases) {
  const backends = state.run.backends;
  const rows = el("div", { class: "rows", style: `height:${cases.length * HEIGHT}px` });
  const box = el("div", { class: "list", style: `--backends:${backends.length}` },
    el("div", { class: "row head" }, el("span", {}, "Case"), ...backends.map((name) => el("span", {}, name))), rows);
  let shown = "";
  const fill = () => {
    if (!rows.isConnected) return removeEventListener("scroll", fill), removeEventListener("resize", fill);
    const top = -rows.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor(top / HEIGHT) - 20);
    const to = Math.min(cases.length, Math.ceil((top + innerHeight) / HEIGHT) + 20);
    if (shown === `${from} ${to}`) return undefined;
    shown = `${from} ${to}`;
    rows.replaceChildren(...cases.slice(from, to).map((one, index) => row(one, (from + index) * HEIGHT)));
    return undefined;
  };
  addEventListener("scroll", fill, { passive: true });
  addEventListener("resize", fill);
  requestAnimationFrame(fill);
  return box;
}

function row(one, top) {
  return el("a", { class: "row", href: `#/case/${one.id}`, style: `top:${top}px`, title: one.id },
    el("code", {}, "\u200e", one.id), ...state.run.backends.map((backend) => chip(one.results[backend])));
}

function chip(result) {
  if (!result) return el("span", {});
  const off = result.placed?.length ? `, ${result.placed.length} of ${result.steps} off` : "";
  const numbers = result.status === "pass" ? `${number(result.ulp)} ULP, ${number(result.runMs)} ms${off}` : result.message ?? "";
  return el("span", { class: `chip ${tone(result)}`, title: result.message ?? numbers }, el("b", {}, result.status), " ", el("small", {}, numbers));
}

function drawCase(main, id) {
  const one = state.run.cases.find((entry) => entry.id === id);
  if (!one) return main.replaceChildren(el("p", {}, `There is no case ${id} in this run.`));
  const outcomes = state.run.backends.map((backend) => outcome(backend, one.results[backend]));
  const name = one.domain ? `${one.domain}.${one.op}` : one.op;
  const command = `webdnn conformance --suite ${id.split("/")[0]} --filter ${id} --jobs 0 --kernels`;
  const body = el("div", {}, el("p", { class: "quiet" }, one.detail ? "Loading the tensors and kernels …" : "No tensors and kernels were kept for this case."));
  main.replaceChildren(
    el("h1", {}, el("code", {}, id)),
    el("p", { class: "quiet" }, el("a", { href: `#/op/${name}` }, name), ` version ${one.version}, opset ${one.opset}, ${one.dtypes.join(" ")}; converted in ${one.convertMs} ms`),
    el("div", { class: "outcomes" }, ...outcomes),
    el("div", { class: "command" }, el("code", {}, command),
      el("button", { type: "button", onclick: () => navigator.clipboard?.writeText(command) }, "Copy"),
      state.run.rerun.includes(id) ? el("a", { href: `run/index.html?case=${encodeURIComponent(id)}` }, "Run here") : ""),
    body);
  if (one.detail) load(one.detail[0]).then((records) => { body.replaceChildren(...detail(one, records[one.detail[1]])); },
    (error) => { body.replaceChildren(el("p", {}, `The details cannot be read: ${error.message}`)); });
  return undefined;
}

function outcome(backend, result) {
  if (!result) return "";
  const facts = result.steps === undefined ? "" : `${number(result.ulp)} ULP, difference ${number(result.error)}; ${result.steps} ${result.steps === 1 ? "step" : "steps"}; loaded in ${number(result.loadMs)} ms, ran in ${number(result.runMs)} ms`;
  return el("div", { class: `outcome ${tone(result)}` },
    el("strong", {}, backend), " ", el("span", { title: state.run.statuses[result.status] }, result.status), el("p", { class: "note" }, facts),
    result.message ? el("p", {}, result.message) : "",
    result.placed?.length ? el("ul", { class: "placements" }, ...result.placed.map(([kernel, reason]) => el("li", {}, `${kernel}: ${reason}`))) : "");
}

/** The records of one file of details; the file is a script that calls `details`. */
function load(number) {
  if (!state.details.has(number)) {
    state.details.set(number, new Promise((resolve, reject) => {
      const name = `data/details-${String(number).padStart(3, "0")}.js`;
      const script = el("script", { src: name, onerror: () => { state.details.delete(number); reject(new Error(`${name} is missing`)); } });
      state.arrived = state.arrived ?? new Map();
      state.arrived.set(number, resolve);
      document.head.append(script);
    }));
  }
  return state.details.get(number);
}

// Files of details call this: JSON, deflated, in base64.
function details(number, packed) {
  const bytes = Uint8Array.from(atob(packed), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  state.arrived.get(number)(new Response(stream).json());
}

function detail(one, record) {
  const parts = [];
  record.sets.forEach((set, number) => {
    parts.push(el("h3", {}, record.sets.length > 1 ? `Data set ${number}` : "Values"));
    parts.push(el("p", { class: "quiet" }, "Marked: elements that are not the reference's to the last bit, within the tolerance or not."));
    const rows = Object.entries(set.inputs).map(([name, value]) => valueRow(`input ${name}`, value));
    const names = record.names.length ? record.names : Object.keys(Object.values(set.outputs)[0] ?? {});
    names.forEach((name, index) => {
      const want = set.reference?.[index];
      if (want) rows.push(valueRow(`${name}: reference`, want));
      if (set.suite) rows.push(valueRow(`${name}: suite`, set.suite[index], want));
      for (const backend of state.run.backends) {
        const got = set.outputs[backend]?.[name];
        if (got) rows.push(valueRow(`${name}: ${backend}`, got, want));
      }
    });
    parts.push(el("div", { class: "values" }, el("table", {}, el("tbody", {}, ...rows))));
  });
  if (record.referenceError) parts.push(el("p", {}, `The reference: ${record.referenceError}`));
  const texts = { ...Object.fromEntries(Object.entries(record.kernels).map(([name, text]) => [{ webgpu: "WGSL", wasm: "WebAssembly", js: "JavaScript" }[name] ?? name, text])) };
  texts.Graph = record.graph;
  for (const [backend, steps] of Object.entries(record.steps)) texts[`Steps: ${backend}`] = steps.map((step) => JSON.stringify(step)).join("\n");
  parts.push(el("h3", {}, "Kernels"), tabs(texts));
  return parts;
}

function valueRow(label, value, want) {
  const type = value.shape ? `${value.type}[${value.shape.join(", ")}]` : value.type;
  const cells = el("span", { class: "data" });
  const items = value.items ? value.items.map((item) => `${item.type}[${item.shape ?? ""}] {${(item.values ?? []).join(", ")}}`) : value.values ?? [];
  items.forEach((text, index) => {
    const differs = want?.values && index < want.values.length && want.values[index] !== text;
    cells.append(differs ? el("mark", { title: `reference: ${want.values[index]}` }, text) : text, index + 1 < items.length ? ", " : "");
  });
  if (value.of > items.length) cells.append(` … (${value.of.toLocaleString("en")} elements)`);
  return el("tr", {}, el("th", {}, label), el("td", {}, el("code", {}, type)), el("td", {}, cells));
}

function tabs(texts) {
  const pre = el("pre", { tabindex: "0" });
  const bar = el("div", { class: "tabs", role: "tablist" });
  const open = (name) => {
    pre.textContent = texts[name];
    for (const button of bar.children) button.setAttribute("aria-selected", String(button.textContent === name));
  };
  for (const name of Object.keys(texts)) bar.append(el("button", { type: "button", role: "tab", onclick: () => open(name) }, name));
  open(Object.keys(texts)[0]);
  return el("div", {}, bar, pre);
}
