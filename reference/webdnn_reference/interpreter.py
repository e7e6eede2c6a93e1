"""Runs a model with NumPy: the ground truth that every backend is checked against."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from onnx import ModelProto

from webdnn_onnx.errors import DTypeError, InvalidModelError, LimitError, ShapeError, WebDNNError
from webdnn_onnx.graph import Graph, Node
from webdnn_onnx.load import load
from webdnn_reference.binding import Bound, where
from webdnn_reference.constraints import check_inputs, check_outputs, type_text
from webdnn_reference.contrib_inputs import check_shapes
from webdnn_reference.plan import Plan, Step, plan_graph
from webdnn_reference.registry import Context
from webdnn_reference.values import as_input, as_value, check_declared, typed_items

__all__ = ["Interpreter", "Observer", "evaluate_node"]

# glibc gives every block above a threshold fresh pages of zeros, which cost more than most operators on them take. The
# threshold grows to the size of a block that is freed, up to 32 MiB.
np.empty((32 << 20) - (1 << 16), np.uint8)

Observer: TypeAlias = Callable[[str, Any], None]
"""Called with the name and value of every node output, as it is computed."""


class _Passing(threading.local):
    """The error that leaves a thread's run as it is: one that names its node already, or an observer's."""

    error: Exception | None = None


class Interpreter:
    """Evaluates a model on arrays.

    model: a ModelProto, its bytes, a path to it, or a Graph. float64: be the oracle; every floating-point value
    of 16 bits or more is held and computed as float64, and casts between those types change nothing. seed: makes nodes
    that draw random numbers and give no seed of their own reproducible.
    """

    def __init__(
        self, model: ModelProto | bytes | str | Path | Graph, *, float64: bool = False, seed: int | None = None
    ) -> None:
        self.graph = model if isinstance(model, Graph) else load(model)
        self._float64 = float64
        self._random = np.random.default_rng(seed)
        self._plans: dict[tuple[int, tuple[str, ...] | None], Plan] = {}
        self._constants: dict[int, Mapping[str, Any]] = {}
        self._graph_ids = frozenset(_nested_ids(self.graph))
        self._passing = _Passing()

    def run(
        self,
        inputs: Mapping[str, Any],
        outputs: Iterable[str] | None = None,
        observe: Observer | None = None,
    ) -> dict[str, Any]:
        """The model's outputs by name, or the values named in `outputs` (any of the graph; the rest is not computed).

        The arrays returned are the caller's own: no two share memory, nor does any with an input or a constant.
        inputs: arrays by name; lists for sequences, None for an empty optional. An initializer's name overrides it.
        A value is freed after its last use.
        observe: sees every node output; those of a subgraph as `node[k]/value` in its k-th run. What it raises ends the
        run and comes out as it is.
        Raises WebDNNError subclasses: InvalidModelError for missing or surplus names, ShapeError and DTypeError for
        values that the model does not accept, UnsupportedOpError for an operator that is not implemented.
        """
        if not isinstance(inputs, Mapping):
            raise InvalidModelError(f"inputs: expected values by name, got {type(inputs).__name__}")
        if isinstance(outputs, str):
            outputs = (outputs,)
        plan = self._plan(self.graph, None if outputs is None else tuple(outputs))
        given = self._bind_inputs(inputs)
        values = self._constants_of(self.graph) | given
        try:
            with np.errstate(all="ignore"):
                results = self._run_plan(plan, values, observe, "")
            kept = self._constant_ids() | set(_array_ids(given.values()))
            return {name: _handed_out(name, value, kept) for name, value in results.items()}
        finally:
            # An error holds the frames it passed, and these hold arrays.
            self._passing.error = None

    def evaluate(self, node: Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """The outputs of one node on its own. None is an absent input, or an empty optional where the node names it."""
        names = tuple(
            f"input_{index}" if value is not None or node.input(index) else "" for index, value in enumerate(inputs)
        )
        values = {name: as_value(value, self._float64) for name, value in zip(names, inputs, strict=True) if name}
        outputs = tuple(f"output_{index}" if name else "" for index, name in enumerate(node.outputs))
        alone = Node(node.op, names, outputs, node.attributes, node.domain, node.opset, node.name, node.source)
        plan = plan_graph(Graph((), (), (alone,)), tuple(filter(None, outputs)))
        with np.errstate(all="ignore"):
            results = self._run_plan(plan, values, None, "")
        return tuple(results[name] if name else None for name in outputs)

    def _bind_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        declared = {value.name: value for value in self.graph.inputs}
        for name in inputs:
            if name not in declared and name not in self.graph.constants:
                raise InvalidModelError(f"inputs: expected names among {', '.join(declared) or 'none'}; got '{name}'")
        overrides = {name: as_input(value) for name, value in inputs.items() if name not in declared}
        values = {name: as_value(value, self._float64) for name, value in overrides.items()}
        symbols: dict[str, int] = {}
        for name, value in declared.items():
            if name in inputs:
                given = as_input(inputs[name])
                check_declared(value, given, symbols)
                values[name] = as_value(typed_items(value, given), self._float64)
            else:
                raise InvalidModelError(f"inputs: expected a value for '{name}' ({value.type}), got none")
        return values

    def _plan(self, graph: Graph, outputs: tuple[str, ...] | None) -> Plan:
        # The plan holds the graph, so that its id stays its own.
        key = (id(graph), outputs)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = plan_graph(graph, outputs)
        return plan

    def _constants_of(self, graph: Graph) -> dict[str, Any]:
        if not self._float64:
            return dict(graph.constants)
        known = self._constants.get(id(graph))
        if known is None:
            known = {name: as_value(array, float64=True) for name, array in graph.constants.items()}
            self._constants[id(graph)] = known
        return dict(known)

    def _constant_ids(self) -> set[int]:
        """The ids of all constants that runs read, those of bodies too."""
        if self._float64:
            return {id(array) for constants in self._constants.values() for array in constants.values()}
        return set(self._graph_ids)

    def _run_plan(self, plan: Plan, values: dict[str, Any], observe: Observer | None, scope: str) -> dict[str, Any]:
        for step in plan.steps:
            results = self._run_step(step, values, observe, scope)
            for name, result in zip(step.outputs, results, strict=False):
                if name:
                    values[name] = result
                    if observe is not None:
                        self._show(observe, scope + name, result)
            del results
            for name in step.frees:
                values.pop(name, None)
        missing = [name for name in plan.outputs if name not in values]
        if missing:
            raise InvalidModelError(f"outputs: expected a node or input that gives '{missing[0]}', got none")
        return {name: values[name] for name in plan.outputs}

    def _show(self, observe: Observer, name: str, value: Any) -> None:
        try:
            observe(name, value)
        except Exception as error:
            self._passing.error = error
            raise

    def _run_step(self, step: Step, values: dict[str, Any], observe: Observer | None, scope: str) -> Sequence[Any]:
        node, bound = step.node, step.bound
        try:
            arguments = [values[name] if name else None for name in step.inputs]
        except KeyError as error:
            raise InvalidModelError(f"{where(node)}: input {error}: expected a value, got none computed") from None
        try:
            _check_arguments(bound, arguments, self._float64)
            if len(arguments) < bound.least:
                arguments.extend([None] * (bound.least - len(arguments)))
            if bound.wants_context:
                context = self._context(step, values, observe, scope)
                results = bound.function(*arguments, **bound.attributes, context=context)
            else:
                results = bound.function(*arguments, **bound.attributes)
            if not isinstance(results, tuple):
                results = (results,)
            if bound.constraints is not None and not self._float64:
                check_outputs(bound.constraints, results)
        except WebDNNError as error:
            if error is self._passing.error:
                raise
            located = self._passing.error = type(error)(f"{where(node)}: {error}")
            raise located from error
        except (ValueError, IndexError, TypeError, AttributeError, KeyError, ArithmeticError, MemoryError) as error:
            if error is self._passing.error:
                raise
            described = self._passing.error = _described(node, arguments, error)
            raise described from error
        if len(results) < len(step.outputs):
            raise InvalidModelError(
                f"{where(node)}: outputs: expected at most {len(results)}, got {len(step.outputs)} names"
            )
        return [as_value(result, self._float64) for result in results]

    def _context(self, step: Step, values: dict[str, Any], observe: Observer | None, scope: str) -> Context:
        node = step.node
        runs = 0

        def run(graph: Graph, inputs: Sequence[Any]) -> tuple[Any, ...]:
            nonlocal runs
            plan = self._plan(graph, None)
            if len(inputs) != len(plan.inputs):
                raise InvalidModelError(f"subgraph inputs: expected {len(inputs)}, got {len(plan.inputs)}")
            inner = {name: values[name] for name in plan.captures if name in values}
            inner.update(self._constants_of(graph))
            inner.update(zip(plan.inputs, (as_value(value, self._float64) for value in inputs), strict=True))
            inner_scope = f"{scope}{node.name or node.output(0)}[{runs}]/"
            runs += 1
            results = self._run_plan(plan, inner, observe, inner_scope)
            return tuple(results[name] for name in plan.outputs)

        return Context(
            op=node.op,
            name=node.name,
            opset=node.opset,
            domain=node.domain,
            outputs=len(step.outputs),
            declared=len(node.outputs),
            float64=self._float64,
            random=self._random,
            run=run,
        )


def evaluate_node(
    node: Node, inputs: Sequence[Any], *, float64: bool = False, seed: int | None = None
) -> tuple[Any, ...]:
    """The outputs of one node (None where it names none) on these inputs (None where absent), for constant folding.

    Its subgraphs, if any, must not read values from around them. Raises as `Interpreter.run` does.
    """
    return Interpreter(Graph((), (), ()), float64=float64, seed=seed).evaluate(node, inputs)


def _nested_ids(graph: Graph) -> Iterator[int]:
    """The ids of a graph's constants and of those of the graphs nested in it."""
    yield from map(id, graph.constants.values())
    for node in graph.nodes:
        for subgraph in node.subgraphs:
            yield from _nested_ids(subgraph)


def _array_ids(values: Iterable[Any]) -> Iterator[int]:
    """The ids of the values and of the items of sequences among them."""
    for value in values:
        if isinstance(value, list):
            yield from _array_ids(value)
        else:
            yield id(value)


def _handed_out(name: str, value: Any, kept: set[int]) -> Any:
    """`_owned`, where a view may turn out not to fit into memory. Raises LimitError."""
    try:
        return _owned(value, kept)
    except MemoryError as error:
        raise LimitError(f"output '{name}': expected a value that fits into memory, got {_summary(value)}") from error


def _owned(value: Any, kept: set[int]) -> Any:
    """A value that shares no memory with those whose ids are `kept`, nor with anything it may be a view of.

    From then on its own id is among them.
    """
    if isinstance(value, list):
        return [_owned(item, kept) for item in value]
    if isinstance(value, np.ndarray) and (value.base is not None or id(value) in kept):
        return value.copy()
    kept.add(id(value))
    return value


def _check_arguments(bound: Bound, arguments: Sequence[Any], float64: bool) -> None:
    if bound.constraints is not None:
        check_inputs(bound.constraints, arguments, float64)
    if bound.most is not None and len(arguments) > bound.most:
        raise InvalidModelError(f"inputs: expected at most {bound.most}, got {len(arguments)}")
    if bound.shapes:
        check_shapes(bound.shapes, arguments, bound.attributes)


def _described(node: Node, arguments: Sequence[Any], error: Exception) -> WebDNNError:
    """A NumPy exception as one of ours; its text becomes the reason."""
    got = ", ".join(_summary(value) for value in arguments) or "no inputs"
    if isinstance(error, MemoryError):
        return LimitError(f"{where(node)}: expected results that fit into memory, got inputs {got} ({error})")
    text = f"{where(node)}: expected inputs that the operator accepts, got {got} ({type(error).__name__}: {error})"
    kind: type[WebDNNError] = ShapeError
    if isinstance(error, (TypeError, AttributeError)):
        kind = DTypeError
    elif isinstance(error, (KeyError, ArithmeticError)):
        kind = InvalidModelError
    return kind(" ".join(text.split()))


def _summary(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{type_text(value)}{list(value.shape)}"
    return "-" if value is None else type_text(value)
