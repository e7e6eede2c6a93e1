"""`webdnn run`: a converted model in a real browser or Node."""

from __future__ import annotations

import argparse
import json
import statistics

from webdnn_onnx.cli.bundle import read_manifest
from webdnn_onnx.cli.inputs import chosen_dims, given_inputs, made_up, seeded_inputs
from webdnn_onnx.cli.outputs import print_outputs, run_facts, save_outputs, summaries
from webdnn_onnx.cli.session import open_from
from webdnn_onnx.report.units import format_ms

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Run the bundle; print or save its outputs."""
    manifest = read_manifest(arguments.bundle)
    given = given_inputs(arguments.input, [port.name for port in manifest.inputs])
    dims = chosen_dims(arguments.dim, manifest.inputs)
    inputs = seeded_inputs(manifest.inputs, given, arguments.seed, dims)
    with open_from(arguments) as engine, made_up(inputs, given):
        outputs, info = engine.run(
            arguments.bundle, arguments.backend, inputs, repeat=arguments.repeat, timeout=arguments.timeout
        )
    if arguments.output is not None:
        save_outputs(arguments.output, outputs)
    if arguments.json:
        print(json.dumps({**run_facts(info), "outputs": summaries(outputs)}))
        return 0
    where = ", ".join(part for part in (info.adapter, f"{info.threads} threads" if info.threads > 1 else "") if part)
    print(f"{info.backend}{f' ({where})' if where else ''}: load {format_ms(info.load_ms)}, {_latency(info.run_ms)}")
    for step in info.placement:
        print(f"  outside {info.backend}: {step}")
    if arguments.output is None:
        print_outputs(outputs)
    else:
        print(f"outputs written to {arguments.output}")
    return 0


def _latency(times: tuple[float, ...]) -> str:
    if len(times) == 1:
        return f"run {format_ms(times[0])}"
    warm = sorted(times[1:])
    return (
        f"first run {format_ms(times[0])}, then median {format_ms(statistics.median(warm))}, best {format_ms(warm[0])}"
    )
