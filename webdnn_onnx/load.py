"""ONNX models read into a Graph.

Spec: https://github.com/onnx/onnx/blob/main/docs/IR.md
"""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no type information

from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.graph import Graph
from webdnn_onnx.load_graph import GraphReader
from webdnn_onnx.load_tensors import TensorReader

__all__ = ["load"]

_PROTOBUF_LIMIT = 2**31


def load(
    model: onnx.ModelProto | bytes | str | Path, *, folder: str | Path | None = None, keep_defaults: bool = False
) -> Graph:
    """The graph of a model: a file by its path, its bytes, or a ModelProto.

    Nodes are in topological order whatever the file's order is; model-local functions are inlined; Constant nodes and
    initializers are constants, densified where sparse; external data is memory-mapped; `ai.onnx` is the domain "".
    Every value name is unique over the graph and the graphs nested in it (nested ones are renamed where they collide).
    A node's `source` is its name, or `op:output` where it has none; nodes of a function are `call/node`. Operators are
    not looked up: an unknown one loads.

    folder: where external data lies, if not beside the file. keep_defaults: an initializer that is also a graph input
    (from IR version 4 on, a default that the caller may override) becomes a plain input that must be given; otherwise
    it is a constant and no input. Raises InvalidModelError for anything that is no valid model.
    """
    if isinstance(model, str | Path):
        path = Path(model)
        proto = _parse(_read(path), f"'{path}'")
        folder = path.parent if folder is None else folder
    elif isinstance(model, bytes | bytearray | memoryview):
        proto = _parse(bytes(model), "the bytes given")
    elif isinstance(model, onnx.ModelProto):
        proto = model
    else:
        raise InvalidModelError(f"model: expected a path, bytes or a ModelProto, got {type(model).__name__}")
    _check_header(proto)
    return GraphReader(proto, TensorReader(None if folder is None else Path(folder)), keep_defaults).graph()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InvalidModelError(f"'{path}': expected an ONNX file, got no such file") from None
    except IsADirectoryError:
        raise InvalidModelError(f"'{path}': expected an ONNX file, got a folder") from None
    except OSError as error:
        raise InvalidModelError(f"'{path}': expected a readable file, got: {error.strerror or error}") from None


def _parse(data: bytes, origin: str) -> onnx.ModelProto:
    if not data:
        raise InvalidModelError(f"{origin}: expected an ONNX model, got 0 bytes")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        if len(data) >= _PROTOBUF_LIMIT:
            raise InvalidModelError(
                f"{origin}: expected less than 2 GiB in one protobuf file, got {len(data)} bytes; "
                f"save the model with external data"
            ) from None
        raise InvalidModelError(
            f"{origin}: expected an ONNX model, got {len(data)} bytes that are no complete ModelProto "
            f"(another format, or a truncated file)"
        ) from None
    if not proto.HasField("graph"):
        raise InvalidModelError(
            f"{origin}: expected an ONNX model, got {len(data)} bytes without a graph (another format, or truncated)"
        )
    return proto


def _check_header(proto: onnx.ModelProto) -> None:
    if not proto.HasField("graph"):
        raise InvalidModelError("ModelProto: expected a graph, got none")
    if not proto.ir_version:
        raise InvalidModelError("ModelProto: ir_version: expected at least 1, got none")
    if proto.ir_version > onnx.IR_VERSION:
        raise InvalidModelError(
            f"ModelProto: ir_version: expected at most {onnx.IR_VERSION}, which the installed onnx package knows, "
            f"got {proto.ir_version}; upgrade onnx"
        )
    newest: dict[str, tuple[int, int]] = onnx.defs.C.schema_version_map()
    for entry in proto.opset_import:
        where = f"opset_import of '{entry.domain or 'ai.onnx'}'"
        if entry.version < 1:
            raise InvalidModelError(f"{where}: expected at least 1, got {entry.version}")
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if domain in newest and entry.version > newest[domain][1]:
            raise InvalidModelError(
                f"{where}: expected at most {newest[domain][1]}, which the installed onnx package knows, "
                f"got {entry.version}; upgrade onnx, or export the model for an earlier opset"
            )
