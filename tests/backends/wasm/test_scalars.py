"""Every operator, type and number of lanes in WebAssembly means what the loop IR says."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from webdnn_backends.ir import meanings
from webdnn_backends.ir.loops import (
    Access,
    Apply,
    BufferParameter,
    Cast,
    Const,
    Expr,
    Kernel,
    Lane,
    Load,
    Loop,
    LoopKind,
    Select,
    Splat,
    Store,
    Var,
    Vector,
)
from webdnn_backends.ir.scalars import OPS, Op, Scalar, compute_type, storage_type
from webdnn_onnx.dtypes import DType

Array = npt.NDArray[Any]
Run = Callable[..., None]
KINDS = {"f": (Scalar.F32, Scalar.F64), "i": (Scalar.I32, Scalar.U32, Scalar.I64, Scalar.U64), "b": (Scalar.BOOL,)}
CASES = [
    (op, type, lanes)
    for op, facts in OPS.items()
    for kind in facts.operands
    for type in KINDS[kind]
    for lanes in (1, 4)
]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.7, -3.7, 1e-3, -1e-3, 7.0, -7.0, 20.0, -20.0, 88.0, -100.0]
FLOATS += [np.inf, -np.inf, np.nan, 1e10, -1e10, 1e-40, 0.99, -0.99, 1000.25, 3e-8, 65537.0]
TOLERANCE = {Scalar.F32: (2e-6, 2e-7), Scalar.F64: (1e-13, 1e-14)}


def samples(type: Scalar) -> Array:
    if type is Scalar.BOOL:
        return np.array([False, True])
    if type.is_float:
        return np.array(FLOATS, dtype=meanings.numpy_type(type))
    info = np.iinfo(meanings.numpy_type(type))
    values = [0, 1, 2, 3, 7, 31, 32, 63, 64, 100, 12345, info.max, info.max - 1, info.min, info.min + 1]
    if info.min < 0:
        values += [-1, -2, -7, -100]
    return np.array(values, dtype=meanings.numpy_type(type))


def operands(op: Op, type: Scalar) -> list[Array]:
    base = samples(type)
    grid = np.array(list(itertools.product(base, repeat=min(OPS[op].arity, 2))), dtype=base.dtype)
    columns = [np.ascontiguousarray(grid[:, i]) for i in range(grid.shape[1])]
    if OPS[op].arity == 3:
        columns.append(np.resize(base, len(columns[0])))
    pad = -len(columns[0]) % 4
    return [np.concatenate([column, np.repeat(base[:1], pad)]) for column in columns]


def elementwise(name: str, dtypes: list[DType], to: DType, lanes: int, count: int, value: Any) -> Kernel:
    """`y[i..] = value(loads at i..)`."""
    loads = [Load(f"x{i}", Var("i"), compute_type(dtype), lanes) for i, dtype in enumerate(dtypes)]
    body = Loop("i", Const(count // lanes), (Store("y", Var("i"), value(*loads)),), LoopKind.SERIAL, step=lanes)
    inputs = tuple(BufferParameter(f"x{i}", dtype, Access.READ) for i, dtype in enumerate(dtypes))
    return Kernel(name, (*inputs, BufferParameter("y", to, Access.WRITE)), (), (body,))


def same(got: Array, expected: Array, tolerance: tuple[float, float] | None, what: str) -> None:
    if got.dtype.kind != "f" or tolerance is None:
        both = (got == expected) | ((got != got) & (expected != expected))
    else:
        relative, absolute = tolerance
        with np.errstate(all="ignore"):
            close = np.abs(got.astype(np.float64) - expected) <= relative * np.abs(expected) + absolute
        both = close | (got == expected) | (np.isnan(got) & np.isnan(expected))
    wrong = np.flatnonzero(~both)
    assert not len(wrong), f"{what}: at {wrong[:5]}: got {got[wrong[:5]]}, expected {expected[wrong[:5]]}"


@pytest.mark.parametrize(("op", "type", "lanes"), CASES, ids=lambda item: getattr(item, "value", item))
def test_operator_means_what_the_table_says(run: Run, op: Op, type: Scalar, lanes: int) -> None:
    columns = operands(op, type)
    if op in (Op.SIN, Op.COS, Op.TAN):
        columns = [np.where(np.abs(column) > 1e5, type_one(column), column) for column in columns]
    result = Scalar.BOOL if OPS[op].boolean else type
    kernel = elementwise(
        f"{op.value}_{type.value}", [storage_type(type)] * OPS[op].arity, storage_type(result), lanes,
        len(columns[0]), lambda *loads: Apply(op, loads),
    )  # fmt: skip
    expected = meanings.evaluate(op, *columns)
    exact = not type.is_float or op in EXACT or OPS[op].boolean
    for relaxed in (False, True):
        got = np.zeros(len(columns[0]), meanings.numpy_type(result))
        run(kernel, {**{f"x{i}": c for i, c in enumerate(columns)}, "y": got}, relaxed=relaxed)
        if op is Op.FMA:
            with np.errstate(all="ignore"):
                scale = np.abs(columns[0] * columns[1]) + np.abs(columns[2])
                got = np.where(np.abs(got - expected) <= np.finfo(got.dtype).eps * scale, expected, got)
        same(got, expected, None if exact else TOLERANCE[type], kernel.name)


def type_one(column: Array) -> Array:
    return np.ones_like(column)


EXACT = {Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.REM, Op.NEG, Op.ABS, Op.SIGN, Op.MIN, Op.MAX, Op.FLOOR, Op.CEIL, Op.TRUNC}
EXACT |= {Op.ROUND, Op.SQRT}
STORAGE = [dtype for dtype in DType if dtype.bits not in (0, 6) and not dtype.is_complex]


def stored(dtype: DType) -> Array:
    """Elements of a storage type, all codes of the narrow ones."""
    if dtype is DType.BOOL:
        return np.array([False, True] * 4)
    if dtype.bits < 8:
        codes = np.arange(1 << dtype.bits, dtype=np.uint8)
        if dtype.is_float:
            return codes.view(dtype.numpy)
        least = -(1 << (dtype.bits - 1)) if dtype.is_signed_integer else 0
        return (codes.astype(np.int16) + least).astype(dtype.numpy)
    if dtype.bits == 8:
        return np.arange(256, dtype=np.uint8).view(dtype.numpy)
    if dtype.bits == 16:
        return np.arange(0, 65536, 13, dtype=np.uint16)[:5040].view(dtype.numpy)
    return samples(compute_type(dtype))[:12].astype(dtype.numpy)


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("dtype", STORAGE, ids=lambda dtype: dtype.value)
def test_load_widens_every_storage_type(run: Run, dtype: DType, lanes: int) -> None:
    data = stored(dtype)
    to = storage_type(compute_type(dtype))
    got = np.zeros(len(data), to.numpy)
    run(elementwise("widen", [dtype], to, lanes, len(data), lambda x: x), {"x0": data, "y": got})
    same(got, meanings.widen(data), None, dtype.value)


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("dtype", STORAGE, ids=lambda dtype: dtype.value)
def test_store_narrows_to_every_storage_type(run: Run, dtype: DType, lanes: int) -> None:
    scalar = compute_type(dtype)
    data = samples(scalar)
    if dtype.is_float and dtype.bits < 32:
        steps = np.random.default_rng(1).integers(0, 2**32, 2000, np.uint32).view(np.float32)
        moderate = (np.random.default_rng(2).normal(size=2000) * 10).astype(np.float32)
        data = np.concatenate([data, steps, moderate, np.arange(0, 600, 0.25, np.float32)])
    data = np.resize(data, len(data) // 4 * 4)
    expected = meanings.narrow(data, dtype)
    got = np.zeros(len(data), dtype.numpy)
    run(elementwise("narrow", [storage_type(scalar)], dtype, lanes, len(data), lambda x: x), {"x0": data, "y": got})
    same(got.astype(np.float64), expected.astype(np.float64), None, dtype.value)


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("to", STORAGE, ids=lambda dtype: dtype.value)
@pytest.mark.parametrize("source", list(Scalar), ids=lambda scalar: scalar.value)
def test_cast_converts(run: Run, source: Scalar, to: DType, lanes: int) -> None:
    data = samples(source)
    if source is Scalar.F64:
        data = np.concatenate([data, [1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-11, 2049.0000001, 1.0000000001]])
    if source is not Scalar.BOOL:
        data = np.concatenate([data, np.arange(0, 300, 7).astype(data.dtype)])
    data = np.resize(data, (len(data) + 3) // 4 * 4)
    target = storage_type(compute_type(to))
    got = np.zeros(len(data), target.numpy)
    run(
        elementwise("cast", [storage_type(source)], target, lanes, len(data), lambda x: Cast(to, x)),
        {"x0": data, "y": got},
    )
    expected = meanings.convert(data, to)
    if source is Scalar.F64 and to is DType.FLOAT16:
        with np.errstate(all="ignore"):
            expected = data.astype(np.float16)  # rounded once
    same(got, expected.astype(target.numpy), None, f"{source.value} to {to.value}")


def test_relaxed_and_plain_modules_differ_in_fma_alone(run: Run) -> None:
    def fused(x: Expr, y: Expr) -> Expr:
        return Apply(Op.FMA, (x, y, Splat(Const(1.0, Scalar.F32))))

    kernel = elementwise("fma", [DType.FLOAT32] * 2, DType.FLOAT32, 4, 8, fused)
    x = np.linspace(-2, 2, 8, dtype=np.float32)
    for relaxed in (False, True):
        got = np.zeros(8, np.float32)
        run(kernel, {"x0": x, "x1": x, "y": got}, relaxed=relaxed)
        np.testing.assert_allclose(got, x * x + 1, rtol=1e-6)


def test_select_with_one_condition_evaluates_only_the_chosen_load(run: Run) -> None:
    far = Load("x0", Const(1 << 28), Scalar.F32)
    kernel = elementwise(
        "guarded", [DType.FLOAT32], DType.FLOAT32, 1, 4,
        lambda x: Select(Apply(Op.LT, (Var("i"), Const(100))), x, far),
    )  # fmt: skip
    got = np.zeros(4, np.float32)
    run(kernel, {"x0": np.arange(4, dtype=np.float32), "y": got})
    assert got.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("type", [Scalar.BOOL, Scalar.I32, Scalar.U32, Scalar.F32, Scalar.I64, Scalar.F64])
def test_vectors_lanes_and_masks(run: Run, type: Scalar) -> None:
    """Reverse four lanes where a mask says so."""
    dtype = storage_type(type)

    def value(x: Expr, mask: Expr) -> Expr:
        return Select(mask, Vector(tuple(Lane(x, 3 - k) for k in range(4))), x)

    kernel = elementwise("reverse", [dtype, DType.BOOL], dtype, 4, 8, value)
    data = samples(type)
    x = np.resize(data, 8)
    mask = np.array([1, 0, 1, 0, 0, 0, 1, 1], bool)
    got = np.zeros(8, dtype.numpy)
    run(kernel, {"x0": x, "x1": mask, "y": got})
    same(got, np.where(mask, x.reshape(2, 4)[:, ::-1].ravel(), x), None, type.value)
