"""Writes the modules and cases that benchmarks/wasm_matmul.mjs times: the peak loop, matrix products, convolutions.

    python benchmarks/wasm_matmul.py OUT && node benchmarks/wasm_matmul.mjs OUT

Peak is a loop of independent 128-bit multiply-adds on registers; every kernel is given as a percentage of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir.build import add, mul
from webdnn_backends.ir.loops import Access, BufferParameter, Load, Store
from webdnn_backends.ir.scalars import Scalar
from webdnn_backends.wasm.conv import (
    Conv,
    conv2d,
    depthwise_conv2d,
    pack_conv_weights,
    pack_depthwise_weights,
    plain_store,
)
from webdnn_backends.wasm.dialect import emit_module
from webdnn_backends.wasm.encode import Function, FunctionType, Module, encode_module
from webdnn_backends.wasm.matmul import MatMul, matmul, pack_panels, plain_buffers, product_extent
from webdnn_backends.wasm.opcodes import Instruction
from webdnn_backends.wasm.tiles import PLAIN, RELAXED
from webdnn_onnx.dtypes import DType

PRODUCTS = [
    (480, 480, 256),
    (512, 512, 512),
    (1024, 1024, 1024),
    (128, 3072, 768),
    (784, 128, 512),
    (49, 512, 512),
    (1, 4096, 1024),
]
CHAINS = 12
"""Independent sums of the peak loop."""
# channels, size, output channels, kernel, stride; the input is given with its padding
CONVOLUTIONS = [
    (512, 28, 128, 1, 1),
    (64, 58, 64, 3, 1),
    (256, 16, 256, 3, 1),
    (512, 9, 512, 3, 1),
    (3, 230, 64, 7, 2),
]
DEPTHWISE = [(192, 30, 3, 1), (96, 114, 3, 2)]


def peak_module(relaxed: bool) -> bytes:
    """`peak(iterations) -> f32`: independent multiply-adds on registers, unrolled twice."""
    body: list[Instruction] = []
    for chain in range(CHAINS):
        body += [("f32.const", 0.5 + chain), ("f32x4.splat",), ("local.set", 3 + chain)]
    body += [("f32.const", 0.999), ("f32x4.splat",), ("local.set", 1)]
    body += [("f32.const", 0.001), ("f32x4.splat",), ("local.set", 2), ("loop", "")]
    for _ in range(2):
        for chain in range(3, 3 + CHAINS):
            if relaxed:
                body += [("local.get", 1), ("local.get", 2), ("local.get", chain), ("f32x4.relaxed_madd",)]
            else:
                body += [("local.get", 1), ("local.get", chain), ("f32x4.mul",), ("local.get", 2), ("f32x4.add",)]
            body.append(("local.set", chain))
    body += [("local.get", 0), ("i32.const", 1), ("i32.sub",), ("local.tee", 0), ("br_if", 0), ("end",)]
    body.append(("local.get", 3))
    for chain in range(4, 3 + CHAINS):
        body += [("local.get", chain), ("f32x4.add",)]
    body.append(("f32x4.extract_lane", 0))
    function = Function("peak", FunctionType(("i32",), ("f32",)), ("v128",) * (2 + CHAINS), tuple(body))
    return encode_module(Module((function,)))


def product(m: int, n: int, k: int) -> MatMul:
    """A plain matrix product of row-major A and C with packed B."""
    return MatMul(
        f"matmul_{m}x{n}x{k}",
        plain_buffers(),
        m,
        n,
        k,
        lambda i, j: Load("a", add(mul(i, k), j), Scalar.F32),
        "b",
        lambda i, j, value: (Store("c", add(mul(i, n), j), value),),
    )


def convolution(channels: int, size: int, out_channels: int, kernel: int, stride: int, group: int) -> Conv:
    """A convolution without an epilogue."""
    side = (size - kernel) // stride + 1
    name = f"conv{kernel}x{kernel}s{stride}_{channels}to{out_channels}_{side}x{side}_g{group}"
    buffers = tuple(BufferParameter(b, DType.FLOAT32, Access.WRITE if b == "y" else Access.READ) for b in "xwy")
    store = plain_store(out_channels, side * side, "y")
    square = (kernel, kernel)
    return Conv(
        name, buffers, 1, side, side, size, size, channels, out_channels, square, (stride, stride), (1, 1), store, group
    )


def main(out: Path) -> None:
    """Write the modules, the operands and the list of cases."""
    out.mkdir(parents=True, exist_ok=True)
    cases: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    kernels: dict[bool, list[Any]] = {True: [], False: []}
    for m, n, k in PRODUCTS:
        a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((m, k), (k, n)))
        name, tasks = product(m, n, k).name, product_extent(m, n, k)
        cases.append(_case(out, name, m * n * k, tasks, [a, pack_panels(b)], a @ b))
        for relaxed in (True, False):
            kernels[relaxed].append(matmul(product(m, n, k), RELAXED if relaxed else PLAIN))
    for channels, size, out_channels, side, stride in CONVOLUTIONS:
        conv = convolution(channels, size, out_channels, side, stride, 1)
        x = rng.normal(size=(size, size, channels)).astype(np.float32)
        w = rng.normal(size=(out_channels, channels, side, side)).astype(np.float32)
        y = correlate(x, w, stride)
        tasks = product_extent(y.shape[0] * y.shape[1], out_channels, w[0].size)
        cases.append(_case(out, conv.name, y.size * w[0].size, tasks, [x, pack_conv_weights(w, 1)], y))
        for relaxed in (True, False):
            kernels[relaxed].append(conv2d(conv, RELAXED if relaxed else PLAIN))
    for channels, size, side, stride in DEPTHWISE:
        conv = convolution(channels, size, channels, side, stride, channels)
        x = rng.normal(size=(size, size, channels)).astype(np.float32)
        w = rng.normal(size=(channels, 1, side, side)).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (0, 1))[::stride, ::stride]
        y = np.einsum("hwckl,ckl->hwc", windows, w[:, 0]).astype(np.float32)
        cases.append(_case(out, conv.name, y.size * side * side, len(y), [x, pack_depthwise_weights(w)], y))
        for relaxed in (True, False):
            kernels[relaxed].append(depthwise_conv2d(conv))
    for relaxed in (True, False):
        name = "relaxed" if relaxed else "plain"
        (out / f"{name}.wasm").write_bytes(emit_module(kernels[relaxed], relaxed=relaxed))
        (out / f"peak.{name}.wasm").write_bytes(peak_module(relaxed))
    (out / "cases.json").write_text(
        json.dumps(
            {"peakMultiplyAdds": 2 * CHAINS * 4, "cases": cases},
            indent=1,
        )
    )


def correlate(x: npt.NDArray[np.float32], w: npt.NDArray[np.float32], stride: int) -> npt.NDArray[np.float32]:
    """(H, W, C) and (OC, C, K, K) -> (OH, OW, OC)."""
    side = w.shape[2]
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (0, 1))[::stride, ::stride]
    return np.tensordot(windows, w, ((2, 3, 4), (1, 2, 3))).astype(np.float32)


def _case(out: Path, name: str, macs: int, tasks: int, inputs: list[Any], expected: Any) -> dict[str, Any]:
    files = []
    for i, array in enumerate(inputs):
        files.append(f"{name}.{i}.bin")
        (out / files[-1]).write_bytes(np.ascontiguousarray(array).tobytes())
    (out / f"{name}.out.bin").write_bytes(np.ascontiguousarray(expected).tobytes())
    return {
        "name": name,
        "macs": macs,
        "inputs": files,
        "tasks": tasks,
        "output": f"{name}.out.bin",
        "bytes": expected.nbytes,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
