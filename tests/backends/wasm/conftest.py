"""The `run` fixture: runs emitted modules in process, with wasmtime, on NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pytest
import wasmtime

from webdnn_backends.ir.loops import Access, Kernel
from webdnn_backends.wasm.dialect import emit_module, is_parallel, scratch_bytes
from webdnn_backends.wasm.emit import LOWEST_ADDRESS
from webdnn_onnx.dtypes import DType

Array = npt.NDArray[Any]


def packed(array: Array) -> bytes:
    """The storage bytes of a flat array: sub-byte elements packed, low bits first."""
    bits = DType.from_numpy(array.dtype).bits
    if bits >= 8:
        return array.tobytes()
    codes = array.view(np.uint8) & ((1 << bits) - 1)
    per_byte = 8 // bits
    codes = np.concatenate([codes, np.zeros(-len(codes) % per_byte, np.uint8)]).reshape(-1, per_byte)
    return (
        np.bitwise_or.reduce(codes << (np.arange(per_byte, dtype=np.uint8) * bits), axis=1).astype(np.uint8).tobytes()
    )


def unpacked(data: bytes, dtype: np.dtype[Any], count: int) -> Array:
    """The flat array that storage bytes hold."""
    kind = DType.from_numpy(dtype)
    if kind.bits >= 8:
        return np.frombuffer(data, dtype, count).copy()
    per_byte = 8 // kind.bits
    shifts = np.arange(per_byte, dtype=np.uint8) * kind.bits
    codes = (np.frombuffer(data, np.uint8)[:, None] >> shifts) & ((1 << kind.bits) - 1)
    codes = codes.ravel()[:count].astype(np.uint8)
    if kind.is_signed_integer:
        half = 1 << (kind.bits - 1)
        return ((codes.astype(np.int16) ^ half) - half).astype(dtype)
    return codes.astype(dtype) if kind.is_integer else codes.view(dtype)


_CONFIG = wasmtime.Config()
_CONFIG.wasm_relaxed_simd = True
_CONFIG.wasm_simd = True
_ENGINE = wasmtime.Engine(_CONFIG)


def _run(
    kernel: Kernel,
    buffers: Mapping[str, Array],
    parameters: Mapping[str, int] | Sequence[int] = (),
    *,
    relaxed: bool = False,
    ranges: Sequence[tuple[int, int]] = (),
) -> None:
    """Run a kernel on flat arrays, in place; `ranges` are the parallel parts, in the order in which to run them."""
    if isinstance(parameters, Mapping):
        parameters = [parameters[name] for name in kernel.parameters]
    store = wasmtime.Store(_ENGINE)
    places, end = [], LOWEST_ADDRESS
    for buffer in kernel.buffers:
        places.append(end)
        end += (len(packed(buffers[buffer.name])) + 31) // 16 * 16
    memory = wasmtime.Memory(
        store, wasmtime.MemoryType(wasmtime.Limits((end + scratch_bytes([kernel])) // 65536 + 1, None))
    )
    module = wasmtime.Module(_ENGINE, emit_module([kernel], relaxed=relaxed))
    exports = wasmtime.Instance(store, module, [memory]).exports(store)
    scratch = exports["scratch"]
    assert isinstance(scratch, wasmtime.Global)
    scratch.set_value(store, end)
    for place, buffer in zip(places, kernel.buffers, strict=True):
        memory.write(store, packed(buffers[buffer.name]), place)
    function = exports[kernel.name]
    assert isinstance(function, wasmtime.Func)
    for part in ranges or [()]:
        assert bool(part) == is_parallel(kernel), f"{kernel.name}: give ranges to parallel kernels, and only to them"
        function(store, *places, *parameters, *part)
    for place, buffer in zip(places, kernel.buffers, strict=True):
        array = buffers[buffer.name]
        if buffer.access is Access.READ:
            continue
        size = len(packed(array))
        array[:] = unpacked(bytes(memory.read(store, place, place + size)), array.dtype, len(array))


class Run(Protocol):
    """Runs a kernel on flat arrays, in place."""

    def __call__(
        self,
        kernel: Kernel,
        buffers: Mapping[str, Array],
        parameters: Mapping[str, int] | Sequence[int] = (),
        *,
        relaxed: bool = False,
        ranges: Sequence[tuple[int, int]] = (),
    ) -> None: ...


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs a kernel with wasmtime; arrays have one element each and are packed for the machine."""
    return _run
