"""The whole way from an ONNX model to a bundle folder."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata, resources
from pathlib import Path
from typing import Any, TypeAlias, get_args

from onnx import ModelProto

from webdnn_backends.emit import Emitted
from webdnn_backends.js.host_functions import host_module
from webdnn_backends.lower import lower_graph, unsupported_nodes
from webdnn_backends.targets import BACKENDS, emitter, target
from webdnn_backends.te.compile import CompiledProgram, compile_program
from webdnn_backends.te.tensors import TensorProgram
from webdnn_onnx.bundle.entry import entry_module, entry_types
from webdnn_onnx.bundle.folder import bundle_folder
from webdnn_onnx.bundle.plan import Plan, plan_arena, plan_slots
from webdnn_onnx.bundle.program import (
    KernelTable,
    bound_symbols,
    calls_of,
    host_functions,
    kernel_table,
    program_record,
)
from webdnn_onnx.bundle.weights import Encoding, WeightFile, WeightStore
from webdnn_onnx.errors import BackendError, DTypeError, InvalidModelError, ShapeError, UnsupportedOpError, WebDNNError
from webdnn_onnx.graph import Graph, MapType, OptionalType, SequenceType, TensorType, Type, Value
from webdnn_onnx.report.cost import bytes_of, call_macs
from webdnn_onnx.symbolic import Dim, free_symbols, to_json

__all__ = ["BackendReport", "KernelReport", "Report", "convert", "prepare"]

Progress: TypeAlias = Callable[[str, float], None]
"""Called with what is being done and the fraction that is done."""


@dataclass(frozen=True)
class KernelReport:
    """One kernel call: its name, the ONNX nodes behind it, where it runs and why, its text in the dialect.

    macs: multiply-adds of its contractions; bytes: of the tensors that it reads and writes. None where symbolic.
    """

    name: str
    source: tuple[str, ...]
    output: str
    shape: str
    where: str
    reason: str
    macs: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class BackendReport:
    """One backend's program. peak: bytes of inputs, outputs and temporaries (None where sizes are symbolic); weights:
    bytes in memory; kernels: different ones; calls: in order; files: name -> bytes."""

    backend: str
    peak: int | None
    weights: int
    kernels: int
    calls: tuple[KernelReport, ...]
    files: Mapping[str, int]
    placed: tuple[str, ...]
    declined: Mapping[str, str]
    fusions: tuple[tuple[str, str, str | None], ...]


@dataclass(frozen=True)
class Report:
    """What a conversion did. nodes: of the model, before and after the passes. seconds: by stage. notes: what of the
    model is not as it says."""

    name: str
    folder: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[int, int]
    weight_bytes: int
    bundle_bytes: Mapping[str, int]
    backends: tuple[BackendReport, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    explain: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def prepare(
    model: ModelProto | bytes | str | Path | Graph,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    explain: list[str] | None = None,
) -> tuple[Graph, TensorProgram]:
    """Load, specialise, optimise, infer and lower a model: all that does not depend on a backend.

    Raises InvalidModelError, UnsupportedOpError, ShapeError or DTypeError as the stages do.
    """
    from webdnn_onnx.infer import analyse_ranks
    from webdnn_onnx.load import load
    from webdnn_onnx.passes import Log, optimize
    from webdnn_onnx.specialize import specialize

    graph = model if isinstance(model, Graph) else load(model)
    if not graph.outputs:
        raise InvalidModelError(f"graph '{graph.name}': expected at least one output, got none")
    graph = specialize(graph, shapes=shapes or {}, dims=dims or {})
    log = Log()
    graph = optimize(graph, log)
    if explain is not None:
        explain.extend(map(str, log.firings))
    missing = unsupported_nodes(graph)
    if missing:
        more = f" (and {len(missing) - 1} more operators: webdnn inspect lists them)" if len(missing) > 1 else ""
        raise UnsupportedOpError(missing[0] + more)
    analysis = analyse_ranks(graph)
    try:
        return analysis.graph, lower_graph(analysis.graph, analysis.elements)
    except DTypeError as error:
        for value in graph.inputs:
            if isinstance(value.type, TensorType) and value.type.shape is None:
                raise ShapeError(
                    f"input '{value.name}': expected a known rank, got {value.type}; "
                    f"give its shape: --shape {value.name}=1,3,224,224"
                ) from error
        raise


def convert(
    model: ModelProto | bytes | str | Path | Graph,
    out: str | Path,
    *,
    backends: Sequence[str] = BACKENDS,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    weights: Encoding = "f32",
    strict: bool = False,
    name: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Compile a model into a bundle folder.

    model: a ModelProto, its bytes, a path, or a Graph. out: the folder to write (replaced if it is a bundle). shapes,
    dims: fix symbolic input dimensions. weights: how float32 weights are stored. strict: refuse kernels that leave
    their backend. Raises a WebDNNError; then nothing is written.
    """
    unknown = [backend for backend in backends if backend not in BACKENDS]
    if unknown or not backends:
        raise WebDNNError(f"backends: expected some of {', '.join(BACKENDS)}, got {', '.join(unknown) or 'none'}")
    if weights not in get_args(Encoding):
        raise WebDNNError(f"weights: expected one of {', '.join(get_args(Encoding))}, got {weights}")
    tell = progress or (lambda _stage, _fraction: None)
    clock = _Clock()
    explain: list[str] = []
    tell("reading and optimising", 0.0)
    source = _name_of(model, name)
    original = model if isinstance(model, Graph) else _load(model)
    clock.lap("load")
    graph, program = prepare(original, shapes=shapes, dims=dims, explain=explain)
    clock.lap("optimise")
    compiled: dict[str, CompiledProgram] = {}
    for position, backend in enumerate(backends):
        tell(f"compiling for {backend}", 0.3 + 0.4 * position / len(backends))
        compiled[backend] = compile_program(program, target(backend))
        clock.lap(f"compile {backend}")
        off = [call.placed for call in calls_of(compiled[backend].items) if call.placed]
        if strict and off:
            raise UnsupportedOpError(
                f"{backend}: expected every kernel on the backend (--strict), got {len(off)} off it: {off[0]}"
            )
    tell("writing", 0.7)
    with bundle_folder(Path(out)) as folder:
        report = _write(folder, Path(out), source, graph, compiled, weights, original, clock, explain)
    tell("done", 1.0)
    return report


def _load(model: ModelProto | bytes | str | Path) -> Graph:
    from webdnn_onnx.load import load

    return load(model)


class _Clock:
    """Seconds by stage, for people to look at; nothing of it is written into the bundle."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def _write(
    folder: Path,
    out: Path,
    name: str,
    graph: Graph,
    compiled: Mapping[str, CompiledProgram],
    encoding: Encoding,
    declared: Graph,
    clock: _Clock,
    explain: list[str],
) -> Report:
    store = WeightStore(WeightFile(encoding, lambda shard, content: _put(folder, shard, content)))
    for backend, program in compiled.items():
        for constant in program.constants:
            store.use(
                backend, constant, program.tensors[constant].dtype, partial(program.constants.__getitem__, constant)
            )
    shards = store.write()
    clock.lap("weights")
    programs: dict[str, Any] = {}
    reports: list[BackendReport] = []
    files: dict[str, bytes] = {}
    for backend, program in compiled.items():
        plan = plan_slots(program) if backend == "webgpu" else plan_arena(program)

        calls = calls_of(program.items)
        table = kernel_table([call for call in calls if not call.placed])
        host_table = kernel_table([call for call in calls if call.placed])
        emitted = emitter(backend)(table.kernels)
        host = emitter("js")(host_table.kernels) if host_table.kernels else Emitted({}, (), ())
        programs[backend] = program_record(
            program, plan, table, emitted, (host_table, host), partial(store.record, backend)
        )
        files.update(emitted.files)
        functions = host_module(host_functions(program.items)).encode()
        if backend == "js":
            files["kernels.js"] = functions + files["kernels.js"]
        elif host.files or functions:
            files[f"{backend}.host.js"] = functions + host.files.get("kernels.js", b"")
        reports.append(_backend_report(backend, graph, program, plan, emitted, table))
        clock.lap(f"emit {backend}")
    for file_name, content in files.items():
        _put(folder, file_name, content)
    manifest = {
        "format": 1,
        "generator": f"webdnn-onnx {_version()}",
        "name": name,
        "inputs": [_port(value) for value in graph.inputs],
        "outputs": [_port(value) for value in graph.outputs],
        "symbols": sorted(_symbols(graph).union(*(bound_symbols(program.items) for program in compiled.values()))),
        "weights": {"shards": shards},
        "files": {key: _facts(content) for key, content in sorted(files.items())},
        "programs": programs,
    }
    _put(folder, "model.json", json.dumps(manifest, separators=(",", ":")).encode())
    _put(folder, "index.js", entry_module().encode())
    _put(folder, "index.d.ts", entry_types(graph).encode())
    for runtime_file, content in runtime_files().items():
        _put(folder, runtime_file, content)
    clock.lap("write")
    report = Report(
        name,
        str(out),
        tuple(f"{value.name}: {value.type}" for value in graph.inputs),
        tuple(f"{value.name}: {value.type}" for value in graph.outputs),
        (len(declared.nodes), len(graph.nodes)),
        store.file.stored,
        {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        tuple(reports),
        clock.seconds,
        tuple(explain),
        _contradictions(declared, graph),
    )
    _render(folder, report)
    return report


def _contradictions(declared: Graph, graph: Graph) -> tuple[str, ...]:
    """The outputs whose declared shape is not what the nodes give: some exporters write such, and runtimes run them."""
    found = []
    for before, after in zip(declared.outputs, graph.outputs, strict=True):
        if not (isinstance(before.type, TensorType) and isinstance(after.type, TensorType)):
            continue
        said, got = before.type.shape, after.type.shape
        if said is None or got is None:
            continue
        pairs = zip(said, got, strict=False)
        if len(said) != len(got) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs):
            found.append(f"output '{before.name}': declared as {before.type}, its nodes give {after.type}")
    return tuple(found)


def _render(folder: Path, report: Report) -> None:
    from webdnn_onnx.report import render_report

    for name, text in render_report(report).items():
        _put(folder, name, text.encode())


def _put(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def _backend_report(
    backend: str, graph: Graph, program: CompiledProgram, plan: Plan, emitted: Emitted, table: KernelTable
) -> BackendReport:
    calls = []
    found = list(calls_of(program.items))
    for call, macs in zip(found, call_macs(graph, [call.source for call in found]), strict=True):
        output = call.arguments[-1]
        shape = "x".join(map(str, program.tensors[output].shape))
        name = table.kernels[table.index[id(call)]].name if id(call) in table.index else call.kernel.name
        where = "js" if call.placed else backend
        moved = bytes_of(program.tensors[name] for name in dict.fromkeys(call.arguments))
        calls.append(KernelReport(name, call.source, output, shape, where, call.placed, macs, moved))
    static = all(isinstance(live.size, int) for live in plan.ranges)
    return BackendReport(
        backend,
        plan.peak if static else None,
        sum(bytes_of([program.tensors[name]]) or 0 for name in program.constants),
        len(table.kernels),
        tuple(calls),
        {name: len(content) for name, content in emitted.files.items()},
        tuple(call.placed for call in calls_of(program.items) if call.placed),
        dict(program.declined),
        tuple((fusion.producer, fusion.consumer, fusion.reason) for fusion in program.fusions),
    )


def runtime_files() -> dict[str, bytes]:
    """The built runtime, by file name. Raises BackendError where it has not been built."""
    root = resources.files("webdnn_onnx") / "_runtime"
    if not root.is_dir():
        raise BackendError(f"{root}: expected the built runtime, got nothing; run `make build` in the source checkout")
    return {entry.name: entry.read_bytes() for entry in sorted(root.iterdir(), key=lambda e: e.name) if entry.is_file()}


def _version() -> str:
    return metadata.version("webdnn-onnx")


def _facts(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _port(value: Value) -> dict[str, Any]:
    assert value.type is not None, "inference gives every input and output a type"
    return {"name": value.name, **_type_record(value.type)}


def _type_record(kind: Type) -> dict[str, Any]:
    match kind:
        case SequenceType(element=element):
            return {"sequence": _type_record(element)}
        case OptionalType(element=element):
            return {"optional": _type_record(element)}
        case MapType(key=key, value=value):
            return {"map": [key.value, _type_record(value)]}
        case _:
            return {"dtype": kind.dtype.value, "shape": [to_json(size) for size in kind.shape or ()]}


def _symbols(graph: Graph) -> set[str]:
    dims: list[Dim] = []
    for value in graph.inputs:
        kind = value.type
        while isinstance(kind, SequenceType | OptionalType):
            kind = kind.element
        if kind is not None and not isinstance(kind, MapType):
            dims.extend(kind.shape or ())
    return {name for size in dims for name in free_symbols(size)}


def _name_of(model: ModelProto | bytes | str | Path | Graph, name: str | None) -> str:
    if name:
        return name
    if isinstance(model, str | Path):
        stem = Path(model).stem
        return Path(model).resolve().parent.name if stem == "model" else stem
    given = model.graph.name if isinstance(model, ModelProto) else model.name if isinstance(model, Graph) else ""
    return re.sub(r"[^\w.-]+", "_", given) or "model"
