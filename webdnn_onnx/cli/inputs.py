"""Inputs of a model: from files, or seeded values of a sensible range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_onnx.cli.bundle import Port
from webdnn_onnx.cli.fixing import parse_dims
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import (
    BackendError,
    DTypeError,
    InvalidModelError,
    ShapeError,
    UnsupportedOpError,
    WebDNNError,
)

__all__ = ["chosen_dims", "evaluate_dim", "given_inputs", "made_up", "seeded_inputs"]

Limits = Mapping[str, int]
"""Input name -> the first integer that is too large for it (a vocabulary's size)."""

_DEFAULT_SIZE = 4
_DEFAULT_LIMIT = 2
_UNPICKLED = "it holds pickled objects; save text as an array of dtype str"


def given_inputs(options: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """The arrays that --input names: `x.npz` by name, `NAME=x.npy`, `NAME=x.pb`, or one file for a single input.

    Arrays named `x/0`, `x/1`, ... are the elements of the sequence x: a list. Raises InvalidModelError for a file that
    cannot be read or a name that the model has not.
    """
    found: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        path = Path(text if equals else option)
        arrays = _read(path)
        if equals:
            if len(arrays) != 1:
                raise InvalidModelError(f"--input {option}: expected one array in {path}, got {len(arrays)}")
            found[name] = next(iter(arrays.values()))
        elif list(arrays) == [""]:
            if len(names) != 1:
                raise InvalidModelError(f"--input {option}: expected NAME=FILE with NAME one of {', '.join(names)}")
            found[names[0]] = arrays[""]
        else:
            found.update(_sequences(arrays, names))
    for name in found:
        if name not in names:
            raise InvalidModelError(f"--input: expected names among {', '.join(names) or 'none'}, got '{name}'")
    return found


def _sequences(arrays: Mapping[str, npt.NDArray[Any]], names: Sequence[str]) -> dict[str, Any]:
    """The arrays by name, those of a sequence as one list in the order of their numbers."""
    found: dict[str, Any] = {}
    elements: dict[str, dict[int, npt.NDArray[Any]]] = {}
    for key, array in arrays.items():
        name, slash, number = key.rpartition("/")
        if slash and key not in names and name in names and number.isdecimal():
            elements.setdefault(name, {})[int(number)] = array
        else:
            found[key] = array
    for name, by_number in elements.items():
        if sorted(by_number) != list(range(len(by_number))):
            raise InvalidModelError(
                f"--input: expected {name}/0 to {name}/{len(by_number) - 1}, got {name}/{max(by_number)}"
            )
        found[name] = [by_number[number] for number in range(len(by_number))]
    return found


def chosen_dims(options: Sequence[str], ports: Sequence[Port]) -> dict[str, int]:
    """The sizes that --dim gives to symbolic dimensions. Raises ShapeError for a name that no input's shape has."""
    dims = parse_dims(options)
    known = dict.fromkeys(symbol for port in ports for dim in port.shape for symbol in _symbols(dim))
    for name in dims:
        if name not in known:
            raise ShapeError(f"--dim: expected a dimension among {', '.join(known) or 'none'}, got '{name}'")
    return dims


def _symbols(dim: Any) -> Iterator[str]:
    match dim:
        case str():
            yield dim
        case [str(), left, right]:
            yield from _symbols(left)
            yield from _symbols(right)


@contextmanager
def made_up(inputs: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[None]:
    """Adds to the error of a run that its inputs, or some of them, are made up: that may be all that is wrong."""
    try:
        yield
    except WebDNNError as error:
        drawn = [f"{name} {list(value.shape)}" for name, value in inputs.items() if name not in given]
        if not drawn or isinstance(error, BackendError | UnsupportedOpError):
            raise
        hint = f"made up for this run: {', '.join(drawn)}; other sizes with --dim NAME=N, values with --input"
        raise type(error)(f"{error} ({hint})") from None


def seeded_inputs(
    ports: Sequence[Port],
    given: Mapping[str, Any],
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """An array for every input: the one given, else seeded values of its type.

    Floats are normal, uint8 spans its range (pixels), other integers lie below `limits` (2 unless known), booleans are
    mixed. A symbolic dimension has the value in `dims`, else the one that a given array implies, else 1 for a batch
    and 4 for anything else. Raises ShapeError or DTypeError if a given array does not fit.
    """
    symbols = dict(dims or {})
    fitting = {port.name: _typed(port.type, given[port.name]) for port in ports if port.name in given}
    for port in ports:
        if port.name in given:
            _bind(port, fitting[port.name], symbols)
    inputs: dict[str, Any] = {}
    for index, port in enumerate(ports):
        if port.name in given:
            inputs[port.name] = fitting[port.name]
            continue
        if port.dtype is None:
            hint = f" with {port.name}/0, {port.name}/1, ..." if "sequence" in port.type else ""
            raise DTypeError(f"input '{port.name}': expected --input{hint}, got none; only tensors are made up")
        shape = tuple(evaluate_dim(dim, symbols) for dim in port.shape)
        random = np.random.default_rng([seed, index])
        inputs[port.name] = _draw(DType(port.dtype), shape, random, (limits or {}).get(port.name, _DEFAULT_LIMIT))
    return inputs


def evaluate_dim(dim: Any, symbols: dict[str, int]) -> int:
    """A dimension of the manifest as a number; symbols that have none yet get a default."""
    match dim:
        case int():
            return dim
        case str():
            batch = dim.lower() in ("n", "b") or "batch" in dim.lower()
            return symbols.setdefault(dim, 1 if batch else _DEFAULT_SIZE)
        case [str() as function, left, right]:
            a, b = evaluate_dim(left, symbols), evaluate_dim(right, symbols)
            return _FUNCTIONS[function](a, b)
    raise InvalidModelError(f"model.json: expected a dimension, got {dim!r}")


_FUNCTIONS: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "*": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b if b else 0,
    "mod": lambda a, b: a % b if b else 0,
    "max": max,
    "min": min,
    "eq": lambda a, b: int(a == b),
    "lt": lambda a, b: int(a < b),
}


def _typed(kind: Mapping[str, Any], value: Any) -> Any:
    """A value from a file, whose bytes of a type that NumPy has not (bfloat16) are read as the declared type."""
    if isinstance(value, list):
        return [_typed(kind.get("sequence", {}), item) for item in value]
    if isinstance(value, np.ndarray) and value.dtype.kind == "V" and "dtype" in kind:
        declared = DType(kind["dtype"]).numpy
        if declared.kind != "O" and declared.itemsize == value.dtype.itemsize and value.dtype.names is None:
            return value.view(declared)
    return value


def _bind(port: Port, value: Any, symbols: dict[str, int]) -> None:
    """Check a given value against its port and take the symbols from its shape."""
    if "sequence" in port.type and not isinstance(value, list):
        raise DTypeError(
            f"input '{port.name}': expected a sequence as {port.name}/0, {port.name}/1, ..., got one array"
        )
    if port.dtype is None:
        return
    if isinstance(value, list):
        raise DTypeError(f"input '{port.name}': expected {port.dtype}, got a sequence")
    try:
        got = DType.from_numpy(value.dtype).value
    except DTypeError:
        got = str(value.dtype)
    if got != port.dtype:
        raise DTypeError(f"input '{port.name}': expected {port.dtype}, got {got}")
    if "shape" not in port.type:
        return
    if len(port.shape) != value.ndim:
        raise ShapeError(f"input '{port.name}': expected shape {_shape_text(port)}, got {list(value.shape)}")
    for dim, size in zip(port.shape, value.shape, strict=True):
        expected = symbols.setdefault(dim, size) if isinstance(dim, str) else dim
        if isinstance(expected, int) and expected != size:
            known = f" with {dim} = {expected}" if isinstance(dim, str) else ""
            raise ShapeError(f"input '{port.name}': expected shape {_shape_text(port)}{known}, got {list(value.shape)}")


def _shape_text(port: Port) -> str:
    return f"[{', '.join(map(str, port.shape))}]"


def _draw(dtype: DType, shape: tuple[int, ...], random: np.random.Generator, limit: int) -> npt.NDArray[Any]:
    if dtype is DType.STRING:
        return np.array([f"text {number}" for number in range(int(np.prod(shape)))], dtype=object).reshape(shape)
    if dtype is DType.BOOL:
        return random.random(shape) < 0.5
    if dtype in (DType.UINT8, DType.INT8):
        low, high = (0, 256) if dtype is DType.UINT8 else (-128, 128)
        return random.integers(low, high, shape).astype(dtype.numpy)
    if dtype.is_integer:
        return random.integers(0, max(limit, 1), shape).astype(dtype.numpy)
    if dtype.is_complex:
        return (random.standard_normal(shape) + 1j * random.standard_normal(shape)).astype(dtype.numpy)
    return random.standard_normal(shape).astype(dtype.numpy)


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Arrays by name; "" for a file that holds one without a name."""
    try:
        if path.suffix == ".npz":
            with np.load(path) as archive:
                return dict(archive)
        if path.suffix == ".npy":
            return {"": np.load(path)}
        if path.suffix == ".pb":
            import onnx

            return {"": onnx.numpy_helper.to_array(onnx.load_tensor(str(path)))}
    except WebDNNError:
        raise
    except OSError as error:
        raise InvalidModelError(f"--input {path}: {(error.strerror or str(error)).lower()}") from None
    except Exception as error:  # noqa: BLE001  # a damaged archive raises whatever its reader stumbles over
        reason = _UNPICKLED if "pickle" in str(error) else " ".join(str(error).split())
        raise InvalidModelError(f"--input {path}: cannot be read as {path.suffix}: {reason}") from None
    if path.is_dir():
        raise InvalidModelError(f"--input {path}: expected a file, got a folder")
    raise InvalidModelError(f"--input {path}: expected .npz, .npy or .pb, got '{path.suffix}'")
