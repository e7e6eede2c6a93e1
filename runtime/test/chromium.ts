// A headless Chromium that loads one page of a test server and posts its result back. No driver: the page does the
// talking.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Content } from "./bundle.ts";

const PATHS = [
  process.env.CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome-stable",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

export const chromium = PATHS.find((path) => path && existsSync(path));

const TYPES: Record<string, string> = {
  html: "text/html",
  js: "text/javascript",
  mjs: "text/javascript",
  json: "application/json",
  wasm: "application/wasm",
};

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--no-first-run",
  "--disable-extensions",
  "--disable-gpu-sandbox",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
];

/**
 * Serves files with the given headers, opens index.html, and resolves to what the page posts to /result.
 * Files are answered by name; the query is ignored.
 */
export async function visit(files: Content, headers: Record<string, string> = {}): Promise<unknown> {
  let done!: (result: unknown) => void;
  const result = new Promise<unknown>((resolve) => (done = resolve));
  const server = createServer((request, response) => {
    const name = new URL(request.url ?? "/", "http://x").pathname.slice(1) || "index.html";
    if (name === "result") {
      const parts: Buffer[] = [];
      request
        .on("data", (part: Buffer) => parts.push(part))
        .on("end", () => {
          response.end();
          done(JSON.parse(Buffer.concat(parts).toString()));
        });
      return;
    }
    const content = files[name] as string | Uint8Array | undefined;
    const type = TYPES[name.split(".").at(-1) ?? ""] ?? "application/octet-stream";
    if (content === undefined) response.writeHead(404).end();
    else response.writeHead(200, { "content-type": type, ...headers }).end(content);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const profile = await mkdtemp(join(tmpdir(), "webdnn-chromium-"));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const browser = spawn(chromium ?? "", [...FLAGS, `--user-data-dir=${profile}`, url], { stdio: "ignore" });
  const exited = new Promise((resolve) => browser.once("exit", resolve));
  try {
    const timeout = new Promise((_, reject) => setTimeout(reject, 45000, new Error("the page did not answer")).unref());
    return await Promise.race([result, timeout]);
  } finally {
    browser.kill();
    await exited;
    server.closeAllConnections();
    server.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/**
 * A page whose module script evaluates to the result. Scripts are files of their own: the policy forbids inline ones.
 */
export function page(script: string, classicScripts: readonly string[] = []): Content {
  const tags = [...classicScripts, "post.js"].map((source) => `<script src="${source}"></script>`).join("");
  return {
    "index.html": `<!doctype html><title>test</title>${tags}<script type="module" src="main.js"></script>`,
    "post.js": `
      const post = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });
      addEventListener("error", (event) => post({ error: String(event.message) }));
      addEventListener("unhandledrejection", (event) => post({ error: String(event.reason && event.reason.stack || event.reason) }));
      addEventListener("securitypolicyviolation", (event) => post({ error: "policy: " + event.violatedDirective + " " + event.blockedURI }));
    `,
    "main.js": script,
  };
}

/** No eval, no inline scripts, nothing from elsewhere; WebAssembly may be compiled. */
export const STRICT = { "content-security-policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'" };

export const ISOLATED = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
