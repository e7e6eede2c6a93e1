"""Prints loop-IR statements and expressions as WGSL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from webdnn_backends.ir import meanings
from webdnn_backends.ir.build import add, const, mul
from webdnn_backends.ir.decompose import DEFINED, define
from webdnn_backends.ir.loops import (
    Apply,
    Assign,
    Barrier,
    Bitcast,
    Cast,
    Const,
    Expr,
    If,
    Lane,
    Load,
    Local,
    Loop,
    LoopKind,
    Select,
    Space,
    Splat,
    Stmt,
    Store,
    Var,
    Vector,
    subexpressions,
)
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.ir.signs import is_not_negative
from webdnn_backends.ir.statements import assigned, expressions, replace_variable, walk
from webdnn_backends.ir.templates import ATOM, Code, Row, fill
from webdnn_backends.webgpu.conversions import WIDE, bitcast_row, cast_rows, literal, type_name
from webdnn_backends.webgpu.operators import OPERATORS, PRODUCT, SUM, TIGHT
from webdnn_backends.webgpu.storage import Binding, Form, divisor, divisor_table, vector_accessed
from webdnn_onnx.dtypes import DType

__all__ = ["Printer"]

_COMPONENTS = "xyzw"
_MAPPED = {
    LoopKind.WORKGROUP_X: "group.x",
    LoopKind.WORKGROUP_Y: "group.y",
    LoopKind.WORKGROUP_Z: "group.z",
    LoopKind.INVOCATION_X: "local.x",
    LoopKind.INVOCATION_Y: "local.y",
    LoopKind.INVOCATION_Z: "local.z",
}


@dataclass
class Printer:
    """Prints one function. names: the WGSL name of every IR name; bindings: the forms of buffers; helpers, shared,
    private: collects the helpers that the text calls and the arrays that it declares."""

    names: Mapping[str, str]
    bindings: Mapping[str, Binding] = field(default_factory=dict)
    body: tuple[Stmt, ...] = ()
    helpers: set[str] = field(default_factory=set)
    shared: list[str] = field(default_factory=list)
    private: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    not_negative: set[str] = field(default_factory=set)
    vector_arrays: set[str] = field(default_factory=set)
    workgroup_bytes: int = 0
    temporaries: int = 0
    folded: bool = False

    def __post_init__(self) -> None:
        self.divisors = divisor_table(self.body)
        self.assigned = assigned(self.body)
        parts = [part for item in walk(self.body) for part in expressions(item)]
        self.loaded = {part.buffer for part in parts if isinstance(part, Load)}

    # Expressions

    def row(self, row: Row, lanes: int, *operands: Code) -> Code:
        suffix = "" if lanes == 1 else "x4"
        self.helpers.update(name.replace("{x}", suffix) for name in row.helpers)
        template = row.template.replace("{x}", suffix)
        for letter, type in (("T", Scalar.F32), ("I", Scalar.I32), ("U", Scalar.U32), ("B", Scalar.BOOL)):
            template = template.replace(f"{{{letter}}}", type_name(type, lanes))
        return fill(Row(template, row.strength), *operands)

    def value(self, expr: Expr) -> Code:
        match expr:
            case Var(name=name):
                return Code(self.names[name])
            case Const(value=value):
                code, helpers = literal(value, expr.type)
                self.helpers.update(helpers)
                return code
            case Load():
                return self.load(expr)
            case Apply():
                return self.apply(expr)
            case Cast(to=to, arg=arg):
                if (
                    isinstance(arg, Const)
                    and not arg.type.is_float
                    and to in (DType.INT32, DType.UINT32, DType.FLOAT32)
                ):
                    return self.value(const(meanings.convert(_array(arg), to)[0].item(), expr.type))
                code = self.value(arg)
                for row in cast_rows(arg.type, to):
                    code = self.row(row, expr.lanes, code)
                return code
            case Bitcast(arg=arg):
                return self.row(bitcast_row(arg.type, expr.type), expr.lanes, self.value(arg))
            case Select():
                return self.select(expr)
            case Splat(arg=arg, lanes=lanes):
                return Code(f"{type_name(arg.type, lanes)}({self.value(arg).text})")
            case Lane(arg=arg, lane=lane):
                return Code(f"{self.named(self.value(arg)).text}.{_COMPONENTS[lane]}")
            case Vector(args=args):
                return Code(f"{type_name(expr.type, 4)}({', '.join(self.value(arg).text for arg in args)})")
            case _:
                raise ValueError(f"{type(expr).__name__} is of the level above the loop IR")

    def apply(self, expr: Apply) -> Code:
        op, args = expr.op, expr.args
        if all(isinstance(arg, Const) for arg in args):
            folded = meanings.evaluate(op, *(_array(arg) for arg in args if isinstance(arg, Const)))
            return self.value(const(folded[0].item(), expr.type))
        type = args[0].type
        operands = [self.value(arg) for arg in args]
        right = args[-1]
        if isinstance(right, Splat) and op in (Op.SHL, Op.SHR):
            right = right.arg
        if type in (Scalar.I32, Scalar.U32) and isinstance(right, Const):
            plain = self.by_constant(expr, operands, int(right.value))
            if plain is not None:
                return plain
        if op in DEFINED and type is Scalar.F32 and expr.lanes > 1 and define(op, type).scalar_only:
            lanes = [self.named(code) for code in operands]
            row = OPERATORS[type][op]
            parts = [
                self.row(row, 1, *(Code(f"{code.text}.{component}") for code in lanes)).text
                for component in _COMPONENTS
            ]
            return Code(f"vec4<f32>({', '.join(parts)})")
        return self.row(OPERATORS[type][op], expr.lanes, *operands)

    def by_constant(self, expr: Apply, operands: list[Code], constant: int) -> Code | None:
        """Integer operators whose right operand needs no guard."""
        op, a = expr.op, operands[0]
        unit = "u" if expr.type is Scalar.U32 else ""
        if op in (Op.SHL, Op.SHR) and 0 <= constant < 32:
            count = f"{constant}u" if expr.lanes == 1 else f"vec4<u32>({constant}u)"
            return Code(f"{a.at(TIGHT)} {'<<' if op is Op.SHL else '>>'} {count}", 1)
        if constant <= 0:
            return None
        if op is Op.DIV:
            return Code(f"{a.at(PRODUCT)} / {constant}{unit}", PRODUCT)
        if op not in (Op.FLOOR_DIV, Op.FLOOR_MOD):
            return None
        if constant & (constant - 1) == 0:
            if op is Op.FLOOR_DIV:
                return Code(f"{a.at(TIGHT)} >> {constant.bit_length() - 1}u", 1)
            return Code(f"{a.at(TIGHT)} & {constant - 1}{unit}", 1)
        if expr.type is Scalar.U32 or self.is_not_negative(expr.args[0]):
            return Code(f"{a.at(PRODUCT)} {'/' if op is Op.FLOOR_DIV else '%'} {constant}{unit}", PRODUCT)
        return None

    def is_not_negative(self, expr: Expr) -> bool:
        return is_not_negative(expr, self.not_negative)

    def select(self, expr: Select) -> Code:
        """A value; a branch where both choices load, so that only one is read.

        A load that is guarded by a condition may be carried out all the same: WGSL confines it to the buffer.
        """
        condition = self.value(expr.condition)
        loads = [any(isinstance(part, Load) for part in subexpressions(side)) for side in (expr.true, expr.false)]
        if expr.condition.lanes == 1 and all(loads):
            name = self.fresh()
            lines = [f"var {name}: {type_name(expr.type, expr.lanes)};", f"if ({condition.text}) {{"]
            outer, self.pending = self.pending, []
            for side, closing in ((expr.true, "} else {"), (expr.false, "}")):
                text = self.value(side).text
                lines += [f"  {line}" for line in (*self.pending, f"{name} = {text};")]
                lines.append(closing)
                self.pending = []
            self.pending = outer + lines
            return Code(name)
        return Code(f"select({self.value(expr.false).text}, {self.value(expr.true).text}, {condition.text})")

    def named(self, code: Code) -> Code:
        """A name for the value, so that it is computed once."""
        if code.text.replace("_", "").isalnum():
            return code
        name = self.fresh()
        self.pending.append(f"let {name} = {code.text};")
        return Code(name)

    def fresh(self) -> str:
        self.temporaries += 1
        return f"t{self.temporaries}_"

    # Memory

    def load(self, load: Load) -> Code:
        binding = self.bindings.get(load.buffer)
        name = self.names[load.buffer]
        if binding is not None and binding.form not in (Form.DIRECT, Form.VECTOR):
            return self.load_bits(binding, load)
        if load.buffer in self.vector_arrays or (binding is not None and binding.form is Form.VECTOR):
            return Code(f"{name}[{self.quarter(load.index)}]")
        index = self.value(load.index)
        if load.lanes == 1:
            return Code(f"{name}[{index.text}]")
        at = self.named(index)
        elements = [f"{name}[{at.text}{f' + {lane}' if lane else ''}]" for lane in range(load.lanes)]
        return Code(f"{type_name(load.type, load.lanes)}({', '.join(elements)})")

    def quarter(self, index: Expr) -> str:
        """An index that is a multiple of four, in units of vec4."""
        exact = self.quartered(index)
        return f"{self.value(index).at(TIGHT)} >> 2u" if exact is None else self.value(exact).text

    def quartered(self, index: Expr) -> Expr | None:
        """A quarter of an index, where every term of it is a multiple of four."""
        match index:
            case Const(value=value) if int(value) % 4 == 0:
                return Const(int(value) // 4)
            case Apply(op=Op.MUL, args=(left, Const(value=factor))) if int(factor) % 4 == 0:
                return mul(left, int(factor) // 4)
            case Apply(op=Op.ADD, args=(left, right)):
                first, second = self.quartered(left), self.quartered(right)
                return None if first is None or second is None else add(first, second)
            case _:
                return None

    def word(self, binding: Binding, index: str) -> str:
        text = f"{self.names[binding.name]}[{index}]"
        return f"atomicLoad(&{text})" if binding.form is Form.ATOMIC else text

    def load_bits(self, binding: Binding, load: Load) -> Code:
        if load.lanes == 1:
            return self.element(binding, self.named(self.value(load.index)))
        per_word = binding.per_word
        if per_word <= 4 and divisor(load.index, self.divisors) % per_word == 0:
            at = self.named(Code(f"{self.value(load.index).at(TIGHT)} >> {per_word.bit_length() - 1}u", 1)).text
            words = [self.named(Code(self.word(binding, at + (f" + {k}" if k else "")))) for k in range(4 // per_word)]
            lanes = [
                self.decode(binding, words[k // per_word], str(k % per_word * binding.dtype.bits)) for k in range(4)
            ]
        else:
            at = self.named(self.value(load.index)).text
            lanes = [self.element(binding, self.named(Code(f"{at} + {k}", SUM) if k else Code(at))) for k in range(4)]
        return Code(f"{type_name(load.type, 4)}({', '.join(lane.text for lane in lanes)})")

    def place(self, binding: Binding, at: str) -> tuple[str, str]:
        """The word of an element and the position of its bits."""
        shift, mask = binding.per_word.bit_length() - 1, binding.per_word - 1
        return f"{at} >> {shift}u", f"(u32({at}) & {mask}u) * {binding.dtype.bits}u"

    def element(self, binding: Binding, at: Code) -> Code:
        word, position = self.place(binding, at.text)
        return self.decode(binding, Code(self.word(binding, word)), position)

    def decode(self, binding: Binding, word: Code, position: str) -> Code:
        """The value of the bits of one element in a word."""
        dtype = binding.dtype
        offset = f"{position}u" if position.isdigit() else position
        if dtype.is_float:
            bits = Code(f"{word.at(TIGHT)} >> ({offset})", 1)
            name = f"unpack_{dtype.value}"
            return self.row(Row(f"{name}({{a}})", ATOM, (name,)), 1, bits)
        if dtype is DType.BOOL:
            return Code(f"extractBits({word.text}, {offset}, 8u) != 0u", 1)
        source = f"bitcast<i32>({word.text})" if dtype.is_signed_integer else word.text
        return Code(f"extractBits({source}, {offset}, {dtype.bits}u)")

    def encode(self, binding: Binding, value: Code, type: Scalar) -> Code:
        """The bits of a value, the others clear."""
        dtype = binding.dtype
        if dtype.is_float:
            name = f"pack_{dtype.value}"
            return self.row(Row(f"{name}({{a}})", ATOM, (name,)), 1, value)
        if dtype is DType.BOOL:
            return Code(f"select(0u, 1u, {value.text})")
        bits = value.at(TIGHT) if type is Scalar.U32 else f"bitcast<u32>({value.text})"
        return Code(f"{bits} & {(1 << dtype.bits) - 1}u", 1)

    def store(self, store: Store) -> list[str]:
        binding = self.bindings.get(store.buffer)
        name, value = self.names[store.buffer], store.value
        if binding is not None and binding.form not in (Form.DIRECT, Form.VECTOR):
            return self.store_bits(binding, store)
        if store.buffer in self.vector_arrays or (binding is not None and binding.form is Form.VECTOR):
            return [f"{name}[{self.quarter(store.index)}] = {self.value(value).text};"]
        index = self.value(store.index)
        if value.lanes == 1:
            return [f"{name}[{index.text}] = {self.value(value).text};"]
        at, stored = self.named(index).text, self.named(self.value(value)).text
        return [
            f"{name}[{at}{f' + {lane}' if lane else ''}] = {stored}.{_COMPONENTS[lane]};" for lane in range(value.lanes)
        ]

    def store_bits(self, binding: Binding, store: Store) -> list[str]:
        name, type = self.names[binding.name], store.value.type
        at = self.named(self.value(store.index)).text
        value = self.value(store.value)
        word, position = self.place(binding, at)
        if binding.form is Form.WORDS:
            bits = self.encode(binding, value, type).at(TIGHT)
            mask = binding.per_word - 1
            return [
                f"{name}_word_ |= {bits} << ({position});",
                f"if (((u32({at}) & {mask}u) == {mask}u) || last) {{",
                f"  {name}[{word}] = {name}_word_;",
                f"  {name}_word_ = 0u;",
                "}",
            ]
        if store.value.lanes == 1:
            return self.merge(binding, word, position, self.encode(binding, value, type))
        lanes = self.named(value).text
        codes = [self.encode(binding, Code(f"{lanes}.{component}"), type) for component in _COMPONENTS]
        if binding.form is Form.PACKED:
            per_word, width = binding.per_word, binding.dtype.bits
            result = []
            for first in range(0, 4, per_word):
                joined = " | ".join(
                    f"({codes[first + k].at(TIGHT)} << {k * width}u)" if k else codes[first].at(TIGHT)
                    for k in range(per_word)
                )
                offset = f" + {first // per_word}" if first else ""
                result.append(f"{name}[({word}){offset}] = {joined};")
            return result
        result = []
        for lane, code in enumerate(codes):
            cell, offset = self.place(binding, f"({at} + {lane})" if lane else at)
            result += self.merge(binding, cell, offset, code)
        return result

    def merge(self, binding: Binding, word: str, position: str, bits: Code) -> list[str]:
        """Atomic replacement of an element's bits; only this invocation writes them."""
        cell, mask = f"&{self.names[binding.name]}[{word}]", (1 << binding.dtype.bits) - 1
        at = self.named(Code(position, PRODUCT)).text
        value = self.named(bits).text
        return [f"atomicAnd({cell}, ~({mask}u << {at}));", f"atomicOr({cell}, {value} << {at});"]

    # Statements

    def block(self, body: tuple[Stmt, ...], indent: str) -> Iterator[str]:
        for statement in body:
            lines = list(self.statement(statement, indent))
            yield from (indent + line for line in self.pending)
            self.pending = []
            yield from lines

    def nested(self, body: tuple[Stmt, ...], indent: str) -> Iterator[str]:
        outer, self.pending = self.pending, []
        yield from self.block(body, indent)
        self.pending = outer

    def statement(self, statement: Stmt, indent: str) -> Iterator[str]:
        match statement:
            case Loop(kind=LoopKind.SERIAL | LoopKind.INDEPENDENT):
                yield from self.serial(statement, indent)
            case Loop(kind=LoopKind.UNROLL):
                yield from self.unrolled(statement, indent)
            case Loop():
                yield from self.mapped(statement, indent)
            case If(condition=condition, then=then, otherwise=otherwise):
                yield f"{indent}if ({self.value(condition).text}) {{"
                yield from self.nested(then, indent + "  ")
                if otherwise:
                    yield f"{indent}}} else {{"
                    yield from self.nested(otherwise, indent + "  ")
                yield f"{indent}}}"
            case Store():
                yield from (indent + line for line in self.store(statement))
            case Local():
                yield from self.declare(statement, indent)
            case Assign(name=name, value=value):
                yield f"{indent}{self.names[name]} = {self.value(value).text};"
            case Barrier():
                yield f"{indent}workgroupBarrier();"
                if any(binding.writable and binding.name in self.loaded for binding in self.bindings.values()):
                    yield f"{indent}storageBarrier();"

    def declare(self, local: Local, indent: str) -> Iterator[str]:
        name, type = self.names[local.name], type_name(local.type, local.lanes)
        if local.size is None:
            if local.init is None:
                yield f"{indent}var {name}: {type};"
            else:
                keyword = "var" if local.name in self.assigned else "let"
                if local.type is Scalar.I32 and keyword == "let" and self.is_not_negative(local.init):
                    self.not_negative.add(local.name)
                yield f"{indent}{keyword} {name}: {type} = {self.value(local.init).text};"
            return
        size, element = local.size, type
        if local.type not in WIDE and size % 4 == 0 and vector_accessed(self.body, local.name, self.divisors):
            self.vector_arrays.add(local.name)
            size, element = size // 4, type_name(local.type, 4)
        if local.space is Space.WORKGROUP:
            self.workgroup_bytes += local.size * (8 if local.type in WIDE else 4)
            self.shared.append(f"var<workgroup> {name}: array<{element}, {size}>;")
        else:
            line = f"var {name}: array<{element}, {size}>;"
            self.private += [line] if line not in self.private else []

    def serial(self, loop: Loop, indent: str) -> Iterator[str]:
        name = self.names[loop.var]
        start, extent = self.value(loop.start), self.value(loop.extent)
        if isinstance(loop.extent, Const) and isinstance(loop.start, Const):
            end = Code(str(int(loop.start.value) + int(loop.extent.value) * loop.step))
        else:
            scaled = extent if loop.step == 1 else Code(f"{extent.at(PRODUCT)} * {loop.step}", PRODUCT)
            end = scaled if loop.start == Const(0) else Code(f"{start.at(SUM)} + {scaled.at(PRODUCT)}", SUM)
            settled = isinstance(loop.extent, Var) and loop.extent.name not in self.assigned
            end = end if settled and loop.start == Const(0) and loop.step == 1 else self.named(end)
        following = f"{name}++" if loop.step == 1 else f"{name} += {loop.step}"
        yield f"{indent}for (var {name} = {start.text}; {name} < {end.at(TIGHT)}; {following}) {{"
        if self.is_not_negative(loop.start):
            self.not_negative.add(loop.var)
        yield from self.nested(loop.body, indent + "  ")
        self.not_negative.discard(loop.var)
        yield f"{indent}}}"

    def unrolled(self, loop: Loop, indent: str) -> Iterator[str]:
        assert isinstance(loop.extent, Const), "verified: an unrolled loop has a constant extent"
        for step in range(int(loop.extent.value)):
            at = add(loop.start, step * loop.step)
            yield f"{indent}{{"
            yield from self.nested(tuple(replace_variable(item, loop.var, at) for item in loop.body), indent + "  ")
            yield f"{indent}}}"

    def mapped(self, loop: Loop, indent: str) -> Iterator[str]:
        """A loop whose iterations are workgroups or invocations: its variable is their number."""
        number = f"i32({_MAPPED[loop.kind]})"
        if self.folded and loop.kind is LoopKind.WORKGROUP_X:
            number = "i32(group.y * groups.x + group.x)"
            yield f"{indent}if ({number} >= {self.value(loop.extent).at(TIGHT)}) {{ return; }}"
        scaled = number if loop.step == 1 else f"{number} * {loop.step}"
        first = "" if loop.start == Const(0) else f" + {self.value(loop.start).at(SUM)}"
        yield f"{indent}let {self.names[loop.var]} = {scaled}{first};"
        if self.is_not_negative(loop.start):
            self.not_negative.add(loop.var)
        yield from self.block(loop.body, indent)


def _array(constant: Const) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    return np.array([constant.value], meanings.numpy_type(constant.type))
