"""A conformance case: one model, its inputs, what is expected, and the id that names it everywhere.

An id reads `suite/kind/operator/version/dtype/name`, in lower case, for example
`onnx/node/softmax/13/f32/softmax_axis_0`. `version` is that of the operator's definition which the model's opset
selects; `composite` stands for a graph that is not about one operator. Ids are in reports, expectation files, messages
and rerun commands; every prefix of one selects cases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import ModelProto, TypeProto, defs

from webdnn_onnx.dtypes import DType
from webdnn_onnx.engines import RunValue
from webdnn_onnx.errors import DTypeError

__all__ = ["COMPOSITE", "SHORT_DTYPES", "Case", "DataSet", "Facts", "make_case", "nodes_of", "selects"]

COMPOSITE = "composite"

SHORT_DTYPES: Mapping[DType, str] = {
    DType.BOOL: "bool",
    DType.STRING: "str",
    DType.BFLOAT16: "bf16",
    DType.FLOAT16: "f16",
    DType.FLOAT32: "f32",
    DType.FLOAT64: "f64",
    DType.COMPLEX64: "c64",
    DType.COMPLEX128: "c128",
    **{DType[f"INT{bits}"]: f"i{bits}" for bits in (2, 4, 8, 16, 32, 64)},
    **{DType[f"UINT{bits}"]: f"u{bits}" for bits in (2, 4, 8, 16, 32, 64)},
    **{dtype: f"f{dtype.value.removeprefix('float')}" for dtype in DType if re.match(r"float[468]e", dtype.value)},
}
"""Element type -> its name in ids and in the report's matrix."""


@dataclass(frozen=True)
class DataSet:
    """One run. inputs: by name. expected: outputs in the graph's order, or None where the reference decides alone."""

    inputs: Mapping[str, RunValue]
    expected: Sequence[RunValue] | None = None


@dataclass(frozen=True)
class Facts:
    """What a case is about.

    op: the operator, COMPOSITE for whole graphs. version: of its definition (the opset of composite graphs). dtypes: of
    every tensor of the graph, the first one naming the case. numeric: no strings, sequences, optionals or maps.
    single: the graph is that one node. drawn: its values are random numbers, of which only shapes and dtypes can be
    compared. rtol, atol: of the suite's own harness.
    """

    op: str
    domain: str
    version: int
    opset: int
    dtypes: tuple[str, ...]
    numeric: bool
    single: bool
    drawn: bool = False
    rtol: float = 1e-3
    atol: float = 1e-7


@dataclass(frozen=True)
class Case:
    """One case; `model` is a serialized ModelProto."""

    id: str
    facts: Facts
    model: bytes = field(repr=False)
    sets: tuple[DataSet, ...] = field(repr=False)

    @property
    def suite(self) -> str:
        return self.id.partition("/")[0]


def make_case(
    group: str,
    name: str,
    model: ModelProto,
    sets: Sequence[DataSet],
    *,
    op: str = "",
    domain: str = "",
    drawn: bool = False,
    rtol: float = 1e-3,
    atol: float = 1e-7,
) -> Case:
    """A case whose facts are read from its model.

    group: suite and kind, `onnx/node`. op, domain: what it is about, unless that follows from a graph of one node.
    """
    nodes = list(nodes_of(model.graph))
    single = len(model.graph.node) == 1
    if not op and single:
        op, domain = model.graph.node[0].op_type, model.graph.node[0].domain
    op = op or COMPOSITE
    domain = "" if domain == "ai.onnx" else domain
    imported = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import}
    opset = imported.get(domain, 1)
    types = [value.type for value in (*model.graph.input, *model.graph.output)]
    dtypes = list(dict.fromkeys(dtype for kind in types for dtype in _dtypes(kind)))
    facts = Facts(
        op=op,
        domain=domain,
        version=opset if op == COMPOSITE else _since(op, domain, opset),
        opset=opset,
        dtypes=tuple(dtypes) or ("none",),
        numeric="str" not in dtypes
        and all(kind.HasField("tensor_type") for kind in types)
        and not any(node.op_type in _NOT_NUMERIC for node in nodes),
        single=single,
        drawn=drawn,
        rtol=rtol,
        atol=atol,
    )
    scope = f"{domain}." if domain else ""
    parts = (group, f"{scope}{op}", str(facts.version), facts.dtypes[0], name)
    return Case(re.sub(r"[^\w./-]+", "_", "/".join(parts)).lower(), facts, model.SerializeToString(), tuple(sets))


def selects(patterns: Sequence[str], case_id: str) -> bool:
    """Whether one of the patterns is a prefix of an id or is contained in it; without patterns everything is."""
    return not patterns or any(pattern.lower() in case_id for pattern in patterns)


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of nested graphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for nested in (attribute.g, *attribute.graphs):
                yield from nodes_of(nested)


_NOT_NUMERIC = frozenset(
    """Optional OptionalGetElement OptionalHasElement ConcatFromSequence SequenceAt SequenceConstruct SequenceEmpty
    SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence RegexFullMatch StringConcat StringNormalizer
    StringSplit TfIdfVectorizer ImageDecoder""".split()  # noqa: SIM905  # a list of 18 strings is no easier to read
)
"""Operators on strings, sequences, optionals or files, whatever the types at the graph's edge."""


def _dtypes(kind: TypeProto) -> Iterator[str]:
    match kind.WhichOneof("value"):
        case "tensor_type":
            try:
                yield SHORT_DTYPES[DType.from_onnx(kind.tensor_type.elem_type)]
            except DTypeError:
                return
        case "sequence_type":
            yield from _dtypes(kind.sequence_type.elem_type)
        case "optional_type":
            yield from _dtypes(kind.optional_type.elem_type)
        case "map_type":
            yield from _dtypes(kind.map_type.value_type)
        case _:
            return


def _since(op: str, domain: str, opset: int) -> int:
    """The version of the operator's definition; the opset where the onnx package does not know the operator."""
    try:
        found: Any = defs.get_schema(op, opset, domain)
    except defs.SchemaError:
        return opset
    return int(found.since_version)
