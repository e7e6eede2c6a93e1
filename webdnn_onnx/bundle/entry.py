"""index.js and index.d.ts: the entry of one model, with its names and types."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from webdnn_onnx.graph import Graph, TensorType, Value

__all__ = ["entry_module", "entry_types"]

_ARRAYS = {
    "float32": "Float32Array",
    "float64": "Float64Array",
    "int8": "Int8Array",
    "uint8": "Uint8Array",
    "bool": "Uint8Array",
    "int16": "Int16Array",
    "uint16": "Uint16Array",
    "float16": "Uint16Array",
    "bfloat16": "Uint16Array",
    "int32": "Int32Array",
    "uint32": "Uint32Array",
    "int64": "BigInt64Array",
    "uint64": "BigUint64Array",
    "string": "readonly string[]",
}


def entry_module() -> str:
    """The text of index.js."""
    return (
        'import { load as loadBundle } from "./webdnn.js";\n'
        'export * from "./webdnn.js";\n\n'
        'const here = new URL(".", import.meta.url);\n\n'
        "/** Loads this model. */\n"
        "export const load = (options) => loadBundle(here, options);\n"
    )


def entry_types(graph: Graph) -> str:
    """The text of index.d.ts: the model's inputs and outputs by name and type."""
    return (
        'import type { InputTensor, LoadOptions, Model, OutputTensor } from "./webdnn.js";\n'
        'export * from "./webdnn.js";\n\n'
        f"/** What `{graph.name or 'the model'}` takes. */\n"
        f"export interface Inputs {{\n{_fields(graph.inputs, 'InputTensor')}}}\n\n"
        "/** What it gives. */\n"
        f"export interface Outputs {{\n{_fields(graph.outputs, 'OutputTensor')}}}\n\n"
        "/** Loads this model. */\n"
        "export declare function load(options?: LoadOptions): Promise<Model<Inputs, Outputs>>;\n"
    )


def _fields(values: Sequence[Value], wrapper: str) -> str:
    return "".join(f"  /** {value.type} */\n  {_key(value.name)}: {_type(value, wrapper)};\n" for value in values)


def _type(value: Value, wrapper: str) -> str:
    if not isinstance(value.type, TensorType):
        return "unknown"
    return f"{wrapper}<{_ARRAYS.get(value.type.dtype.value, 'Uint8Array')}>"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_$][\w$]*", name) else json.dumps(name)
