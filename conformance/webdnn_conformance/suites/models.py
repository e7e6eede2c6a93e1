"""Real models in a folder, with the data sets beside them or with seeded inputs, which the reference judges."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto

from webdnn_conformance.case import COMPOSITE, Case, DataSet, make_case
from webdnn_conformance.suites.values import data_sets

__all__ = ["cases"]

_FREE = 2
_HIGHEST = 64
_GIVEN_RTOL, _GIVEN_ATOL = 1e-3, 1e-4


def cases(folder: Path, pattern: str = "*.onnx") -> Iterator[Case]:
    """One case per .onnx file below a folder; symbolic dimensions take two sizes without another conversion."""
    listed = tomllib.loads(Path(__file__).with_name("models.toml").read_text())["model"]
    recipes: dict[str, Mapping[str, Any]] = {entry["file"]: entry for entry in listed}
    for path in sorted(folder.rglob(pattern)):
        relative = path.relative_to(folder)
        model = onnx.load(path)
        files = {entry.relative_to(path.parent).as_posix(): entry.read_bytes() for entry in path.parent.glob("*/*.pb")}
        recipe = recipes.get(relative.as_posix(), {})
        sets = data_sets(files, model)
        if any(one.expected is not None and len(one.expected) < len(model.graph.output) for one in sets):
            sets = [DataSet(one.inputs) for one in sets]  # some outputs are not given: the reference has all of them
        if not sets or recipe:
            sets += [_seeded(model, recipe, run) for run in range(_runs(recipe))]
        group, name = f"models/{relative.parts[0]}", relative.stem
        yield make_case(group, name, model, sets, op=COMPOSITE, rtol=_GIVEN_RTOL, atol=_GIVEN_ATOL)


def _runs(recipe: Mapping[str, Any]) -> int:
    return max((len(shapes) for shapes in recipe.get("shapes", {}).values()), default=1)


def _seeded(model: ModelProto, recipe: Mapping[str, Any], run: int) -> DataSet:
    """Seeded values for every input of a model."""
    random = np.random.default_rng(run)
    initialized = {tensor.name for tensor in model.graph.initializer}
    feeds: dict[str, Any] = {}
    for value in model.graph.input:
        name, tensor = value.name, value.type.tensor_type
        if name in initialized:
            continue
        declared = [dim.dim_value or _FREE for dim in tensor.shape.dim]
        shape = recipe.get("shapes", {}).get(name, [declared] * (run + 1))[run]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if name in recipe.get("fixed", {}):
            feeds[name] = np.array(recipe["fixed"][name], dtype)
        elif name in recipe.get("each", {}):
            feeds[name] = np.array(recipe["each"][name][run], dtype)
        elif name in recipe.get("ones", ()):
            feeds[name] = np.ones(shape, dtype)
        elif name in recipe.get("counting", {}):
            first = recipe["counting"][name][run]
            feeds[name] = np.broadcast_to(np.arange(first, first + shape[-1], dtype=dtype), shape).copy()
        elif dtype.kind == "f":
            feeds[name] = random.standard_normal(shape).astype(dtype)
        else:
            feeds[name] = random.integers(0, recipe.get("highest", {}).get(name, _HIGHEST), shape).astype(dtype)
    return DataSet(feeds)
