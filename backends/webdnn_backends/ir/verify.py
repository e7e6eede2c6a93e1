"""Rejects what is no loop IR: the rules that dialects and the interpreter rely on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NoReturn

from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Assign,
    Barrier,
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
    Space,
    Splat,
    Stmt,
    Store,
    Var,
    Vector,
)
from webdnn_backends.ir.scalars import OPS, Scalar, compute_type
from webdnn_backends.ir.statements import assigned

__all__ = ["verify"]

_WORKGROUP = (LoopKind.WORKGROUP_X, LoopKind.WORKGROUP_Y, LoopKind.WORKGROUP_Z)
_INVOCATION = (LoopKind.INVOCATION_X, LoopKind.INVOCATION_Y, LoopKind.INVOCATION_Z)
_IN_ORDER = (LoopKind.SERIAL, LoopKind.UNROLL, LoopKind.INDEPENDENT)
_INTEGER_LIMITS = {
    Scalar.I32: (-(1 << 31), (1 << 31) - 1),
    Scalar.U32: (0, (1 << 32) - 1),
    Scalar.I64: (-(1 << 63), (1 << 63) - 1),
    Scalar.U64: (0, (1 << 64) - 1),
}


def verify(kernel: Kernel) -> Kernel:
    """The kernel, unchanged. Raises ValueError that says which rule is broken, and where.

    Rules: names are declared once and before use; types and lanes of every operand fit; buffers are read and written as
    declared; PARALLEL loops are one perfect nest at the top; INVOCATION loops have constant extents and stand within
    WORKGROUP loops, which hold nothing else that computes; a Barrier and workgroup memory stand only in such a mapping,
    the Barrier where all invocations arrive.
    """
    names = [buffer.name for buffer in kernel.buffers] + list(kernel.parameters)
    check = _Check(kernel, assigned(kernel.body))
    if len(set(names)) != len(names):
        check.fail((), f"arguments have distinct names, got {names}")
    for buffer in kernel.buffers:
        try:
            type = compute_type(buffer.dtype)
        except KeyError:
            check.fail((), f"buffer '{buffer.name}' has a numeric type, got {buffer.dtype.value}")
        check.arrays[buffer.name] = type
    scope = _Scope({name: Var(name) for name in kernel.parameters}, frozenset(), frozenset(), (), False)
    check.nest(kernel.body, scope)
    return kernel


@dataclass(frozen=True)
class _Scope:
    """variables: visible here, some assignable, some uniform (all invocations of a workgroup agree on them); mapping:
    the parallel loops entered; divergent: whether some invocations may not arrive here."""

    variables: dict[str, Var]
    assignable: frozenset[str]
    uniform: frozenset[str]
    mapping: tuple[LoopKind, ...]
    divergent: bool
    path: tuple[str, ...] = ()

    def entered(self, step: str) -> _Scope:
        return replace(self, variables=dict(self.variables), path=(*self.path, step))


@dataclass
class _Check:
    kernel: Kernel
    assigned: frozenset[str]
    arrays: dict[str, Scalar] = field(default_factory=dict)

    def fail(self, path: tuple[str, ...], message: str) -> NoReturn:
        raise ValueError(f"{': '.join((f'kernel {self.kernel.name}', *path))}: expected that {message}")

    def nest(self, body: tuple[Stmt, ...], scope: _Scope) -> None:
        """The outermost statements: a mapping of parallel loops, or statements that run once."""
        parallel = [item for item in body if isinstance(item, Loop) and item.kind not in _IN_ORDER]
        if not parallel:
            self.block(body, scope)
            return
        loop = parallel[0]
        kinds = scope.mapping
        if loop.kind is LoopKind.PARALLEL:
            allowed = len(body) == 1 and all(kind is LoopKind.PARALLEL for kind in kinds)
        else:
            others = [item for item in body if item is not loop]
            shared = all(isinstance(item, Local) and item.space is Space.WORKGROUP for item in others)
            allowed = shared and loop.kind not in kinds and LoopKind.PARALLEL not in kinds
        if loop.kind in _WORKGROUP:
            allowed = allowed and not any(kind in _INVOCATION for kind in kinds)
        if loop.kind in _INVOCATION:
            allowed = allowed and isinstance(loop.extent, Const) and loop.start == Const(0) and loop.step == 1
        if not allowed:
            self.fail(scope.path, f"{loop.kind.value} loop '{loop.var}' is part of one perfect nest at the top")
        outer = scope
        for item in body:
            if isinstance(item, Local):
                outer = self.declare(item, outer)
        inner = self.enter(loop, outer)
        uniform = scope.uniform | {loop.var} if loop.kind in _WORKGROUP else scope.uniform
        self.nest(loop.body, replace(inner, mapping=(*kinds, loop.kind), uniform=uniform))

    def block(self, body: tuple[Stmt, ...], scope: _Scope) -> None:
        hidden: list[str] = []
        for item in body:
            match item:
                case Loop(kind=kind) if kind in _IN_ORDER:
                    if kind is LoopKind.UNROLL and not isinstance(item.extent, Const):
                        self.fail(scope.path, f"unrolled loop '{item.var}' has a constant extent")
                    inner = self.enter(item, scope)
                    if self.uniform(item.extent, scope) and self.uniform(item.start, scope):
                        inner = replace(inner, uniform=scope.uniform | {item.var})
                    else:
                        inner = replace(inner, divergent=True)
                    self.block(item.body, inner)
                case Loop(kind=kind, var=var):
                    self.fail(scope.path, f"{kind.value} loop '{var}' is part of one perfect nest at the top")
                case If(condition=condition, then=then, otherwise=otherwise):
                    self.typed(condition, scope, "a condition", Scalar.BOOL, 1)
                    split = scope.divergent or not self.uniform(condition, scope)
                    self.block(then, replace(scope.entered("then"), divergent=split))
                    self.block(otherwise, replace(scope.entered("else"), divergent=split))
                case Store():
                    self.store(item, scope)
                case Local():
                    scope = self.declare(item, scope)
                    if item.size is not None:
                        hidden.append(item.name)
                case Assign(name=name, value=value):
                    variable = scope.variables.get(name)
                    if variable is None or name not in scope.assignable:
                        self.fail(scope.path, f"the assigned '{name}' is a register in scope")
                    self.typed(value, scope, f"the value of '{name}'", variable.type, variable.lanes)
                case Barrier():
                    if not any(kind in _INVOCATION for kind in scope.mapping):
                        self.fail(scope.path, "a barrier stands within invocation loops")
                    if scope.divergent:
                        self.fail(scope.path, "all invocations of a workgroup arrive at a barrier")
        for name in hidden:
            del self.arrays[name]

    def enter(self, loop: Loop, scope: _Scope) -> _Scope:
        self.typed(loop.extent, scope, f"the extent of loop '{loop.var}'", Scalar.I32, 1)
        self.typed(loop.start, scope, f"the start of loop '{loop.var}'", Scalar.I32, 1)
        if loop.step <= 0:
            self.fail(scope.path, f"the step of loop '{loop.var}' is positive, got {loop.step}")
        self.free(loop.var, scope)
        inner = scope.entered(f"loop {loop.var}")
        inner.variables[loop.var] = Var(loop.var)
        return inner

    def declare(self, local: Local, scope: _Scope) -> _Scope:
        self.free(local.name, scope)
        if local.size is None:
            if local.space is Space.WORKGROUP:
                self.fail(scope.path, f"workgroup memory '{local.name}' is an array")
            if local.init is not None:
                self.typed(local.init, scope, f"the first value of '{local.name}'", local.type, local.lanes)
            inner = replace(scope, variables=dict(scope.variables), assignable=scope.assignable | {local.name})
            inner.variables[local.name] = Var(local.name, local.type, local.lanes)
            settled = local.init is not None and self.uniform(local.init, scope)
            if settled and local.name not in self.assigned:
                inner = replace(inner, uniform=inner.uniform | {local.name})
            return inner
        if local.size <= 0 or local.init is not None or local.lanes != 1:
            self.fail(scope.path, f"array '{local.name}' has scalars, no first value and a positive size")
        if local.space is Space.WORKGROUP and not any(kind in _WORKGROUP + _INVOCATION for kind in scope.mapping):
            self.fail(scope.path, f"workgroup memory '{local.name}' stands in a workgroup mapping")
        self.arrays[local.name] = local.type
        return scope

    def free(self, name: str, scope: _Scope) -> None:
        if name in scope.variables or name in self.arrays:
            self.fail(scope.path, f"'{name}' is declared once")

    def store(self, store: Store, scope: _Scope) -> None:
        type = self.arrays.get(store.buffer)
        if type is None:
            self.fail(scope.path, f"the stored '{store.buffer}' is a buffer or array in scope")
        if self.access(store.buffer) is Access.READ:
            self.fail(scope.path, f"buffer '{store.buffer}' is writable")
        self.typed(store.index, scope, f"the index into '{store.buffer}'", Scalar.I32, 1)
        self.typed(store.value, scope, f"the value stored in '{store.buffer}'", type, store.value.lanes)

    def access(self, name: str) -> Access:
        for buffer in self.kernel.buffers:
            if buffer.name == name:
                return buffer.access
        return Access.READ_WRITE

    def typed(self, expr: Expr, scope: _Scope, what: str, type: Scalar, lanes: int) -> None:
        self.expression(expr, scope)
        if expr.type is not type or expr.lanes != lanes:
            want, got = _described(type, lanes), _described(expr.type, expr.lanes)
            self.fail(scope.path, f"{what} is {want}, got {got}")

    def expression(self, expr: Expr, scope: _Scope) -> None:
        match expr:
            case Var(name=name):
                known = scope.variables.get(name)
                if known is None or (known.type, known.lanes) != (expr.type, expr.lanes):
                    got = f"it is {_described(known.type, known.lanes)}" if known else "it is not in scope"
                    self.fail(scope.path, f"'{name}' is {_described(expr.type, expr.lanes)}; {got}")
            case Const(value=value):
                self.literal(value, expr.type, scope)
            case Load(buffer=buffer, index=index):
                if self.arrays.get(buffer) is not expr.type:
                    self.fail(scope.path, f"'{buffer}' is an array of {expr.type.value} in scope")
                if self.access(buffer) is Access.WRITE:
                    self.fail(scope.path, f"buffer '{buffer}' is readable")
                if expr.lanes not in (1, 4):
                    self.fail(scope.path, f"a load has 1 or 4 lanes, got {expr.lanes}")
                self.typed(index, scope, f"the index into '{buffer}'", Scalar.I32, 1)
            case Apply():
                self.operator(expr, scope)
            case Cast(arg=arg):
                self.expression(arg, scope)
            case Bitcast(arg=arg):
                self.expression(arg, scope)
                if Scalar.BOOL in (expr.type, arg.type) or expr.type.bits != arg.type.bits:
                    self.fail(scope.path, f"a bitcast keeps the width, got {arg.type.value} to {expr.type.value}")
            case Select(condition=condition, true=true, false=false):
                self.typed(condition, scope, "a condition", Scalar.BOOL, condition.lanes)
                if condition.lanes not in (1, true.lanes):
                    self.fail(scope.path, f"a condition has 1 or {true.lanes} lanes, got {condition.lanes}")
                self.expression(true, scope)
                self.typed(false, scope, "the other choice", true.type, true.lanes)
            case Splat(arg=arg, lanes=lanes):
                self.typed(arg, scope, "what is splatted", arg.type, 1)
                if lanes != 4:
                    self.fail(scope.path, f"a splat has 4 lanes, got {lanes}")
            case Lane(arg=arg, lane=lane):
                self.expression(arg, scope)
                if not 0 <= lane < arg.lanes:
                    self.fail(scope.path, f"the lane is one of {arg.lanes}, got {lane}")
            case Vector(args=args):
                if len(args) != 4:
                    self.fail(scope.path, f"a vector has 4 lanes, got {len(args)}")
                for arg in args:
                    self.typed(arg, scope, "a lane", args[0].type, 1)
            case _:
                self.fail(scope.path, f"it holds no {type(expr).__name__}, which a schedule replaces")

    def literal(self, value: bool | int | float, type: Scalar, scope: _Scope) -> None:
        kind = bool if type is Scalar.BOOL else float if type.is_float else int
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fail(scope.path, f"a literal of {type.value} is a Python {kind.__name__}, got {value!r}")
        if type in _INTEGER_LIMITS:
            low, high = _INTEGER_LIMITS[type]
            if not low <= value <= high:
                self.fail(scope.path, f"a literal of {type.value} is within {low}..{high}, got {value}")

    def operator(self, expr: Apply, scope: _Scope) -> None:
        facts = OPS[expr.op]
        if len(expr.args) != facts.arity:
            self.fail(scope.path, f"{expr.op.value} has {facts.arity} operands, got {len(expr.args)}")
        first = expr.args[0]
        kind = "f" if first.type.is_float else "b" if first.type is Scalar.BOOL else "i"
        if kind not in facts.operands:
            self.fail(scope.path, f"{expr.op.value} takes operands of kind {facts.operands}, got {first.type.value}")
        for arg in expr.args:
            self.typed(arg, scope, f"an operand of {expr.op.value}", first.type, first.lanes)

    def uniform(self, expr: Expr, scope: _Scope) -> bool:
        """Whether all invocations of a workgroup certainly agree on it: constants and parameters."""
        match expr:
            case Const():
                return True
            case Var(name=name):
                return name in self.kernel.parameters or name in scope.uniform
            case Apply(args=args):
                return all(self.uniform(arg, scope) for arg in args)
            case Cast(arg=arg):
                return self.uniform(arg, scope)
            case Select(condition=condition, true=true, false=false):
                return all(self.uniform(part, scope) for part in (condition, true, false))
            case _:
                return False


def _described(type: Scalar, lanes: int) -> str:
    return type.value if lanes == 1 else f"{type.value} with {lanes} lanes"
