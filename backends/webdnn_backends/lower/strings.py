"""Strings: host functions, and movement operators as kernels over positions.

A tensor of strings lives on the JavaScript side. An operator that only moves elements runs as the kernel it is, on the
positions 0, 1, 2, ... of its strings, and one host function picks the strings by what comes out.
"""

from __future__ import annotations

import numpy as np

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, cast
from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.movement import flat_index
from webdnn_backends.lower.registry import LOWERINGS, STRING_LOWERINGS, lowering, string_lowering
from webdnn_backends.lower.state import LoweringState
from webdnn_backends.lower.strings_regex import javascript_pattern
from webdnn_backends.te.tensors import Host, Tensor
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import InvalidModelError
from webdnn_onnx.graph import Node, TensorType
from webdnn_onnx.symbolic import Dim

__all__: list[str] = []

_MOVEMENT = (
    *("CenterCropPad", "Compress", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements"),
    *("GatherND", "OneHot", "Pad", "Reshape", "ReverseSequence", "Scatter", "ScatterElements", "ScatterND", "Slice"),
    *("SpaceToDepth", "Split", "Squeeze", "TensorScatter", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where"),
)


class _Positions(NodeContext):
    """A node whose strings are replaced by int32 positions: 0 is the empty string, then the elements of the pool."""

    def __init__(self, state: LoweringState, node: Node) -> None:
        super().__init__(state, node)
        self.pool: list[str] = []
        self._given: dict[str, str] = {}
        self._results: dict[int, Tensor] = {}
        self._count: Dim = 1

    def is_string(self, name: str) -> bool:
        """Whether a value is a tensor of strings."""
        kind = self.state.value(name).type
        return isinstance(kind, TensorType) and kind.dtype is DType.STRING

    def name(self, index: int) -> str:
        given = self.node.inputs[index]
        if not self.is_string(given):
            return super().name(index)
        if given not in self._given:
            self._given[given] = self._numbered(given)
        return self._given[given]

    def _numbered(self, given: str) -> str:
        strings, start = self.state.ranked(given), self._count
        self.pool.append(strings.name)
        self._count = start + strings.elements
        return self.temporary(DType.INT32, strings.shape, lambda i: add(flat_index(i, strings.shape), build.dim(start)))

    def dtype(self, index: int) -> DType:
        return DType.INT32 if self.is_string(self.node.inputs[index]) else super().dtype(index)

    def output(self, index: int = 0) -> Tensor:
        whole = super().output(index)
        if whole.dtype is not DType.STRING:
            return whole
        if index not in self._results:
            self._results[index] = self.scratch(DType.INT32, whole.shape)
        return self._results[index]

    def pick(self) -> None:
        """Fetch the strings of every output by its positions."""
        for index, positions in self._results.items():
            target = self.state.tensor(self.node.outputs[index])
            self.state.items.append(
                Host("string_pick", (positions.name, *self.pool), (target.name,), {}, self.node.source)
            )


def _by_position(context: NodeContext) -> None:
    positions = _Positions(context.state, context.node)
    LOWERINGS.get(context.node.op, context.node.opset, context.node.domain, context.node.name)(positions)
    positions.pick()


for _op in _MOVEMENT:
    STRING_LOWERINGS.add(_op, 1, _by_position)


class _Ranks(_Positions):
    """Positions in the sorted list of different strings, so that they compare as the strings do."""

    def _numbered(self, given: str) -> str:
        strings = self.state.ranked(given)
        ranks = self.scratch(DType.INT32, strings.shape)
        different = self.state.add_tensor("different", DType.STRING, (), slot=True)
        self.state.items.append(
            Host("string_ranks", (strings.name,), (ranks.name, different.name), {}, self.node.source)
        )
        self.pool.append(different.name)
        return ranks.name


@string_lowering("Unique")
def _unique(context: NodeContext) -> None:
    ranks = _Ranks(context.state, context.node)
    LOWERINGS.get("Unique", context.node.opset)(ranks)
    ranks.pick()


@string_lowering("Equal")
def _equal(context: NodeContext) -> None:
    context.host("string_equal")


@string_lowering("Cast")
@string_lowering("CastLike")
def _cast(context: NodeContext) -> None:
    source, target = context.dtype(0), context.output().dtype
    if target is not DType.STRING:
        wide = DType.FLOAT64 if target.is_float else DType.UINT64 if target is DType.UINT64 else DType.INT64
        parsed = context.scratch(wide, context.output().shape)
        options = {"dtype": wide.value}
        context.state.items.append(
            Host("string_parse", (context.name(0),), (parsed.name,), options, context.node.source)
        )
        context.emit(lambda i: cast(target, context.read(parsed.name, i)))
        return
    if source is DType.STRING:
        context.host("string_copy")
        return
    kind = source.value if source in (DType.BOOL, DType.FLOAT64) else "float32" if source.is_float else "integer"
    storage = {"integer": DType.UINT64 if source is DType.UINT64 else DType.INT64, "float32": DType.FLOAT32}.get(
        kind, source
    )
    # Narrow types are widened by a kernel, so that the host function knows four of them only.
    plain = context.temporary(storage, context.shape(0), lambda i: cast(storage, context.element(0, i)))
    context.host("string_format", {"kind": kind}, inputs=(plain,))


@lowering("StringConcat", since=20)
def _concat(context: NodeContext) -> None:
    context.host("string_concat")


@lowering("StringNormalizer", since=10)
def _normalizer(context: NodeContext) -> None:
    context.host(
        "string_normalizer",
        {
            "action": context.attribute("case_change_action", "NONE"),
            "sensitive": context.attribute("is_case_sensitive", 0),
            "stopwords": list(context.attribute("stopwords", ())),
        },
    )


@lowering("StringSplit", since=20)
def _split(context: NodeContext) -> None:
    context.host(
        "string_split", {"delimiter": context.attribute("delimiter", ""), "limit": context.attribute("maxsplit", -1)}
    )


@lowering("RegexFullMatch", since=20)
def _regex(context: NodeContext) -> None:
    pattern, flags = javascript_pattern(context.attribute("pattern", ""))
    context.host("regex_full_match", {"pattern": pattern, "flags": flags})


@lowering("Tokenizer", domain="com.microsoft")
def _tokenizer(context: NodeContext) -> None:
    separators: tuple[str, ...] = context.attribute("separators", ())
    expression = context.attribute("tokenexp", "")
    if bool(separators) == bool(expression):
        given = "both" if expression else "neither"
        raise InvalidModelError(f"{context.where}: expected separators or tokenexp, got {given}")
    characters = expression == "." or separators == ("",)
    patterns = [] if characters else [javascript_pattern(text) for text in (expression, *separators) if text]
    context.host(
        "tokenizer",
        {
            "kind": "characters" if characters else "tokens" if expression else "separators",
            "patterns": [{"pattern": pattern, "flags": flags} for pattern, flags in patterns],
            "shortest": max(context.attribute("mincharnum", 1), 1),
            "mark": bool(context.attribute("mark", 0)),
            "padding": context.attribute("pad_value", ""),
        },
    )


@lowering("TfIdfVectorizer", since=9)
def _tf_idf(context: NodeContext) -> None:
    indexes: tuple[int, ...] = context.attribute("ngram_indexes", ())
    width = max(indexes, default=-1) + 1
    factors = np.ones(width, np.float32)
    weights: tuple[float, ...] = context.attribute("weights", ())
    if weights:
        factors[list(indexes)] = weights
    pool: tuple[int | str, ...] = context.attribute("pool_strings", ()) or context.attribute("pool_int64s", ())
    context.host(
        "tf_idf",
        {
            "mode": context.attribute("mode", "TF"),
            "shortest": context.attribute("min_gram_length", 1),
            "longest": context.attribute("max_gram_length", 1),
            "skips": context.attribute("max_skip_count", 0),
            "pool": list(pool),
            "starts": list(context.attribute("ngram_counts", ())),
            "indexes": list(indexes),
            "factors": [float(factor) for factor in factors],
            "width": width,
        },
    )
