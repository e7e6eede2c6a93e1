"""How buffers look in WGSL: which element type they are bound as, and how elements are read and written.

float32, int32 and uint32 are bound as they are, or as vec4 where every access is four aligned elements; 64-bit
integers as vec2<u32>. All narrower types are packed in u32 words: loads extract bits; a store writes a whole word
where the access covers one, and otherwise clears and sets its bits atomically, so that neighbours in the same word
are never lost.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Const,
    Expr,
    Kernel,
    Load,
    Local,
    Loop,
    Stmt,
    Store,
    Var,
)
from webdnn_backends.ir.scalars import Op
from webdnn_backends.ir.statements import assigned, expressions, walk
from webdnn_onnx.dtypes import DType

__all__ = ["Binding", "Form", "bindings", "divisor", "divisor_table", "vector_accessed"]


class Form(enum.Enum):
    """DIRECT: one element each. VECTOR: vec4 of elements. PACKED: bits of u32 words. ATOMIC: bits of words that several
    invocations may write. WORDS: bits of words that one invocation each writes whole, element by element."""

    DIRECT = "direct"
    VECTOR = "vector"
    PACKED = "packed"
    ATOMIC = "atomic"
    WORDS = "words"


@dataclass(frozen=True)
class Binding:
    """One buffer as a kernel sees it."""

    name: str
    dtype: DType
    form: Form
    writable: bool

    @property
    def element(self) -> str:
        """The element type of the bound array."""
        direct = {DType.FLOAT32: "f32", DType.INT32: "i32", DType.UINT32: "u32"}
        wide = {DType.INT64: "vec2<u32>", DType.UINT64: "vec2<u32>"}
        if self.form is Form.VECTOR:
            return f"vec4<{direct[self.dtype]}>"
        if self.form is Form.ATOMIC:
            return "atomic<u32>"
        return {**direct, **wide}[self.dtype] if self.form is Form.DIRECT else "u32"

    @property
    def per_word(self) -> int:
        """Elements in one word."""
        return 32 // self.dtype.bits


def bindings(kernel: Kernel, whole_words: frozenset[str]) -> dict[str, Binding]:
    """The form of every buffer. whole_words: the packed buffers that each invocation writes in whole words."""
    multiples = divisor_table(kernel.body)
    result: dict[str, Binding] = {}
    for buffer in kernel.buffers:
        writable = buffer.access is not Access.READ
        form = Form.DIRECT
        if buffer.dtype.bits < 32:
            stores = [item for item in walk(kernel.body) if isinstance(item, Store) and item.buffer == buffer.name]
            if buffer.name in whole_words:
                form = Form.WORDS
            elif all(covers_words(item, buffer.dtype, multiples) for item in stores):
                form = Form.PACKED
            else:
                form = Form.ATOMIC
        elif buffer.dtype.bits == 32 and vector_accessed(kernel.body, buffer.name, multiples):
            form = Form.VECTOR
        result[buffer.name] = Binding(buffer.name, buffer.dtype, form, writable)
    return result


def covers_words(store: Store, dtype: DType, multiples: Mapping[str, int]) -> bool:
    """Whether a store of four elements writes whole words."""
    per_word = 32 // dtype.bits
    return store.value.lanes == 4 and per_word <= 4 and divisor(store.index, multiples) % 4 == 0


def vector_accessed(body: tuple[Stmt, ...], name: str, multiples: Mapping[str, int]) -> bool:
    """Whether every access to an array is to four elements at a multiple of four."""
    found = False
    for item in walk(body):
        accesses = [
            (part.index, part.lanes) for part in expressions(item) if isinstance(part, Load) and part.buffer == name
        ]
        if isinstance(item, Store) and item.buffer == name:
            accesses.append((item.index, item.value.lanes))
        for index, lanes in accesses:
            found = True
            if lanes != 4 or divisor(index, multiples) % 4:
                return False
    return found


def divisor_table(body: tuple[Stmt, ...]) -> dict[str, int]:
    """For each variable a number that divides all its values; 0 stands for only zero."""
    changed = assigned(body)
    table: dict[str, int] = {}
    for item in walk(body):
        match item:
            case Loop(var=var, start=start, step=step):
                found = math.gcd(divisor(start, table), step)
                table[var] = math.gcd(found, table[var]) if var in table else found
            case Local(name=name, init=init) if init is not None:
                found = 1 if name in changed else divisor(init, table)
                table[name] = math.gcd(found, table[name]) if name in table else found
            case _:
                pass
    return table


def divisor(expr: Expr, table: Mapping[str, int]) -> int:
    """A number that certainly divides the expression's value."""
    match expr:
        case Const(value=value):
            return abs(int(value))
        case Var(name=name):
            return table.get(name, 1)
        case Apply(op=Op.ADD | Op.SUB, args=(left, right)):
            return math.gcd(divisor(left, table), divisor(right, table))
        case Apply(op=Op.MUL, args=(left, right)):
            return divisor(left, table) * divisor(right, table)
        case Apply(op=Op.FLOOR_MOD, args=(left, Const(value=value))):
            return math.gcd(divisor(left, table), int(value))
        case _:
            return 1
