"""A bundle whose model is a few lines of JavaScript: engines are tested without the compiler."""

from __future__ import annotations

from pathlib import Path

import pytest

ENTRY = """
export async function load(options) {
  if (options.backend === "missing") throw Object.assign(new Error("no such backend"), { name: "BackendError" });
  let runs = 0;
  return {
    backend: options.backend, threads: 1, notes: ["a note"],
    placement: [{ path: [0], name: "sort", on: "js", reason: "no sorting network" }],
    async run({ x, hang, crash, fail }) {
      console.log("run", ++runs);
      if (hang) for (;;);
      if (crash) await globalThis.crash();
      if (fail) throw Object.assign(new Error("x: expected [2], got [3]"), { name: fail.data[0] });
      return { y: { data: x.data.map((value) => value + value), dims: x.dims, dtype: x.dtype }, runs: {
        data: Int32Array.of(runs), dims: [], dtype: "int32" } };
    },
    async dispose() {},
  };
}
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Doubles its input."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    (folder / "index.js").write_text(ENTRY)
    return folder
