"""A model of one operator: lowered, interpreted, and compared with the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper, numpy_helper

from webdnn_backends.te.compile import Target, compile_program
from webdnn_backends.te.fuse import Policy
from webdnn_backends.te.run import run_compiled
from webdnn_onnx.convert import prepare
from webdnn_onnx.dtypes import DType
from webdnn_reference.interpreter import Interpreter

__all__ = ["Array", "agree", "f32"]

Array = npt.NDArray[Any]
_IR_VERSION = 10
_GENERIC = Target("generic", Policy(tensors=16))


def f32(*shape: int, seed: int = 0) -> Array:
    """Normally distributed numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def agree(
    op: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    opset: int = 22,
    outputs: int | Sequence[bool] = 1,
    domain: str = "",
    constant: Sequence[int] = (),
    symbolic: bool = False,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> list[Array]:
    """The outputs of the interpreted kernels, once they are those of the reference.

    outputs: how many, or which are wanted. constant: inputs that are part of the model. symbolic: dimensions of the
    other inputs are symbols.
    """
    wanted = [True] * outputs if isinstance(outputs, int) else list(outputs)
    names = ["" if value is None else f"x{index}" for index, value in enumerate(inputs)]
    results = [f"y{index}" if flag else "" for index, flag in enumerate(wanted)]
    node = helper.make_node(op, names, results, domain=domain, **dict(attributes or {}))
    given = {index: value for index, value in enumerate(inputs) if value is not None}
    free = {index: value for index, value in given.items() if index not in constant}
    graph = helper.make_graph(
        [node],
        "one_node",
        [
            helper.make_tensor_value_info(
                f"x{index}",
                DType.from_numpy(value.dtype).onnx,
                [f"s{size}" if symbolic else size for size in value.shape],
            )
            for index, value in free.items()
        ],
        [helper.make_tensor_value_info(name, 1, None) for name in results if name],
        [numpy_helper.from_array(given[index], f"x{index}") for index in constant],
    )
    for value in graph.output:
        value.ClearField("type")
    imports = [helper.make_opsetid(domain, opset)]
    data = bytes(helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION).SerializeToString())
    feeds = {f"x{index}": value for index, value in free.items()}
    expected = list(Interpreter(data, seed=0).run(feeds).values())
    _, program = prepare(data)
    got = run_compiled(compile_program(program, _GENERIC), feeds)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == theirs.dtype, f"{op}: dtype: expected {theirs.dtype}, got {ours.dtype}"
        assert ours.shape == theirs.shape, f"{op}: shape: expected {theirs.shape}, got {ours.shape}"
        wide = np.float64 if theirs.dtype.kind not in "iub" else theirs.dtype
        np.testing.assert_allclose(ours.astype(wide), theirs.astype(wide), rtol=rtol, atol=atol, err_msg=op)
    return got
