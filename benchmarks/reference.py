"""The NumPy reference beside onnx.reference: time and memory.

    python -m benchmarks.reference [--suite] [--model NAME|PATH ...] [--rounds N] [--theirs N] [--cpu] [--memory]

One of ours and one of theirs in turn in one process; medians and their ratio. A model is measured cold: the interpreter
is made from the file's bytes and run once. --suite runs every node case of the onnx package through both; a case that
one of them cannot run is left out for both. --cpu counts processor time, which neighbours on a shared machine disturb
less; set OPENBLAS_NUM_THREADS=1 with it, for threads that wait also count. --memory runs each model in a process of its
own and compares the peak of what is allocated with the largest set of live values, which follows from the graph and the
observed values.

NAME is one of the light models of the onnx package (resnet50, vgg19 ...): real architectures, made-up weights.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.test.loader import load_model_tests
from onnx.reference import ReferenceEvaluator

from webdnn_onnx.load import load
from webdnn_reference import Interpreter

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
MODELS = ("vgg19", "resnet50", "densenet121", "inception_v2")


def path_of(model: str) -> Path:
    """The file of a light model by its name, or of a path."""
    light = LIGHT / f"light_{model}.onnx"
    return light if light.is_file() else Path(model)


def feeds_of(data: bytes) -> dict[str, Any]:
    """Seeded values for the inputs of a model with known shapes."""
    random = np.random.default_rng(0)
    feeds = {}
    for value in load(data).inputs:
        shape = tuple(int(str(size)) for size in value.shape)
        feeds[value.name] = random.random(shape).astype(value.dtype.numpy)
    return feeds


def seconds(clock: Callable[[], float], call: Callable[[], Any]) -> float:
    """How long one call takes by a clock."""
    start = clock()
    call()
    return clock() - start


def compare_model(path: Path, rounds: int, theirs: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Median seconds of both, cold, taken in turn. theirs: in how many of the rounds theirs takes part."""
    data = path.read_bytes()
    feeds = feeds_of(data)
    own, other = [], []
    for index in range(rounds):
        own.append(seconds(clock, lambda: Interpreter(data).run(feeds)))
        if index < theirs:
            other.append(seconds(clock, lambda: ReferenceEvaluator(onnx.load_from_string(data)).run(None, feeds)))
    return _row(path.stem, own, other)


def compare_suite(rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Median seconds of both over all node cases that both can run, the making of the interpreters included."""
    cases = []
    for case in load_model_tests(kind="node"):
        if case.model is None or not case.data_sets:
            continue
        inputs = case.data_sets[0][0]
        feeds = dict(zip([value.name for value in case.model.graph.input], inputs, strict=False))
        if _runs(_our_case, case.model, feeds) and _runs(_their_case, case.model, feeds):
            cases.append((case.model, feeds))
    own, other = [], []
    for _ in range(rounds):
        own.append(seconds(clock, lambda: [_our_case(model, feeds) for model, feeds in cases]))
        other.append(seconds(clock, lambda: [_their_case(model, feeds) for model, feeds in cases]))
    return _row(f"node suite, {len(cases)} cases", own, other)


def _our_case(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> None:
    Interpreter(model).run(feeds)


def _their_case(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> None:
    with np.errstate(all="ignore"):
        ReferenceEvaluator(model).run(None, dict(feeds))


def _runs(call: Callable[[Any, Any], None], model: onnx.ModelProto, feeds: Mapping[str, Any]) -> bool:
    try:
        call(model, feeds)
    except Exception:  # noqa: BLE001 -- what the other side raises has no common base
        return False
    return True


def _row(name: str, own: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    ours, theirs = statistics.median(own), statistics.median(other)
    return {"name": name, "ours": ours, "onnx.reference": theirs, "ratio": theirs / ours, "best": min(own)}


def measure_memory(path: Path) -> dict[str, Any]:
    """Peak bytes of one run, and of the largest set of live values: constants, and each value until its last use."""
    data = path.read_bytes()
    feeds = feeds_of(data)
    tracemalloc.start()
    interpreter = Interpreter(data)
    sizes: dict[str, int] = {name: _held_bytes(value) for name, value in feeds.items()}
    interpreter.run(feeds, observe=lambda name, value: sizes.__setitem__(name, _held_bytes(value)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"name": path.stem, "peak": peak, "live": _largest_live_set(interpreter, sizes)}


def _held_bytes(array: np.ndarray[Any, Any]) -> int:
    """The bytes behind an array: a broadcast view holds each element once."""
    sides = (size for size, stride in zip(array.shape, array.strides, strict=True) if stride)
    return array.itemsize * math.prod(sides)


def _largest_live_set(interpreter: Interpreter, sizes: Mapping[str, int]) -> int:
    graph = interpreter.graph
    constants = sum(array.nbytes for array in graph.constants.values())
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs if name}
    last |= {value.name: len(graph.nodes) for value in graph.outputs}
    live = {value.name for value in graph.inputs}
    largest = 0
    for index, node in enumerate(graph.nodes):
        live |= {name for name in node.outputs if name}
        largest = max(largest, sum(sizes.get(name, 0) for name in live))
        live = {name for name in live if last.get(name, -1) > index}
    return constants + largest


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--suite", action="store_true", help="all node cases of the onnx package")
    parser.add_argument("--model", action="append", help="a light model's name or a path; by default four light ones")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of ours")
    parser.add_argument("--theirs", type=int, default=1, help="measurements of theirs, which takes up to half a minute")
    parser.add_argument("--memory", action="store_true", help="peak memory of ours instead of times")
    parser.add_argument("--cpu", action="store_true", help="processor time instead of elapsed time")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    options = parser.parse_args(arguments)
    models = [path_of(model) for model in options.model or (() if options.suite else MODELS)]
    clock = time.process_time if options.cpu else time.perf_counter
    if options.suite:
        _print(compare_suite(options.rounds, clock), options.json)
    for path in models:
        if not options.memory:
            _print(compare_model(path, options.rounds, max(1, options.theirs), clock), options.json)
        elif len(models) == 1:
            _print(measure_memory(path), options.json)
        else:
            flags = ["--json"] if options.json else []
            subprocess.run(
                [sys.executable, "-m", "benchmarks.reference", "--memory", "--model", path, *flags], check=True
            )
    return 0


def _print(row: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(row), flush=True)
    elif "peak" in row:
        ratio = row["peak"] / row["live"] if row["live"] else math.inf
        print(
            f"{row['name']:32} peak {row['peak'] / 1e6:7.1f} MB, live {row['live'] / 1e6:7.1f} MB, {ratio:.2f}x",
            flush=True,
        )
    else:
        print(
            f"{row['name']:32} ours {row['ours']:7.3f} s, onnx.reference {row['onnx.reference']:7.3f} s, "
            f"{row['ratio']:.1f}x",
            flush=True,
        )


if __name__ == "__main__":
    raise SystemExit(main())
