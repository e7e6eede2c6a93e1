"""How an operator's meaning is registered.

An operator is a plain function. Positional parameters are the node's inputs as arrays (an absent optional input is
None; a variadic input is `*inputs`); keyword-only parameters are the attributes, named as in ONNX, with the defaults
of that version. It returns one value, or a tuple where the operator has several outputs. Sequences are lists,
optionals are a value or None, maps are dicts, strings are object arrays of `str`. A function that needs more than its
inputs and attributes takes a keyword-only `context`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from webdnn_onnx.graph import Graph
from webdnn_onnx.registry import Registry

__all__ = ["OPERATORS", "Context", "Operator", "RunSubgraph", "op"]

Operator: TypeAlias = Callable[..., Any]
F = TypeVar("F", bound=Operator)


class RunSubgraph(Protocol):
    """Evaluates a body or branch with its inputs by position, in the scope of the node that holds it."""

    def __call__(self, graph: Graph, inputs: Sequence[Any]) -> tuple[Any, ...]: ...


@dataclass(frozen=True)
class Context:
    """What a few operators need beside their inputs.

    op, name, opset, domain: of the node, for messages. outputs: how many outputs the node names, counted to the last
    one that is used; declared: unused ones at the end included. float64: whether the interpreter is the oracle, in
    which floating-point values of every declared width are held as float64. random: the generator for nodes that give
    no seed. run: evaluates a subgraph.
    """

    op: str
    name: str
    opset: int
    domain: str
    outputs: int
    declared: int
    float64: bool
    random: np.random.Generator
    run: RunSubgraph


OPERATORS: Registry[Operator] = Registry("the reference")


def op(name: str, since: int | tuple[int, ...], domain: str = "") -> Callable[[F], F]:
    """Register the meaning of an operator at one or more of its versions."""

    def register(function: F) -> F:
        OPERATORS.add(name, since, function, domain)
        return function

    return register
