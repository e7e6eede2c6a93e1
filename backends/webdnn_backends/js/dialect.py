"""Kernels to JavaScript: `kernels.js`, an ES module with one exported function per kernel.

A function takes one typed array per buffer argument, then one number per parameter (docs/bundle-format.md). float32
arithmetic is rounded after every operation with Math.fround, so the results are those of float32 hardware without fused
multiply-add; the functions of Math run in double precision and are rounded once. 64-bit integers are BigInt.
Every scalar operator, storage type and serial or PARALLEL loop of the loop IR has a JavaScript form; explicit GPU
mappings, workgroup memory and barriers have none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from webdnn_backends.emit import Emitted, LaunchShape
from webdnn_backends.ir.decompose import Definition, define
from webdnn_backends.ir.loops import Access, Barrier, Kernel, Local, Loop, LoopKind, Space, Stmt
from webdnn_backends.ir.narrow_floats import NARROW_FLOATS, pack, unpack
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.ir.statements import assigned, declared, distinct_arrays, walk
from webdnn_backends.ir.verify import verify
from webdnn_backends.js.conversions import TYPED_ARRAYS
from webdnn_backends.js.helpers import HELPERS, with_dependencies
from webdnn_backends.js.outline import Outline
from webdnn_backends.js.printer import Printer

__all__ = ["JsFunction", "emit", "emit_module", "emit_program"]

_RESERVED = frozenset(
    re.findall(
        r"\w+",
        """arguments await break case catch class const continue debugger default delete do else enum eval export
        extends false finally for function if implements import in instanceof interface let new null package
        private protected public return static super switch this throw true try typeof undefined var void while
        with yield NaN Infinity Math Number BigInt Object Uint8Array Int8Array Uint16Array Int16Array Uint32Array
        Int32Array Float32Array Float64Array BigInt64Array BigUint64Array single double wide word""",
    )
)
_DEFINITIONS: dict[str, Definition] = {
    "erf_f64": define(Op.ERF, Scalar.F64),
    **{f"pack_{dtype.value}": pack(dtype) for dtype in NARROW_FLOATS},
    **{f"unpack_{dtype.value}": unpack(dtype) for dtype in NARROW_FLOATS},
}


@dataclass(frozen=True)
class JsFunction:
    """One function: its exported name, its text, and the helpers and sums that it calls."""

    name: str
    text: str
    helpers: frozenset[str]
    sums: tuple[JsFunction, ...] = ()


def emit(kernel: Kernel) -> JsFunction:
    """The kernel as an exported function. Raises ValueError if it is no loop IR or maps its loops to a GPU."""
    verify(kernel)
    if any(_maps_to_gpu(statement) for statement in walk(kernel.body)):
        raise ValueError(f"kernel {kernel.name}: expected serial and parallel loops, got a mapping to workgroups")
    kernel = replace(kernel, body=distinct_arrays(kernel.body))
    names = _names(kernel)
    outlines: dict[str, Outline] = {}
    printer = Printer(kernel, lambda name: names[name], assigned=assigned(kernel.body), outlines=outlines)
    lines = list(printer.block(kernel.body, "  "))
    arguments = [names[buffer.name] for buffer in kernel.buffers] + [names[name] for name in kernel.parameters]
    function = identifier(kernel.name)
    text = [f"/**\n{_arguments_comment(kernel, names)} */", f"export function {function}({', '.join(arguments)}) {{"]
    text += ["  " + line for line in printer.arrays]
    text += [*lines, "}"]
    sums = tuple(_sum(found) for found in outlines.values())
    return JsFunction(function, "\n".join(text), frozenset(printer.helpers), sums)


def _sum(found: Outline) -> JsFunction:
    """The function of a loop that only adds: it returns its sum, or leaves several in `sums`."""
    kernel = found.function
    printer = Printer(kernel, str, assigned=assigned(kernel.body))
    lines = list(printer.block(kernel.body, "  "))
    results = [code.text for item in found.sums for code in printer.lanes(item, crossing=False)]
    if len(results) == 1:
        lines.append(f"  return {results[0]};")
    else:
        printer.helpers.add("sums")
        lines += [f"  sums[{number}] = {result};" for number, result in enumerate(results)]
    arguments = [*(buffer.name for buffer in kernel.buffers), *kernel.parameters]
    text = [f"function {kernel.name}({', '.join(arguments)}) {{", *lines, "}"]
    return JsFunction(kernel.name, "\n".join(text), frozenset(printer.helpers))


def emit_module(kernels: Sequence[Kernel]) -> str:
    """The text of `kernels.js`: the helpers that the kernels need, then the kernels in order."""
    return module_text([emit(kernel) for kernel in kernels])


def emit_program(kernels: Sequence[Kernel]) -> Emitted:
    """The file and the manifest's records of a program's kernels."""
    functions = [emit(kernel) for kernel in kernels]
    records = tuple(
        {"name": kernel.name, "export": function.name} for kernel, function in zip(kernels, functions, strict=True)
    )
    files = {"kernels.js": module_text(functions).encode()}
    texts = tuple("\n\n".join(part.text for part in (*function.sums, function)) for function in functions)
    return Emitted(files, records, tuple(LaunchShape() for _ in kernels), texts)


def module_text(functions: Sequence[JsFunction]) -> str:
    """One module of functions that were emitted already."""
    sums = {inner.name: inner for function in functions for inner in function.sums}
    wanted = {helper for function in (*functions, *sums.values()) for helper in function.helpers}
    definitions: dict[str, str] = {}
    pending = sorted(wanted & _DEFINITIONS.keys())
    while pending:
        name = pending.pop(0)
        if name not in definitions:
            function = _define(name, _DEFINITIONS[name])
            definitions[name] = function.text
            wanted |= function.helpers
            pending += sorted(function.helpers & _DEFINITIONS.keys())
    parts = [HELPERS[name][0] for name in with_dependencies(wanted)]
    parts += [definitions[name] for name in sorted(definitions)]
    parts += [function.text for function in (*sums.values(), *functions)]
    return "\n\n".join(parts) + "\n"


def identifier(name: str) -> str:
    """A JavaScript identifier that reads like the name."""
    text = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if not text or text[0].isdigit():
        text = f"_{text}"
    return f"{text}_" if text in _RESERVED or text in HELPERS or text in _DEFINITIONS else text


def _define(name: str, definition: Definition) -> JsFunction:
    body = definition.body
    kernel = Kernel(name, (), (), body)
    local = [parameter.name for parameter in definition.parameters] + list(declared(body))
    names = {name: identifier(name) for name in local}
    printer = Printer(kernel, lambda inner: names[inner], assigned=assigned(body))
    lines = list(printer.block(body, "  "))
    result = printer.value(definition.result).text
    parameters = ", ".join(names[parameter.name] for parameter in definition.parameters)
    text = [f"function {name}({parameters}) {{", *lines, f"  return {result};", "}"]
    return JsFunction(name, "\n".join(text), frozenset(printer.helpers))


def _names(kernel: Kernel) -> dict[str, str]:
    """A distinct identifier for every name in the kernel; siblings of the same name share theirs."""
    names: dict[str, str] = {}
    every = [buffer.name for buffer in kernel.buffers] + list(kernel.parameters) + list(declared(kernel.body))
    for name in every:
        if name not in names:
            text = identifier(name)
            while text in names.values():
                text += "_"
            names[name] = text
    return names


def _arguments_comment(kernel: Kernel, names: dict[str, str]) -> str:
    verbs = {Access.READ: "read", Access.WRITE: "written", Access.READ_WRITE: "read and written"}
    lines = []
    for buffer in kernel.buffers:
        what = f"{buffer.dtype.value}, {verbs[buffer.access]}"
        lines.append(f" * @param {{{TYPED_ARRAYS[buffer.dtype]}}} {names[buffer.name]} {what}\n")
    return "".join(lines + [f" * @param {{number}} {names[name]}\n" for name in kernel.parameters])


def _maps_to_gpu(statement: Stmt) -> bool:
    match statement:
        case Loop(kind=kind):
            return kind not in (LoopKind.SERIAL, LoopKind.UNROLL, LoopKind.PARALLEL, LoopKind.INDEPENDENT)
        case Local(space=space):
            return space is Space.WORKGROUP
        case _:
            return isinstance(statement, Barrier)
