"""The fast Fourier transform of a length known at compile time, as one kernel for each prime factor.

Decimation in frequency in the self-sorting order of Stockham, with the butterflies of Singleton for odd factors: the
elements that mirror each other are added and subtracted first, which halves the products. A transform of length n costs
n times the sum of its factors instead of n * n, and rounds once per factor instead of once per element.

Sources: Singleton, An algorithm for computing the mixed radix fast Fourier transform, 1969; Swarztrauber, FFT
algorithms for vector computers, 1984.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from webdnn_backends.ir import build
from webdnn_backends.ir.build import const
from webdnn_backends.ir.loops import Const, Expr, Local, Stmt, Var
from webdnn_backends.ir.scalars import Scalar, compute_type
from webdnn_backends.lower.context import Indices, NodeContext
from webdnn_backends.lower.direct import Direct, Operand, loop, nest
from webdnn_backends.lower.formulas import equal, minus, negative, plus, times
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim

__all__ = ["Complex", "factors", "roots_of_unity", "transform"]

Complex = tuple[Expr, Expr]

_LARGEST = 13
"""Butterflies are written out: beyond this factor their code would grow out of proportion."""


def factors(length: int) -> tuple[int, ...] | None:
    """The factors of a length in the order of the kernels; None if one is too large for a fast transform."""
    if length < 1:
        return None
    found: list[int] = []
    for factor in (4, 2, 3, 5, 7, 11, _LARGEST):
        while length % factor == 0:
            found.append(factor)
            length //= factor
    if length > 1:
        return None
    # Even ones first, and of those a two: the first kernel has the most turns by angles, and a two the fewest of them.
    return tuple(sorted(found, key=lambda factor: (factor % 2, factor != 2)))


def roots_of_unity(length: int, dtype: DType) -> np.ndarray[tuple[int, int], np.dtype[np.floating]]:
    """The cosine and sine of 2 pi k / length for k below length, [length, 2], exact at quarters of the circle."""
    turns = np.arange(length) / max(length, 1)
    quarters = np.round(turns * 4)
    exact = quarters == turns * 4
    at = quarters.astype(int) % 4
    cosine = np.where(exact, np.array([1, 0, -1, 0])[at], np.cos(2 * np.pi * turns))
    sine = np.where(exact, np.array([0, 1, 0, -1])[at], np.sin(2 * np.pi * turns))
    table: np.ndarray[tuple[int, int], np.dtype[np.floating]] = np.stack([cosine, sine], axis=1).astype(dtype.numpy)
    return table


def transform(
    context: NodeContext,
    rows: Sequence[Dim],
    length: int,
    element: Callable[[Indices, Expr], Complex],
    *,
    inverse: bool,
) -> str:
    """The transforms of signals in rows: the name of a tensor [*rows, length, 2].

    element: the signal's value in a row at a time. inverse: with the division by the length. The length must have
    `factors`.
    """
    found = factors(length)
    assert found is not None, "only lengths with small factors"
    dtype = DType.FLOAT64 if element(_origin(rows), Const(0))[0].type is Scalar.F64 else DType.FLOAT32

    def gathered(i: Indices) -> Expr:
        real, imaginary = element(i[:-2], i[-2])
        return build.select(equal(i[-1], 0), real, imaginary)

    name = context.temporary(dtype, (*rows, length, 2), gathered)
    angles = context.table(roots_of_unity(length, dtype))
    done = 1
    for position, radix in enumerate(found):
        scale = 1 / length if inverse and position == len(found) - 1 else None
        name = _pass(context, name, angles, radix, done, inverse=inverse, scale=scale)
        done *= radix
    return name


def _origin(rows: Sequence[Dim]) -> Indices:
    return tuple(Const(0) for _ in rows)


def _pass(
    context: NodeContext, source: str, angles: str, radix: int, done: int, *, inverse: bool, scale: float | None
) -> str:
    """One factor: of `done` transforms that are interleaved, `radix` times as many, each shorter by that factor."""
    shape = context.state.tensor(source).shape
    length = shape[-2]
    assert isinstance(length, int)
    rest = length // (done * radix)
    kernel = Direct(context, "fourier")
    x, table = kernel.read(source), kernel.read(angles)
    target = context.scratch(context.state.tensor(source).dtype, shape)
    y = kernel.write(target)
    lead: list[Expr] = [Var(f"i{axis}") for axis in range(len(shape) - 2)]
    block, place = Var("block"), Var("place")
    code = _Block(compute_type(target.dtype))

    def at(branch: int) -> Expr:
        return build.add(place, build.mul(build.add(build.mul(block, radix), branch), rest))

    parts = [code.hold((x.load([*lead, at(j), 0]), x.load([*lead, at(j), 1]))) for j in range(radix)]
    for j, value in enumerate(_butterfly(code, parts, inverse)):
        if j and rest > 1:
            value = code.turned(value, table, build.mul(place, j * done), inverse)
        if scale is not None:
            value = (times(value[0], scale), times(value[1], scale))
        goes = build.add(place, build.mul(build.add(block, j * done), rest))
        code.statements += [y.store([*lead, goes, part], value[part]) for part in (0, 1)]
    inner = loop("place", rest, *code.statements, parallel=True)
    kernel.run(
        *nest(
            [f"i{axis}" for axis in range(len(lead))],
            shape[:-2],
            loop("block", done, inner, parallel=True),
            parallel=True,
        )
    )
    return target.name


class _Block:
    """Straight-line code on complex numbers."""

    def __init__(self, scalar: Scalar) -> None:
        self.scalar = scalar
        self.statements: list[Stmt] = []
        self._count = 0

    def hold(self, value: Complex) -> Complex:
        """The value in variables of its own."""
        held: list[Expr] = []
        for part in value:
            name = f"v{self._count}"
            self._count += 1
            self.statements.append(Local(name, self.scalar, part))
            held.append(Var(name, self.scalar))
        return held[0], held[1]

    def turned(self, value: Complex, table: Operand, angle: Expr, inverse: bool) -> Complex:
        """The value times the root of unity of that number, or its conjugate."""
        (x, y), (c, s) = self.hold(value), self.hold((table.load([angle, 0]), table.load([angle, 1])))
        if inverse:
            return minus(times(x, c), times(y, s)), plus(times(x, s), times(y, c))
        return plus(times(x, c), times(y, s)), minus(times(y, c), times(x, s))


def _plus(a: Complex, b: Complex) -> Complex:
    return plus(a[0], b[0]), plus(a[1], b[1])


def _minus(a: Complex, b: Complex) -> Complex:
    return minus(a[0], b[0]), minus(a[1], b[1])


def _quarter(a: Complex, inverse: bool) -> Complex:
    """The value times i where the transform is the inverse, else times -i."""
    return (negative(a[1]), a[0]) if inverse else (a[1], negative(a[0]))


def _butterfly(code: _Block, parts: Sequence[Complex], inverse: bool) -> list[Complex]:
    """The transform of as many values as there are."""
    if len(parts) == 2:
        return [_plus(*parts), _minus(*parts)]
    if len(parts) == 4:
        first, second = code.hold(_plus(parts[0], parts[2])), code.hold(_minus(parts[0], parts[2]))
        third = code.hold(_plus(parts[1], parts[3]))
        fourth = code.hold(_quarter(_minus(parts[1], parts[3]), inverse))
        return [_plus(first, third), _plus(second, fourth), _minus(first, third), _minus(second, fourth)]
    return _odd_butterfly(code, parts, inverse)


def _odd_butterfly(code: _Block, parts: Sequence[Complex], inverse: bool) -> list[Complex]:
    size, half = len(parts), len(parts) // 2
    sums = [code.hold(_plus(parts[j], parts[size - j])) for j in range(1, half + 1)]
    differences = [code.hold(_minus(parts[j], parts[size - j])) for j in range(1, half + 1)]
    total = parts[0]
    for value in sums:
        total = _plus(total, value)
    found: list[Complex] = [total] * size
    for output in range(1, half + 1):
        even, odd = parts[0], None
        for j, (value, difference) in enumerate(zip(sums, differences, strict=True), start=1):
            turn = output * j % size
            # By the lesser of the two angles with this cosine, so that mirrored entries are equal to the last bit.
            angle = 2 * math.pi * min(turn, size - turn) / size
            cosine = const(math.cos(angle), code.scalar)
            sine = const(math.sin(angle) if 2 * turn < size else -math.sin(angle), code.scalar)
            even = plus(even[0], times(value[0], cosine)), plus(even[1], times(value[1], cosine))
            term = times(difference[0], sine), times(difference[1], sine)
            odd = term if odd is None else _plus(odd, term)
        assert odd is not None
        straight, across = code.hold(even), _quarter(code.hold(odd), inverse)
        found[output], found[size - output] = _plus(straight, across), _minus(straight, across)
    return found
