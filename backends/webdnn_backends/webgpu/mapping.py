"""How a kernel's loops are divided among invocations, and the grid of workgroups that this takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from webdnn_backends.ir.build import add, mul
from webdnn_backends.ir.loops import Apply, Cast, Const, Expr, Kernel, Loop, LoopKind, Stmt, Store, Var
from webdnn_backends.ir.scalars import Op
from webdnn_backends.ir.statements import walk
from webdnn_backends.webgpu.profile import DeviceProfile
from webdnn_onnx.symbolic import Dim, Sum, ceil_div, equal, less, maximum, minimum, symbol

__all__ = ["Mapping", "flat_words", "map_kernel", "to_dim"]

_WORKGROUPS = (LoopKind.WORKGROUP_X, LoopKind.WORKGROUP_Y, LoopKind.WORKGROUP_Z)
_INVOCATIONS = (LoopKind.INVOCATION_X, LoopKind.INVOCATION_Y, LoopKind.INVOCATION_Z)
_FLAT_WORKGROUP = 64


@dataclass(frozen=True)
class Mapping:
    """workgroup: its size. grid: workgroups, over the kernel's parameters. folded: whether the grid's second dimension
    continues the first. parallel: the nest of PARALLEL loops, or none. body: what every invocation runs. step: how
    many iterations of the nest one invocation takes."""

    workgroup: tuple[int, int, int]
    grid: tuple[Dim, Dim, Dim]
    folded: bool
    parallel: tuple[Loop, ...]
    body: tuple[Stmt, ...]
    step: int = 1


def to_dim(expr: Expr) -> Dim | None:
    """An extent as a dimension over the kernel's parameters; None where it is none."""
    match expr:
        case Const(value=value):
            return int(value)
        case Var(name=name, signed=signed):
            return symbol(name, signed=signed)
        case Cast(arg=Apply(op=Op.EQ | Op.LT as op, args=(left, right))):
            sides = to_dim(left), to_dim(right)
            if sides[0] is None or sides[1] is None:
                return None
            return equal(sides[0], sides[1]) if op is Op.EQ else less(sides[0], sides[1])
        case Apply(op=op, args=(left, right)):
            a, b = to_dim(left), to_dim(right)
            return None if a is None or b is None else _combined(op, a, b)
        case _:
            return None


def _combined(op: Op, left: Dim, right: Dim) -> Dim | None:
    match op:
        case Op.ADD:
            return left + right
        case Op.SUB:
            return left - right
        case Op.MUL:
            return left * right
        case Op.FLOOR_DIV if right != 0:
            return left // right
        case Op.FLOOR_MOD if right != 0:
            return left % right
        case Op.MIN:
            return minimum(left, right)
        case Op.MAX:
            return maximum(left, right)
        case _:
            return None


def parallel_nest(kernel: Kernel) -> tuple[tuple[Loop, ...], tuple[Stmt, ...]]:
    """The PARALLEL loops from the outside in, and what they run."""
    loops: list[Loop] = []
    body = kernel.body
    while len(body) == 1 and isinstance(body[0], Loop) and body[0].kind is LoopKind.PARALLEL:
        loops.append(body[0])
        body = body[0].body
    return tuple(loops), body


def flat_words(kernel: Kernel) -> frozenset[str]:
    """The packed buffers that can be written in whole words: each iteration of the nest stores the element whose index
    is the iteration's number, unconditionally, and the buffer is written nowhere else and never read."""
    loops, body = parallel_nest(kernel)
    flat: Expr = Const(0)
    for loop in loops:
        if loop.start != Const(0) or loop.step != 1:
            return frozenset()
        flat = add(mul(flat, loop.extent), Var(loop.var))
    number = to_dim(flat)
    if number is None or not loops:
        return frozenset()
    found = set()
    for buffer in kernel.buffers:
        stores = [item for item in walk(body) if isinstance(item, Store) and item.buffer == buffer.name]
        whole = buffer.access.value == "write" and buffer.dtype.bits < 32 and len(stores) == 1 and stores[0] in body
        if whole and stores[0].value.lanes == 1 and to_dim(stores[0].index) == number:
            found.add(buffer.name)
    return frozenset(found)


def map_kernel(kernel: Kernel, profile: DeviceProfile, words: frozenset[str]) -> Mapping | str:
    """The mapping, or the reason why there is none. Raises LimitError where the profile's limits are exceeded."""
    if any(isinstance(item, Loop) and item.kind in _WORKGROUPS + _INVOCATIONS for item in walk(kernel.body)):
        return _explicit(kernel, profile)
    loops, body = parallel_nest(kernel)
    total: Dim = 1
    for loop in loops:
        extent = to_dim(loop.extent)
        if extent is None:
            return f"the extent of parallel loop '{loop.var}' is no expression of the kernel's parameters"
        total = total * extent
    step = max([32 // kernel.buffer(name).dtype.bits for name in words], default=1)
    invocations = ceil_div(total, step)
    size = _FLAT_WORKGROUP
    if isinstance(invocations, int):
        size = min(size, 1 << max(0, math.ceil(math.log2(max(invocations, 1)))))
    groups = ceil_div(invocations, size)
    most = profile.max_compute_workgroups_per_dimension
    folded = not isinstance(groups, int) or groups > most
    grid: tuple[Dim, Dim, Dim] = (minimum(groups, most), ceil_div(groups, most), 1) if folded else (groups, 1, 1)
    return Mapping((size, 1, 1), grid, folded, loops, body, step)


def _explicit(kernel: Kernel, profile: DeviceProfile) -> Mapping | str:
    sizes: list[int] = [1, 1, 1]
    extents: list[Dim] = [1, 1, 1]
    used = [False, False, False]
    for item in walk(kernel.body):
        if isinstance(item, Loop) and item.kind in _INVOCATIONS:
            assert isinstance(item.extent, Const), "verified: the extent of an invocation loop is constant"
            sizes[_INVOCATIONS.index(item.kind)] = int(item.extent.value)
        if isinstance(item, Loop) and item.kind in _WORKGROUPS:
            extent = to_dim(item.extent)
            if extent is None:
                return f"the extent of workgroup loop '{item.var}' is no expression of the kernel's parameters"
            extents[_WORKGROUPS.index(item.kind)] = extent
            used[_WORKGROUPS.index(item.kind)] = True
    where = f"kernel {kernel.name}"
    for axis, size in zip("xyz", sizes, strict=True):
        limit = profile.max_compute_workgroup_size["xyz".index(axis)]
        profile.check(where, f"workgroup size in {axis}", size, limit)
    profile.check(where, "invocations per workgroup", math.prod(sizes), profile.max_compute_invocations_per_workgroup)
    most = profile.max_compute_workgroups_per_dimension
    first = extents[0]
    folded = not used[1] and not used[2] and (isinstance(first, Sum) or first > most)
    if folded:
        extents = [minimum(first, most), ceil_div(first, most), 1]
    for axis, extent in zip("xyz", extents, strict=True):
        if isinstance(extent, int):
            profile.check(where, f"workgroups in {axis}", extent, most)
    workgroup = (sizes[0], sizes[1], sizes[2])
    return Mapping(workgroup, (extents[0], extents[1], extents[2]), folded, (), kernel.body)
