"""Kernels with few parallel iterations and independent loops inside them: a workgroup for each iteration.

A recurrent network walks time for each batch entry; its invocations share the hidden units of a step, and meet after
each loop over them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from webdnn_backends.ir.build import add, floor_div, floor_mod, mul, sub
from webdnn_backends.ir.loops import (
    Apply,
    Barrier,
    Cast,
    Const,
    Expr,
    If,
    Kernel,
    Local,
    Loop,
    LoopKind,
    Stmt,
    Store,
    Var,
)
from webdnn_backends.ir.statements import assigned, walk
from webdnn_backends.webgpu.mapping import parallel_nest

__all__ = ["shared"]

_ENOUGH_ITERATIONS = 4096
_MOST_INVOCATIONS = 256
_GROUP, _SLICE = "workgroup_number", "invocation_number"


def shared(kernel: Kernel) -> Kernel:
    """The kernel with its independent loops divided among the invocations of workgroups; the kernel itself where there
    are none, where its parallel iterations are enough, or where some invocations would miss a barrier."""
    loops, body = parallel_nest(kernel)
    independent = [item for item in walk(body) if isinstance(item, Loop) and item.kind is LoopKind.INDEPENDENT]
    known = [int(loop.extent.value) for loop in loops if isinstance(loop.extent, Const)]
    enough = len(known) == len(loops) and math.prod(known) >= _ENOUGH_ITERATIONS
    plain = all(loop.start == Const(0) and loop.step == 1 for loop in loops)
    changing = assigned(body)
    if not independent or not plain or enough or not _meets(body, frozenset(kernel.parameters) - changing, changing):
        return kernel
    size = _workgroup(independent)
    inside: list[Stmt] = []
    number: Expr = Var(_GROUP)
    for loop in reversed(loops[1:]):
        inside.append(Local(loop.var, number.type, floor_mod(number, loop.extent)))
        number = floor_div(number, loop.extent)
    inside += [Local(loop.var, number.type, number) for loop in loops[:1]]
    inside += _divided(body, size)
    total: Expr = Const(1)
    for loop in loops:
        total = mul(total, loop.extent)
    nest = Loop(_SLICE, Const(size), tuple(inside), LoopKind.INVOCATION_X)
    return replace(kernel, body=(Loop(_GROUP, total, (nest,), LoopKind.WORKGROUP_X),))


def _workgroup(loops: list[Loop]) -> int:
    """Invocations: as many as the longest loop has iterations, within what every device has."""
    extents = [int(loop.extent.value) if isinstance(loop.extent, Const) else _MOST_INVOCATIONS for loop in loops]
    return min(_MOST_INVOCATIONS, 1 << max(max(extents) - 1, 0).bit_length())


def _meets(body: tuple[Stmt, ...], uniform: frozenset[str], changing: frozenset[str]) -> bool:
    """Whether all invocations come to the end of every independent loop, and only these store. uniform: the variables
    that are the same for all of them."""
    for item in body:
        match item:
            case Local(name=name, size=None, init=init) if init is not None and name not in changing:
                uniform |= {name} if _same(init, uniform) else frozenset()
            case Local(size=None):
                pass
            case Loop(kind=LoopKind.INDEPENDENT, step=1):
                if any(isinstance(inner, Loop) and inner.kind is LoopKind.INDEPENDENT for inner in walk(item.body)):
                    return False
            case Loop(kind=LoopKind.SERIAL, var=var, start=start, extent=extent, body=inner):
                if not (_same(start, uniform) and _same(extent, uniform) and _meets(inner, uniform | {var}, changing)):
                    return False
            case Loop() | If() | Store() | Local():
                return False
            case _:
                pass
    return True


def _same(expr: Expr, uniform: frozenset[str]) -> bool:
    match expr:
        case Const():
            return True
        case Var(name=name):
            return name in uniform
        case Apply(args=args):
            return all(_same(arg, uniform) for arg in args)
        case Cast(arg=arg):
            return _same(arg, uniform)
        case _:
            return False


def _divided(body: tuple[Stmt, ...], size: int) -> Iterator[Stmt]:
    for item in body:
        match item:
            case Loop(kind=LoopKind.INDEPENDENT):
                mine = floor_div(sub(add(item.extent, size - 1), Var(_SLICE)), size)
                start = add(item.start, Var(_SLICE))
                yield replace(item, extent=mine, kind=LoopKind.SERIAL, start=start, step=size)
                yield Barrier()
            case Loop():
                yield replace(item, body=tuple(_divided(item.body, size)))
            case _:
                yield item
