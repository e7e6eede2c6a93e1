"""`webdnn inspect`: what a model holds, what it costs, and what of it can be compiled."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from webdnn_onnx.cli.arguments import BACKENDS
from webdnn_onnx.cli.fixing import parse_dims, parse_shapes
from webdnn_onnx.cli.progress import Progress
from webdnn_onnx.cli.table import format_table
from webdnn_onnx.graph import Graph, Node, TensorType
from webdnn_onnx.report.cost import Cost, node_cost
from webdnn_onnx.report.units import format_bytes, format_count
from webdnn_onnx.symbolic import Dim, free_symbols

__all__ = ["run"]


@dataclass(frozen=True)
class Row:
    """One node. compiled: the compiler has it at this opset; reference: the interpreter has it."""

    node: Node
    outputs: tuple[str, ...]
    cost: Cost
    compiled: bool
    reference: bool
    depth: int


def run(arguments: argparse.Namespace) -> int:
    """Print the model's operators (and nodes); 0 also when some cannot be compiled."""
    from webdnn_onnx.infer import infer
    from webdnn_onnx.load import load

    graph = load(arguments.model)
    shapes, dims = parse_shapes(arguments.shape), parse_dims(arguments.dim)
    if shapes or dims:
        from webdnn_onnx.specialize import specialize

        graph = specialize(graph, shapes=shapes, dims=dims)
    graph = infer(graph)
    rows = list(_rows(graph))
    placement = None
    if arguments.placement and not _missing(rows):
        with Progress(quiet=arguments.json) as progress:
            placement = _placement(graph, progress)
    if arguments.json:
        print(json.dumps(_facts(graph, rows) | ({} if placement is None else {"placement": placement})))
    else:
        _print(graph, rows, nodes=arguments.nodes)
        if placement is not None:
            _print_placement(placement)
    return 0


def _placement(graph: Graph, progress: Progress) -> dict[str, dict[str, Any]]:
    """For each backend: how many kernel calls there are, and which of them run as JavaScript, and why."""
    from webdnn_backends.targets import target
    from webdnn_backends.te.compile import compile_program
    from webdnn_onnx.bundle.program import calls_of
    from webdnn_onnx.convert import prepare

    _, program = prepare(graph)
    found: dict[str, dict[str, Any]] = {}
    for position, backend in enumerate(BACKENDS):
        progress(f"compiling for {backend}", (1 + position) / (1 + len(BACKENDS)))
        calls = list(calls_of(compile_program(program, target(backend)).items))
        outside = [
            {"kernel": call.kernel.name, "nodes": list(call.source), "reason": call.placed}
            for call in calls
            if call.placed
        ]
        found[backend] = {"calls": len(calls), "outside": outside}
    return found


def _print_placement(placement: dict[str, dict[str, Any]]) -> None:
    print()
    rows = [(backend, item["calls"], len(item["outside"]) or "none") for backend, item in placement.items()]
    print(format_table(("backend", "kernel calls", "outside the backend"), rows, right=(1, 2)))
    for backend, item in placement.items():
        for call in item["outside"]:
            print(f"  {backend}: {', '.join(call['nodes'])}: {call['reason']}")


def _rows(graph: Graph, depth: int = 0) -> Iterator[Row]:
    from webdnn_backends.lower.registry import LOWERINGS
    from webdnn_reference.registry import OPERATORS

    for node in graph.nodes:
        compiled = LOWERINGS.find(node.op, node.opset, node.domain) is not None
        reference = OPERATORS.find(node.op, node.opset, node.domain) is not None
        types = tuple(str(graph.value(name).type or "?") for name in node.outputs if name)
        yield Row(node, types, node_cost(graph, node), compiled, reference, depth)
        for subgraph in node.subgraphs:
            yield from _rows(subgraph, depth + 1)


def _facts(graph: Graph, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "name": graph.name,
        "opsets": {domain or "ai.onnx": version for domain, version in graph.opsets.items()},
        "inputs": {value.name: str(value.type) for value in graph.inputs},
        "outputs": {value.name: str(value.type) for value in graph.outputs},
        "symbols": sorted(_symbols(graph)),
        "parameters": _parameters(graph),
        "parameterBytes": sum(array.nbytes for array in graph.constants.values()),
        "macs": _json(_total([row.cost.macs for row in rows])),
        "nodes": [
            {
                "op": row.node.op,
                "domain": row.node.domain or "ai.onnx",
                "opset": row.node.opset,
                "name": row.node.name,
                "outputs": list(row.outputs),
                "macs": _json(row.cost.macs),
                "bytesRead": _json(row.cost.read),
                "bytesWritten": _json(row.cost.written),
                "compiled": row.compiled,
                "reference": row.reference,
                "depth": row.depth,
            }
            for row in rows
        ],
        "missing": _missing(rows),
    }


def _print(graph: Graph, rows: Sequence[Row], *, nodes: bool) -> None:
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in graph.opsets.items())
    size = sum(array.nbytes for array in graph.constants.values())
    macs = _total([row.cost.macs for row in rows])
    print(f"{graph.name or 'model'}: {len(rows)} nodes, opset {opsets}")
    print(f"{format_count(_parameters(graph))} parameters ({format_bytes(size)}), {_show(macs)} multiply-adds")
    for kind, values in (("input", graph.inputs), ("output", graph.outputs)):
        for value in values:
            print(f"  {kind:6} {value.name}: {value.type or '?'}")
    symbols = sorted(_symbols(graph))
    if symbols:
        print(f"  symbols {', '.join(symbols)}: fix them with --dim NAME=N or --shape INPUT=...")
    print()
    print(_operator_table(rows))
    if nodes:
        print()
        print(_node_table(rows))
    missing = _missing(rows)
    print()
    if missing:
        print(f"missing: {len(missing)} operators cannot be compiled:")
        for item in missing:
            print(f"  {item['op']} (opset {item['opset']}): {item['reason']}; first at '{item['first']}'")
    else:
        print("every operator can be compiled for webgpu, wasm and js")


def _operator_table(rows: Sequence[Row]) -> str:
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.node.domain, row.node.op, row.node.opset), []).append(row)
    table = []
    for (domain, op, opset), group in sorted(groups.items(), key=lambda item: -len(item[1])):
        macs = _total([row.cost.macs for row in group])
        moved = _total([row.cost.read for row in group] + [row.cost.written for row in group])
        table.append(
            (
                f"{domain}.{op}" if domain else op,
                opset,
                len(group),
                _show(macs) if macs != 0 else "",
                format_bytes(moved) if isinstance(moved, int) else _show(moved),
                "yes" if group[0].compiled else "NO",
                "yes" if group[0].reference else "NO",
            )
        )
    header = ("operator", "opset", "count", "multiply-adds", "bytes moved", "compiled", "reference")
    return format_table(header, table, right=(1, 2, 3, 4))


def _node_table(rows: Sequence[Row]) -> str:
    table = []
    for row in rows:
        moved = _total([row.cost.read, row.cost.written])
        table.append(
            (
                "  " * row.depth + (row.node.name or row.node.output(0)),
                row.node.op,
                ", ".join(row.outputs),
                _show(row.cost.macs) if row.cost.macs != 0 else "",
                format_bytes(moved) if isinstance(moved, int) else _show(moved),
            )
        )
    return format_table(("node", "operator", "output", "multiply-adds", "bytes moved"), table, right=(3, 4))


def _missing(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Operators that the compiler has not, with the versions that it has."""
    from webdnn_backends.lower.registry import LOWERINGS

    counts = Counter((row.node.domain, row.node.op, row.node.opset) for row in rows if not row.compiled)
    found = []
    for domain, op, opset in counts:
        versions = LOWERINGS.versions(op, domain)
        have = f"the compiler has versions {', '.join(map(str, versions))}" if versions else "the compiler has none"
        first = next(row.node for row in rows if (row.node.domain, row.node.op) == (domain, op))
        name = f"{domain}.{op}" if domain else op
        where = first.name or first.output(0)
        found.append({"op": name, "opset": opset, "count": counts[domain, op, opset], "reason": have, "first": where})
    return found


def _symbols(graph: Graph) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for value in graph.inputs:
        if isinstance(value.type, TensorType) and value.type.shape is not None:
            for dim in value.type.shape:
                found |= free_symbols(dim)
    return found


def _parameters(graph: Graph) -> int:
    return sum(array.size for array in graph.constants.values())


def _total(parts: Sequence[Dim | None]) -> Dim | None:
    """The sum of what is known, None if nothing is."""
    total: Dim = 0
    known = [part for part in parts if part is not None]
    for part in known:
        total = total + part
    return total if known else None


def _show(value: Dim | None) -> str:
    if value is None:
        return "?"
    return format_count(value) if isinstance(value, int) else str(value)


def _json(value: Dim | None) -> int | str | None:
    return value if value is None or isinstance(value, int) else str(value)
