"""`webdnn convert`: an ONNX model becomes a folder of static files."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from webdnn_onnx.cli.arguments import BACKENDS
from webdnn_onnx.cli.bundle import remember_source
from webdnn_onnx.cli.fixing import parse_dims, parse_shapes
from webdnn_onnx.cli.progress import Progress
from webdnn_onnx.cli.table import format_table
from webdnn_onnx.report.units import format_bytes, format_ms

if TYPE_CHECKING:
    from webdnn_onnx.convert import Report

__all__ = ["run"]

_SHOWN = 5


def run(arguments: argparse.Namespace) -> int:
    """Convert; print a summary that fits on a screen."""
    shapes, dims = parse_shapes(arguments.shape), parse_dims(arguments.dim)
    from webdnn_onnx.convert import convert

    with Progress(quiet=arguments.quiet) as progress:
        report = convert(
            arguments.model,
            arguments.out,
            backends=tuple(dict.fromkeys(arguments.backend or BACKENDS)),
            shapes=shapes,
            dims=dims,
            weights=arguments.weights,
            strict=arguments.strict,
            progress=progress,
        )
    remember_source(arguments.out, arguments.model)
    if not arguments.quiet:
        print(summary(report))
    if arguments.explain:
        print()
        print("\n".join(explanation(report)))
    return 0


def summary(report: Report) -> str:
    """The report on one screen."""
    code = {name: size for name, size in report.bundle_bytes.items() if not name.endswith((".bin", ".html"))}
    weights = sum(size for name, size in report.bundle_bytes.items() if name.endswith(".bin"))
    before, after = report.nodes
    seconds = 1000 * sum(report.seconds.values())
    lines = [f"{report.name}: {before} nodes, {after} after rewriting, compiled in {format_ms(seconds)}"]
    for kind, ports in (("in ", report.inputs), ("out", report.outputs)):
        lines += [f"  {kind} {port}" for port in ports[:_SHOWN]]
        if len(ports) > _SHOWN:
            lines.append(f"  {kind} and {len(ports) - _SHOWN} more")
    rows = [
        (
            f"  {item.backend}",
            item.kernels,
            len(item.calls),
            "by input size" if item.peak is None else format_bytes(item.peak),
            format_bytes(sum(item.files.values())),
            len(item.placed) or "none",
        )
        for item in report.backends
    ]
    lines += [f"  note: {note}" for note in report.notes[:_SHOWN]]
    header = ("  backend", "kernels", "calls", "peak memory", "kernel code", "outside the backend")
    lines += ["", format_table(header, rows, right=(1, 2, 3, 4, 5)), ""]
    for item in report.backends:
        reasons = list(dict.fromkeys(item.placed))
        lines += [f"  outside {item.backend}: {reason}" for reason in reasons[:_SHOWN]]
        if len(reasons) > _SHOWN:
            lines.append(f"  outside {item.backend}: {len(reasons) - _SHOWN} more reasons in report.html")
    lines.append(
        f"{report.folder}: weights {format_bytes(weights)}, everything else {format_bytes(sum(code.values()))}"
    )
    lines.append(f"next: webdnn check {report.folder}    details: {report.folder}/report.html")
    return "\n".join(lines)


def explanation(report: Report) -> list[str]:
    """Which rewrites and fusions happened, and why the others did not."""
    lines = [*report.explain]
    for item in report.backends:
        for producer, consumer, reason in item.fusions:
            how = "fused" if reason is None else f"not fused: {reason}"
            lines.append(f"{item.backend}: {producer} into {consumer}: {how}")
        lines += [f"{item.backend}: {name}: generic schedule: {reason}" for name, reason in item.declined.items()]
    return lines
