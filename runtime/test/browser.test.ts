// The built files in a real browser: `npm run build` comes first.

import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { bundleFiles, type Content } from "./bundle.ts";
import { chromium, ISOLATED, page, STRICT, visit } from "./chromium.ts";

const NAMES = ["webdnn.js", "webdnn.worker.js", "webdnn.classic.js"];
const built = async (): Promise<Content> =>
  Object.fromEntries(
    await Promise.all(
      NAMES.map(async (name) => [name, await readFile(new URL(`../dist/${name}`, import.meta.url), "utf8")] as const),
    ),
  );

const model = (): Content =>
  Object.fromEntries(Object.entries(bundleFiles()).map(([name, content]) => [`model/${name}`, content]));

const Y = [2, 3, 4, 10, 12, 14];
const HEAD = `import { load, loadInWorker } from "./webdnn.js"; const x = Float32Array.of(1, 1, 1, 2, 2, 2);`;

if (!chromium) console.warn("browser tests are skipped: there is no Chromium; set CHROMIUM to its path");

describe.skipIf(!chromium)("in Chromium, under a strict content security policy", { timeout: 60000 }, () => {
  test("every backend answers, and the cache saves the second download", async () => {
    const script = `${HEAD}
      const results = {};
      for (const backend of ["webgpu", "wasm", "js"]) {
        const model = await load("model", { backend });
        const { y } = await model.run({ x });
        results[backend] = [...y.data];
        await model.dispose();
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
      performance.clearResourceTimings();
      await (await load("./model/", { backend: "wasm" })).run({ x });
      post({ results, fetched: performance.getEntriesByType("resource").map((entry) => entry.name.split("/").pop()) });
    `;
    expect(await visit({ ...(await built()), ...model(), ...page(script) }, STRICT)).toEqual({
      results: { webgpu: Y, wasm: Y, js: Y },
      fetched: ["model.json"],
    });
  });

  test("without isolation there is one thread, and a note says why", async () => {
    const script = `${HEAD}
      const model = await load("model", { backend: "wasm", threads: 4 });
      post([model.threads, model.notes, [...(await model.run({ x })).y.data]]);
    `;
    expect(await visit({ ...(await built()), ...model(), ...page(script) }, STRICT)).toEqual([
      1,
      [expect.stringContaining("not cross-origin isolated")],
      Y,
    ]);
  });

  test("with isolation the model moves into a worker with threads", async () => {
    const script = `${HEAD}
      const model = await load("model", { backend: "wasm", threads: 2 });
      const answers = [];
      for (let round = 0; round < 100; round++) answers.push([...(await model.run({ x })).y.data].join());
      await model.dispose();
      post([model.threads, model.notes[0], [...new Set(answers)]]);
    `;
    expect(await visit({ ...(await built()), ...model(), ...page(script) }, { ...STRICT, ...ISOLATED })).toEqual([
      2,
      "runs in a worker",
      [Y.join()],
    ]);
  });

  test("a worker runs WebGPU as well", async () => {
    const script = `${HEAD}
      const model = await loadInWorker("model", { backend: "webgpu" });
      post([model.backend, [...(await model.run({ x })).y.data]]);
    `;
    expect(await visit({ ...(await built()), ...model(), ...page(script) }, STRICT)).toEqual(["webgpu", Y]);
  });

  test("the first WebDNN's programs run from a script tag, pictures included", async () => {
    const script = `
      const canvas = document.createElement("canvas");
      canvas.width = 4; canvas.height = 2;
      const context = canvas.getContext("2d");
      context.fillStyle = "rgb(10, 20, 30)";
      context.fillRect(0, 0, 4, 2);
      const { Color, Order } = WebDNN.Image;
      const whole = await WebDNN.Image.getImageArray(canvas, { dstW: 2, dstH: 1, color: Color.BGR, order: Order.CHW, scale: 10 });
      const byUrl = await WebDNN.Image.getImageArray(canvas.toDataURL(), { dstW: 1, dstH: 1 });
      WebDNN.Image.setImageArrayToCanvas([[200, 100, 50]], 1, 1, canvas);
      const pixel = [...context.getImageData(3, 1, 1, 1).data];
      const runner = await WebDNN.load("./model", { backendOrder: ["webgpu", "webassembly"] });
      runner.getInputViews()[0].set([1, 1, 1, 2, 2, 2]);
      await runner.run();
      const y = runner.getOutputViews()[0].toActual();
      const globals = Object.keys(window).filter((name) => /webdnn/i.test(name));
      post([[...whole], [...byUrl], pixel, runner.backendName, [...y], WebDNN.Math.argmax(y), globals]);
    `;
    const headers = { "content-security-policy": `${STRICT["content-security-policy"]}; img-src 'self' data:` };
    const result = await visit({ ...(await built()), ...model(), ...page(script, ["webdnn.classic.js"]) }, headers);
    expect(result).toEqual([[3, 3, 2, 2, 1, 1], [10, 20, 30], [200, 100, 50, 255], "webgpu", Y, [5], ["WebDNN"]]);
  });
});
