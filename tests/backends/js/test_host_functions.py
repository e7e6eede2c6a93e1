"""Host functions are written into a bundle with what they need and nothing else."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from webdnn_backends.js.host_functions import host_declarations, host_module


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
