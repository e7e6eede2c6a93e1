"""Values as WebAssembly can compute them: every operator, type and number of lanes is brought to rows that exist.

Four lanes of a 64-bit type are held as four scalars (`vector` values that are never stored in one register). Operators
without a vector row go lane by lane. Nothing that is built here traps, so it may be computed before it is needed.
"""

from __future__ import annotations

from webdnn_backends.ir.decompose import DEFINED, Definition, define
from webdnn_backends.ir.loops import Apply, Bitcast, Cast, Const, Expr, Lane, Local, Select, Splat, Var, Vector
from webdnn_backends.ir.narrow_floats import NARROW_FLOATS, pack, unpack
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.wasm.expand import expansion
from webdnn_backends.wasm.rows import SCALAR_ROWS, VECTOR_CONVERSIONS, VECTOR_ROWS
from webdnn_backends.wasm.values import Value, ValueTable
from webdnn_onnx.dtypes import DType

__all__ = ["Builder"]

_INLINE = frozenset((Op.EXP, Op.LOG, Op.TANH, Op.ERF))
_SUMS = frozenset((Op.ADD, Op.SUB, Op.MUL, Op.NEG))
_DIVISIONS = frozenset((Op.DIV, Op.REM))


class Builder(ValueTable):
    """A value table that only makes values that have code. helpers: what calls refer to, in order of use. fused:
    whether relaxed SIMD made a difference."""

    def __init__(self, relaxed: bool) -> None:
        super().__init__()
        self.relaxed = relaxed
        self.fused = False
        self.helpers: dict[str, Definition] = {}

    def op(self, op: Op, *args: Value) -> Value:
        """An operator applied to values of one type; scalars are splatted where another operand is a vector."""
        lanes = max([arg.lanes for arg in args])
        type = args[0].type
        if lanes == 1 and type is Scalar.I32 and op in _SUMS:
            simple = self._index(op, args)
            assert simple is not None, "sums and products are always brought to their canonical form"
            return simple
        if lanes == 4:
            if op in (Op.SHL, Op.SHR):
                return self._vector_shift(op, *args)
            args = tuple(self.splat(arg, 4) for arg in args)
            if type.bits == 64:
                return self._by_lane(op, args)
        if op in _DIVISIONS and type.is_integer:
            return self._integer_division(op, args) if lanes == 1 else self._by_lane(op, args)
        if op in (Op.SHL, Op.SHR):
            return self._scalar_shift(op, *args)
        if op is Op.FMA and self.relaxed and type is Scalar.F32 and lanes == 4:
            self.fused = True
            return self.make("op", op, args, type, lanes)
        if op in (Op.FLOOR_DIV, Op.FLOOR_MOD) and lanes == 1 and type is Scalar.I32:
            simple = self._divide(op, *args)
            if simple is not None:
                return simple
        rows = SCALAR_ROWS if lanes == 1 else VECTOR_ROWS
        if (op, type) in rows or (op is Op.POPCOUNT and lanes == 4):
            return super().op(op, *args)
        expand = expansion(op, type, lanes)
        if expand is not None:
            return self._simplified(op, args) or expand(self, args)
        if op in DEFINED and type.is_float:
            return self._defined(op, args, type, lanes)
        if lanes == 4:
            return self._by_lane(op, args)
        raise AssertionError(f"{op.value} of {type.value}: every operator has a row, an expansion or a definition")

    def _simplified(self, op: Op, args: tuple[Value, ...]) -> Value | None:
        return self._index(op, args) if args[0].type is Scalar.I32 and args[0].lanes == 1 else None

    def _by_lane(self, op: Op, args: tuple[Value, ...]) -> Value:
        return self.vector(tuple(self.op(op, *[self.lane(arg, k) for arg in args]) for k in range(4)))

    def _vector_shift(self, op: Op, value: Value, amount: Value) -> Value:
        if amount.kind == "splat":
            amount = amount.args[0]
        if value.type.bits == 64 or amount.lanes == 4:
            return self._by_lane(op, (self.splat(value, 4), self.splat(amount, 4)))
        value = self.splat(value, 4)
        return self._guarded_shift(op, value, amount)

    def _scalar_shift(self, op: Op, value: Value, amount: Value) -> Value:
        if value.type is Scalar.I32 and op is Op.SHL and (simple := self._index(op, (value, amount))) is not None:
            return simple
        return self._guarded_shift(op, value, amount)

    def _guarded_shift(self, op: Op, value: Value, amount: Value) -> Value:
        """A shift by any amount; wasm's own count is modulo the width."""
        type, lanes, bits = value.type, value.lanes, value.type.bits
        arithmetic = op is Op.SHR and type.is_signed
        if amount.is_const:
            count = int(amount.constant)
            if 0 <= count < bits:
                return value if count == 0 else self.make("shift", op, (value, amount), type, lanes)
            if not arithmetic:
                return self.splat(self.const(0, type), lanes)
            return self.make("shift", op, (value, self.const(bits - 1, type)), type, lanes)
        unsigned = Scalar.U32 if bits == 32 else Scalar.U64
        inside = self.op(Op.LT, self.bitcast(unsigned, amount), self.const(bits, unsigned))
        if arithmetic:
            amount = self.select(inside, amount, self.const(bits - 1, type))
            return self.make("shift", op, (value, amount), type, lanes)
        shifted = self.make("shift", op, (value, amount), type, lanes)
        return self.select(inside, shifted, self.splat(self.const(0, type), lanes))

    def _integer_division(self, op: Op, args: tuple[Value, ...]) -> Value:
        """DIV and REM with x/0 = 0 and MIN/-1 = MIN."""
        a, b = args
        type = a.type
        if type is Scalar.I32 and (simple := self._divide(op, a, b)) is not None:
            return simple
        zero, one, minus = self.const(0, type), self.const(1, type), self.const(-1, type)
        if b.is_const:
            if b.constant == 0:
                return zero
            if type.is_signed and b.constant == -1:
                return self.op(Op.NEG, a) if op is Op.DIV else zero
            return self.make("op", op, args, type, 1)
        if b.range is not None and b.range[0] > 0:
            return self.make("op", op, args, type, 1)
        is_zero = self.op(Op.EQ, b, zero)
        if op is Op.REM or not type.is_signed:
            safe = self.select(is_zero, one, b)
            return self.select(is_zero, zero, self.make("op", op, (a, safe), type, 1))
        is_minus = self.op(Op.EQ, b, minus)
        safe = self.select(self.op(Op.OR, is_zero, is_minus), one, b)
        quotient = self.make("op", op, (a, safe), type, 1)
        return self.select(is_zero, zero, self.select(is_minus, self.op(Op.NEG, a), quotient))

    def _defined(self, op: Op, args: tuple[Value, ...], type: Scalar, lanes: int) -> Value:
        """By a definition: inlined where small, else a call of a helper function."""
        if lanes == 4 and (type.bits == 64 or define(op, type, 1).scalar_only):
            return self._by_lane(op, args)
        definition = define(op, type, lanes)
        if op in _INLINE and not definition.scalar_only:
            return self.inline(definition, args)
        self.helpers.setdefault(definition.name, definition)
        return self.make("call", definition.name, args, type, lanes)

    def inline(self, definition: Definition, args: tuple[Value, ...]) -> Value:
        """The result of a definition without loops."""
        bound = {parameter.name: arg for parameter, arg in zip(definition.parameters, args, strict=True)}
        for statement in definition.body:
            assert isinstance(statement, Local), "an inlined definition has registers only"
            assert statement.init is not None, "an inlined definition has registers only"
            bound[statement.name] = self.pure(statement.init, bound)
        return self.pure(definition.result, bound)

    def unpack(self, dtype: DType, code: Value) -> Value:
        """The float32 that the storage bits (U32) of a narrow float stand for."""
        return self.inline(unpack(dtype, code.lanes), (code,))

    def pack(self, dtype: DType, value: Value) -> Value:
        """The storage bits (U32) of a float32."""
        return self.inline(pack(dtype, value.lanes), (value,))

    def pure(self, expr: Expr, bound: dict[str, Value], memo: dict[int, Value] | None = None) -> Value:
        """The value of an expression without loads, its variables given."""
        memo = {} if memo is None else memo
        found = memo.get(id(expr))
        if found is not None:
            return found
        match expr:
            case Var(name=name):
                value = bound[name]
            case Const(value=literal, type=type):
                value = self.const(literal, type)
            case Apply(op=op, args=args):
                value = self.op(op, *[self.pure(arg, bound, memo) for arg in args])
            case Cast(to=to, arg=arg):
                value = self.cast(to, self.pure(arg, bound, memo))
            case Bitcast(type=type, arg=arg):
                value = self.bitcast(type, self.pure(arg, bound, memo))
            case Select(condition=condition, true=true, false=false):
                value = self.select(*[self.pure(part, bound, memo) for part in (condition, true, false)])
            case Splat(arg=arg, lanes=lanes):
                value = self.splat(self.pure(arg, bound, memo), lanes)
            case Lane(arg=arg, lane=lane):
                value = self.lane(self.pure(arg, bound, memo), lane)
            case Vector(args=args):
                value = self.vector(tuple(self.pure(arg, bound, memo) for arg in args))
            case _:
                raise AssertionError(f"{type_name(expr)}: expected an expression without loads")
        memo[id(expr)] = value
        return value

    def lane(self, value: Value, lane: int) -> Value:
        """One lane of a vector."""
        match value.kind:
            case "splat":
                return value.args[0]
            case "vector":
                return value.args[lane]
            case _:
                return self.make("lane", lane, (value,), value.type, 1)

    def vector(self, args: tuple[Value, ...]) -> Value:
        """Four scalars as one vector."""
        if all(arg is args[0] for arg in args):
            return self.splat(args[0], 4)
        sources = list(dict.fromkeys(arg.args[0] for arg in args if arg.kind == "lane"))
        if args[0].type.bits == 32 and len(sources) <= 2 and all(arg.kind == "lane" for arg in args):
            lanes = tuple(4 * sources.index(arg.args[0]) + int(str(arg.payload)) for arg in args)
            if lanes == (0, 1, 2, 3):
                return sources[0]
            return self.make("shuffle", lanes, (sources[0], sources[-1]), args[0].type, 4)
        return self.make("vector", None, args, args[0].type, 4)

    def splat(self, arg: Value, lanes: int) -> Value:
        """The value in every lane."""
        if arg.lanes == lanes:
            return arg
        if arg.type.bits == 64:
            return self.make("vector", None, (arg,) * lanes, arg.type, lanes)
        return super().splat(arg, lanes)

    def select(self, condition: Value, true: Value, false: Value) -> Value:
        """A choice."""
        lanes = max(true.lanes, false.lanes, condition.lanes)
        if lanes == 4 and true.type.bits == 64 and not condition.is_const:
            conditions = condition if condition.lanes == 4 else self.splat(condition, 4)
            parts = zip(
                *([self.lane(self.splat(part, 4), k) for k in range(4)] for part in (conditions, true, false)),
                strict=True,
            )
            return self.vector(tuple(self.select(*part) for part in parts))
        return super().select(condition, true, false)

    def bitcast(self, type: Scalar, arg: Value) -> Value:
        """The same bits as another type of the same width."""
        if arg.type is type:
            return arg
        if arg.kind == "bitcast":
            return self.bitcast(type, arg.args[0])
        if arg.lanes == 4 and type.bits == 64:
            return self.vector(tuple(self.bitcast(type, self.lane(arg, k)) for k in range(4)))
        if arg.is_const and arg.type in _RENAMED and type in _RENAMED:
            return self.const(int(arg.constant), type)
        return super().bitcast(type, arg)

    def cast(self, to: DType, arg: Value) -> Value:
        """Conversion to a storage type's values, held in its compute type."""
        type = compute_type(to)
        if to is DType.BOOL:
            zero = self.const(0, arg.type)
            return arg if arg.type is Scalar.BOOL else self.op(Op.NE, arg, self.splat(zero, arg.lanes))
        if to in NARROW_FLOATS:
            narrow = self._to_float32_odd(arg) if arg.type is Scalar.F64 else self.convert(Scalar.F32, arg)
            return self.unpack(to, self.pack(to, narrow))
        wide = self.convert(type, arg)
        if to.bits == type.bits:
            return wide
        if to.is_unsigned_integer:
            return self.op(Op.BIT_AND, wide, self.splat(self.const((1 << to.bits) - 1, type), wide.lanes))
        if wide.range is not None and -(1 << (to.bits - 1)) <= wide.range[0] and wide.range[1] < 1 << (to.bits - 1):
            return wide
        return self.sign_extend(wide, to.bits)

    def sign_extend(self, value: Value, bits: int) -> Value:
        """The lowest bits of an I32 as a signed number."""
        if bits in (8, 16) and value.lanes == 1:
            return self.make("extend", bits, (value,), Scalar.I32, 1)
        count = self.const(32 - bits, Scalar.I32)
        left = self.make("shift", Op.SHL, (value, count), value.type, value.lanes)
        return self.make("shift", Op.SHR, (left, count), value.type, value.lanes)

    def convert(self, type: Scalar, arg: Value) -> Value:
        """Conversion between compute types."""
        if arg.type is type:
            return arg
        if arg.is_const and arg.type in _RENAMED and type in _RENAMED:
            return self.const(_fold(int(arg.constant), type), type)
        if arg.is_const and arg.type in _RENAMED and type in (Scalar.F64, Scalar.I64):
            return self.const(arg.constant, type)
        if arg.lanes == 4 and (arg.type, type) not in VECTOR_CONVERSIONS:
            return self.vector(tuple(self.convert(type, self.lane(arg, k)) for k in range(4)))
        if {arg.type, type} == {Scalar.I32, Scalar.U32} or {arg.type, type} == {Scalar.I64, Scalar.U64}:
            return self.bitcast(type, arg)
        known = (0, 1) if arg.type is Scalar.BOOL and type is Scalar.I32 else None
        return self.make("convert", None, (arg,), type, arg.lanes, range=known)

    def _to_float32_odd(self, arg: Value) -> Value:
        """float64 to float32 rounded to odd: a second rounding to fewer bits is then as if it were the only one."""
        if arg.lanes == 4:
            return self.vector(tuple(self._to_float32_odd(self.lane(arg, k)) for k in range(4)))
        near = self.convert(Scalar.F32, arg)
        back, bits = self.convert(Scalar.F64, near), self.bitcast(Scalar.U32, near)
        one, zero = self.const(1, Scalar.U32), self.const(0, Scalar.U32)
        even = self.op(Op.EQ, self.op(Op.BIT_AND, bits, one), zero)
        inexact = self.op(Op.AND, self.op(Op.NE, back, arg), self.op(Op.EQ, arg, arg))
        above = self.op(Op.GT, self.op(Op.ABS, back), self.op(Op.ABS, arg))
        moved = self.select(above, self.op(Op.SUB, bits, one), self.op(Op.ADD, bits, one))
        return self.bitcast(Scalar.F32, self.select(self.op(Op.AND, inexact, even), moved, bits))


_RENAMED = (Scalar.I32, Scalar.U32)


def _fold(value: int, type: Scalar) -> int:
    return value & 0xFFFFFFFF if type is Scalar.U32 else value


def type_name(expr: Expr) -> str:
    """The class of an expression, for messages."""
    return type(expr).__name__
