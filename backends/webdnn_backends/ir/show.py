"""A kernel as text that people read: in errors, in dumps between passes, in tests."""

from __future__ import annotations

from collections.abc import Iterator

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
from webdnn_backends.ir.scalars import Op, Scalar

__all__ = ["show", "show_expression"]

_INFIX = {
    Op.ADD: "+",
    Op.SUB: "-",
    Op.MUL: "*",
    Op.DIV: "/",
    Op.FLOOR_DIV: "//",
    Op.FLOOR_MOD: "%",
    Op.EQ: "==",
    Op.NE: "!=",
    Op.LT: "<",
    Op.LE: "<=",
    Op.GT: ">",
    Op.GE: ">=",
    Op.AND: "and",
    Op.OR: "or",
    Op.XOR: "xor",
    Op.BIT_AND: "&",
    Op.BIT_OR: "|",
    Op.BIT_XOR: "^",
    Op.SHL: "<<",
    Op.SHR: ">>",
}
_ACCESS = {Access.READ: "in", Access.WRITE: "out", Access.READ_WRITE: "inout"}


def show(kernel: Kernel) -> str:
    """The kernel, one statement a line.

    >>> print(show(RELU))  # doctest: +SKIP
    kernel relu_f32_4(in x: float32, out y: float32)
      parallel i in 4
        y[i] = max(x[i], 0.0)
    """
    arguments = [f"{_ACCESS[buffer.access]} {buffer.name}: {buffer.dtype.value}" for buffer in kernel.buffers]
    arguments += kernel.parameters
    return "\n".join([f"kernel {kernel.name}({', '.join(arguments)})", *_body(kernel.body, "  ")])


def show_expression(expr: Expr) -> str:
    """The expression in infix notation; literals carry their type where it is neither i32, f32 nor bool."""
    match expr:
        case Var(name=name):
            return name
        case Const(value=value, type=type):
            plain = type in (Scalar.I32, Scalar.F32, Scalar.BOOL)
            return repr(value) if plain else f"{value!r}:{type.value}"
        case Load(buffer=buffer, index=index, lanes=lanes):
            return f"{buffer}[{show_expression(index)}{f' ..{lanes}' if lanes > 1 else ''}]"
        case Apply(op=op, args=args):
            shown = [show_expression(arg) for arg in args]
            if op in _INFIX:
                return f"({shown[0]} {_INFIX[op]} {shown[1]})"
            return f"{op.value}({', '.join(shown)})"
        case Cast(to=to, arg=arg):
            return f"{to.value}({show_expression(arg)})"
        case Bitcast(type=type, arg=arg):
            return f"bits_as_{type.value}({show_expression(arg)})"
        case Select(condition=condition, true=true, false=false):
            return f"({show_expression(condition)} ? {show_expression(true)} : {show_expression(false)})"
        case Splat(arg=arg, lanes=lanes):
            return f"splat{lanes}({show_expression(arg)})"
        case Lane(arg=arg, lane=lane):
            return f"{show_expression(arg)}.{lane}"
        case Vector(args=args):
            return f"<{', '.join(show_expression(arg) for arg in args)}>"
        case _:
            return str(expr)


def _body(body: tuple[Stmt, ...], indent: str) -> Iterator[str]:
    for statement in body:
        yield from _statement(statement, indent)


def _statement(statement: Stmt, indent: str) -> Iterator[str]:
    match statement:
        case Loop():
            yield f"{indent}{_loop(statement)}"
            yield from _body(statement.body, indent + "  ")
        case If(condition=condition, then=then, otherwise=otherwise):
            yield f"{indent}if {show_expression(condition)}"
            yield from _body(then, indent + "  ")
            if otherwise:
                yield f"{indent}else"
                yield from _body(otherwise, indent + "  ")
        case Store(buffer=buffer, index=index, value=value):
            lanes = f" ..{value.lanes}" if value.lanes > 1 else ""
            yield f"{indent}{buffer}[{show_expression(index)}{lanes}] = {show_expression(value)}"
        case Local(name=name, type=type, init=init, size=size, lanes=lanes, space=space):
            vector = f"x{lanes}" if lanes > 1 else ""
            shared = "workgroup " if space is Space.WORKGROUP else ""
            array = f"[{size}]" if size is not None else ""
            first = f" = {show_expression(init)}" if init is not None else ""
            yield f"{indent}{shared}{name}: {type.value}{vector}{array}{first}"
        case Assign(name=name, value=value):
            yield f"{indent}{name} = {show_expression(value)}"
        case Barrier():
            yield f"{indent}barrier"


def _loop(loop: Loop) -> str:
    kind = "for" if loop.kind is LoopKind.SERIAL else loop.kind.value
    extent = show_expression(loop.extent)
    if loop.start == Const(0) and loop.step == 1:
        return f"{kind} {loop.var} in {extent}"
    return f"{kind} {loop.var} from {show_expression(loop.start)}, {extent} times, step {loop.step}"
