// One declaration file from the many that tsc writes: every declaration reachable from the entry, exported only if the entry does.

import { readFileSync } from "node:fs";
import { join } from "node:path";

const STATEMENT = /^(?:import|export)\b[^;]*?\bfrom "\.\/([\w-]+)(?:\.ts|\.js)?";\n?/gm;

/** Declarations of a module and of what it imports, dependencies first. */
function collect(folder, name, done) {
  if (done.has(name)) return;
  done.set(name, "");
  const text = readFileSync(join(folder, `${name}.d.ts`), "utf8");
  for (const [, dependency] of text.matchAll(STATEMENT)) collect(folder, dependency, done);
  done.delete(name);
  done.set(name, text);
}

/** Names in `export { a, type b } from` and `export type { c } from` statements. */
function reexports(text) {
  const names = [];
  for (const [, type, list] of text.matchAll(/^export (type )?\{([^}]*)\}/gm)) {
    for (const item of list.split(",").map((part) => part.trim())) {
      if (item) names.push(type || item.startsWith("type ") ? `type ${item.replace(/^type /, "")}` : item);
    }
  }
  return names;
}

export function bundleDeclarations(folder, entry) {
  const modules = new Map();
  collect(folder, entry, modules);
  let result = "// Generated from the sources of webdnn-onnx. MIT License.\n\n";
  for (const [name, text] of modules) {
    const own = text.replace(STATEMENT, "").replace(/^export \{\};?\n/gm, "");
    // Declarations of the entry stay exported; those of other modules become private to the file.
    result += name === entry ? own : own.replace(/^export (declare |type |interface |abstract )/gm, (_, kind) => (kind === "type " || kind === "interface " ? kind : "declare ")).replace(/^declare (type|interface) /gm, "$1 ");
  }
  const names = reexports(modules.get(entry));
  return `${result}\nexport { ${names.join(", ")} };\n`;
}
