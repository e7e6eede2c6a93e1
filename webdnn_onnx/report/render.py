"""report.json and report.html of a bundle.

Neither holds a clock, a path or anything else that differs between two conversions of the same model.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webdnn_onnx.report.units import format_bytes, format_count

if TYPE_CHECKING:
    from webdnn_onnx.convert import BackendReport, KernelReport, Report

__all__ = ["render_report", "report_data"]

_TITLES = {"webgpu": "WebGPU", "wasm": "WebAssembly", "js": "JavaScript"}
_CALL_HEADER = ("step", "kernel", "nodes of the model", "output", "multiply-adds", "bytes moved", "runs on")
_TOP_FAMILIES = 12
_ELEMENT_TYPE = re.compile(r"_(?:bool|[fiu]\d+|bf16|c64|c128)(?:_|$)")


def render_report(report: Report) -> dict[str, str]:
    """File name -> text: the report as JSON and as one self-contained page."""
    return {
        "report.json": json.dumps(report_data(report), indent=1) + "\n",
        "report.html": _page(report),
    }


def report_data(report: Report) -> dict[str, Any]:
    """The report as JSON values."""
    return {
        "name": report.name,
        "inputs": list(report.inputs),
        "outputs": list(report.outputs),
        "nodes": {"before": report.nodes[0], "after": report.nodes[1]},
        "weightBytes": report.weight_bytes,
        "files": dict(report.bundle_bytes),
        "backends": {item.backend: _backend_data(item) for item in report.backends},
        "notes": list(report.notes),
        "explain": list(report.explain),
    }


def _backend_data(item: BackendReport) -> dict[str, Any]:
    return {
        "peakBytes": item.peak,
        "weightBytes": item.weights,
        "kernels": item.kernels,
        "files": dict(item.files),
        "calls": [
            {
                "kernel": call.name,
                "source": list(call.source),
                "output": call.output,
                "shape": call.shape,
                "where": call.where,
                "reason": call.reason,
                "macs": call.macs,
                "bytes": call.bytes,
            }
            for call in item.calls
        ],
        "placed": list(item.placed),
        "declined": dict(item.declined),
        "fusions": [
            {"producer": producer, "consumer": consumer, "fused": reason is None, "reason": reason}
            for producer, consumer, reason in item.fusions
        ],
    }


def _page(report: Report) -> str:
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    sections = [_summary(report), _backends(report), _files(report)]
    sections += [_kernels(item) for item in report.backends]
    sections += [_fusions(report), _explain(report)]
    name = escape(report.name)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name} · webdnn-onnx</title>\n<style>\n{style}</style>\n<main>\n"
        f"{''.join(sections)}</main>\n</html>\n"
    )


def _summary(report: Report) -> str:
    weights = sum(size for name, size in report.bundle_bytes.items() if _is_weight(name))
    code = sum(size for name, size in report.bundle_bytes.items() if not _is_weight(name) and not _is_report(name))
    before, after = report.nodes
    outside = sum(len(item.placed) for item in report.backends)
    tiles = [
        (format_bytes(weights), "weights"),
        (format_bytes(code), "code and manifest, all backends"),
        (f"{before} → {after}", "nodes before and after rewriting"),
        (str(outside) if outside else "none", "kernels outside their backend"),
    ]
    cells = "".join(f"<li><strong>{escape(value)}</strong><span>{escape(label)}</span></li>" for value, label in tiles)
    ports = "".join(
        f"<div><dt>{kind}</dt><dd>{'<br>'.join(f'<code>{escape(port)}</code>' for port in values)}</dd></div>"
        for kind, values in (("inputs", report.inputs), ("outputs", report.outputs), ("notes", report.notes))
        if values
    )
    return (
        f"<header><p>webdnn-onnx report</p><h1>{escape(report.name)}</h1><dl>{ports}</dl></header>\n"
        f'<ul class="tiles">{cells}</ul>\n'
    )


def _backends(report: Report) -> str:
    rows = [
        (
            _title(item.backend),
            item.kernels,
            len(item.calls),
            "by input size" if item.peak is None else format_bytes(item.peak),
            format_bytes(item.weights),
            format_bytes(sum(item.files.values())),
            len(item.placed),
        )
        for item in report.backends
    ]
    header = ("backend", "kernels", "calls", "peak memory", "weights in memory", "kernel code", "outside")
    body = _table(header, rows, numbers=range(1, 7))
    notes = "".join(
        f"<li>{escape(_title(item.backend))}: {escape(reason)}</li>"
        for item in report.backends
        for reason in item.placed
    )
    placed = f"<h3>Kernels that run outside their backend</h3><ul>{notes}</ul>" if notes else ""
    return _section("Backends", body + placed)


def _files(report: Report) -> str:
    largest = max(report.bundle_bytes.values(), default=1) or 1
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td class=n>{format_bytes(size)}</td>"
        f'<td class=bar><i style="width:{max(100 * size / largest, 0.4):.1f}%"></i></td></tr>'
        for name, size in sorted(report.bundle_bytes.items(), key=lambda item: -item[1])
        if not _is_report(name)
    )
    return _section("Files", f"<table><tbody>{rows}</tbody></table>")


def _kernels(item: BackendReport) -> str:
    families = Counter(_family(call) for call in item.calls)
    chips = "".join(
        f"<li>{escape(family)} <b>{count}</b></li>" for family, count in families.most_common(_TOP_FAMILIES)
    )
    rows = [
        (
            position,
            _Raw(f"<code>{escape(call.name)}</code>"),
            ", ".join(call.source),
            call.shape,
            "" if call.macs == 0 else "?" if call.macs is None else format_count(call.macs),
            "?" if call.bytes is None else format_bytes(call.bytes),
            call.where if not call.reason else f"{call.where}: {call.reason}",
        )
        for position, call in enumerate(item.calls)
    ]
    table = _table(_CALL_HEADER, rows, numbers=(0, 4, 5))
    calls = f"<details><summary>all {len(item.calls)} calls</summary>{table}</details>"
    generic = _pairs("on the generic schedule, and why", item.declined.items(), len(item.declined))
    body = f'<ul class="chips">{chips}</ul>{calls}{generic}'
    return _section(f"{_title(item.backend)} program", body)


def _fusions(report: Report) -> str:
    parts = []
    for item in report.backends:
        fused = [(producer, consumer) for producer, consumer, reason in item.fusions if reason is None]
        kept = [entry for entry in item.fusions if entry[2] is not None]
        if not item.fusions:
            continue
        lists = _pairs("fused", ((f"{producer} → {consumer}", "") for producer, consumer in fused), len(fused))
        lists += _pairs(
            "not fused, and why",
            ((f"{producer} → {consumer}", str(reason)) for producer, consumer, reason in kept),
            len(kept),
        )
        parts.append(f"<h3>{escape(_title(item.backend))}</h3>{lists}")
    return _section("Fusion", "".join(parts)) if parts else ""


def _pairs(label: str, entries: Iterable[tuple[str, str]], count: int) -> str:
    if not count:
        return ""
    items = "".join(f"<li><code>{escape(what)}</code>{f': {escape(why)}' if why else ''}</li>" for what, why in entries)
    return f"<details><summary>{count} {label}</summary><ul>{items}</ul></details>"


def _explain(report: Report) -> str:
    if not report.explain:
        return ""
    lines = "".join(f"<li>{escape(line)}</li>" for line in report.explain)
    body = f"<details><summary>{len(report.explain)} entries</summary><ul>{lines}</ul></details>"
    return _section("Rewrites of the graph", body)


class _Raw(str):
    """Text that is HTML already."""

    __slots__ = ()


def _table(header: Sequence[str], rows: Sequence[Sequence[object]], numbers: Iterable[int] = ()) -> str:
    right = set(numbers)

    def cell(tag: str, column: int, value: object) -> str:
        text = value if isinstance(value, _Raw) else escape(str(value))
        return f"<{tag}{' class=n' if column in right else ''}>{text}</{tag}>"

    head = "".join(cell("th", column, name) for column, name in enumerate(header))
    body = "".join(f"<tr>{''.join(cell('td', column, value) for column, value in enumerate(row))}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def _family(call: KernelReport) -> str:
    """A kernel's name without its element type and sizes: max_pool_f32_1x24x4x4 -> max_pool."""
    return _ELEMENT_TYPE.split(call.name, maxsplit=1)[0]


def _title(backend: str) -> str:
    return _TITLES.get(backend, backend)


def _is_weight(name: str) -> bool:
    return name.endswith(".bin")


def _is_report(name: str) -> bool:
    return name.startswith("report.")
