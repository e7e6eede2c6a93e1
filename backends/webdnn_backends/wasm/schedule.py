"""Which stages get the hand-written WebAssembly kernels: matrix products and two-dimensional convolutions in float32.

What is fused behind the sum is computed on the tile's registers before it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, floor_div, floor_mod
from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Axis,
    Bitcast,
    BufferParameter,
    Cast,
    Const,
    Expr,
    Kernel,
    Lane,
    Load,
    Local,
    Read,
    Reduce,
    ReduceOp,
    Select,
    Stmt,
    Store,
    Var,
    Vector,
    subexpressions,
)
from webdnn_backends.ir.rewrite import free_variables, substitute
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.te.access import position
from webdnn_backends.te.generic import GenericOptions, generic
from webdnn_backends.te.implementation import Implementation, PackedConstant, ScheduleContext
from webdnn_backends.te.layout import CHANNELS_LAST
from webdnn_backends.te.naming import stage_name
from webdnn_backends.te.simplify import IndexAlgebra, strides
from webdnn_backends.te.tensors import Call, ConvHint, MatMulHint, Stage, Tensor
from webdnn_backends.wasm.conv import Conv, conv2d, depthwise_conv2d, pack_conv_weights, pack_depthwise_weights
from webdnn_backends.wasm.matmul import MatMul, matmul, pack_panels, pack_panels_kernel, row_products
from webdnn_backends.wasm.tiles import PANEL, PLAIN, RELAXED, Tile
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, ceil_div, free_symbols, product, signed_symbols, symbol
from webdnn_onnx.symbolic import substitute as substitute_dim

__all__ = ["OPTIONS", "implement"]

OPTIONS = GenericOptions(lanes=4, parallel=False)
_FEWEST_ROWS = 4


def implement(
    stage: Stage, context: ScheduleContext, tile: Tile = RELAXED, plain: Tile | None = PLAIN
) -> Implementation | str:
    """The kernels of a stage, or the reason why the generic schedule should take it. plain: of a second variant."""
    gathers = [part for part in subexpressions(stage.body) if isinstance(part, Read) and _is_gather(part)]
    if gathers:
        return f"positions in '{gathers[0].tensor}' are read from memory"
    match stage.hint:
        case ConvHint():
            return _convolution(stage, stage.hint, context, tile, plain)
        case MatMulHint():
            return _product(stage, context, tile, plain)
        case _:
            return "the generic schedule serves it as well"


def _is_gather(read: Read) -> bool:
    return any(isinstance(part, Read | Reduce) for index in read.indices for part in subexpressions(index))


@dataclass
class _Writer:
    """The arguments of the kernel of one stage. buffers: by tensor; sizes: symbol -> kernel parameter; signed: the
    symbols that may be negative."""

    stage: Stage
    context: ScheduleContext
    buffers: dict[str, BufferParameter] = field(default_factory=dict)
    sizes: dict[str, str] = field(default_factory=dict)
    signed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        tensors = [self.stage.output, *(part.tensor for part in self.reads())]
        dims = [size for name in tensors for size in self.context.tensors[name].shape]
        dims += [axis.extent for reduce in self.stage.reductions for axis in reduce.axes]
        self.signed |= {name for size in dims for name in signed_symbols(size)}
        for name in sorted({name for size in dims for name in free_symbols(size)}):
            self.sizes[name] = f"size{len(self.sizes)}"

    def reads(self) -> list[Read]:
        """Every Read of the stage."""
        return [part for part in subexpressions(self.stage.body) if isinstance(part, Read)]

    def buffer(self, tensor: str, dtype: DType | None = None) -> str:
        """The kernel's name for a tensor that it reads."""
        if tensor not in self.buffers:
            dtype = self.context.tensors[tensor].dtype if dtype is None else dtype
            self.buffers[tensor] = BufferParameter(f"in{len(self.buffers)}", dtype, Access.READ)
        return self.buffers[tensor].name

    def arguments(self) -> tuple[tuple[BufferParameter, ...], tuple[str, ...]]:
        """(buffers, tensors), the output last."""
        out = BufferParameter("out", self.context.tensors[self.stage.output].dtype, Access.WRITE)
        return (*self.buffers.values(), out), (*self.buffers, self.stage.output)

    def call(self, kernel: Kernel, plain: Kernel | None) -> Call:
        """The call of the finished kernel, which was built before its buffers were known."""
        buffers, tensors = self.arguments()
        parameters = tuple(self.sizes.values())
        plain = None if plain is None else replace(plain, buffers=buffers, parameters=parameters)
        kernel = replace(kernel, buffers=buffers, parameters=parameters, plain=plain)
        sizes = tuple(symbol(name, signed=name in self.signed) for name in self.sizes)
        return Call(kernel, tensors, sizes, self.stage.source)

    def dim(self, size: Dim) -> int | Expr:
        """A size over the kernel's parameters."""
        new = {old: symbol(name, signed=old in self.signed) for old, name in self.sizes.items()}
        renamed = substitute_dim(size, new)
        return renamed if isinstance(renamed, int) else build.dim(renamed)

    def place(self, tensor: str, indices: Sequence[Expr]) -> Expr:
        """The flat position of an element, over the kernel's parameters."""
        values = {old: Var(new, signed=old in self.signed) for old, new in self.sizes.items()}
        return substitute(position(self.context, tensor, indices), values)

    def output_place(self) -> Expr:
        """Where the stage's element goes, over its axes."""
        axes = [Const(0) if axis.extent == 1 else axis.var for axis in self.stage.axes]
        return self.place(self.stage.output, axes)


@dataclass(frozen=True)
class _Epilogue:
    """What happens to a sum. lane: the stage axis along which vectors lie."""

    writer: _Writer
    reduce: Reduce
    lane: str

    def store(self, values: Mapping[str, Expr], total: Expr) -> tuple[Stmt, ...]:
        """Compute and write one or four elements; values: of the stage's axes."""
        target = self.writer.output_place()
        value = self._value(self.writer.stage.body, values, total)
        at = substitute(target, values)
        if total.lanes == 1 or _stride(target, self.lane) == 1:
            return (Store("out", at, value),)
        step = {**values, self.lane: values[self.lane]}
        kept = Var(f"result_{total.name}" if isinstance(total, Var) else "result", value.type, 4)
        out: list[Stmt] = [Local(kept.name, kept.type, value, lanes=4)]
        for k in range(4):
            step[self.lane] = add(values[self.lane], k)
            out.append(Store("out", substitute(target, step), Lane(kept, k)))
        return tuple(out)

    def _value(self, expr: Expr, values: Mapping[str, Expr], total: Expr) -> Expr:
        memo: dict[int, Expr] = {}

        def visit(part: Expr) -> Expr:
            found = memo.get(id(part))
            if found is None:
                found = memo[id(part)] = self._visit(part, values, total, visit)
            return found

        result = visit(expr)
        return build.apply(Op.ADD, result, Const(0.0, Scalar.F32)) if result.lanes != total.lanes else result

    def _visit(self, part: Expr, values: Mapping[str, Expr], total: Expr, visit: Callable[[Expr], Expr]) -> Expr:
        if part == self.reduce:
            return total
        match part:
            case Read(tensor=tensor, indices=indices, type=type):
                return self._load(tensor, indices, type, values, total.lanes)
            case Var(name=name) if name == self.lane and total.lanes == 4:
                return Vector(tuple(add(values[name], k) for k in range(4)))
            case Var(name=name):
                return values.get(name, Var(self.writer.sizes.get(name, name)))
            case Apply(op=op, args=args):
                return apply(op, *map(visit, args))
            case Cast(to=to, arg=arg):
                return Cast(to, visit(arg))
            case Bitcast(type=type, arg=arg):
                return Bitcast(type, visit(arg))
            case Select(condition=condition, true=true, false=false):
                return build.select(visit(condition), visit(true), visit(false))
            case _:
                return part

    def _load(
        self, tensor: str, indices: tuple[Expr, ...], type: Scalar, values: Mapping[str, Expr], lanes: int
    ) -> Expr:
        place, buffer = self.writer.place(tensor, indices), self.writer.buffer(tensor)
        stride = _stride(place, self.lane) if lanes == 4 else 0
        if stride == 0:
            return Load(buffer, substitute(place, values), type)
        if stride == 1:
            return Load(buffer, substitute(place, values), type, 4)
        each = [{**values, self.lane: add(values[self.lane], k)} for k in range(4)]
        return Vector(tuple(Load(buffer, substitute(place, item), type) for item in each))


def _stride(place: Expr, axis: str) -> Dim | None:
    """How far apart neighbours along an axis lie, if evenly."""
    found = strides(IndexAlgebra({}).to_dim(place), (axis,))
    return None if found is None else found[axis]


def _only_sum(stage: Stage) -> Reduce | None:
    found = set(stage.reductions)
    reduce = next(iter(found)) if len(found) == 1 else None
    return reduce if reduce is not None and reduce.op is ReduceOp.SUM and reduce.type is Scalar.F32 else None


def _outside(stage: Stage, reduce: Reduce) -> list[Expr]:
    """Every part of the stage's body that is not in the sum."""
    out: list[Expr] = []

    def visit(part: Expr) -> None:
        if part == reduce:
            return
        out.append(part)
        match part:
            case Apply(args=args) | Vector(args=args):
                for arg in args:
                    visit(arg)
            case Cast(arg=arg) | Bitcast(arg=arg):
                visit(arg)
            case Select(condition=condition, true=true, false=false):
                for arg in (condition, true, false):
                    visit(arg)
            case _:
                pass

    visit(stage.body)
    return out


def _simple(parts: Sequence[Expr]) -> bool:
    """Whether an epilogue is made of what `_Epilogue` can put into vectors."""
    kinds = (Read, Var, Const, Apply, Cast, Bitcast, Select)
    return all(isinstance(part, kinds) for part in parts)


def _flat(writer: _Writer, parts: Sequence[Expr], places: Sequence[Expr], axes: Sequence[Axis]) -> bool:
    """Whether neighbouring axes can be counted as one: every access depends on them as on a flat index."""
    names = [axis.name for axis in axes]
    if any(isinstance(part, Var) and part.name in names for part in parts):
        return False
    every = [*places, *(writer.place(part.tensor, part.indices) for part in parts if isinstance(part, Read))]
    for place in every:
        found = strides(IndexAlgebra({}).to_dim(place), tuple(names))
        if found is None:
            return False
        for outer, inner in pairwise(axes):
            extent = writer.dim(inner.extent)
            size = extent if isinstance(extent, int) else IndexAlgebra({}).to_dim(extent)
            if found[outer.name] != found[inner.name] * size:
                return False
    return True


# convolutions


def _convolution(
    stage: Stage, hint: ConvHint, context: ScheduleContext, tile: Tile, plain_tile: Tile | None
) -> Implementation | str:
    reduce = _only_sum(stage)
    if len(hint.kernel) != 2:
        return f"a convolution over {len(hint.kernel)} axes"
    if hint.w not in context.constants:
        return "the weights are only known at run time"
    if reduce is None or not _simple(_outside(stage, reduce)):
        return "what is fused with the convolution is no epilogue"
    if any(compute_type(context.tensors[name].dtype) is not Scalar.F32 for name in (hint.x, hint.w)):
        return "an element type other than float32 and what is computed in it"
    axes = _roles(stage, hint, reduce)
    if axes is None:
        return "its axes are not those of the convolution"
    writer = _Writer(stage, context)
    x, copy = _channels_last_input(stage, hint, context)
    if copy is not None:
        context = replace(context, tensors={**context.tensors, x.name: x})
        writer.context = context
    conv, packed = _conv(axes, hint, writer, reduce, x, copy is None)
    if conv.group == conv.channels == conv.out_channels and conv.group > 1:
        kernel = depthwise_conv2d(conv)
        plain = None if plain_tile is None else kernel
    else:
        kernel = conv2d(conv, tile)
        plain = None if plain_tile is None else conv2d(conv, plain_tile)
    calls = [writer.call(kernel, plain)]
    if copy is not None:
        calls.insert(0, generic(copy, context, OPTIONS))
    return Implementation(tuple(calls), () if copy is None else (x,), (packed,))


def _roles(stage: Stage, hint: ConvHint, reduce: Reduce) -> tuple[Axis, Axis, Axis, Axis] | None:
    """The stage's axes as batch, channel, row, column; a single pixel may have lost its axes."""
    if len(stage.axes) == 4:
        return stage.axes[0], stage.axes[1], stage.axes[2], stage.axes[3]
    every = {axis.name: axis for axis in stage.axes}
    single = Axis("", 1)
    x = [part for part in subexpressions(reduce.body) if isinstance(part, Read) and part.tensor == hint.x]
    w = [part for part in subexpressions(reduce.body) if isinstance(part, Read) and part.tensor == hint.w]
    if len(x) != 1 or len(w) != 1:
        return None
    image, channel = x[0].indices[0], w[0].indices[0]
    if any(free_variables(index) & set(every) for index in x[0].indices[2:]):
        return None
    found = [every.get(index.name) if isinstance(index, Var) else single for index in (image, channel)]
    batch, channels = found
    if batch is None or channels is None or len({axis.name for axis in found if axis} & set(every)) != _long(stage):
        return None
    return batch, channels, single, single


def _long(stage: Stage) -> int:
    return sum(axis.extent != 1 for axis in stage.axes)


def _channels_last_input(stage: Stage, hint: ConvHint, context: ScheduleContext) -> tuple[Tensor, Stage | None]:
    """The input as the kernel reads it, and the copy that makes it so (None: it is so already). The copy's own axes are
    batch, height, width, channel."""
    source = context.tensors[hint.x]
    n, channels, height, width = source.shape
    padded = any(pad != 0 for pair in hint.pads for pad in pair)
    padded = padded or source.dtype is not DType.FLOAT32
    if not padded and (context.layout(hint.x) == CHANNELS_LAST or channels == 1):
        return source, None
    (top, bottom), (left, right) = hint.pads
    shape = (n, height + top + bottom, width + left + right, channels)
    tensor = Tensor(f"{stage.output}#padded", DType.FLOAT32, shape)
    axes = tuple(Axis(f"i{k}", size) for k, size in enumerate(shape))
    at: list[Expr] = [Const(0) if axis.extent == 1 else axis.var for axis in axes]
    row, column = build.sub(at[1], top), build.sub(at[2], left)
    value: Expr = Read(hint.x, (at[0], at[3], row, column), Scalar.F32)
    checks: list[Expr] = []
    for place, size, begin, end in ((row, height, top, bottom), (column, width, left, right)):
        checks += [apply(Op.GE, place, Const(0))] if begin else []
        checks += [apply(Op.LT, place, build.dim(size))] if end else []
    for check in checks:
        value = Select(check, value, Const(0.0, Scalar.F32))
    return tensor, Stage(tensor.name, axes, value, None, stage.source)


def _conv(
    axes: tuple[Axis, Axis, Axis, Axis], hint: ConvHint, writer: _Writer, reduce: Reduce, x: Tensor, direct: bool
) -> tuple[Conv, PackedConstant]:
    stage = writer.stage
    n_axis, channel_axis, row_axis, column_axis = axes
    batch, channels, in_height, in_width = x.shape if direct else (x.shape[0], x.shape[3], x.shape[1], x.shape[2])
    weights = writer.context.constants[hint.w]
    assert isinstance(channels, int), "weights are constant, so the channels are"
    depthwise = hint.group == channels == weights.shape[0] and hint.group > 1
    packed = _packed_weights(hint, weights, depthwise)
    buffers = (writer.buffer(x.name, DType.FLOAT32), writer.buffer(packed.tensor.name, DType.FLOAT32))
    epilogue = _Epilogue(writer, reduce, channel_axis.name)
    outside, target = _outside(stage, reduce), writer.output_place()
    flat = _flat(writer, outside, [target], (row_axis, column_axis))
    folded = flat and _flat(writer, outside, [target], (n_axis, row_axis, column_axis))
    width = writer.dim(column_axis.extent)

    def store(image: Expr, pixel: Expr, channel: Expr, total: Expr) -> tuple[Stmt, ...]:
        row: Expr = Const(0) if flat else floor_div(pixel, width)
        column = pixel if flat else floor_mod(pixel, width)
        names = (n_axis.name, channel_axis.name, row_axis.name, column_axis.name)
        return epilogue.store(dict(zip(names, (image, channel, row, column), strict=True)), total)

    conv = Conv(
        stage_name(stage, writer.context),
        (),
        writer.dim(batch),
        writer.dim(row_axis.extent),
        width,
        writer.dim(in_height),
        writer.dim(in_width),
        channels,
        weights.shape[0],
        (hint.kernel[0], hint.kernel[1]),
        (hint.strides[0], hint.strides[1]),
        (hint.dilations[0], hint.dilations[1]),
        store,
        hint.group,
        buffers[0],
        buffers[1],
        folded=folded,
    )
    return conv, packed


def _packed_weights(hint: ConvHint, weights: npt.NDArray[Any], depthwise: bool) -> PackedConstant:
    pack = partial(_pack_convolution, group=None if depthwise else hint.group)
    key = "depthwise" if depthwise else f"convolution/{hint.group}"
    shape = pack(np.zeros(weights.shape, np.bool_)).shape
    return PackedConstant(Tensor(f"{hint.w}#{key}", DType.FLOAT32, shape), hint.w, pack, key)


def _pack_convolution(weights: npt.NDArray[Any], group: int | None) -> npt.NDArray[Any]:
    """Weights of any float type in the layout of `conv2d`, or, without a group, of `depthwise_conv2d`."""
    wide = weights.astype(np.float32)
    return pack_depthwise_weights(wide) if group is None else pack_conv_weights(wide, group)


# matrix products


def _product(stage: Stage, context: ScheduleContext, tile: Tile, plain: Tile | None) -> Implementation | str:
    reduce = _only_sum(stage)
    if reduce is None or len(reduce.axes) != 1 or not _simple(_outside(stage, reduce)):
        return "what is fused with the matrix product is no epilogue"
    match reduce.body:
        case Apply(op=Op.MUL, args=(Read() as one, Read() as other)):
            pass
        case _:
            return "the terms of the sum are no products of two elements"
    if {context.tensors[read.tensor].dtype for read in (one, other)} != {DType.FLOAT32}:
        return "an element type other than float32"
    sides = _sides(stage, one, other)
    if isinstance(sides, str):
        return sides
    return _Product(stage, context, reduce, *sides, tile, plain).implementation()


def _sides(stage: Stage, one: Read, other: Read) -> tuple[Read, Read] | str:
    """(left, right): the right one depends on the last axis, the left one does not."""
    if not stage.axes:
        return "a single sum"
    last = stage.axes[-1]
    if last.extent == 1:
        return one, other
    depends = [last.name in _variables(read) for read in (one, other)]
    if depends == [False, True]:
        return one, other
    if depends == [True, False]:
        return other, one
    return "both operands depend on the last axis" if all(depends) else "no operand depends on the last axis"


def _variables(read: Read) -> frozenset[str]:
    return frozenset().union(*map(free_variables, read.indices)) if read.indices else frozenset()


@dataclass(frozen=True)
class _Product:
    stage: Stage
    context: ScheduleContext
    reduce: Reduce
    left: Read
    right: Read
    tile: Tile
    plain: Tile | None

    def implementation(self) -> Implementation | str:
        writer = _Writer(self.stage, self.context)
        *others, last = self.stage.axes
        own = _variables(self.right)
        shared = [axis for axis in others if axis.name in own and axis.extent != 1]
        rows = [axis for axis in others if axis.name not in own and axis.extent != 1]
        outside = _outside(self.stage, self.reduce)
        places = [writer.output_place(), writer.place(self.left.tensor, self.left.indices)]
        merged = rows
        while len(merged) > 1 and not (self._adjacent(merged) and _flat(writer, outside, places, merged)):
            merged = merged[1:]
        loops = [axis for axis in others if axis in shared or (axis in rows and axis not in merged)]
        height = product([axis.extent for axis in merged])
        depth = self.reduce.axes[0]
        few = isinstance(height, int) and height < _FEWEST_ROWS
        direct = few and (shared != [] or self.right.tensor not in self.context.constants)
        if direct and not self._along(writer, depth):
            return "packing the right operand would cost more than the product"
        panels, pack, packed = (None, None, None) if direct else self._panels(writer, shared, last)
        left, source = writer.place(self.left.tensor, self.left.indices), writer.buffer(self.left.tensor)
        start = self._panel_start(writer, shared, last)
        epilogue = _Epilogue(writer, self.reduce, last.name)
        zeros: dict[str, Expr] = {axis.name: Const(0) for axis in merged}
        row = merged[-1].name if merged else ""

        def store(m: Expr, n: Expr, total: Expr) -> tuple[Stmt, ...]:
            return epilogue.store({**zeros, row: m, last.name: n}, total)

        multiplication = MatMul(
            stage_name(self.stage, self.context),
            (),
            writer.dim(height),
            writer.dim(last.extent),
            writer.dim(depth.extent),
            lambda m, k: Load(source, substitute(left, {**zeros, row: m, depth.name: k}), Scalar.F32),
            "" if panels is None else writer.buffer(panels.name, DType.FLOAT32),
            store,
            start,
            tuple((axis.name, writer.dim(axis.extent)) for axis in loops),
        )
        if panels is None:
            kernel = row_products(multiplication, self._right_element(writer, last, depth))
            return Implementation((writer.call(kernel, None),))
        plain = None if self.plain is None else matmul(multiplication, self.plain)
        call = writer.call(matmul(multiplication, self.tile), plain)
        calls = (call,) if pack is None else (pack, call)
        return Implementation(calls, () if pack is None else (panels,), () if packed is None else (packed,))

    def _along(self, writer: _Writer, depth: Axis) -> bool:
        """Whether both operands lie side by side along the sum."""
        reads = (self.left, self.right)
        return all(_stride(writer.place(read.tensor, read.indices), depth.name) == 1 for read in reads)

    def _right_element(self, writer: _Writer, last: Axis, depth: Axis) -> Callable[[Expr, Expr, int], Expr]:
        place, buffer = writer.place(self.right.tensor, self.right.indices), writer.buffer(self.right.tensor)
        return lambda n, k, lanes: Load(buffer, substitute(place, {last.name: n, depth.name: k}), Scalar.F32, lanes)

    def _adjacent(self, axes: Sequence[Axis]) -> bool:
        every = [axis for axis in self.stage.axes if axis.extent != 1]
        first = every.index(axes[0])
        return every[first : first + len(axes)] == list(axes)

    def _panel_start(self, writer: _Writer, shared: Sequence[Axis], last: Axis) -> Expr:
        """First element of the panels that the batch loops' position reads."""
        total: Expr = Const(0)
        for axis in shared:
            total = add(build.mul(total, writer.dim(axis.extent)), axis.var)
        return build.mul(total, writer.dim(self._panel_size(last)))

    def _panel_size(self, last: Axis) -> Dim:
        return ceil_div(last.extent, PANEL) * PANEL * self.reduce.axes[0].extent

    def _panels(
        self, writer: _Writer, shared: Sequence[Axis], last: Axis
    ) -> tuple[Tensor, Call | None, PackedConstant | None]:
        """The packed right operand: prepared now if it is constant, else by a kernel."""
        constant = self._constant_panels(shared, last)
        if constant is not None:
            return constant.tensor, None, constant
        shape = (*(axis.extent for axis in shared), self._panel_size(last))
        tensor = Tensor(f"{self.stage.output}#panels", DType.FLOAT32, shape)
        depth = self.reduce.axes[0]
        place = writer.place(self.right.tensor, self.right.indices)
        even = _stride(place, last.name) == 1

        def element(k: Expr, n: Expr, lanes: int) -> Expr:
            return Load("in0", substitute(place, {depth.name: k, last.name: n}), Scalar.F32, lanes)

        kernel = pack_panels_kernel(
            f"pack_{stage_name(self.stage, self.context)}",
            (
                BufferParameter("in0", DType.FLOAT32, Access.READ),
                BufferParameter("out", DType.FLOAT32, Access.WRITE),
            ),
            writer.dim(depth.extent),
            writer.dim(last.extent),
            element,
            "out",
            start=self._panel_start(writer, shared, last),
            batch=[(axis.name, writer.dim(axis.extent)) for axis in shared],
            parameters=tuple(writer.sizes.values()),
            lanes=4 if even else 1,
        )
        sizes = tuple(symbol(name, signed=name in writer.signed) for name in writer.sizes)
        return tensor, Call(kernel, (self.right.tensor, tensor.name), sizes, self.stage.source), None

    def _constant_panels(self, shared: Sequence[Axis], last: Axis) -> PackedConstant | None:
        array = self.context.constants.get(self.right.tensor)
        depth = self.reduce.axes[0]
        if array is None or shared:
            return None
        at: list[int | None] = []
        order: list[str] = []
        for index in self.right.indices:
            if isinstance(index, Const):
                at.append(int(index.value))
            elif isinstance(index, Var) and index.name in (depth.name, last.name) and index.name not in order:
                at.append(None)
                order.append(index.name)
            else:
                return None
        if depth.name not in order and depth.extent != 1:
            return None
        transposed = order == [last.name, depth.name]
        if not isinstance(depth.extent, int) or not isinstance(last.extent, int):
            return None
        pack = partial(_pack_constant, at=tuple(at), transposed=transposed, depth=depth.extent, width=last.extent)
        where = ",".join("" if item is None else str(item) for item in at)
        key = f"panels/{where}/{int(transposed)}"
        shape = pack(np.zeros(array.shape, np.bool_)).shape
        tensor = Tensor(f"{self.right.tensor}#{key}", DType.FLOAT32, shape)
        return PackedConstant(tensor, self.right.tensor, pack, key)


def _pack_constant(
    array: npt.NDArray[Any], at: tuple[int | None, ...], transposed: bool, depth: int, width: int
) -> npt.NDArray[Any]:
    matrix = array[tuple(slice(None) if item is None else item for item in at)]
    matrix = matrix.reshape(width, depth).T if transposed else matrix.reshape(depth, width)
    return pack_panels(np.ascontiguousarray(matrix))
