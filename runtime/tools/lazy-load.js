// Stands in for src/load.ts in the classic script: the runtime itself is the module beside it, fetched at the first load().

// Known only while the script is first executed.
const script = document.currentScript?.src || location.href;

export const load = async (...args) => (await import(new URL("webdnn.js", script).href)).load(...args);
