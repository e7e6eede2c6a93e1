"""The generic schedule: any stage, on any target, as loops.

Output axes become loops in storage order, neighbouring ones merged where every access allows it. A reduction is
computed in front of the innermost loop that it depends on, once for equal expressions. On targets with vectors the
innermost loop runs four elements at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply
from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Assign,
    Axis,
    Bitcast,
    BufferParameter,
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
    Read,
    Reduce,
    ReduceOp,
    Select,
    Splat,
    Stmt,
    Store,
    Var,
    Vector,
    subexpressions,
)
from webdnn_backends.ir.rewrite import free_variables, map_children, replaced, rewrite, size, substitute
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.te.access import position
from webdnn_backends.te.implementation import ScheduleContext
from webdnn_backends.te.merge import merge_axes
from webdnn_backends.te.naming import stage_name
from webdnn_backends.te.parameters import parameters_of
from webdnn_backends.te.parts import count_parts, guarded, is_index, positions_of, work
from webdnn_backends.te.reductions import apply_lanes, combine, identity
from webdnn_backends.te.segments import segments
from webdnn_backends.te.simplify import IndexAlgebra, simplify, strides
from webdnn_backends.te.tensors import Call, Stage
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, product

__all__ = ["GenericOptions", "generic"]


@dataclass(frozen=True)
class GenericOptions:
    """lanes: 4 on targets with vectors, else 1. parallel: whether all output axes may become parallel iterations (a
    GPU), or only as many outer ones as threads need. iterations: as many parallel ones there are to be if each computes
    a vector."""

    lanes: int = 1
    parallel: bool = True
    iterations: int = 0


def generic(stage: Stage, context: ScheduleContext, options: GenericOptions) -> Call:
    """The kernel call that computes a stage."""
    return _Scheduler(stage, context, options).run()


@dataclass
class _Scope:
    """An open loop (or the kernel itself): its statements so far and what is already computed in it. The axis counts
    its iterations, each of which advances the variable by `step`."""

    axis: Axis | None
    step: int = 1
    statements: list[Stmt] = field(default_factory=list)
    computed: dict[tuple[Expr, int], Expr] = field(default_factory=dict)


class _Scheduler:
    def __init__(self, stage: Stage, context: ScheduleContext, options: GenericOptions) -> None:
        self.stage, self.context, self.options = stage, context, options
        self.output = context.tensors[stage.output]
        tensors = dict.fromkeys(part.tensor for part in subexpressions(stage.body) if isinstance(part, Read))
        self.buffers = {name: f"in{number}" for number, name in enumerate(tensors)}
        self.scopes: list[_Scope] = []
        self.registers = 0
        self.lane: Axis | None = None
        self.floor = 0
        self.kept: tuple[Reduce, Expr] | None = None
        self.missing: dict[str, Var] = {}

    def run(self) -> Call:
        axes = self._ordered_axes()
        body = simplify(rewrite(self.stage.body, self._loaded), tuple(axes))
        ones: dict[str, Expr] = {axis.name: Const(0) for axis in axes if axis.extent == 1}
        body = substitute(body, ones)
        target = position(self.context, self.stage.output, [ones.get(axis.name, axis.var) for axis in self.stage.axes])
        target = simplify(target, tuple(axes))
        axes, body, target = merge_axes([axis for axis in axes if axis.extent != 1], body, target)
        bound = {axis.name for axis in axes}
        values = parameters_of([axis.extent for axis in axes], [body, target], bound)
        statements = self._loops([values.axis(axis) for axis in axes], values.expr(body), values.expr(target))
        access = Access.READ_WRITE if self.kept else Access.WRITE
        buffers = (
            *(BufferParameter(new, self.context.tensors[old].dtype, Access.READ) for old, new in self.buffers.items()),
            BufferParameter("out", self.output.dtype, access),
        )
        kernel = Kernel(stage_name(self.stage, self.context), buffers, values.names, tuple(statements))
        return Call(kernel, (*self.buffers, self.stage.output), values.sizes, self.stage.source)

    def _ordered_axes(self) -> list[Axis]:
        """Output axes, outermost first: those that hoisted reductions depend on, then storage order."""
        axes = [self.stage.axes[axis] for axis in self.context.layout(self.stage.output)]
        rows: set[str] = set()
        names = {axis.name for axis in axes if axis.extent != 1}
        for reduction in self.stage.reductions:
            needed = free_variables(reduction) & names
            if needed != names:
                rows |= needed
        return [axis for axis in axes if axis.name in rows] + [axis for axis in axes if axis.name not in rows]

    def _loaded(self, part: Expr) -> Expr | None:
        if not isinstance(part, Read):
            return None
        return Load(self.buffers[part.tensor], position(self.context, part.tensor, part.indices), part.type)

    # loops

    def _loops(self, axes: list[Axis], body: Expr, target: Expr) -> list[Stmt]:
        body = self._keep(axes, body, target)
        lane = axes[-1] if axes and self._vectorises(axes[-1], body, target) and self._pays(axes, body) else None
        self.scopes = [_Scope(None)]
        for axis in axes[:-1] if lane else axes:
            self.scopes.append(_Scope(axis))
        if lane and self.options.parallel:
            self.scopes.append(_Scope(Axis(lane.name, lane.extent // 4), 4))
        self.floor = self._shallowest()
        if lane is None:
            self._store(body, target)
        elif self.options.parallel:
            self.lane = lane
            self._store(body, target)
            self.lane = None
        else:
            whole: list[tuple[int, Dim, Expr]] = [(0, lane.extent, body)]
            for first, end, part in segments(body, lane, axes) or whole:
                self._vector_loop(lane, first, end, part, target)
        return self._close(axes)

    def _keep(self, axes: list[Axis], body: Expr, target: Expr) -> Expr:
        """The body without the terms of a reduction along the last axis that it repeats, such as the exponentials of a
        softmax: the reduction leaves them in the output."""
        if self.options.parallel or not axes or self.output.dtype is not DType.FLOAT32:
            return body
        name = axes[-1].name
        stride = strides(IndexAlgebra({}).to_dim(target), (name,))
        if stride is None or stride[name] != 1:
            return body
        for part in subexpressions(body):
            if not isinstance(part, Reduce) or len(part.axes) != 1 or part.axes[0].extent != axes[-1].extent:
                continue
            if part.body.type is not Scalar.F32:
                continue
            if not any(isinstance(inner, Apply) and inner.op in _COSTLY for inner in subexpressions(part.body)):
                continue
            load = Load("out", target, Scalar.F32)
            found = replaced(body, substitute(part.body, {part.axes[0].name: axes[-1].var}), load)
            if found != body and name not in free_variables(part):
                self.kept = part, substitute(target, {name: part.axes[0].var})
                return found
        return body

    def _shallowest(self) -> int:
        """The outermost scope that values may be hoisted to: further out they would end the nest of parallel loops."""
        loops = len(self.scopes) - 1
        if not self.options.parallel:
            return min(1, loops)
        return min((min(self._depth(part), loops) for part in self.stage.reductions), default=loops)

    def _store(self, body: Expr, target: Expr) -> None:
        value = self._value(body)
        if self.lane is not None and value.lanes == 1:
            value = Splat(value)
        self.scopes[-1].statements.append(Store("out", target, value))

    def _vector_loop(self, lane: Axis, first: int, end: Dim, body: Expr, target: Expr) -> None:
        """The innermost loop from `first` to `end` four at a time, and what is left: in one more vector that begins
        earlier, or one at a time."""
        extent = end - first
        vectors = extent // 4
        if vectors != 0:
            self._vectors(lane, vectors, build.dim(first), body, target)
        if isinstance(extent, int) and extent % 4 == 0:
            return
        if isinstance(extent, int) and extent > 4 and self.kept is None:
            self._vectors(lane, 1, build.dim(end - 4), body, target)
            return
        with self._open(lane) as scope:
            self._store(body, target)
        start = build.dim(vectors * 4 + first)
        rest = build.sub(build.dim(end), start)
        self._append(Loop(lane.name, rest, tuple(scope.statements), LoopKind.SERIAL, start))

    def _vectors(self, lane: Axis, count: Dim, start: Expr, body: Expr, target: Expr) -> None:
        """So many vectors of the innermost loop."""
        with self._open(Axis(lane.name, count)) as scope:
            self.lane = lane
            self._store(body, target)
            self.lane = None
        self._append(Loop(lane.name, build.dim(count), tuple(scope.statements), LoopKind.SERIAL, start, 4))

    def _append(self, statement: Stmt) -> None:
        self.scopes[-1].statements.append(statement)

    @contextmanager
    def _open(self, axis: Axis) -> Iterator[_Scope]:
        scope = _Scope(axis)
        self.scopes.append(scope)
        yield scope
        popped = self.scopes.pop()
        assert popped is scope, "scopes close in order"

    def _close(self, axes: list[Axis]) -> list[Stmt]:
        """Wrap the statements of each scope into its loop, inside out; the perfect outer nest becomes parallel."""
        perfect = 0
        while perfect < len(self.scopes) - 1 and not self.scopes[perfect].statements:
            perfect += 1
        parallel = self._parallel_depth(axes[:perfect], perfect)
        while len(self.scopes) > 1:
            scope = self.scopes.pop()
            assert scope.axis is not None, "only the outermost scope has no axis"
            depth = len(self.scopes)
            kind = LoopKind.PARALLEL if depth <= parallel else LoopKind.SERIAL
            extent, start = build.dim(scope.axis.extent), Const(0)
            loop = Loop(scope.axis.name, extent, tuple(scope.statements), kind, start, scope.step)
            self.scopes[-1].statements.append(loop)
        return self.scopes[0].statements

    def _parallel_depth(self, axes: list[Axis], perfect: int) -> int:
        if self.options.parallel:
            return perfect
        total: Dim = 1
        for depth, axis in enumerate(axes):
            if isinstance(total, int) and total >= 64:
                return depth
            total = total * axis.extent
        last_is_inner = perfect == len(self.scopes) - 1
        return max(perfect - 1, 1) if last_is_inner and perfect > 1 else perfect

    # values

    def _value(self, expr: Expr) -> Expr:
        """The expression with reductions and repeated or invariant parts replaced by registers."""
        counts: dict[Expr, int] = {}
        count_parts(expr, counts)
        return self._visit(expr, counts)

    def _visit(self, expr: Expr, counts: dict[Expr, int]) -> Expr:
        found = self._computed(expr)
        if found is not None:
            return found
        if isinstance(expr, Reduce):
            return self._reduce(expr)
        if isinstance(expr, Var | Const):
            return self._lanes(expr)
        depth = max(self._depth(expr), min(self.floor, len(self.scopes) - 1))
        hoisted = depth < len(self.scopes) - 1 and work(expr) > 0 and not is_index(expr)
        shared = counts.get(expr, 0) > 1 and work(expr) > 0 and not is_index(expr)
        if isinstance(expr, Load):
            return self._load(expr)
        if isinstance(expr, Select):
            return self._select(expr, counts)
        built = (
            map_children(expr, lambda part: self._visit(part, counts))
            if self.lane is None
            else self._vector(expr, counts)
        )
        if (hoisted and not guarded(expr)) or shared:
            where = depth if hoisted and not guarded(expr) else len(self.scopes) - 1
            return self._register(expr, built, where)
        return built

    def _register(self, expr: Expr, value: Expr, depth: int) -> Expr:
        name = f"v{self.registers}"
        self.registers += 1
        scope = self.scopes[depth]
        scope.statements.append(Local(name, value.type, value, lanes=value.lanes))
        return self._remember(scope, expr, Var(name, value.type, value.lanes))

    def _key(self, expr: Expr) -> tuple[Expr, int]:
        """Values differ between the vector loop and the single elements inside it."""
        vector = self.lane is not None and self.lane.name in free_variables(expr)
        return expr, 4 if vector else 1

    def _computed(self, expr: Expr) -> Expr | None:
        if isinstance(expr, Var | Const):
            return None
        key = self._key(expr)
        return next((scope.computed[key] for scope in reversed(self.scopes) if key in scope.computed), None)

    def _remember(self, scope: _Scope, expr: Expr, value: Expr) -> Expr:
        scope.computed[self._key(expr)] = value
        return value

    def _depth(self, expr: Expr) -> int:
        """The innermost open loop that an expression depends on."""
        free = free_variables(expr)
        for depth in range(len(self.scopes) - 1, 0, -1):
            axis = self.scopes[depth].axis
            if axis is not None and axis.name in free:
                return depth
        return 0

    def _select(self, expr: Select, counts: dict[Expr, int]) -> Expr:
        """A choice; the branches are computed in place, since they may hold guarded loads."""
        condition = self._visit(expr.condition, counts)
        if condition.lanes == 1 or not guarded(expr):
            branches = [self._inline_branch(part, counts) for part in (expr.true, expr.false)]
            return build.select(condition, *branches)
        return Vector(tuple(self._scalar_lane(expr, k) for k in range(4)))

    def _inline_branch(self, expr: Expr, counts: dict[Expr, int]) -> Expr:
        if isinstance(expr, Reduce | Var | Const):
            return self._visit(expr, counts)
        found = self._computed(expr)
        if found is not None:
            return found
        if isinstance(expr, Load):
            return self._load(expr)
        if isinstance(expr, Select):
            return self._select(expr, counts)
        if self.lane is not None:
            return self._vector(expr, counts, inline=True)
        return map_children(expr, lambda part: self._inline_branch(part, counts))

    # reductions

    def _reduce(self, expr: Reduce) -> Expr:
        depth = self._depth(expr)
        hidden, self.scopes = self.scopes[depth + 1 :], self.scopes[: depth + 1]
        lane, self.lane = self.lane, self.lane if self.lane and self.lane.name in free_variables(expr) else None
        result = self._accumulate(expr, depth)
        self.scopes, self.lane = self.scopes + hidden, lane
        return result

    def _accumulate(self, expr: Reduce, depth: int) -> Expr:
        name = f"acc{self.registers}"
        self.registers += 1
        lanes = 4 if self.lane is not None else 1
        initial: Expr = identity(expr.op, expr.type)
        accumulator = Var(name, expr.type, lanes)
        self.scopes[depth].statements.append(Local(name, expr.type, apply_lanes(initial, lanes), lanes=lanes))
        ones: dict[str, Expr] = {axis.name: Const(0) for axis in expr.axes if axis.extent == 1}
        body = substitute(expr.body, ones)
        axes = [axis for axis in expr.axes if axis.extent != 1]
        lane = axes[-1] if axes and self._sums_by_vectors(axes[-1], expr, body) else None
        quarters = Var(f"{name}_lanes", expr.type, 4)
        if lane:
            self.scopes[depth].statements.append(Local(quarters.name, expr.type, apply_lanes(initial, 4), lanes=4))
        keep = self.kept[1] if self.kept and self.kept[0] == expr else None
        opened, terms = (axes[:-1], [body]) if lane else (axes, [body]) if keep else self._written_out(axes, body)
        wide = quarters if lane else accumulator
        missing = self._missing(expr, wide, depth)
        for axis in opened:
            self.scopes.append(_Scope(axis))
        if lane:
            self._combine_by_vectors(expr.op, accumulator, quarters, body, lane, keep)
        else:
            self._combine(expr.op, accumulator, terms, keep)
        for _ in opened:
            scope = self.scopes.pop()
            assert scope.axis is not None, "a reduction's scope has an axis"
            self._append(Loop(scope.axis.name, build.dim(scope.axis.extent), tuple(scope.statements)))
        if missing:
            self._append(Assign(wide.name, Select(missing, Splat(build.const(math.nan, wide.type)), wide)))
        if lane:
            first, second, third, fourth = (Lane(quarters, k) for k in range(4))
            total = combine(expr.op, combine(expr.op, first, second), combine(expr.op, third, fourth))
            self._append(Assign(name, combine(expr.op, accumulator, total)))
        return self._remember(self.scopes[depth], expr, accumulator)

    def _sums_by_vectors(self, axis: Axis, expr: Reduce, body: Expr) -> bool:
        """Whether a reduction of single elements goes four at a time along its last axis: what depends on the axis lies
        side by side."""
        if self.options.lanes != 4 or self.options.parallel or self.lane is not None or expr.type is not Scalar.F32:
            return False
        if isinstance(axis.extent, int) and axis.extent < _FEWEST_REDUCED:
            return False
        for part in subexpressions(body):
            if axis.name not in free_variables(part) or isinstance(part, Var):
                continue
            if isinstance(part, Reduce | Select) or part.type in (Scalar.I64, Scalar.U64, Scalar.F64):
                return False
            if isinstance(part, Load):
                found = strides(IndexAlgebra({}).to_dim(part.index), (axis.name,))
                if part.type is not Scalar.F32 or found is None or found[axis.name] != 1:
                    return False
        return axis.name in free_variables(body)

    def _combine_by_vectors(
        self, op: ReduceOp, accumulator: Var, quarters: Var, body: Expr, axis: Axis, keep: Expr | None
    ) -> None:
        """Add the terms along an axis, whole vectors to the lanes, what is left to the accumulator."""
        whole = build.dim(axis.extent // 4)
        start = build.mul(whole, 4)
        with self._open(Axis(axis.name, axis.extent // 4)) as scope:
            self.lane = axis
            self._combine(op, quarters, [body], keep)
            self.lane = None
        self._append(Loop(axis.name, whole, tuple(scope.statements), LoopKind.SERIAL, Const(0), 4))
        if not (isinstance(axis.extent, int) and axis.extent % 4 == 0):
            with self._open(axis) as scope:
                self._combine(op, accumulator, [body], keep)
            rest = build.sub(build.dim(axis.extent), start)
            self._append(Loop(axis.name, rest, tuple(scope.statements), LoopKind.SERIAL, start))

    def _missing(self, expr: Reduce, wide: Var, depth: int) -> Var | None:
        """Where the least or greatest of floats is sought by vectors: a register for the lanes that had a NaN. To
        compare without regard to them is one instruction instead of eight."""
        if wide.lanes != 4 or self.options.parallel or expr.op not in (ReduceOp.MIN, ReduceOp.MAX):
            return None
        if expr.type is not Scalar.F32:
            return None
        found = self.missing[wide.name] = Var(f"{wide.name}_nan", Scalar.BOOL, 4)
        self.scopes[depth].statements.append(Local(found.name, Scalar.BOOL, Splat(build.FALSE), lanes=4))
        return found

    def _add(self, op: ReduceOp, accumulator: Var, value: Expr) -> None:
        """Combine one term with the accumulator."""
        missing = self.missing.get(accumulator.name)
        if missing is None:
            self._append(Assign(accumulator.name, combine(op, accumulator, value)))
            return
        value = value if value.lanes == 4 else Splat(value)
        order = (accumulator, value) if op is ReduceOp.MAX else (value, accumulator)
        self._append(Assign(missing.name, Apply(Op.OR, (missing, Apply(Op.IS_NAN, (value,))))))
        self._append(Assign(accumulator.name, Select(Apply(Op.LT, order), value, accumulator)))

    def _written_out(self, axes: list[Axis], body: Expr) -> tuple[list[Axis], list[Expr]]:
        """The axes of a reduction that remain loops, and the terms of the others, which are short."""
        terms, left = [body], list(axes)
        while self.options.lanes == 4 and not self.options.parallel and left:
            axis = left[-1]
            if not isinstance(axis.extent, int) or axis.extent * len(terms) * size(body) > _LARGEST_WRITTEN_OUT:
                break
            terms = [substitute(term, {axis.name: Const(k)}) for k in range(axis.extent) for term in terms]
            left.pop()
        return left, terms if len(terms) == 1 else [simplify(term, tuple(left)) for term in terms]

    def _combine(self, op: ReduceOp, accumulator: Var, terms: Sequence[Expr], keep: Expr | None) -> None:
        """Add terms; a guarded term is skipped where its condition fails and its other value changes nothing. keep:
        the place in the output that the only term is left at."""
        if keep is not None:
            (body,) = terms
            value = self._register(body, self._value(body), len(self.scopes) - 1)
            self._append(Store("out", keep, value))
            self._add(op, accumulator, value)
            return
        neutral = None if op is ReduceOp.PROD else identity(op, accumulator.type)
        guard: Callable[[Expr], Expr | None] = lambda term: (  # noqa: E731  # one of two short choices
            term.condition if isinstance(term, Select) and term.false == neutral else None
        )
        for checked, group in groupby((term for term in terms if term != neutral), guard):
            condition = None if checked is None else self._visit(checked, {})
            if condition is None or condition.lanes != 1:
                for term in group:
                    self._add(op, accumulator, self._value(term))
                continue
            self.scopes.append(_Scope(None))
            for term in group:
                assert isinstance(term, Select), "guarded terms are choices"
                self._add(op, accumulator, self._value(term.true))
            inner = self.scopes.pop()
            self._append(If(condition, tuple(inner.statements)))

    # lanes

    def _vectorises(self, lane: Axis, body: Expr, target: Expr) -> bool:
        if self.options.lanes != 4 or self.output.dtype is not DType.FLOAT32:
            return False
        if isinstance(lane.extent, int) and lane.extent < 4:
            return False
        algebra = IndexAlgebra({})
        stride = strides(algebra.to_dim(target), (lane.name,))
        if stride is None or stride[lane.name] != 1:
            return False
        positions = positions_of(body)
        for part in subexpressions(body):
            if part.type in (Scalar.I64, Scalar.U64, Scalar.F64):
                return False
            narrow = isinstance(part, Load) and part.type is not Scalar.F32 and part not in positions
            if narrow and lane.name in free_variables(part):
                return False
            if isinstance(part, Reduce) and lane.name in {axis.name for axis in part.axes}:
                return False
        return True

    def _pays(self, axes: list[Axis], body: Expr) -> bool:
        """Whether parallel iterations are better off with a vector each: there are enough, whole ones, and all that
        depends on the lane is read side by side."""
        if not self.options.parallel:
            return True
        lane, total = axes[-1], product([axis.extent for axis in axes])
        if lane.extent % 4 != 0 or (isinstance(total, int) and total < 4 * self.options.iterations):
            return False
        for part in subexpressions(body):
            if isinstance(part, Select) and lane.name in free_variables(part.condition) and guarded(part):
                return False
            if isinstance(part, Load) and lane.name in free_variables(part.index):
                found = strides(IndexAlgebra({}).to_dim(part.index), (lane.name,))
                if found is None or found[lane.name] != 1:
                    return False
        return True

    def _lanes(self, expr: Var | Const) -> Expr:
        if self.lane is not None and isinstance(expr, Var) and expr.name == self.lane.name:
            return Vector(tuple(add(expr, k) for k in range(4)))
        return expr

    def _load(self, expr: Load) -> Expr:
        if self.lane is None or self.lane.name not in free_variables(expr.index):
            index = self._index(expr.index)
            return Load(expr.buffer, index, expr.type)
        name = self.lane.name
        simple = not any(isinstance(part, Load | Reduce) for part in subexpressions(expr.index))
        stride = strides(IndexAlgebra({}).to_dim(expr.index), (name,)) if simple else None
        if stride is not None and stride[name] == 1:
            return Load(expr.buffer, expr.index, expr.type, 4)
        if stride is not None and stride[name] == 2 and expr.type is Scalar.F32 and not self.options.parallel:
            # The second vector begins one earlier than it could, so that nothing behind the last element is read.
            halves = Load(expr.buffer, expr.index, expr.type, 4), Load(expr.buffer, add(expr.index, 3), expr.type, 4)
            return Vector((Lane(halves[0], 0), Lane(halves[0], 2), Lane(halves[1], 1), Lane(halves[1], 3)))
        return Vector(tuple(self._scalar_lane(expr, k) for k in range(4)))

    def _scalar_lane(self, expr: Expr, lane: int) -> Expr:
        assert self.lane is not None, "only inside the vector loop"
        name, kept = self.lane.name, self.lane
        shifted = substitute(expr, {name: add(Var(name), lane)}) if lane else expr
        self.lane = None
        result = self._value(shifted)
        self.lane = kept
        return result

    def _index(self, expr: Expr) -> Expr:
        """Index arithmetic as it is; loads inside it through the usual path."""
        if any(isinstance(part, Load | Reduce | Select) for part in subexpressions(expr)):
            lane, self.lane = self.lane, None
            result = self._value(expr)
            self.lane = lane
            return result
        return expr

    def _vector(self, expr: Expr, counts: dict[Expr, int], *, inline: bool = False) -> Expr:
        assert self.lane is not None, "only inside the vector loop"
        visit = self._inline_branch if inline else self._visit
        if self.lane.name not in free_variables(expr):
            return map_children(expr, lambda part: visit(part, counts))
        if isinstance(expr, Apply):
            return apply(expr.op, *(visit(arg, counts) for arg in expr.args))
        if isinstance(expr, Cast | Bitcast):
            if isinstance(expr, Cast) and expr.to not in _VECTOR_CASTS:
                return Vector(tuple(self._scalar_lane(expr, k) for k in range(4)))
            return map_children(expr, lambda part: visit(part, counts))
        return Vector(tuple(self._scalar_lane(expr, k) for k in range(4)))


_COSTLY = frozenset({Op.EXP, Op.LOG, Op.POW, Op.TANH, Op.SIN, Op.COS, Op.ERF})
"""What takes longer than to write a value and read it again."""

_LARGEST_WRITTEN_OUT = 250
"""Nodes of the terms of a short reduction that are written out one after the other."""

_FEWEST_REDUCED = 8
"""Elements of a reduction by vectors: fewer take longer to bring together."""

_VECTOR_CASTS = (DType.FLOAT32, DType.INT32, DType.UINT32, DType.BOOL)
