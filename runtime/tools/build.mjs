// Builds the files that go into every bundle: webdnn.js, webdnn.worker.js, webdnn.classic.js, and the declarations.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync, copyFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { bundleDeclarations } from "./declarations.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, "dist");
const packaged = join(root, "..", "webdnn_onnx", "_runtime");
const LIMIT = 40 * 1024;

const common = {
  bundle: true,
  minify: true,
  target: ["es2022"],
  legalComments: "none",
  absWorkingDir: root,
  logLevel: "warning",
  charset: "utf8",
};
const banner = (name) => ({ js: `// webdnn-onnx runtime, ${name}. MIT License.` });

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
/** Lets the classic layer take `load` from elsewhere, so that the runtime is not in a bundle twice. */
const loadFrom = (resolution) => ({
  name: "load-from",
  setup: ({ onResolve }) => onResolve({ filter: /^\.\/load\.ts$/ }, () => resolution),
});

await Promise.all([
  build({
    ...common,
    entryPoints: ["src/index.ts"],
    outfile: "dist/webdnn.js",
    format: "esm",
    banner: banner("ES module"),
  }),
  build({
    ...common,
    entryPoints: ["src/worker.ts"],
    outfile: "dist/webdnn.worker.js",
    format: "esm",
    external: ["./webdnn.js"],
    banner: banner("worker"),
  }),
  build({
    ...common,
    entryPoints: ["src/classic.ts"],
    outfile: "dist/webdnn.classic.mjs",
    format: "esm",
    plugins: [loadFrom({ path: "./webdnn.js", external: true })],
    banner: banner("the first WebDNN's interface, ES module"),
  }),
  build({
    ...common,
    entryPoints: ["src/classic.ts"],
    outfile: "dist/webdnn.classic.js",
    format: "iife",
    globalName: "WebDNN",
    plugins: [loadFrom({ path: join(root, "tools/lazy-load.js") })],
    banner: banner("the first WebDNN's interface, classic script"),
  }),
]);

const types = join(dist, "types");
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json"], {
  cwd: root,
  stdio: "inherit",
});
writeFileSync(join(dist, "webdnn.d.ts"), bundleDeclarations(types, "index"));
writeFileSync(join(dist, "webdnn.classic.d.ts"), bundleDeclarations(types, "classic"));
rmSync(types, { recursive: true });

/** What a converted model's folder gets a copy of; the rest is for those who install the npm package. */
const inBundles = ["webdnn.js", "webdnn.d.ts", "webdnn.worker.js", "webdnn.classic.js"];

rmSync(packaged, { recursive: true, force: true });
mkdirSync(packaged, { recursive: true });
for (const name of inBundles) copyFileSync(join(dist, name), join(packaged, name));
for (const name of readdirSync(dist).sort()) {
  const bytes = readFileSync(join(dist, name));
  const packed = gzipSync(bytes, { level: 9 }).length;
  console.log(`${name.padEnd(24)} ${String(bytes.length).padStart(7)} bytes ${String(packed).padStart(7)} gzipped`);
  if (name === "webdnn.js" && packed > LIMIT)
    throw new Error(`webdnn.js: at most ${LIMIT} bytes gzipped, got ${packed}`);
}
