// A web server for one folder's worth of files, whose answers a test can spoil.

import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach } from "vitest";
import type { Content } from "./bundle.ts";

export type Spoil = (name: string, content: Uint8Array, response: ServerResponse, count: number) => boolean;

const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
});

/** Serves files; `spoil` returns true if it answered itself. `requests` counts by name. */
export async function serve(
  files: Content,
  spoil: Spoil = () => false,
): Promise<{ url: string; requests: Map<string, number> }> {
  const requests = new Map<string, number>();
  const server = createServer((request, response) => {
    const name = decodeURIComponent((request.url ?? "/").slice(1));
    const count = (requests.get(name) ?? 0) + 1;
    requests.set(name, count);
    const content = files[name] as string | Uint8Array | undefined;
    if (content === undefined) {
      response.writeHead(404).end();
      return;
    }
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    if (!spoil(name, bytes, response, count)) response.writeHead(200, { "content-length": bytes.length }).end(bytes);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  open.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, requests };
}
