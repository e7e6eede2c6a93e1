"""Prints loop-IR statements and expressions as JavaScript."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from webdnn_backends.ir.loops import (
    Apply,
    Assign,
    Bitcast,
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
    subexpressions,
)
from webdnn_backends.ir.scalars import Op, Scalar, storage_type
from webdnn_backends.ir.signs import is_not_negative
from webdnn_backends.ir.statements import replace_variable
from webdnn_backends.ir.templates import ATOM, Code, Row, fill
from webdnn_backends.js.conversions import TYPED_ARRAYS, bitcast_row, cast_rows, load_row, store_row
from webdnn_backends.js.operators import BIT_AND, BIT_OR, CHOICE, OPERATORS, PRODUCT, SHIFT, SUM, UNARY
from webdnn_backends.js.outline import Outline, outline
from webdnn_onnx.dtypes import DType

__all__ = ["Printer"]

_ZERO = {Scalar.BOOL: "false", Scalar.I64: "0n", Scalar.U64: "0n"}
_INDEX_INFIX = {Op.ADD: ("+", SUM), Op.SUB: ("-", SUM), Op.MUL: ("*", PRODUCT)}


@dataclass
class Printer:
    """Prints one function. name_of: the JavaScript name of an IR name; helpers: collects what the text calls; outlines:
    collects the sums that become functions of their own, None where none shall.

    Integers in indices and loop bounds are plain numbers, which never leave int32 there; in values they wrap. Vectors
    are expanded lane by lane: operands that several lanes share are computed once, before the statement.
    """

    kernel: Kernel
    name_of: Callable[[str], str]
    helpers: set[str] = field(default_factory=set)
    not_negative: set[str] = field(default_factory=set)
    assigned: frozenset[str] = frozenset()
    pending: list[str] = field(default_factory=list)
    arrays: list[str] = field(default_factory=list)
    local_types: dict[str, DType] = field(default_factory=dict)
    guarded: int = 0
    temporaries: int = 0
    outlines: dict[str, Outline] | None = None

    def __post_init__(self) -> None:
        self.buffers = {buffer.name: buffer for buffer in self.kernel.buffers}

    # Expressions

    def row(self, row: Row, *operands: Code) -> Code:
        self.helpers.update(row.helpers)
        return fill(row, *operands)

    def value(self, expr: Expr, lane: int = 0) -> Code:
        """One lane of an expression; integers wrap."""
        match expr:
            case Var(name=name, lanes=lanes):
                return Code(f"{self.name_of(name)}_{lane}" if lanes > 1 else self.name_of(name))
            case Const(value=value):
                return _literal(value, expr.type)
            case Load(buffer=buffer, index=index, lanes=lanes):
                at = self.index(index)
                if lanes > 1:
                    at = self.shared(at)
                    at = at if lane == 0 else Code(f"{at.at(SUM)} + {lane}", SUM)
                return self.row(load_row(self.storage(buffer)), Code(self.name_of(buffer)), at)
            case Apply(op=op, args=args):
                operands = [self.value(arg, lane) for arg in args]
                return self.shifted(expr, operands) or self.row(OPERATORS[args[0].type][op], *operands)
            case Cast(to=to, arg=arg):
                code = self.value(arg, lane)
                for row in cast_rows(arg.type, to):
                    code = self.row(row, code)
                return code
            case Bitcast(arg=arg):
                return self.row(bitcast_row(arg.type, expr.type), self.value(arg, lane))
            case Select(condition=condition, true=true, false=false):
                test = self.value(condition, lane if condition.lanes > 1 else 0)
                with_loads = condition.lanes == 1 and _has_load(true, false)
                self.guarded += with_loads
                chosen = [self.value(choice, lane) for choice in (true, false)]
                self.guarded -= with_loads
                return Code(f"{test.at(CHOICE + 1)} ? {chosen[0].at(CHOICE)} : {chosen[1].at(CHOICE)}", CHOICE)
            case Splat(arg=arg):
                return self.shared(self.value(arg))
            case Lane(arg=arg, lane=chosen_lane):
                return self.value(arg, chosen_lane)
            case Vector(args=args):
                return self.value(args[lane])
            case _:
                raise ValueError(f"kernel {self.kernel.name}: {type(expr).__name__} is of the level above the loop IR")

    def shifted(self, expr: Apply, operands: list[Code]) -> Code | None:
        """Shifts of 32-bit integers by a literal, without a guard."""
        count, type = expr.args[-1], expr.type
        if expr.op not in (Op.SHL, Op.SHR) or type not in (Scalar.I32, Scalar.U32):
            return None
        if not isinstance(count, Const) or not 0 <= count.value < 32:
            return None
        a, by = operands[0].at(SHIFT), int(count.value)
        if expr.op is Op.SHL:
            return Code(f"{a} << {by}" if type is Scalar.I32 else f"{a} << {by} >>> 0", SHIFT)
        return Code(f"{a} >> {by}" if type is Scalar.I32 else f"{a} >>> {by}", SHIFT)

    def shared(self, code: Code) -> Code:
        """A name for the value, so that several lanes use one evaluation; not inside a guarded choice."""
        if self.guarded or code.text.replace("_", "").replace(".", "").isalnum():
            return code
        for line in self.pending:
            name, _, text = line.removeprefix("const ").removesuffix(";").partition(" = ")
            if text == code.text:
                return Code(name)
        self.temporaries += 1
        name = f"$t{self.temporaries}"
        self.pending.append(f"const {name} = {code.text};")
        return Code(name)

    def index(self, expr: Expr) -> Code:
        """An index or a loop bound, as a plain number."""
        match expr:
            case Apply(op=op, args=(left, right)) if op in _INDEX_INFIX:
                if op is Op.ADD and isinstance(right, Const) and right.value < 0:
                    op, right = Op.SUB, Const(-right.value)
                symbol, strength = _INDEX_INFIX[op]
                tight = strength + (op is Op.SUB)
                return Code(f"{self.index(left).at(strength)} {symbol} {self.index(right).at(tight)}", strength)
            case Apply(op=Op.FLOOR_DIV | Op.FLOOR_MOD as op, args=(left, right)):
                return self.divided(op, left, right)
            case Apply(op=Op.MIN | Op.MAX as op, args=(left, right)):
                return Code(f"Math.{op.value}({self.index(left).text}, {self.index(right).text})")
            case Select(condition=condition, true=true, false=false) if condition.lanes == 1:
                test, chosen = self.value(condition), (self.index(true), self.index(false))
                return Code(f"{test.at(CHOICE + 1)} ? {chosen[0].at(CHOICE)} : {chosen[1].at(CHOICE)}", CHOICE)
            case _:
                return self.value(expr)

    def divided(self, op: Op, left: Expr, right: Expr) -> Code:
        a, b = self.index(left), self.index(right)
        constant = int(right.value) if isinstance(right, Const) else 0
        if constant > 0 and constant & (constant - 1) == 0:
            if op is Op.FLOOR_DIV:
                return Code(f"{a.at(SHIFT)} >> {constant.bit_length() - 1}", SHIFT)
            return Code(f"{a.at(BIT_AND)} & {constant - 1}", BIT_AND)
        if self.is_not_negative(left) and constant > 0:
            if op is Op.FLOOR_DIV:
                return Code(f"({a.at(PRODUCT)} / {b.at(UNARY)}) | 0", BIT_OR)
            return Code(f"{a.at(PRODUCT)} % {b.at(UNARY)}", PRODUCT)
        return self.row(OPERATORS[Scalar.I32][op], a, b)

    def is_not_negative(self, expr: Expr) -> bool:
        return is_not_negative(expr, self.not_negative)

    def storage(self, name: str) -> DType:
        return self.local_types[name] if name in self.local_types else self.kernel.buffer(name).dtype

    # Statements

    def block(self, body: tuple[Stmt, ...], indent: str) -> Iterator[str]:
        for statement in body:
            lines = list(self.statement(statement, indent))
            yield from (indent + line for line in self.pending)
            self.pending.clear()
            yield from lines

    def statement(self, statement: Stmt, indent: str) -> Iterator[str]:
        match statement:
            case Loop():
                yield from self.loop(statement, indent)
            case If(condition=condition, then=then, otherwise=otherwise):
                yield from self.branch(condition, then, otherwise, indent)
            case Store(buffer=buffer, index=index, value=value):
                at, array = self.index(index), Code(self.name_of(buffer))
                row = store_row(self.storage(buffer))
                if value.lanes == 1:
                    yield f"{indent}{self.row(row, array, at, self.value(value)).text};"
                    return
                at = self.shared(at)
                crossing = any(isinstance(part, Lane | Load) for part in subexpressions(value))
                for lane, code in enumerate(self.lanes(value, crossing)):
                    place = at if lane == 0 else Code(f"{at.at(SUM)} + {lane}", SUM)
                    yield f"{indent}{self.row(row, array, place, code).text};"
            case Local():
                yield from self.declare(statement, indent)
            case Assign(name=name, value=value):
                target = self.name_of(name)
                if value.lanes == 1:
                    yield f"{indent}{target} = {self.value(value).text};"
                    return
                crossing = any(isinstance(part, Lane) for part in subexpressions(value))
                for lane, code in enumerate(self.lanes(value, crossing)):
                    yield f"{indent}{target}_{lane} = {code.text};"
            case _:
                raise ValueError(f"kernel {self.kernel.name}: {type(statement).__name__} has no JavaScript form")

    def lanes(self, value: Expr, crossing: bool) -> list[Code]:
        """All lanes; evaluated before any is written where a lane might read what another one writes."""
        codes = [self.value(value, lane) for lane in range(value.lanes)]
        return [self.shared(code) for code in codes] if crossing else codes

    def declare(self, local: Local, indent: str) -> Iterator[str]:
        name = self.name_of(local.name)
        if local.size is not None:
            self.local_types[local.name] = storage_type(local.type)
            line = f"const {name} = new {TYPED_ARRAYS[storage_type(local.type)]}({local.size});"
            self.arrays += [line] if line not in self.arrays else []
            return
        keyword = "let" if local.name in self.assigned or local.init is None else "const"
        settled = local.init is not None and local.type is Scalar.I32 and keyword == "const"
        if settled and local.init is not None and self.is_not_negative(local.init):
            self.not_negative.add(local.name)
        for lane in range(local.lanes):
            first = self.value(local.init, lane).text if local.init is not None else _ZERO.get(local.type, "0")
            yield f"{indent}{keyword} {name}{f'_{lane}' if local.lanes > 1 else ''} = {first};"

    def branch(
        self, condition: Expr, then: tuple[Stmt, ...], otherwise: tuple[Stmt, ...], indent: str
    ) -> Iterator[str]:
        yield f"{indent}if ({self.value(condition).text}) {{"
        inside, self.pending = self.pending, []
        yield from self.block(then, indent + "  ")
        if otherwise:
            yield f"{indent}}} else {{"
            yield from self.block(otherwise, indent + "  ")
        self.pending = inside
        yield f"{indent}}}"

    def loop(self, loop: Loop, indent: str) -> Iterator[str]:
        if loop.kind is LoopKind.UNROLL:
            yield from self.unrolled(loop, indent)
            return
        found = None if self.outlines is None else outline(loop, self.buffers)
        if found is not None:
            yield from self.call(found, indent)
            return
        name = self.name_of(loop.var)
        start, extent = self.index(loop.start), self.index(loop.extent)
        if isinstance(loop.extent, Const) and isinstance(loop.start, Const):
            end = Code(str(int(loop.start.value) + int(loop.extent.value) * loop.step))
        else:
            scaled = extent if loop.step == 1 else Code(f"{extent.at(PRODUCT)} * {loop.step}", PRODUCT)
            end = scaled if loop.start == Const(0) else Code(f"{start.at(SUM)} + {scaled.at(SUM)}", SUM)
        fixed = isinstance(loop.extent, Var) and loop.start == Const(0) and loop.extent.name not in self.assigned
        bound = end.text if end.text.isdigit() or (fixed and loop.step == 1) else f"{name}_end"
        first = f"let {name} = {start.text}" + (f", {bound} = {end.text}" if bound != end.text else "")
        following = f"{name}++" if loop.step == 1 else f"{name} += {loop.step}"
        yield f"{indent}for ({first}; {name} < {bound}; {following}) {{"
        if self.is_not_negative(loop.start):
            self.not_negative.add(loop.var)
        inside, self.pending = self.pending, []
        yield from self.block(loop.body, indent + "  ")
        self.pending = inside
        self.not_negative.discard(loop.var)
        yield f"{indent}}}"

    def call(self, found: Outline, indent: str) -> Iterator[str]:
        """A loop that is a function of its own: what it returns is added to the registers."""
        assert self.outlines is not None, "asked before"
        self.outlines[found.function.name] = found
        numbers = [self.value(item) if item.type.is_float else self.index(item) for item in found.numbers]
        arguments = [*(self.name_of(name) for name in found.buffers), *(item.text for item in numbers)]
        text = f"{found.function.name}({', '.join(arguments)})"
        targets = [code.text for register in found.registers for code in self.lanes(register, crossing=False)]
        if len(targets) == 1:
            yield f"{indent}{targets[0]} += {text};"
            return
        self.helpers.add("sums")
        yield f"{indent}{text};"
        yield from (f"{indent}{target} += sums[{number}];" for number, target in enumerate(targets))

    def unrolled(self, loop: Loop, indent: str) -> Iterator[str]:
        assert isinstance(loop.extent, Const), "verified: an unrolled loop has a constant extent"
        scoped = any(isinstance(item, Local) for item in loop.body)
        for step in range(int(loop.extent.value)):
            place = Apply(Op.ADD, (loop.start, Const(step * loop.step)))
            known = isinstance(loop.start, Const)
            at = Const(int(loop.start.value) + step * loop.step) if isinstance(loop.start, Const) else place
            body = tuple(replace_variable(item, loop.var, at if known else place) for item in loop.body)
            inside, self.pending = self.pending, []
            if scoped:
                yield f"{indent}{{"
            yield from self.block(body, indent + "  " if scoped else indent)
            if scoped:
                yield f"{indent}}}"
            self.pending = inside


def _has_load(*exprs: Expr) -> bool:
    return any(isinstance(part, Load) for expr in exprs for part in subexpressions(expr))


def _literal(value: bool | int | float, type: Scalar) -> Code:
    if type is Scalar.BOOL:
        return Code("true" if value else "false")
    if type in (Scalar.I64, Scalar.U64):
        return Code(f"{value}n", ATOM if value >= 0 else UNARY)
    if not type.is_float:
        return Code(str(int(value)), ATOM if value >= 0 else UNARY)
    number = float(np.float32(value)) if type is Scalar.F32 else float(value)
    if math.isnan(number):
        return Code("NaN")
    if math.isinf(number):
        return Code("Infinity") if number > 0 else Code("-Infinity", UNARY)
    text = repr(number).removesuffix(".0").replace("e+", "e")
    return Code(text, UNARY if text.startswith("-") else ATOM)
