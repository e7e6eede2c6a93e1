"""Interned values: what the emitter knows about each distinct expression of a kernel.

Equal expressions are one `Value`, so that each is computed once. A value knows the loop depth at which it is fixed (its
*level*), which decides how far it can be moved out of loops, and scalar I32 arithmetic is held as a sum of products, so
that the parts of an address that belong to different loops come apart and constants reach the memory immediate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias, cast

from webdnn_backends.ir.scalars import OPS, Op, Scalar, compute_type
from webdnn_onnx.dtypes import DType

__all__ = ["Range", "Value", "ValueTable"]

INT_MIN, INT_MAX = -(1 << 31), (1 << 31) - 1
Payload: TypeAlias = "int | float | bool | str | Op | DType | tuple[Payload, ...] | None"
Range: TypeAlias = tuple[int, int]
"""Least and greatest value of a scalar I32, both attained at most."""

_MOST_TERMS = 24


@dataclass(eq=False, slots=True)
class Value:
    """kind: const, local, load, sum, prod, op, cast, bitcast, select, splat, lane, vector, shuffle,
    convert.

    number: position in the table. level: the loop depth at which it is fixed. loads: whether computing it reads memory
    or calls a function. range: of a scalar I32, where known.
    """

    number: int
    kind: str
    payload: Payload
    args: tuple[Value, ...]
    type: Scalar
    lanes: int
    level: int
    loads: bool
    range: Range | None = None

    @property
    def is_const(self) -> bool:
        return self.kind == "const"

    @property
    def constant(self) -> int | float:
        """The literal of a const."""
        assert isinstance(self.payload, int | float), "const values hold a number"
        return self.payload


class ValueTable:
    """Builds values, one per distinct expression."""

    def __init__(self) -> None:
        self._values: dict[tuple[object, ...], Value] = {}

    def make(
        self,
        kind: str,
        payload: Payload,
        args: tuple[Value, ...],
        type: Scalar,
        lanes: int,
        *,
        level: int = 0,
        range: Range | None = None,
    ) -> Value:
        """The value with these parts; its level is at least that of each argument."""
        # repr tells 0.0 from -0.0, True from 1, and NaN is itself
        literal = repr(payload) if isinstance(payload, float | bool) else payload
        key = (kind, literal, type, lanes, level, *[arg.number for arg in args])
        found = self._values.get(key)
        if found is None:
            loads = kind in ("load", "call")
            for arg in args:
                level = max(level, arg.level)
                loads = loads or arg.loads
            found = self._values[key] = Value(len(self._values), kind, payload, args, type, lanes, level, loads, range)
        return found

    def const(self, value: bool | int | float, type: Scalar) -> Value:
        """A literal."""
        if type is Scalar.I32:
            wrapped = _wrap(int(value))
            return self.make("const", wrapped, (), type, 1, range=(wrapped, wrapped))
        return self.make("const", float(value) if type.is_float else int(value), (), type, 1)

    def local(
        self, index: int, type: Scalar, lanes: int, level: int, version: int, range: Range | None = None
    ) -> Value:
        """A wasm local at one moment of its life."""
        return self.make("local", (index, version), (), type, lanes, level=level, range=range)

    def splat(self, arg: Value, lanes: int) -> Value:
        """The value in every lane; none where it has them already."""
        return arg if arg.lanes == lanes else self.make("splat", None, (arg,), arg.type, lanes)

    def op(self, op: Op, *args: Value) -> Value:
        """An operator applied; scalars are splatted where another operand is a vector, I32 arithmetic is simplified."""
        lanes = max([arg.lanes for arg in args])
        if lanes == 1:
            if args[0].type is Scalar.I32 and (simple := self._index(op, args)) is not None:
                return simple
        else:
            args = tuple([self.splat(arg, lanes) for arg in args])
        type = Scalar.BOOL if OPS[op].boolean else args[0].type
        return self.make("op", op, args, type, lanes)

    def bitcast(self, type: Scalar, arg: Value) -> Value:
        """The same bits as another type."""
        return arg if arg.type is type else self.make("bitcast", None, (arg,), type, arg.lanes)

    def select(self, condition: Value, true: Value, false: Value) -> Value:
        """A choice; decided here where the condition is a literal."""
        lanes = max(true.lanes, false.lanes, condition.lanes)
        true, false = self.splat(true, lanes), self.splat(false, lanes)
        if condition.is_const:
            return true if condition.constant else false
        if true is false:
            return true
        if lanes == 4 and condition.payload is Op.LT and true.type is Scalar.F32:
            # x < y ? y : x and y < x ? y : x are one instruction each, also where one is NaN
            if condition.args == (false, true):
                return self.make("op", "f32x4.pmax", (false, true), true.type, lanes)
            if condition.args == (true, false):
                return self.make("op", "f32x4.pmin", (false, true), true.type, lanes)
        bounds = None
        if true.range is not None and false.range is not None:
            bounds = (min(true.range[0], false.range[0]), max(true.range[1], false.range[1]))
        return self.make("select", None, (condition, true, false), true.type, lanes, range=bounds)

    def cast(self, to: DType, arg: Value) -> Value:
        """Conversion to a storage type's values."""
        type = compute_type(to)
        full_width = to.bits == type.bits or to is DType.BOOL
        if arg.type is type and full_width:
            return arg
        if arg.is_const and arg.type.is_integer and to in (DType.INT32, DType.FLOAT64, DType.INT64):
            return self.const(arg.constant, type)
        known = (0, 1) if arg.type is Scalar.BOOL and type is Scalar.I32 else arg.range if full_width else None
        return self.make("cast", to, (arg,), type, arg.lanes, range=known if type is Scalar.I32 else None)

    # scalar I32 arithmetic

    def add(self, left: Value, right: Value) -> Value:
        """The sum of two scalar I32."""
        return self.sum([(left, 1), (right, 1)])

    def sum(self, parts: Iterable[tuple[Value, int]], constant: int = 0) -> Value:
        """The sum of scalar I32 values times factors, plus a constant."""
        terms: dict[Value, int] = {}
        for value, factor in parts:
            if value.kind == "const":
                constant += int(value.constant) * factor
            elif value.kind == "sum":
                inner, factors = _sum_payload(value)
                constant += inner * factor
                for arg, each in zip(value.args, factors, strict=True):
                    terms[arg] = terms.get(arg, 0) + each * factor
            else:
                terms[value] = terms.get(value, 0) + factor
        constant = _wrap(constant)
        kept = [(value, wrapped) for value, factor in terms.items() if (wrapped := _wrap(factor))]
        if not kept:
            return self.const(constant, Scalar.I32)
        if len(kept) == 1:
            value, factor = kept[0]
            if factor == 1 and constant == 0:
                return value
        else:
            kept.sort(key=_number_of_term)
        payload = (constant, tuple([factor for _, factor in kept]))
        bounds = _sum_range(kept, constant)
        return self.make("sum", payload, tuple([value for value, _ in kept]), Scalar.I32, 1, range=bounds)

    def terms(self, value: Value) -> tuple[list[tuple[Value, int]], int]:
        """A scalar I32 as (terms with factors, constant)."""
        if value.is_const:
            return [], int(value.constant)
        if value.kind == "sum":
            constant, factors = _sum_payload(value)
            return list(zip(value.args, factors, strict=True)), constant
        return [(value, 1)], 0

    def factors(self, value: Value) -> tuple[Value, ...]:
        """The atoms of a product; of anything else, itself."""
        return value.args if value.kind == "prod" else (value,)

    def product(self, atoms: Iterable[Value]) -> Value:
        """The product of atoms (neither constants nor sums)."""
        ordered = tuple(sorted(atoms, key=lambda atom: atom.number))
        if not ordered:
            return self.const(1, Scalar.I32)
        if len(ordered) == 1:
            return ordered[0]
        bounds: Range | None = (1, 1)
        for atom in ordered:
            bounds = _multiply_range(bounds, atom.range)
        return self.make("prod", None, ordered, Scalar.I32, 1, range=bounds)

    def mul(self, left: Value, right: Value) -> Value:
        """The product of two scalar I32, distributed over sums."""
        a, a_constant = self.terms(left)
        b, b_constant = self.terms(right)
        if len(a) * len(b) > _MOST_TERMS:
            return self.product([*self.factors(left), *self.factors(right)])
        parts = [(value, factor * b_constant) for value, factor in a]
        parts += [(value, factor * a_constant) for value, factor in b]
        for value, factor in a:
            for other, other_factor in b:
                atoms = [*self.factors(value), *self.factors(other)]
                parts.append((self.product(atoms), factor * other_factor))
        return self.sum(parts, a_constant * b_constant)

    def _index(self, op: Op, args: tuple[Value, ...]) -> Value | None:
        """Simplified scalar I32 arithmetic; None where nothing is to be gained."""
        match op:
            case Op.ADD:
                return self.sum([(args[0], 1), (args[1], 1)])
            case Op.SUB:
                return self.sum([(args[0], 1), (args[1], -1)])
            case Op.NEG:
                return self.sum([(args[0], -1)])
            case Op.MUL:
                return self.mul(*args)
            case Op.SHL if args[1].is_const and 0 <= args[1].constant < 31:
                return self.sum([(args[0], 1 << int(args[1].constant))])
            case Op.DIV | Op.FLOOR_DIV | Op.REM | Op.FLOOR_MOD:
                return self._divide(op, *args)
            case Op.LT | Op.LE | Op.GT | Op.GE | Op.EQ | Op.NE:
                return self._compare(op, *args)
            case Op.MIN | Op.MAX:
                a, b = args[0].range, args[1].range
                if a is not None and b is not None:
                    if a[1] <= b[0]:
                        return args[0] if op is Op.MIN else args[1]
                    if b[1] <= a[0]:
                        return args[1] if op is Op.MIN else args[0]
                return None
            case _:
                return None

    def _compare(self, op: Op, left: Value, right: Value) -> Value | None:
        if left.range is None or right.range is None:
            return None
        (low, high), (other_low, other_high) = left.range, right.range
        known: bool | None = None
        match op:
            case Op.LT:
                known = True if high < other_low else False if low >= other_high else None
            case Op.LE:
                known = True if high <= other_low else False if low > other_high else None
            case Op.GT:
                known = True if low > other_high else False if high <= other_low else None
            case Op.GE:
                known = True if low >= other_high else False if high < other_low else None
            case Op.EQ | Op.NE:
                apart = high < other_low or low > other_high
                same = low == high == other_low == other_high
                known = (op is Op.NE) if apart else (op is Op.EQ) if same else None
            case _:
                pass
        return None if known is None else self.const(known, Scalar.BOOL)

    def _divide(self, op: Op, left: Value, right: Value) -> Value | None:
        """Division by a positive literal of something that cannot overflow."""
        quotient = op in (Op.DIV, Op.FLOOR_DIV)
        if not right.is_const or right.constant <= 0 or left.range is None:
            return None
        divisor, (low, high) = int(right.constant), left.range
        if low == high:
            exact = low // divisor if op in (Op.FLOOR_DIV, Op.FLOOR_MOD) or low >= 0 else -(-low // divisor)
            return self.const(exact if quotient else low - exact * divisor, Scalar.I32)
        if divisor == 1:
            return left if quotient else self.const(0, Scalar.I32)
        if low < 0:
            return None
        terms, constant = self.terms(left)
        whole = [(value, factor // divisor) for value, factor in terms if factor % divisor == 0]
        rest = [(value, factor) for value, factor in terms if factor % divisor]
        remainder = self.sum(rest, constant % divisor)
        if remainder.range is not None and remainder.range[0] >= 0 and remainder.range[1] < divisor:
            return self.sum(whole, constant // divisor) if quotient else remainder
        if quotient:
            return self.make("op", Op.FLOOR_DIV, (left, right), Scalar.I32, 1, range=(low // divisor, high // divisor))
        return self.make("op", Op.FLOOR_MOD, (left, right), Scalar.I32, 1, range=(0, min(high, divisor - 1)))


def _number_of_term(term: tuple[Value, int]) -> int:
    return term[0].number


def _sum_payload(value: Value) -> tuple[int, tuple[int, ...]]:
    assert value.kind == "sum", "sums hold (constant, factors)"
    return cast(tuple[int, tuple[int, ...]], value.payload)


def _wrap(value: int) -> int:
    if INT_MIN <= value <= INT_MAX:
        return value
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _sum_range(terms: list[tuple[Value, int]], constant: int) -> Range | None:
    low = high = constant
    for value, factor in terms:
        if value.range is None:
            return None
        one, other = value.range[0] * factor, value.range[1] * factor
        if one > other:
            one, other = other, one
        low, high = low + one, high + other
    return (low, high) if low >= INT_MIN and high <= INT_MAX else None


def _multiply_range(left: Range | None, right: Range | None) -> Range | None:
    if left is None or right is None:
        return None
    ends = [a * b for a in left for b in right]
    return (min(ends), max(ends)) if min(ends) >= INT_MIN and max(ends) <= INT_MAX else None
