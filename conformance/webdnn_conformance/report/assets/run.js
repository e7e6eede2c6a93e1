// The page that runs the report's cases again, here. It loads cases.json, the packed cases and the runtime; it sends
// nothing to anyone.

import { inputsOf, part, runCase } from "./case.js";
import { compare } from "./compare.js";
import { decode } from "./session.js";
import { load } from "./webdnn.js";

const BACKENDS = ["webgpu", "wasm", "js"];
const TIMEOUT = 60_000;
const $ = (id) => document.getElementById(id);

let stopped = false;
let result = null;
let shard = { number: -1, bytes: null };

async function describeDevice() {
  const facts = { userAgent: navigator.userAgent, platform: navigator.userAgentData?.platform ?? navigator.platform };
  facts.cores = navigator.hardwareConcurrency;
  try {
    const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
    const { vendor, architecture, device, description } = adapter?.info ?? {};
    facts.adapter = [vendor, architecture, device, description].filter(Boolean).join(" ");
    facts.features = adapter ? [...adapter.features].sort() : [];
  } catch (error) {
    facts.adapter = "";
    facts.gpuError = error.message;
  }
  return facts;
}

async function readCase({ shard: number, at, bytes }) {
  if (shard.number !== number) {
    const response = await fetch(`cases-${String(number).padStart(3, "0")}.bin`);
    if (!response.ok) throw new Error(`cases-${number}: the server answered ${response.status}`);
    const stream = response.body.pipeThrough(new DecompressionStream("deflate"));
    shard = { number, bytes: await new Response(stream).arrayBuffer() };
  }
  return decode(shard.bytes.slice(at, at + bytes));
}

async function runOne(entry, backends) {
  const { header, values } = await readCase(entry);
  const wanted = [];
  for (const [name, value] of Object.entries(values)) {
    const found = /^(\d+)\/want\/(\d+)$/.exec(name);
    if (found) (wanted[Number(found[1])] ??= [])[Number(found[2])] = value;
  }
  const outcomes = {};
  for (const backend of backends.filter((name) => header.backends.includes(name))) {
    const run = runCase(load, part(values, "file/"), backend, inputsOf(values), {});
    const late = new Promise((resolve) => setTimeout(resolve, TIMEOUT, { error: { name: "Timeout", message: `no answer within ${TIMEOUT / 1e3} s` } }));
    const { error, outputs = [], loadMs = 0, runMs = [], placement = [] } = await Promise.race([run, late]);
    let [ulp, message] = [0, ""];
    outputs.forEach((set, number) => {
      Object.entries(set).forEach(([name, value], index) => {
        const finding = compare(`output '${name}'`, value, wanted[number]?.[index] ?? null, header.tolerances, header.drawn);
        ulp = Math.max(ulp, finding.ulp);
        message ||= finding.message;
      });
    });
    const status = error ? "error" : message ? "fail" : "pass";
    const text = error ? `${error.name}: ${error.message}` : message;
    outcomes[backend] = { status, ...(text && { message: text }), ulp: Number.isFinite(ulp) ? ulp : null, loadMs, runMs: runMs.reduce((a, b) => a + b, 0), placed: placement.map(({ name, reason }) => [name, reason]) };
  }
  return { id: entry.id, results: outcomes };
}

async function run(cases, backends, device) {
  const totals = Object.fromEntries(backends.map((name) => [name, { pass: 0, fail: 0, error: 0, ulp: 0, ms: 0 }]));
  result = { format: 1, kind: "rerun", date: new Date().toISOString(), device, backends, cases: [] };
  $("failures").replaceChildren();
  $("totals").hidden = $("progress").hidden = false;
  for (const [index, entry] of cases.entries()) {
    if (stopped) break;
    const one = await runOne(entry, backends);
    result.cases.push(one);
    for (const [backend, outcome] of Object.entries(one.results)) {
      totals[backend][outcome.status]++;
      totals[backend].ulp = Math.max(totals[backend].ulp, outcome.status === "pass" ? outcome.ulp : 0);
      totals[backend].ms += outcome.loadMs + outcome.runMs;
      if (outcome.status !== "pass") showFailure(one.id, backend, outcome);
    }
    $("progress").value = (index + 1) / cases.length;
    $("status").textContent = `${index + 1} of ${cases.length}: ${entry.id}`;
    show(totals);
    if (index % 8 === 7) await new Promise((resolve) => setTimeout(resolve));
  }
  $("status").textContent = `${result.cases.length} of ${cases.length} cases are done.`;
}

function show(totals) {
  $("totals").tBodies[0].replaceChildren(
    ...Object.entries(totals).map(([name, { pass, fail, error, ulp, ms }]) => {
      const row = document.createElement("tr");
      for (const text of [name, pass, fail, error, Math.round(ulp), (ms / 1e3).toFixed(1)]) row.insertCell().textContent = text;
      return row;
    }),
  );
}

function showFailure(id, backend, { message }) {
  if ($("failures").children.length >= 500) return;
  const item = document.createElement("li");
  const link = Object.assign(document.createElement("a"), { href: `../index.html#/case/${id}`, textContent: id });
  const name = Object.assign(document.createElement("b"), { textContent: ` ${backend}: ` });
  item.append(link, name, message ?? "");
  $("failures").append(item);
}

function save() {
  const url = URL.createObjectURL(new Blob([JSON.stringify(result, null, 1)], { type: "application/json" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: "webdnn-conformance.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

async function start() {
  const wanted = new URLSearchParams(location.search).get("case");
  const [device, listed] = await Promise.all([describeDevice(), fetch("cases.json").then((response) => response.json())]);
  $("device").textContent = [device.userAgent, device.adapter ? `WebGPU: ${device.adapter}` : "no WebGPU", `${listed.cases.length} cases`].join(" · ");
  for (const name of BACKENDS) {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: name, checked: name !== "webgpu" || device.adapter !== "" });
    label.append(box, ` ${name}`);
    $("backends").append(label);
  }
  if (wanted) $("filter").value = wanted;
  $("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const backends = [...$("backends").querySelectorAll("input:checked")].map((box) => box.value);
    const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const cases = listed.cases.filter(({ id }) => words.every((word) => id.includes(word)));
    stopped = false;
    $("start").disabled = true;
    $("stop").disabled = false;
    try {
      await run(cases, backends, device);
    } catch (error) {
      $("status").textContent = `The run ended: ${error.message}`;
    }
    $("start").disabled = false;
    $("stop").disabled = true;
    $("save").disabled = !result?.cases.length;
  });
  $("stop").addEventListener("click", () => { stopped = true; });
  $("save").addEventListener("click", save);
  document.body.dataset.ready = "true";
  if (wanted) $("form").requestSubmit();
}

start().catch((error) => { $("device").textContent = `This page cannot start: ${error.message}. Serve the folder over http: webdnn serve.`; });
