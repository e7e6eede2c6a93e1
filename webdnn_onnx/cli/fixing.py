"""--shape and --dim: what the user fixes of a model's symbolic shapes."""

from __future__ import annotations

from collections.abc import Sequence

from webdnn_onnx.errors import ShapeError

__all__ = ["parse_dims", "parse_shapes"]


def parse_shapes(options: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """`image=1,3,224,224` -> {"image": (1, 3, 224, 224)}; a scalar is `x=`. Raises ShapeError."""
    shapes: dict[str, tuple[int, ...]] = {}
    for option in options:
        name, equals, text = option.rpartition("=")
        sizes = [size.strip() for size in text.split(",")] if text.strip() else []
        if not equals or not name or not all(size.isdecimal() for size in sizes):
            raise ShapeError(f"--shape: expected NAME=1,3,224,224, got '{option}'")
        shapes[name] = tuple(int(size) for size in sizes)
    return shapes


def parse_dims(options: Sequence[str]) -> dict[str, int]:
    """`batch=1` -> {"batch": 1}. Raises ShapeError."""
    dims: dict[str, int] = {}
    for option in options:
        name, equals, text = option.rpartition("=")
        if not equals or not name or not text.strip().isdecimal():
            raise ShapeError(f"--dim: expected NAME=N, got '{option}'")
        dims[name] = int(text)
    return dims
