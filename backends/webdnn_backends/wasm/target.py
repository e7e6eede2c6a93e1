"""WebAssembly as a compilation target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from webdnn_backends.emit import Emitted, LaunchShape
from webdnn_backends.ir.loops import Kernel, Loop, LoopKind
from webdnn_backends.te.compile import Target
from webdnn_backends.te.fuse import Policy
from webdnn_backends.te.simplify import IndexAlgebra
from webdnn_backends.wasm.dialect import build_modules, is_parallel, parameter_names, scratch_bytes
from webdnn_backends.wasm.encode import encode_module
from webdnn_backends.wasm.independent import several_at_a_time
from webdnn_backends.wasm.schedule import OPTIONS, implement
from webdnn_backends.wasm.text import print_function
from webdnn_onnx.symbolic import Dim

__all__ = ["TARGET", "emit"]

TARGET = Target("wasm", Policy(tensors=16), OPTIONS, channels_last=True, implement=implement, adapt=several_at_a_time)


def emit(kernels: Sequence[Kernel]) -> Emitted:
    """Four modules with every kernel: with and without relaxed SIMD, with and without shared memory."""
    files: dict[str, bytes] = {}
    plain, fused = build_modules(kernels)
    for name, module in (("kernels", plain), ("kernels.relaxed", fused)):
        files[f"{name}.wasm"] = encode_module(module)
        files[f"{name}.threads.wasm"] = encode_module(replace(module, shared_memory=True))
    texts = tuple(
        print_function(function, parameter_names(kernel))
        for kernel, function in zip(kernels, fused.functions, strict=False)
    )
    records = tuple({"name": kernel.name, "export": kernel.name, "parallel": is_parallel(kernel)} for kernel in kernels)
    shapes = tuple(_shape(kernel) for kernel in kernels)
    return Emitted(files, records, shapes, texts, scratch=scratch_bytes(kernels))


def _shape(kernel: Kernel) -> LaunchShape:
    return LaunchShape(extent=parallel_extent(kernel)) if is_parallel(kernel) else LaunchShape()


def parallel_extent(kernel: Kernel) -> Dim:
    """Iterations of the flattened nest of PARALLEL loops, over the kernel's parameters."""
    total: Dim = 1
    body = kernel.body
    while len(body) == 1 and isinstance(body[0], Loop) and body[0].kind is LoopKind.PARALLEL:
        total = total * IndexAlgebra({}).to_dim(body[0].extent)
        body = body[0].body
    return total
