"""Small kernels that together use every scalar operator, conversion, storage type and statement of the loop IR.

A dialect is right where every probe that it can express gives what `interpret` gives; on a user's device the same
probes tell a broken driver from a broken model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir import meanings
from webdnn_backends.ir.build import add, apply, const, f32, floor_div, floor_mod, mul, select, sub
from webdnn_backends.ir.interpret import interpret
from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Assign,
    Bitcast,
    BufferParameter,
    Cast,
    Const,
    Expr,
    If,
    Kernel,
    Lane,
    Load,
    Local,
    Loop,
    LoopKind,
    Select,
    Splat,
    Stmt,
    Store,
    Var,
    Vector,
)
from webdnn_backends.ir.scalars import OPS, Op, Scalar, compute_type, storage_type
from webdnn_onnx.dtypes import DType

__all__ = ["Probe", "bitcast_probes", "cast_probes", "operator_probes", "statement_probes", "storage_probes"]

Array = npt.NDArray[Any]

_FLOAT_FUNCTION_ULP = 4
_LOOSE: dict[Op, float] = {Op.POW: 8, Op.TAN: 16, Op.SIN: 4, Op.COS: 4}
_EXACT_FLOAT = {
    *(Op.ADD, Op.SUB, Op.MUL, Op.REM, Op.FLOOR_MOD, Op.NEG, Op.ABS, Op.SIGN, Op.MIN, Op.MAX),
    *(Op.FLOOR, Op.CEIL, Op.TRUNC, Op.ROUND),
}
_PERIODIC = (Op.SIN, Op.COS, Op.TAN)
_SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, -7.25, 100.0, 0.1, 6.2, -20.0, 12345.678)
_EXTREME = (math.inf, -math.inf, math.nan, 3e38, -3e38, 1e-30, 2.0**31, -(2.0**31), 2.0**32, 2.0**53, 88.8, -104.5)
_DENORMAL = (1e-45, -1e-45, 1e-40, -1e-40)
_NEAR_TIES = tuple(
    sign * (1 + 2.0**-bits + side * 2.0**-45) for bits in (11, 8, 4, 3) for sign in (1, -1) for side in (1, -1)
)
"""Just beside the middle between two narrow floats: rounding to float32 first would lose the side."""
_INTEGERS = (0, 1, 2, 3, 5, 7, 8, 15, 31, 32, 33, 63, 64, 100, 127, 128, 255, 256, 65535, 65536, 2**31 - 1)
_WIDE_INTEGERS = (2**31, 2**32 - 1, 2**32, 2**33 + 5, 2**53 + 1, 2**62, 2**63 - 1)


@dataclass(frozen=True)
class Probe:
    """A kernel, its arguments, and how closely its outputs follow the interpreter's: within `ulp` units in the last
    place or within `absolute`."""

    id: str
    kernel: Kernel
    buffers: Mapping[str, Array]
    parameters: Mapping[str, int] = field(default_factory=dict)
    ulp: float = 0
    absolute: float = 0

    def expected(self) -> dict[str, Array]:
        """What the interpreter leaves in the buffers that the kernel writes."""
        buffers = {name: array.copy() for name, array in self.buffers.items()}
        interpret(self.kernel, buffers, self.parameters)
        return {buffer.name: buffers[buffer.name] for buffer in self.kernel.buffers if buffer.access is not Access.READ}

    def difference(self, got: Mapping[str, Array], *, flush: bool = False) -> str | None:
        """What is wrong with a dialect's outputs, or None. flush: whether subnormal float32 results may be zero."""
        for name, want in self.expected().items():
            wrong = ~_close(got[name], want, self.ulp, self.absolute, flush)
            if wrong.any():
                at = int(np.flatnonzero(wrong)[0])
                inputs = {
                    other: array[at]
                    for other, array in self.buffers.items()
                    if other != name and len(array) == len(want)
                }
                return (
                    f"{self.id}: {name}[{at}]: expected {want[at]}, got {got[name][at]} from {inputs}; "
                    f"{int(wrong.sum())} of {len(want)} differ"
                )
        return None


def _close(got: Array, want: Array, ulp: float, absolute: float, flush: bool) -> Array:
    if want.dtype.kind in "biu" and want.dtype.itemsize in (1, 2, 4, 8) and want.dtype.name.startswith(("i", "u", "b")):
        return np.asarray(got.astype(np.int64) == want.astype(np.int64))
    with np.errstate(all="ignore"):
        wide_got, wide_want = got.astype(np.float64), want.astype(np.float64)
        same = (wide_got == wide_want) | (np.isnan(wide_got) & np.isnan(wide_want))
        error = np.abs(wide_got - wide_want)
        if ulp and want.dtype in (np.float32, np.float64):
            same |= error <= ulp * np.spacing(np.abs(want)).astype(np.float64)
        if absolute:
            same |= error <= absolute
        if flush:
            same |= (np.abs(wide_want) < 2.0**-126) & (np.abs(wide_got) < 2.0**-126)
    return np.asarray(same)


def operator_probes(*, denormals: bool = True, lanes: int = 1) -> Iterator[Probe]:
    """One probe for every operator and every compute type that it takes."""
    for op, facts in OPS.items():
        for type in Scalar:
            kind = "f" if type.is_float else "b" if type is Scalar.BOOL else "i"
            if kind in facts.operands:
                yield _operator_probe(op, type, denormals, lanes)


def _operator_probe(op: Op, type: Scalar, denormals: bool, lanes: int) -> Probe:
    facts = OPS[op]
    dtype = storage_type(type)
    columns = _operands(op, type, denormals)
    count = len(columns[0])
    count -= count % lanes
    names = "abc"[: facts.arity]
    at: Expr = mul(Var("i"), lanes)
    value = Apply(op, tuple(Load(name, at, type, lanes) for name in names))
    result = storage_type(value.type)
    buffers = (
        *(BufferParameter(name, dtype, Access.READ) for name in names),
        BufferParameter("y", result, Access.WRITE),
    )
    suffix = type.value if lanes == 1 else f"{type.value}x{lanes}"
    kernel = Kernel(f"{op.value}_{suffix}", buffers, (), (_each(count // lanes, Store("y", at, value)),))
    arrays = {name: column[:count] for name, column in zip(names, columns, strict=True)}
    arrays["y"] = np.zeros(count, result.numpy)
    exact = not type.is_float or facts.boolean or op in _EXACT_FLOAT
    ulp = 0 if exact else 1 if op in (Op.DIV, Op.SQRT, Op.FMA) else _LOOSE.get(op, _FLOAT_FUNCTION_ULP)
    if type is Scalar.F32 and op is Op.DIV:
        ulp = 2.5
    if type is Scalar.F32 and op is Op.SQRT:
        ulp = 2.5
    if type is Scalar.F64 and op is Op.POW:
        ulp = 64
    absolute = (1e-7 if type is Scalar.F32 else 1e-14) if op in (*_PERIODIC, Op.ERF) else 0
    return Probe(f"operator/{op.value}/{suffix}", kernel, arrays, {}, ulp, absolute)


def _operands(op: Op, type: Scalar, denormals: bool) -> list[Array]:
    values = _values(type, denormals)
    if type.is_float and op in _PERIODIC:
        values = values[~(np.isfinite(values) & (np.abs(values) > 1e5))]
    arity = OPS[op].arity
    if arity == 1:
        return [values]
    grid = np.meshgrid(values, values, indexing="ij")
    left, right = grid[0].ravel(), grid[1].ravel()
    if op is Op.DIV and type is Scalar.F32 and not denormals:
        # WGSL states no accuracy for divisors beyond 2**126.
        keep = ~(np.isfinite(right) & (np.abs(right) > 2.0**126))
        left, right = left[keep], right[keep]
    if op is Op.FMA:
        # Without infinities and huge products: one rounding or two differ there by more than a unit in the last place.
        keep = (np.abs(left) < 1e5) & (np.abs(right) < 1e5)
        left, right = left[keep], right[keep]
        return [left, right, np.abs(left * right) * np.sign(right * left)]
    return [left, right]


def _values(type: Scalar, denormals: bool) -> Array:
    dtype = meanings.numpy_type(type)
    if type is Scalar.BOOL:
        return np.array([False, True, True, False])
    rng = np.random.default_rng(11)
    if type.is_float:
        spread = rng.standard_normal(24) * np.exp2(rng.uniform(-8, 8, 24))
        parts = [*_SPECIAL, *_EXTREME, *(_DENORMAL if denormals else ()), *spread]
        parts += _NEAR_TIES if type is Scalar.F64 else ()
        return np.array(parts).astype(dtype)
    values: list[int] = [*_INTEGERS]
    if type.bits == 64:
        values += _WIDE_INTEGERS
    if type.is_signed:
        values += [-value for value in values] + [-(1 << (type.bits - 1))]
    else:
        values += [2**32 - 1, 2**31, (1 << type.bits) - 1, (1 << type.bits) - 2]
    return np.array(sorted(set(values)), dtype)


def _each(count: int, *body: Stmt) -> Loop:
    return Loop("i", Const(count), body, LoopKind.PARALLEL)


def _numeric() -> list[DType]:
    kept = []
    for dtype in DType:
        try:
            compute_type(dtype)
        except KeyError:
            continue
        kept.append(dtype)
    return kept


def every_value(dtype: DType) -> Array:
    """Every value of a type of up to 16 bits; special ones of the wider."""
    if dtype is DType.BOOL:
        return np.array([True, False, True])
    if dtype.bits > 16:
        return _values(compute_type(dtype), False)
    bits = np.arange(1 << dtype.bits)
    if dtype.is_integer:
        low = -(1 << (dtype.bits - 1)) if dtype.is_signed_integer else 0
        return (bits + low).astype(dtype.numpy)
    return bits.astype(np.uint16 if dtype.bits == 16 else np.uint8).view(dtype.numpy)


def storage_probes() -> Iterator[Probe]:
    """Each storage type copied in reverse order, copied into a part of a buffer, and widened."""
    for dtype in _numeric():
        values = np.concatenate([every_value(dtype), every_value(dtype)[:3]])
        count, type = len(values), compute_type(dtype)
        buffers = (BufferParameter("x", dtype, Access.READ), BufferParameter("y", dtype, Access.WRITE))
        mirrored = Store("y", Var("i"), Load("x", sub(count - 1, Var("i")), type))
        arrays = {"x": values, "y": np.zeros(count, dtype.numpy)}
        yield Probe(
            f"storage/{dtype.value}/reverse",
            Kernel(f"reverse_{dtype.value}", buffers, (), (_each(count, mirrored),)),
            arrays,
        )
        part = (buffers[0], BufferParameter("y", dtype, Access.READ_WRITE))
        scattered = Store("y", add(mul(Var("i"), 2), 1), Load("x", Var("i"), type))
        arrays = {"x": values, "y": np.resize(values[::-1], 2 * count + 1).copy()}
        yield Probe(
            f"storage/{dtype.value}/odd", Kernel(f"odd_{dtype.value}", part, (), (_each(count, scattered),)), arrays
        )
        wide = storage_type(type)
        buffers = (buffers[0], BufferParameter("y", wide, Access.WRITE))
        widened = Store("y", Var("i"), Load("x", Var("i"), type))
        arrays = {"x": values, "y": np.zeros(count, wide.numpy)}
        yield Probe(
            f"storage/{dtype.value}/widen",
            Kernel(f"widen_{dtype.value}", buffers, (), (_each(count, widened),)),
            arrays,
        )


def cast_probes(*, denormals: bool = True) -> Iterator[Probe]:
    """Cast from every compute type to every storage type, seen in its compute type; and stores that narrow."""
    for type in Scalar:
        for dtype in _numeric():
            values = _values(type, denormals)
            source, result = storage_type(type), compute_type(dtype)
            buffers = (
                BufferParameter("x", source, Access.READ),
                BufferParameter("y", storage_type(result), Access.WRITE),
            )
            cast = Store("y", Var("i"), Cast(dtype, Load("x", Var("i"), type)))
            arrays = {"x": values, "y": np.zeros(len(values), storage_type(result).numpy)}
            name = f"cast_{type.value}_to_{dtype.value}"
            yield Probe(
                f"cast/{type.value}/{dtype.value}", Kernel(name, buffers, (), (_each(len(values), cast),)), arrays
            )
            if result is type and dtype is not source:
                narrowed = (buffers[0], BufferParameter("y", dtype, Access.WRITE))
                store = Store("y", Var("i"), Load("x", Var("i"), type))
                arrays = {"x": values, "y": np.zeros(len(values), dtype.numpy)}
                kernel = Kernel(f"store_{dtype.value}", narrowed, (), (_each(len(values), store),))
                yield Probe(f"store/{dtype.value}", kernel, arrays)


def bitcast_probes() -> Iterator[Probe]:
    """Bitcast between the compute types of one width."""
    groups = ((Scalar.I32, Scalar.U32, Scalar.F32), (Scalar.I64, Scalar.U64, Scalar.F64))
    for group in groups:
        for source in group:
            for to in group:
                floats = group[2] in (source, to)
                values = _values(group[2] if floats else source, False)
                values = values[~np.isnan(values)].view(meanings.numpy_type(source)) if floats else values
                buffers = (
                    BufferParameter("x", storage_type(source), Access.READ),
                    BufferParameter("y", storage_type(to), Access.WRITE),
                )
                store = Store("y", Var("i"), Bitcast(to, Load("x", Var("i"), source)))
                arrays = {"x": values, "y": np.zeros(len(values), storage_type(to).numpy)}
                kernel = Kernel(f"bits_{source.value}_{to.value}", buffers, (), (_each(len(values), store),))
                yield Probe(f"bitcast/{source.value}/{to.value}", kernel, arrays)


def _x(index: Expr, lanes: int = 1) -> Load:
    return Load("x", index, Scalar.F32, lanes)


def _statement_probe(name: str, body: tuple[Stmt, ...], count: int, size: int, **parameters: int) -> Probe:
    rng = np.random.default_rng(5)
    buffers = (
        BufferParameter("x", DType.FLOAT32, Access.READ),
        BufferParameter("y", DType.FLOAT32, Access.READ_WRITE),
    )
    kernel = Kernel(name, buffers, tuple(parameters), body)
    arrays = {"x": rng.integers(-50, 50, size).astype(np.float32), "y": np.zeros(count, np.float32)}
    return Probe(f"statement/{name}", kernel, arrays, parameters)


def statement_probes() -> Iterator[Probe]:
    """Loops of every kind, branches, registers, private arrays, vectors, and guarded loads."""
    i, j, k, n = Var("i"), Var("j"), Var("k"), Var("n")
    total, vector = Var("total", Scalar.F32), Var("vector", Scalar.F32, 4)

    def parallel(*body: Stmt) -> Loop:
        return Loop("i", n, body, LoopKind.PARALLEL)

    def accumulate(index: Expr) -> Assign:
        return Assign("total", apply(Op.ADD, total, _x(index)))

    start = Local("total", Scalar.F32, f32(0))
    put = Store("y", i, total)
    yield _statement_probe("triangle", (parallel(start, Loop("j", add(i, 1), (accumulate(j),)), put),), 9, 9, n=9)
    strided = Loop("j", Const(3), (accumulate(j),), start=add(i, 1), step=4)
    yield _statement_probe("strided", (parallel(start, strided, put),), 9, 32, n=9)
    unrolled = Loop("j", Const(3), (Local("at", Scalar.I32, mul(j, 3)), accumulate(add(Var("at"), i))), LoopKind.UNROLL)
    yield _statement_probe("unrolled", (parallel(start, unrolled, put),), 9, 18, n=9)
    nest = Loop("j", Const(4), (Store("y", add(mul(i, 4), j), _x(add(mul(j, 7), i))),), LoopKind.PARALLEL)
    yield _statement_probe("nested_parallel", (parallel(nest),), 28, 28, n=7)
    even = apply(Op.EQ, floor_mod(i, 2), Const(0))
    branch = If(even, (accumulate(i),), (If(apply(Op.GT, i, Const(4)), (accumulate(Const(0)),)),))
    yield _statement_probe("branches", (parallel(start, branch, put),), 9, 9, n=9)
    guarded = select(apply(Op.LT, i, Const(5)), _x(i), f32(-1))
    yield _statement_probe("guarded_load", (parallel(Store("y", i, guarded)),), 9, 5, n=9)
    window = Local("window", Scalar.F32, size=3)
    fill = Loop("j", Const(3), (Store("window", j, _x(add(i, j))),))
    biggest = apply(Op.MAX, Load("window", Const(0), Scalar.F32), Load("window", floor_mod(add(i, 1), 3), Scalar.F32))
    yield _statement_probe("private_array", (parallel(window, fill, Store("y", i, biggest)),), 9, 11, n=9)
    four = mul(i, 4)
    doubled = Assign("vector", apply(Op.FMA, vector, Splat(_x(i)), Vector((f32(1), f32(2), _x(k), total))))
    steps = (start, Local("vector", Scalar.F32, _x(four, 4), lanes=4), Loop("k", Const(2), (doubled,)))
    mirrored = Vector(tuple(Lane(vector, lane) for lane in (3, 2, 1, 0)))
    mixed = Select(apply(Op.LT, vector, f32(0)), vector, mirrored)
    yield _statement_probe("vectors", (parallel(*steps, Store("y", four, mixed)),), 32, 40, n=8)
    down = floor_div(sub(i, 5), 3)
    rest = floor_mod(sub(i, 5), Var("m"))
    put_index = Store("y", i, Cast(DType.FLOAT32, add(mul(down, 100), rest)))
    yield _statement_probe("index_division", (parallel(put_index),), 12, 1, n=12, m=4)
    sized = Loop("j", Const(3), (Store("y", j, _x(sub(2, j))),))
    yield _statement_probe("serial_only", (sized, Store("y", Const(3), f32(math.nan))), 4, 3)
    chain = Loop("j", sub(n, 1), (Store("y", add(j, 1), apply(Op.ADD, Load("y", j, Scalar.F32), _x(j))),))
    yield _statement_probe("scan", (Store("y", Const(0), f32(1)), chain), 9, 9, n=9)
    flag = Local("flag", Scalar.BOOL, const(True, Scalar.BOOL))
    clear = If(apply(Op.LT, _x(j), f32(0)), (Assign("flag", const(False, Scalar.BOOL)),))
    found = (flag, Loop("j", n, (clear,)), Store("y", i, Cast(DType.FLOAT32, Var("flag", Scalar.BOOL))))
    yield _statement_probe("flags", (parallel(*found),), 4, 4, n=4)
