"""Host functions are written into a bundle with what they need and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from webdnn_backends.js.host_functions import host_declarations, host_module
from webdnn_onnx.dtypes import DType
from webdnn_reference.ops.cast import convert


def test_a_function_comes_with_what_it_mentions() -> None:
    text = host_module(["sequence_at"])
    assert "export function sequence_at" in text
    assert "const place" in text
    assert "sequence_insert" not in text


def test_only_the_named_functions_are_exported() -> None:
    assert re.findall(r"export (?:async )?function (\w+)", host_module(["image_decoder"])) == ["image_decoder"]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(KeyError, match="no_such_function"):
        host_module(["no_such_function"])


def test_every_function_that_a_lowering_names_exists() -> None:
    sources = resources.files("webdnn_backends.lower")
    named: set[str] = set()
    for entry in sources.iterdir():
        if entry.name.endswith(".py"):
            named.update(re.findall(r"(?:\.host|\bHost)\(\s*\"(\w+)\"", entry.read_text("utf-8")))
    declarations = host_declarations()
    assert named, "lowerings name host functions"
    assert {name for name in named if name not in declarations or not declarations[name].exported} == set()


def test_numbers_and_strings_convert_as_in_the_reference(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 32, 2000, dtype=np.uint32).view(np.float32)
    values = np.append(
        values[np.isfinite(values)], np.array([2**24, 1e-4, 1e16, 0, -0.0, 123456789, 1 / 3, 1762400.25], np.float32)
    )
    expected = convert(values, DType.STRING).tolist()
    refused = ["1_000", "0x10", "0b1", "1,5", "", ".", "e5", "\u0663"]
    (tmp_path / "host.mjs").write_text(host_module(["string_format", "string_parse"]), "utf-8")
    script = tmp_path / "run.mjs"
    script.write_text(
        'import { string_format, string_parse } from "./host.mjs";\n'
        f"const data = Float32Array.from({[float(value) for value in values]});\n"
        f"const dims = [{len(values)}];\n"
        'const [text] = string_format([{ dtype: "float32", dims, data }], { kind: "float32" });\n'
        'const [back] = string_parse([text], { dtype: "float64" });\n'
        "const refuses = (item) => {\n"
        '  try { string_parse([{ dims: [1], data: [item] }], { dtype: "float64" }); } catch { return true; }\n'
        "  return false;\n"
        "};\n"
        "const same = Array.from(back.data, (value, i) => Object.is(Math.fround(value), data[i]));\n"
        f"console.log(JSON.stringify([text.data, same, {refused}.map(refuses)]));\n",
        "utf-8",
    )
    out = subprocess.run(["node", str(script)], capture_output=True, text=True, check=True, timeout=60).stdout
    texts, same, refusals = json.loads(out)
    assert texts == expected
    assert all(same)
    assert refusals == [True] * len(refused)
