// One declaration file from the many that tsc writes: what the entry exports, and what those declarations mention.

import { readFileSync } from "node:fs";
import { join } from "node:path";

const FROM = /^(?:import|export)\b[^;]*?\bfrom "\.\/([\w-]+)(?:\.ts|\.js)?";\n?/gm;
const NAMESPACE = /^export \* as (\w+) from "\.\/([\w-]+)\.ts";\n?/gm;
const NAME = /^(?:export )?(?:declare )?(?:abstract )?(?:class|const|let|function|interface|type) (\w+)/m;

/** Names in `export { a, type b } from` and `export type { c } from` statements. */
function reexports(text) {
  return [...text.matchAll(/^export (type )?\{([^}]*)\}/gm)].flatMap(([, type, list]) =>
    list
      .split(",")
      .map((part) => part.trim())
      .filter(Boolean)
      .map((item) => ({ name: item.replace(/^type /, ""), type: Boolean(type) || item.startsWith("type ") })),
  );
}

/** Top-level declarations of a module, each with the comment before it, under its name. */
function declarations(text) {
  const plain = text
    .replace(NAMESPACE, "")
    .replace(FROM, "")
    .replace(/^export \{\};?\n/gm, "");
  const parts = plain.split(/^(?=\/\*\*|export |declare |type |interface )/m).filter((part) => part.trim());
  const found = [];
  let comment = "";
  for (const part of parts) {
    const name = NAME.exec(part)?.[1];
    if (name) found.push({ name, exported: /^export /m.test(part), text: comment + part.trimEnd() });
    comment = name ? "" : part;
  }
  return found;
}

function collect(folder, name, modules = new Map()) {
  if (modules.has(name)) return modules;
  const text = readFileSync(join(folder, `${name}.d.ts`), "utf8");
  modules.set(name, text);
  for (const [, dependency] of text.matchAll(FROM)) collect(folder, dependency, modules);
  return modules;
}

export function bundleDeclarations(folder, entry) {
  const modules = collect(folder, entry);
  const text = modules.get(entry);
  const all = [...modules].flatMap(([module, source]) => declarations(source).map((item) => ({ ...item, module })));
  const namespaces = [...text.matchAll(NAMESPACE)].map(([, name, module]) => ({ name, module }));
  const inNamespace = new Set(namespaces.map(({ module }) => module));
  const exported = reexports(text).filter(({ name }) => all.some((item) => item.name === name));
  const own = all.filter((item) => item.module === entry && item.exported);

  const reached = new Set();
  const visit = (name) => {
    for (const item of all) {
      if (item.name !== name || reached.has(item) || inNamespace.has(item.module)) continue;
      reached.add(item);
      for (const [word] of item.text.matchAll(/\b[A-Za-z_]\w*\b/g)) if (word !== name) visit(word);
    }
  };
  for (const { name } of [...exported, ...own]) visit(name);

  const isOwn = new Set(own);
  const printed = all
    .filter((item) => reached.has(item))
    .map((item) => (isOwn.has(item) ? item.text : item.text.replace(/^export (declare )?/m, (_, word) => word ?? "")));
  for (const { name, module } of namespaces) {
    const inside = all
      .filter((item) => item.module === module)
      .map((item) => item.text.replace(/^(export )?declare /gm, "$1"));
    printed.push(`export declare namespace ${name} {\n${inside.join("\n").replace(/^(?=.)/gm, "  ")}\n}`);
  }
  const list = exported.map(({ name, type }) => (type ? `type ${name}` : name));
  return `// Generated from the sources of webdnn-onnx. MIT License.\n\n${printed.join("\n")}\n\nexport {${list.length ? ` ${list.join(", ")} ` : ""}};\n`;
}
