"""`webdnn reference`: a model on the NumPy interpreter, without conversion."""

from __future__ import annotations

import argparse
import json
import time

from webdnn_onnx.cli.fixing import parse_dims, parse_shapes
from webdnn_onnx.cli.inputs import given_inputs, made_up, seeded_inputs
from webdnn_onnx.cli.limits import index_limits
from webdnn_onnx.cli.outputs import print_outputs, save_outputs, summaries
from webdnn_onnx.cli.ports import ports_of
from webdnn_onnx.dtypes import DType
from webdnn_onnx.report.units import format_ms

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Run the model; print or save its outputs."""
    from webdnn_onnx.load import load
    from webdnn_reference import Interpreter

    graph = load(arguments.model)
    shapes, dims = parse_shapes(arguments.shape), parse_dims(arguments.dim)
    if shapes or dims:
        from webdnn_onnx.specialize import specialize

        graph = specialize(graph, shapes=shapes, dims=dims)
    ports = ports_of(graph)
    given = given_inputs(arguments.input, [port.name for port in ports])
    inputs = seeded_inputs(ports, given, arguments.seed, limits=index_limits(graph))
    start = time.perf_counter()
    with made_up(inputs, given):
        outputs = Interpreter(graph, float64=arguments.float64, seed=arguments.seed).run(inputs)
    elapsed = 1000 * (time.perf_counter() - start)
    if arguments.output is not None:
        save_outputs(arguments.output, outputs)
    if arguments.json:
        print(json.dumps({"runMs": elapsed, "outputs": summaries(outputs)}))
        return 0
    drawn = [
        f"{name} {DType.from_numpy(value.dtype).value}{list(value.shape)}"
        for name, value in inputs.items()
        if name not in given
    ]
    if drawn:
        print(f"seeded inputs: {', '.join(drawn)}")
    print(f"reference: {len(graph.nodes)} nodes in {format_ms(elapsed)}")
    if arguments.output is None:
        print_outputs(outputs)
    else:
        print(f"outputs written to {arguments.output}")
    return 0
