"""The loop IR: what a schedule builds, a dialect prints and an interpreter runs.

Statements: Loop, If, Store, Local, Assign, Barrier. Expressions: Var, Const, Load, Apply, Cast, Bitcast, Select, Splat,
Lane, Vector; and two of the level above, Read and Reduce, which schedules replace. Every expression has a compute type
and a number of lanes (1 or 4). Nodes are frozen and compare by structure.

A kernel's buffers are flat arrays of storage elements; indices count elements and are I32. Integer parameters
(`Kernel.parameters`) are I32 variables: they carry the symbolic sizes.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, TypeVar

from webdnn_backends.ir.scalars import OPS, Op, Scalar, compute_type
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim

__all__ = [
    "Access",
    "Apply",
    "Assign",
    "Axis",
    "Barrier",
    "Bitcast",
    "BufferParameter",
    "Cast",
    "Const",
    "Expr",
    "If",
    "Kernel",
    "Lane",
    "Load",
    "Local",
    "Loop",
    "LoopKind",
    "Read",
    "Reduce",
    "ReduceOp",
    "Select",
    "Space",
    "Splat",
    "Stmt",
    "Store",
    "Var",
    "Vector",
    "operands",
    "subexpressions",
]


_Node = TypeVar("_Node")


def _hashed_once(node: type[_Node]) -> type[_Node]:
    """The class with its structural hash computed once per object: expressions are keys of many tables."""
    structural: Callable[[_Node], int] = node.__hash__

    def stored(self: _Node) -> int:
        found: int | None = self.__dict__.get("_hash")
        if found is None:
            found = self.__dict__["_hash"] = structural(self)
        return found

    node.__hash__ = stored  # type: ignore[assignment]  # a method like the one it replaces
    return node


@_hashed_once
@dataclass(frozen=True)
class Var:
    """A loop variable, a parameter or a `Local` register. signed: a parameter that may be negative, unlike a size."""

    name: str
    type: Scalar = Scalar.I32
    lanes: int = 1
    signed: bool = False


@dataclass(frozen=True)
class Const:
    """A literal; floats may be NaN or infinite; I64 and U64 hold any integer of their width. Equal literals are
    the same bits: 0.0 is not -0.0, and NaN is NaN."""

    value: bool | int | float
    type: Scalar = Scalar.I32

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Const) or self.type is not other.type:
            return False
        if self.value == other.value:
            return bool(self.value) or math.copysign(1.0, self.value) == math.copysign(1.0, other.value)
        return self.value != self.value and other.value != other.value

    def __hash__(self) -> int:
        return hash((self.value if self.value == self.value else None, self.type))

    @property
    def lanes(self) -> int:
        return 1


@_hashed_once
@dataclass(frozen=True)
class Load:
    """Element `index` of a buffer, widened; with lanes = 4 the elements index .. index+3."""

    buffer: str
    index: Expr
    type: Scalar
    lanes: int = 1


@_hashed_once
@dataclass(frozen=True)
class Apply:
    """A scalar operator; all operands have one type and number of lanes (SHL and SHR included)."""

    op: Op
    args: tuple[Expr, ...]

    @cached_property
    def type(self) -> Scalar:
        return Scalar.BOOL if OPS[self.op].boolean else self.args[0].type

    @cached_property
    def lanes(self) -> int:
        return self.args[0].lanes


@_hashed_once
@dataclass(frozen=True)
class Cast:
    """Conversion to a storage type's values, held in its compute type.

    Float to integer rounds towards zero and saturates to the compute type, NaN gives 0; then, and from integers,
    narrow integers wrap. To float16, bfloat16, float8, float4: rounded to nearest even, overflow to infinity where the
    type has one, else to its largest value. To bool: not equal to zero. From bool: 0 or 1.
    """

    to: DType
    arg: Expr

    @cached_property
    def type(self) -> Scalar:
        return compute_type(self.to)

    @cached_property
    def lanes(self) -> int:
        return self.arg.lanes


@_hashed_once
@dataclass(frozen=True)
class Bitcast:
    """The same bits read as another compute type of the same width."""

    type: Scalar
    arg: Expr

    @cached_property
    def lanes(self) -> int:
        return self.arg.lanes


@_hashed_once
@dataclass(frozen=True)
class Select:
    """`true` where the condition holds, else `false`. Only the chosen one is evaluated where it holds a Load and the
    condition has one lane."""

    condition: Expr
    true: Expr
    false: Expr

    @cached_property
    def type(self) -> Scalar:
        return self.true.type

    @cached_property
    def lanes(self) -> int:
        return self.true.lanes


@_hashed_once
@dataclass(frozen=True)
class Splat:
    """One scalar in every lane."""

    arg: Expr
    lanes: int = 4

    @cached_property
    def type(self) -> Scalar:
        return self.arg.type


@_hashed_once
@dataclass(frozen=True)
class Lane:
    """One lane of a vector."""

    arg: Expr
    lane: int

    @cached_property
    def type(self) -> Scalar:
        return self.arg.type

    @property
    def lanes(self) -> int:
        return 1


@_hashed_once
@dataclass(frozen=True)
class Vector:
    """A vector of separately computed scalars (a gather)."""

    args: tuple[Expr, ...]

    @cached_property
    def type(self) -> Scalar:
        return self.args[0].type

    @property
    def lanes(self) -> int:
        return len(self.args)


@_hashed_once
@dataclass(frozen=True)
class Axis:
    """An index variable of a tensor expression and how many values it takes, from 0."""

    name: str
    extent: Dim

    @property
    def var(self) -> Var:
        return Var(self.name)


@_hashed_once
@dataclass(frozen=True)
class Read:
    """One element of a tensor by its logical indices. Schedules replace it by a Load; no kernel holds one."""

    tensor: str
    indices: tuple[Expr, ...]
    type: Scalar

    @property
    def lanes(self) -> int:
        return 1


class ReduceOp(enum.Enum):
    """How a Reduce combines: SUM from 0, PROD from 1, MIN and MAX from their identity (NaN wins), ANY and ALL of
    BOOLs."""

    SUM = "sum"
    PROD = "prod"
    MIN = "min"
    MAX = "max"
    ANY = "any"
    ALL = "all"


@_hashed_once
@dataclass(frozen=True)
class Reduce:
    """`body` combined over all values of `axes`. Schedules replace it by loops; no kernel holds one."""

    op: ReduceOp
    axes: tuple[Axis, ...]
    body: Expr

    @cached_property
    def type(self) -> Scalar:
        return self.body.type

    @property
    def lanes(self) -> int:
        return 1


Expr: TypeAlias = Var | Const | Load | Apply | Cast | Bitcast | Select | Splat | Lane | Vector | Read | Reduce


class LoopKind(enum.Enum):
    """How the iterations of a loop are carried out.

    SERIAL: in order. UNROLL: in order, written out (constant extent). PARALLEL: in any order, possibly at once; only
    the outermost loops of a kernel, perfectly nested, and a dialect divides them among invocations or threads.
    INDEPENDENT: anywhere, in order or not: nothing that an iteration writes is read or written by another one.
    WORKGROUP_X/Y/Z and INVOCATION_X/Y/Z: a GPU schedule's explicit mapping; the extent of an INVOCATION loop is the
    constant workgroup size.
    """

    SERIAL = "serial"
    UNROLL = "unroll"
    PARALLEL = "parallel"
    INDEPENDENT = "independent"
    WORKGROUP_X = "workgroup_x"
    WORKGROUP_Y = "workgroup_y"
    WORKGROUP_Z = "workgroup_z"
    INVOCATION_X = "invocation_x"
    INVOCATION_Y = "invocation_y"
    INVOCATION_Z = "invocation_z"


@_hashed_once
@dataclass(frozen=True)
class Loop:
    """`for var in range(start, start + extent*step, step)`; start and extent are I32, evaluated once; step > 0."""

    var: str
    extent: Expr
    body: tuple[Stmt, ...]
    kind: LoopKind = LoopKind.SERIAL
    start: Expr = Const(0)
    step: int = 1


@_hashed_once
@dataclass(frozen=True)
class If:
    """A branch on one BOOL."""

    condition: Expr
    then: tuple[Stmt, ...]
    otherwise: tuple[Stmt, ...] = ()


@_hashed_once
@dataclass(frozen=True)
class Store:
    """Write element `index` (or, with a vector value, elements index .. index+3), narrowed to the buffer's type."""

    buffer: str
    index: Expr
    value: Expr


class Space(enum.Enum):
    """Where a Local array lives: PRIVATE to one iteration of the loops around it, or shared in a WORKGROUP."""

    PRIVATE = "private"
    WORKGROUP = "workgroup"


@_hashed_once
@dataclass(frozen=True)
class Local:
    """Declares a register (`size` None) with its first value, or a small array of `size` elements that Load and Store
    reach by name. Registers are changed by Assign; arrays start undefined. Scope: the statements after it in the same
    body."""

    name: str
    type: Scalar
    init: Expr | None = None
    size: int | None = None
    lanes: int = 1
    space: Space = Space.PRIVATE


@_hashed_once
@dataclass(frozen=True)
class Assign:
    """A new value for a Local register."""

    name: str
    value: Expr


@dataclass(frozen=True)
class Barrier:
    """All invocations of a workgroup arrive before any goes on; workgroup memory is then visible to all."""


Stmt: TypeAlias = Loop | If | Store | Local | Assign | Barrier


class Access(enum.Enum):
    """What a kernel does with a buffer. A READ_WRITE buffer is also one that is only partly written."""

    READ = "read"
    WRITE = "write"
    READ_WRITE = "read_write"


@dataclass(frozen=True)
class BufferParameter:
    """A kernel's buffer argument; `dtype` is its storage type."""

    name: str
    dtype: DType
    access: Access


@_hashed_once
@dataclass(frozen=True)
class Kernel:
    """One compiled function, named for what it computes (`conv2d_f32_n1c3h224w224_k3s2`).

    buffers, parameters: the arguments, in order. body: at most one perfect nest of PARALLEL loops at the top, or a GPU
    mapping of WORKGROUP loops around INVOCATION loops.
    plain: the same computation, arguments and parallel range for WebAssembly without relaxed SIMD, where that differs.
    """

    name: str
    buffers: tuple[BufferParameter, ...]
    parameters: tuple[str, ...]
    body: tuple[Stmt, ...]
    plain: Kernel | None = None

    def buffer(self, name: str) -> BufferParameter:
        """The argument with that name. Raises KeyError."""
        for parameter in self.buffers:
            if parameter.name == name:
                return parameter
        raise KeyError(name)


def operands(expr: Expr) -> tuple[Expr, ...]:
    """What it is directly computed from, in order."""
    match expr:
        case Var() | Const():
            return ()
        case Load(index=index):
            return (index,)
        case Apply(args=args) | Vector(args=args) | Read(indices=args):
            return args
        case Cast(arg=arg) | Bitcast(arg=arg) | Splat(arg=arg) | Lane(arg=arg):
            return (arg,)
        case Select(condition=condition, true=true, false=false):
            return (condition, true, false)
        case Reduce(body=body):
            return (body,)


def subexpressions(expr: Expr) -> Iterator[Expr]:
    """The expression and everything below it, in order."""
    waiting = [expr]
    while waiting:
        part = waiting.pop()
        yield part
        waiting.extend(reversed(operands(part)))
