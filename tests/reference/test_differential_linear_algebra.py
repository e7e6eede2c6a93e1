"""MatMul, Gemm, Einsum and Det against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference.judge import agree
from tests.reference.strategies import BOUNDED, array, filled, shapes
from webdnn_onnx.dtypes import DType


@BOUNDED
@given(data=st.data(), seed=st.integers(0, 999))
def test_matmul(data: st.DataObject, seed: int) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.int32, np.uint32, np.int64, np.uint64]))
    rows, inner, columns = (data.draw(st.integers(1, 4)) for _ in range(3))
    batch = data.draw(shapes(0, 2, 3, empty=False))
    left = (*(1 if data.draw(st.booleans()) else size for size in batch), rows, inner)
    right = (*batch[data.draw(st.integers(0, len(batch))) :], inner, columns)
    left = (inner,) if data.draw(st.integers(0, 4)) == 0 else left
    right = (inner,) if data.draw(st.integers(0, 4)) == 0 else right
    inputs = [filled(left, dtype, seed), filled(right, dtype, seed + 1)]
    agree("MatMul", inputs, opset=13, outputs=[DType.from_numpy(dtype).onnx])


@pytest.mark.parametrize(("left", "right"), [((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4))])
def test_matmul_of_nothing(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    agree("MatMul", [filled(left, np.float32, 1), filled(right, np.float32, 2)], opset=13)


@BOUNDED
@given(data=st.data(), seed=st.integers(0, 999))
def test_gemm(data: st.DataObject, seed: int) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    rows, inner, columns = (data.draw(st.integers(1, 4)) for _ in range(3))
    first, second = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1))
    a = filled((inner, rows) if first else (rows, inner), dtype, seed)
    b = filled((columns, inner) if second else (inner, columns), dtype, seed + 1)
    shape = data.draw(st.sampled_from([None, (), (1,), (columns,), (rows, 1), (1, columns), (rows, columns)]))
    c = None if shape is None else filled(shape, dtype, seed + 2)
    numbers = st.sampled_from([1.0, 0.5, -2.0])
    attributes = {"transA": first, "transB": second, "alpha": data.draw(numbers), "beta": data.draw(numbers)}
    agree("Gemm", [a, b, c], attributes, opset=13, outputs=[DType.from_numpy(dtype).onnx])


@pytest.mark.parametrize(
    ("equation", "shapes_"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]), ("ij,jk", [(2, 3), (3, 4)]), ("ii->i", [(3, 3)]), ("ii", [(3, 3)]),
        ("ij->ji", [(2, 3)]), ("ij->", [(2, 3)]), ("i,j->ij", [(2,), (3,)]),
        ("...ij,...jk->...ik", [(2, 1, 3, 4), (1, 5, 4, 2)]),
        ("bhwc,hkc->bhwk", [(2, 3, 4, 5), (3, 6, 5)]), ("a,ab,abc->abc", [(2,), (2, 3), (2, 3, 4)]),
        ("i j , j k -> i k", [(2, 3), (3, 4)]), ("bij, bjk -> bik", [(2, 2, 3), (2, 3, 4)]), ("...->...", [(2, 3)]),
        ("Aa,aB->BA", [(2, 3), (3, 4)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_einsum(equation: str, shapes_: list[tuple[int, ...]], dtype: type) -> None:
    inputs = [filled(shape, dtype, index) for index, shape in enumerate(shapes_)]
    agree("Einsum", inputs, {"equation": equation}, opset=12, outputs=[DType.from_numpy(dtype).onnx])


@BOUNDED
@given(x=array([np.float32], st.sampled_from([(1, 1), (2, 2), (3, 4, 4), (2, 3, 5, 5)]), scale=1))
def test_det(x: np.ndarray) -> None:
    agree("Det", [x], opset=11, rtol=1e-3, atol=1e-3)
