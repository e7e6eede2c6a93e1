"""`webdnn check`: every backend against the reference interpreter, in a real engine."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from webdnn_onnx.cli.bundle import Manifest, Port, find_source, read_manifest
from webdnn_onnx.cli.compare import Comparison, compare_outputs, relative_tolerance
from webdnn_onnx.cli.inputs import chosen_dims, given_inputs, made_up, seeded_inputs
from webdnn_onnx.cli.limits import index_limits
from webdnn_onnx.cli.outputs import run_facts
from webdnn_onnx.cli.progress import Progress
from webdnn_onnx.cli.session import open_from
from webdnn_onnx.cli.table import format_table
from webdnn_onnx.engines import RunInfo
from webdnn_onnx.errors import BackendError, InvalidModelError, WebDNNError
from webdnn_onnx.graph import Graph, TensorType
from webdnn_onnx.report.units import format_ms

__all__ = ["run"]

_QUICK_MS = 200.0
_REPEAT = 5
"""A quick model runs again: its first run is not what it takes, and its last outputs must be right too."""


@dataclass(frozen=True)
class BackendResult:
    """One backend: how its outputs compare, or the error that it ended with."""

    backend: str
    comparisons: tuple[Comparison, ...] = ()
    info: RunInfo | None = None
    error: str = ""

    @property
    def passed(self) -> bool:
        return not self.error and all(comparison.passed for comparison in self.comparisons)


def run(arguments: argparse.Namespace) -> int:
    """Compare; 0 if every output of every backend is within its tolerance, else 1."""
    from webdnn_onnx.load import load
    from webdnn_reference import Interpreter

    manifest = read_manifest(arguments.bundle)
    backends = arguments.backend or list(manifest.backends)
    for backend in backends:
        if backend not in manifest.backends:
            have = ", ".join(manifest.backends)
            raise InvalidModelError(f"{arguments.bundle}: expected a program for {backend}, got only: {have}")
    graph = load(find_source(arguments.bundle, arguments.model))
    ports = _reference_ports(manifest, graph)
    given = given_inputs(arguments.input, [port.name for port in manifest.inputs])
    dims = chosen_dims(arguments.dim, ports)
    inputs = seeded_inputs(ports, given, arguments.seed, dims, limits=index_limits(graph))
    with Progress(quiet=arguments.json) as progress:
        progress("reference", 0.0)
        with made_up(inputs, given):
            expected = Interpreter(graph, float64=True, seed=arguments.seed).run(inputs)
        relative = relative_tolerance(_element_types(graph), _weights(manifest))
        results = []
        with open_from(arguments) as engine:
            for index, backend in enumerate(backends):
                progress(backend, (1 + index) / (1 + len(backends)))
                try:
                    outputs, info = engine.run(arguments.bundle, backend, inputs, timeout=arguments.timeout)
                    if info.run_ms[0] < _QUICK_MS:
                        again = engine.run(arguments.bundle, backend, inputs, repeat=_REPEAT, timeout=arguments.timeout)
                        outputs, info = again.outputs, replace(again.info, load_ms=info.load_ms)
                except WebDNNError as error:
                    if not isinstance(error, BackendError) and backend == backends[0]:
                        raise
                    results.append(BackendResult(backend, error=str(error)))
                else:
                    comparisons = tuple(compare_outputs(outputs, expected, relative))
                    results.append(BackendResult(backend, comparisons, info))
    if arguments.json:
        print(json.dumps({"bundle": str(arguments.bundle), "engine": arguments.engine, "results": _facts(results)}))
    else:
        _print(results)
    return 0 if all(result.passed for result in results) else 1


def _reference_ports(manifest: Manifest, graph: Graph) -> tuple[Port, ...]:
    """The bundle's inputs. Raises InvalidModelError if the model has others: it is not the one the bundle is from."""
    names, own = [port.name for port in manifest.inputs], [value.name for value in graph.inputs]
    if set(names) != set(own):
        raise InvalidModelError(f"the model: expected inputs {', '.join(names)}, got {', '.join(own)}; give --model")
    return manifest.inputs


def _element_types(graph: Graph) -> frozenset[str]:
    return frozenset(graph.value(name).dtype.value for name in graph.constants) | frozenset(
        value.type.dtype.value for value in (*graph.inputs, *graph.outputs) if isinstance(value.type, TensorType)
    )


def _weights(manifest: Manifest) -> str:
    """How the weights are stored, by the coarsest encoding among them."""
    programs: Mapping[str, Any] = manifest.data["programs"]
    found = {
        buffer["weight"].get("encoding", "raw")
        for program in programs.values()
        for buffer in program["buffers"]
        if "weight" in buffer
    }
    return "int8" if "int8" in found else "f16" if "f16" in found else "f32"


def _facts(results: list[BackendResult]) -> list[dict[str, Any]]:
    return [
        {
            "backend": result.backend,
            "passed": result.passed,
            "error": result.error,
            "outputs": [{**asdict(item), "passed": item.passed} for item in result.comparisons],
            "info": None if result.info is None else run_facts(result.info),
        }
        for result in results
    ]


def _print(results: list[BackendResult]) -> None:
    rows: list[tuple[object, ...]] = []
    notes = []
    for result in results:
        latency = "" if result.info is None else format_ms(statistics.median(result.info.run_ms))
        for item in result.comparisons:
            verdict = "ok" if item.passed else "FAILED"
            rows.append(
                (result.backend, item.name, item.type, f"{item.error:.2e}", f"{item.limit:.2e}", latency, verdict)
            )
            if not item.passed:
                notes.append(f"{result.backend}, {item.name}: {item.reason}")
        if result.error:
            rows.append((result.backend, "", "", "", "", "", "FAILED"))
            notes.append(result.error)
        elif result.info is not None:
            notes.extend(f"{result.backend}: outside the backend: {step}" for step in result.info.placement)
    header = ("backend", "output", "type", "error", "allowed", "latency", "")
    print(format_table(header, rows, right=(3, 4, 5)))
    for note in notes:
        print(note)
    adapters = {result.info.adapter for result in results if result.info is not None and result.info.adapter}
    if adapters:
        print(f"on {', '.join(sorted(adapters))}")
