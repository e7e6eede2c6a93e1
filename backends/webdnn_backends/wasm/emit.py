"""From values to instructions: where each is computed, kept and moved.

Code grows in *regions*: the function, a loop's entry (run once before the loop, only if the loop runs at all), its
body, and the arms of branches. A value that is fixed outside a loop is computed in that loop's entry; one needed twice
is kept in a wasm local; an address that advances evenly with a loop becomes a pointer that the loop steps.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.wasm.builder import Builder
from webdnn_backends.wasm.encode import f32_bytes
from webdnn_backends.wasm.opcodes import Instruction
from webdnn_backends.wasm.rows import (
    CONVERSIONS,
    SCALAR_LOADS,
    SCALAR_ROWS,
    VECTOR_CONVERSIONS,
    VECTOR_LOADS,
    VECTOR_ROWS,
    lane_type,
    value_type,
)
from webdnn_backends.wasm.values import Value
from webdnn_onnx.dtypes import DType

__all__ = ["LOWEST_ADDRESS", "Emitter", "Induction", "Region"]

LOWEST_ADDRESS = 1024
"""No buffer begins below this byte address, so that a constant part of an address up to it can always be added last."""

_ALIGN = {8: 0, 16: 1, 32: 2, 64: 3, 128: 4}


@dataclass
class Induction:
    """A loop's variable and the pointers that step with it. entry, body: positions of its regions."""

    variable: Value
    start: Value
    step: int
    entry: int
    pointers: dict[Value, int] = field(default_factory=dict)
    latch: list[Instruction] = field(default_factory=list)


@dataclass
class Region:
    """Code that is being written. depth: loops around it. guarded: whether it runs only under a condition.

    kept: wasm locals that hold values computed here. loop: of a loop body whose variable advances evenly.
    entry: of a loop's entry.
    """

    depth: int
    guarded: bool = False
    entry: bool = False
    loop: Induction | None = None
    code: list[Instruction] = field(default_factory=list)
    kept: dict[Value, int] = field(default_factory=dict)


class Emitter:
    """Writes one function's code. Locals are numbered from `parameters` on; bases: values that are buffers' addresses;
    versions: how often each wasm local that is a register has been assigned."""

    def __init__(self, builder: Builder, parameters: int) -> None:
        self.builder = builder
        self.parameters = parameters
        self.locals: list[str] = []
        self.regions: list[Region] = [Region(0)]
        self.versions: dict[int, int] = {}
        self.bases: set[Value] = set()

    # locals and regions

    def new_local(self, type: str) -> int:
        """A fresh wasm local."""
        self.locals.append(type)
        return self.parameters + len(self.locals) - 1

    @property
    def top(self) -> int:
        """The position of the region that is being written."""
        return len(self.regions) - 1

    def code(self, *instructions: Instruction) -> None:
        """Append instructions to the region that is being written."""
        self.regions[-1].code.extend(instructions)

    # values

    def emit(self, value: Value, at: int | None = None) -> None:
        """Leave the value on the stack of a region (by default the one that is being written)."""
        at = self.top if at is None else at
        region = self.regions[at]
        if value.kind == "const":
            region.code.append(_literal(value))
            return
        if value.kind == "local":
            region.code.append(("local.get", self._current(value)))
            return
        if value.kind == "splat" and value.args[0].is_const:
            region.code.append(("v128.const", _vector_literal(value.args[0])))
            return
        kept = self._kept(value, at)
        if kept is None:
            place = self._place(value, at)
            self._compute(value, place)
            kept = self.new_local(value_type(value.type, value.lanes))
            self.regions[place].kept[value] = kept
            if place == at:
                region.code.append(("local.tee", kept))
                return
            self.regions[place].code.append(("local.set", kept))
        region.code.append(("local.get", kept))

    def force(self, value: Value) -> None:
        """Compute the value here and keep it, so that it stays what it is whatever is assigned or stored later."""
        if value.kind in ("const", "local") or self._kept(value, self.top) is not None:
            return
        if value.type.bits == 64 and value.lanes == 4:
            for arg in value.args:
                self.force(arg)
            return
        self.emit(value)
        self.code(("drop",))

    def _current(self, value: Value) -> int:
        payload = value.payload
        assert isinstance(payload, tuple), "locals hold (index, version)"
        index, version = payload
        assert isinstance(index, int), "locals hold (index, version)"
        assert self.versions.get(index, 0) == version, "a register is read in the version it has"
        return index

    def _kept(self, value: Value, at: int) -> int | None:
        for position in range(at, -1, -1):
            found = self.regions[position].kept.get(value)
            if found is not None:
                return found
        return None

    def _place(self, value: Value, at: int) -> int:
        """The outermost region in which the value can be computed: a loop's entry, or here."""
        best = at
        for position in range(at, 0, -1):
            region = self.regions[position]
            if value.loads and region.guarded and not region.entry:
                break
            if region.depth < value.level:
                break
            if region.entry:
                best = position
                if value.loads and region.guarded:
                    break
        return best

    def _compute(self, value: Value, at: int) -> None:
        """The instructions of a value itself."""
        code = self.regions[at].code
        scalar = value.lanes == 1
        match value.kind:
            case "load":
                self._load(value, at)
            case "sum":
                self._sum(value, at)
            case "prod":
                self._product(value, at)
            case "op":
                self._operator(value, at)
            case "shift":
                assert isinstance(value.payload, Op), "shifts hold an operator"
                self._all(value.args, at)
                prefix = value_type(value.type) if scalar else "i32x4"
                name = "shl" if value.payload is Op.SHL else "shr_s" if value.type.is_signed else "shr_u"
                if value.args[1].type.bits == 64 and not scalar:
                    code.append(("i32.wrap_i64",))
                code.append((f"{prefix}.{name}",))
            case "extend":
                self._all(value.args, at)
                code.append((f"i32.extend{value.payload}_s",))
            case "convert":
                self._all(value.args, at)
                table = CONVERSIONS if scalar else VECTOR_CONVERSIONS
                code.extend((name,) for name in table[value.args[0].type, value.type])
            case "bitcast":
                self._all(value.args, at)
                source, to = value_type(value.args[0].type), value_type(value.type)
                if scalar and source != to:
                    code.append((f"{to}.reinterpret_{source}",))
            case "select":
                self._select(value, at)
            case "splat":
                self._splat(value, at)
            case "lane":
                assert isinstance(value.payload, int), "lanes hold a number"
                self.emit(value.args[0], at)
                code.append((f"{lane_type(value.type)}.extract_lane", value.payload))
                if value.type is Scalar.BOOL:
                    code.extend([("i32.const", 1), ("i32.and",)])
            case "vector":
                self._vector(value, at)
            case "shuffle":
                assert isinstance(value.payload, tuple), "shuffles hold the number of each lane"
                self._all(value.args, at)
                lanes = (4 * int(str(lane)) + byte for lane in value.payload for byte in range(4))
                code.append(("i8x16.shuffle", bytes(lanes)))
            case "call":
                self._all(value.args, at)
                code.append(("call", str(value.payload)))
            case _:
                raise AssertionError(f"{value.kind}: a kind of value without code")

    def _all(self, values: tuple[Value, ...], at: int) -> None:
        for value in values:
            self.emit(value, at)

    def _operator(self, value: Value, at: int) -> None:
        op, type, code = value.payload, value.args[0].type, self.regions[at].code
        if isinstance(op, str):
            self._all(value.args, at)
            code.append((op,))
            return
        assert isinstance(op, Op), "operators hold an operator"
        if value.lanes == 4:
            self._all(value.args, at)
            if op is Op.FMA:
                code.append(("f32x4.relaxed_madd",))
            elif op is Op.POPCOUNT:
                names = ("i8x16.popcnt", "i16x8.extadd_pairwise_i8x16_u", "i32x4.extadd_pairwise_i16x8_u")
                code.extend((name,) for name in names)
            else:
                code.append((VECTOR_ROWS[op, type],))
            return
        if op in (Op.DIV, Op.REM, Op.FLOOR_DIV, Op.FLOOR_MOD) and type.is_integer:
            self._division(value, op, at)
            return
        self._all(value.args, at)
        code.append((SCALAR_ROWS[op, type],))

    def _division(self, value: Value, op: Op, at: int) -> None:
        """Of integers that are known not to trap."""
        left, right = value.args
        code, wasm = self.regions[at].code, value_type(value.type)
        unsigned = not value.type.is_signed or (left.range is not None and left.range[0] >= 0)
        quotient = op in (Op.DIV, Op.FLOOR_DIV)
        if unsigned and right.is_const and _is_power_of_two(int(right.constant)):
            self.emit(left, at)
            divisor = int(right.constant)
            code.append((f"{wasm}.const", divisor.bit_length() - 1 if quotient else divisor - 1))
            code.append((f"{wasm}.shr_u" if quotient else f"{wasm}.and",))
            return
        self._all(value.args, at)
        code.append((f"{wasm}.{'div' if quotient else 'rem'}_{'u' if unsigned else 's'}",))

    def _splat(self, value: Value, at: int) -> None:
        (arg,) = value.args
        code = self.regions[at].code
        if arg.kind == "load" and arg.type is not Scalar.BOOL and self._kept(arg, at) is None:
            dtype = _load_type(arg)
            if dtype.bits == 32:
                offset = self.address(arg.args[0], at)
                code.append(("v128.load32_splat", offset, 2))
                return
        if arg.type is Scalar.BOOL:
            code.append(("i32.const", 0))
            self.emit(arg, at)
            code.append(("i32.sub",))
        else:
            self.emit(arg, at)
        code.append((f"{lane_type(arg.type)}.splat",))

    def _vector(self, value: Value, at: int) -> None:
        shape, code = lane_type(value.type), self.regions[at].code
        for lane, arg in enumerate(value.args):
            if value.type is Scalar.BOOL:
                code.append(("i32.const", 0))
                self.emit(arg, at)
                code.append(("i32.sub",))
            else:
                self.emit(arg, at)
            code.append((f"{shape}.replace_lane", lane) if lane else (f"{shape}.splat",))

    def _select(self, value: Value, at: int) -> None:
        condition, true, false = value.args
        code = self.regions[at].code
        if condition.lanes == 4:
            self._all((true, false, condition), at)
            code.append(("v128.bitselect",))
            return
        type = value_type(value.type, value.lanes)
        if not (self._lazy(true, at) or self._lazy(false, at)):
            self._all((true, false, condition), at)
            code.append(("select_t", type) if type == "v128" else ("select",))
            return
        # What the arms put into this region, to be kept for later, must come before the branch.
        arms = [self._arm(choice, at) for choice in (true, false)]
        self.emit(condition, at)
        code.extend([("if", type), *arms[0], ("else",), *arms[1], ("end",)])

    def _lazy(self, value: Value, at: int) -> bool:
        """Whether computing the value here reads memory or calls a function."""
        seen: set[int] = set()
        pending = [value]
        while pending:
            part = pending.pop()
            if id(part) in seen or not part.loads or self._kept(part, at) is not None:
                continue
            if part.kind in ("load", "call"):
                return True
            seen.add(id(part))
            pending += part.args
        return False

    def _arm(self, value: Value, at: int) -> list[Instruction]:
        """The instructions of one choice, which is computed only where it is chosen."""
        later = self.regions[at + 1 :]
        arm = Region(self.regions[at].depth, guarded=True)
        self.regions[at + 1 :] = [arm]
        self.emit(value, at + 1)
        self.regions[at + 1 :] = later
        return arm.code

    # memory

    def _load(self, value: Value, at: int) -> None:
        dtype = _load_type(value)
        offset = self.address(value.args[0], at)
        code = self.regions[at].code
        if value.lanes == 1:
            code.append((SCALAR_LOADS[dtype], offset, _ALIGN[dtype.bits]))
            return
        first, *rest = VECTOR_LOADS[dtype]
        code.append((first, offset, _ALIGN[dtype.bits]))
        code.extend((name,) for name in rest)
        if dtype is DType.BOOL:
            code.append(("i32x4.neg",))

    def address(self, address: Value, at: int) -> int:
        """Leave an address on the stack; returns the constant that the memory instruction adds."""
        terms, constant = self.builder.terms(address)
        if not terms:
            self.regions[at].code.append(("i32.const", 0))
            return constant
        offset = 0
        if constant > 0 and (constant <= LOWEST_ADDRESS or self._never_negative(terms)):
            offset, constant = constant, 0
        moving = self.builder.sum(terms)
        pointer = self._pointer(moving, at)
        if pointer is None:
            self.emit(moving, at)
        else:
            self.regions[at].code.append(("local.get", pointer))
        if constant:
            self.regions[at].code.extend([("i32.const", constant), ("i32.add",)])
        return offset

    def _never_negative(self, terms: list[tuple[Value, int]]) -> bool:
        """Whether every term adds to the address."""
        return all(
            factor > 0 and ((value.range is not None and value.range[0] >= 0) or value in self.bases)
            for value, factor in terms
        )

    def _pointer(self, value: Value, at: int) -> int | None:
        """The local of a pointer that advances evenly with the loop around it; None where the value does not."""
        level = value.level
        position = at
        while position > 0 and (self.regions[position].loop is None or self.regions[position].depth != level):
            position -= 1
        loop = self.regions[position].loop
        if position == 0 or loop is None or self.regions[at].depth != level:
            return None
        known = loop.pointers.get(value)
        if known is not None:
            return known
        split = self._advance(value, loop, level)
        if split is None:
            return None
        start, step = split
        pointer = self.new_local("i32")
        loop.pointers[value] = pointer
        self.emit(start, loop.entry)
        self.regions[loop.entry].code.append(("local.set", pointer))
        if step.is_const:
            increment: Instruction = ("i32.const", int(step.constant))
        else:
            kept = self.new_local("i32")
            self.emit(step, loop.entry)
            self.regions[loop.entry].code.append(("local.set", kept))
            increment = ("local.get", kept)
        loop.latch.extend([("local.get", pointer), increment, ("i32.add",), ("local.set", pointer)])
        return pointer

    def _advance(self, value: Value, loop: Induction, level: int) -> tuple[Value, Value] | None:
        """(value at the loop's start, increase per iteration), if the value is linear in the loop's variable."""
        builder = self.builder
        terms, constant = builder.terms(value)
        fixed: list[tuple[Value, int]] = []
        step: list[tuple[Value, int]] = []
        for term, factor in terms:
            if term.level < level:
                fixed.append((term, factor))
                continue
            others = [atom for atom in builder.factors(term) if atom is not loop.variable]
            if len(others) != len(builder.factors(term)) - 1 or any(atom.level >= level for atom in others):
                return None
            step.append((builder.product(others), factor))
        slope = builder.sum(step)
        start = builder.sum([*fixed, (builder.mul(slope, loop.start), 1)], constant)
        return start, builder.mul(slope, builder.const(loop.step, Scalar.I32))

    # index arithmetic

    def _sum(self, value: Value, at: int) -> None:
        builder, code = self.builder, self.regions[at].code
        terms, constant = builder.terms(value)
        level = max(term.level for term, _ in terms)
        lower = [(term, factor) for term, factor in terms if term.level < level]
        upper = [(term, factor) for term, factor in terms if term.level == level]
        started = False
        if lower:
            self.emit(builder.sum(lower, constant), at)
            constant, started = 0, True
        for term, factor in sorted(upper, key=lambda item: item[1] < 0):
            if factor == -1 and started:
                self.emit(term, at)
                code.append(("i32.sub",))
                continue
            self.emit(term, at)
            if _is_power_of_two(factor) and factor > 1:
                code.extend([("i32.const", factor.bit_length() - 1), ("i32.shl",)])
            elif factor != 1:
                code.extend([("i32.const", factor), ("i32.mul",)])
            if started:
                code.append(("i32.add",))
            started = True
        if constant:
            code.extend([("i32.const", constant), ("i32.add",)])

    def _product(self, value: Value, at: int) -> None:
        builder, code = self.builder, self.regions[at].code
        atoms = builder.factors(value)
        level = value.level
        lower = [atom for atom in atoms if atom.level < level]
        upper = [atom for atom in atoms if atom.level == level]
        parts = ([builder.product(lower)] if lower else []) + upper
        for i, part in enumerate(parts):
            self.emit(part, at)
            if i:
                code.append(("i32.mul",))


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _load_type(value: Value) -> DType:
    payload = value.payload
    assert isinstance(payload, tuple), "loads hold (buffer, storage type, version)"
    assert isinstance(payload[1], DType), "loads hold (buffer, storage type, version)"
    return payload[1]


def _literal(value: Value) -> Instruction:
    return (f"{value_type(value.type)}.const", value.constant)


def _vector_literal(value: Value) -> bytes:
    if value.type is Scalar.F32:
        return f32_bytes(float(value.constant)) * 4
    if value.type is Scalar.BOOL:
        return (b"\xff" if value.constant else b"\x00") * 16
    return struct.pack("<I", int(value.constant) & 0xFFFFFFFF) * 4
