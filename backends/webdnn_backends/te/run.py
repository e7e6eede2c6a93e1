"""Running a compiled program in the loop IR's interpreter: is a wrong answer the lowering's fault or the dialect's?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir.interpret import interpret
from webdnn_backends.te.compile import CompiledProgram
from webdnn_backends.te.tensors import Bind, Call, Define
from webdnn_onnx.symbolic import Dim, Sum, Symbol, evaluate

__all__ = ["run_compiled"]

Observe = Callable[[Call, Mapping[str, npt.NDArray[Any]]], None]


def run_compiled(
    program: CompiledProgram, inputs: Mapping[str, npt.NDArray[Any]], observe: Observe | None = None
) -> list[npt.NDArray[Any]]:
    """The outputs of a program, computed by interpreting its kernels.

    inputs: arrays by tensor name, in the declared dtypes. observe: called after each kernel with the stored tensors.
    """
    symbols: dict[str, int] = {}
    memory: dict[str, npt.NDArray[Any]] = {}
    for name in program.inputs:
        tensor = program.tensors[name]
        array = np.asarray(inputs[name])
        for size, dim in zip(array.shape, tensor.shape, strict=True):
            if isinstance(dim, Sum) and dim.terms == (((Symbol(str(dim)),), 1),):
                symbols.setdefault(str(dim), size)
        memory[name] = np.ascontiguousarray(array).reshape(-1)

    def value(dim: Dim) -> int:
        return evaluate(dim, symbols)

    def storage(name: str) -> npt.NDArray[Any]:
        root = program.aliases.get(name, name)
        if root in program.constants:
            return np.ascontiguousarray(program.constants[root]).reshape(-1)
        if root not in memory:
            tensor = program.tensors[root]
            memory[root] = np.zeros(value(tensor.elements), tensor.dtype.numpy)
        return memory[root]

    for item in program.items:
        if isinstance(item, Bind):
            for symbol, bound, index in item.symbols:
                symbols[symbol] = int(storage(bound)[index])
            continue
        if isinstance(item, Define):
            symbols[item.symbol] = value(item.value)
            continue
        assert isinstance(item, Call), "the interpreter runs kernels; control flow is the runtime's"
        names = [parameter.name for parameter in item.kernel.buffers]
        buffers = {buffer: storage(argument) for buffer, argument in zip(names, item.arguments, strict=True)}
        parameters = {name: value(dim) for name, dim in zip(item.kernel.parameters, item.parameters, strict=True)}
        interpret(item.kernel, buffers, parameters)
        if observe is not None:
            observe(item, memory)
    return [storage(name).reshape([value(size) for size in program.tensors[name].shape]) for name in program.outputs]
