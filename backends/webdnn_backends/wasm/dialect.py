"""The WebAssembly dialect: loop-IR kernels to functions of one module.

An exported function takes one i32 byte address per buffer, one i32 per parameter and, if the kernel is parallel, the
range `begin, end` of its flattened outermost parallel loops. Local arrays lie at the address that the exported global
`scratch` holds: each thread's instance has its own. See docs/bundle-format.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from webdnn_backends.ir.decompose import Definition
from webdnn_backends.ir.loops import Kernel, Loop, LoopKind
from webdnn_backends.ir.scalars import Scalar
from webdnn_backends.wasm.encode import Function, Global, Module, encode_module
from webdnn_backends.wasm.odometer import write_parallel
from webdnn_backends.wasm.rows import value_type
from webdnn_backends.wasm.writer import CompiledKernel, Memory, Writer, array_bytes, changes

__all__ = [
    "CompiledKernel",
    "build_modules",
    "compile_kernel",
    "emit_module",
    "is_parallel",
    "parameter_names",
    "scratch_bytes",
]


def is_parallel(kernel: Kernel) -> bool:
    """Whether the exported function takes `begin, end`. Kernels that store elements smaller than a byte do not: two
    threads could meet in one byte."""
    first = kernel.body[0] if len(kernel.body) == 1 else None
    if not isinstance(first, Loop) or first.kind is not LoopKind.PARALLEL:
        return False
    stored = changes(kernel.body)[1]
    return all(buffer.dtype.bits >= 8 for buffer in kernel.buffers if buffer.name in stored)


def parameter_names(kernel: Kernel) -> tuple[str, ...]:
    """What the exported function's arguments are, in order."""
    names = (*(buffer.name for buffer in kernel.buffers), *kernel.parameters)
    return (*names, "begin", "end") if is_parallel(kernel) else names


def scratch_bytes(kernels: Iterable[Kernel]) -> int:
    """Bytes that each thread needs at the address in its `scratch` global."""
    return max((array_bytes(kernel.body) for kernel in kernels), default=0)


def emit_module(kernels: Sequence[Kernel], *, relaxed: bool = False, threads: bool = False) -> bytes:
    """The bytes of a module with every kernel, exported under its name; equal kernels give equal bytes."""
    plain, fused = build_modules(kernels)
    return encode_module(replace(fused if relaxed else plain, shared_memory=threads))


def build_modules(kernels: Sequence[Kernel]) -> tuple[Module, Module]:
    """The modules for plain and for relaxed SIMD before they are encoded; what is equal in both is compiled once."""
    fused = [compile_kernel(kernel, relaxed=True) for kernel in kernels]
    plain = [
        item
        if kernel.plain is None and not (item.fused or item.helpers)
        else compile_kernel(_variant(kernel), relaxed=False)
        for kernel, item in zip(kernels, fused, strict=True)
    ]
    return _module(plain, relaxed=False), _module(fused, relaxed=True)


def _module(compiled: Sequence[CompiledKernel], *, relaxed: bool) -> Module:
    helpers: dict[str, Function] = {}
    waiting = [definition for item in compiled for definition in item.helpers]
    while waiting:
        definition = waiting.pop(0)
        if definition.name not in helpers:
            helper = _compile_definition(definition, relaxed)
            helpers[definition.name] = helper.function
            waiting += helper.helpers
    functions = [item.function for item in compiled] + list(helpers.values())
    index = {function.name: i for i, function in enumerate(functions) if not function.exported}
    linked = tuple(_link(function, index) for function in functions)
    return Module(linked, globals=(Global("scratch"),))


def _variant(kernel: Kernel) -> Kernel:
    return kernel if kernel.plain is None else replace(kernel.plain, name=kernel.name)


def _link(function: Function, index: dict[str, int]) -> Function:
    if not index:
        return function
    body = tuple(("call", index[str(item[1])]) if item[0] == "call" else item for item in function.body)
    return replace(function, body=body)


def compile_kernel(kernel: Kernel, *, relaxed: bool = False) -> CompiledKernel:
    """One kernel as a function whose calls still name their targets."""
    parallel = is_parallel(kernel)
    count = len(kernel.buffers) + len(kernel.parameters) + 2 * parallel
    writer = Writer(relaxed, count, changes(kernel.body)[0])
    for i, buffer in enumerate(kernel.buffers):
        base = writer.builder.local(i, Scalar.I32, 1, 0, 0)
        writer.emitter.bases.add(base)
        writer.memories[buffer.name] = Memory(base, buffer.dtype)
    for i, name in enumerate(kernel.parameters):
        writer.names[name] = writer.builder.local(len(kernel.buffers) + i, Scalar.I32, 1, 0, 0)
    if array_bytes(kernel.body):
        writer.open_scratch()
    if parallel:
        loop = kernel.body[0]
        assert isinstance(loop, Loop), "a parallel kernel is a nest of loops"
        write_parallel(writer, loop, count - 2, count - 1)
    else:
        writer.block(kernel.body)
    return writer.finish(kernel.name, ("i32",) * count, None)


def _compile_definition(definition: Definition, relaxed: bool) -> CompiledKernel:
    writer = Writer(relaxed, len(definition.parameters), changes(definition.body)[0])
    for i, parameter in enumerate(definition.parameters):
        writer.names[parameter.name] = writer.builder.local(i, parameter.type, parameter.lanes, 0, 0)
    for statement in definition.body:
        writer.statement(statement)
    types = tuple(value_type(parameter.type, parameter.lanes) for parameter in definition.parameters)
    return writer.finish(definition.name, types, definition.result)
