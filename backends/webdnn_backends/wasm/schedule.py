"""Which stages get the hand-written WebAssembly kernels: matrix products and two-dimensional convolutions in float32.

What is fused behind the sum is computed on the tile's registers before it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir import build
from webdnn_backends.ir.build import add, apply, floor_div, floor_mod
from webdnn_backends.ir.loops import (
    Access,
    Apply,
    Axis,
    BufferParameter,
    Const,
    Expr,
    Load,
    Read,
    Reduce,
    Select,
    Stmt,
    Var,
    subexpressions,
)
from webdnn_backends.ir.rewrite import free_variables, substitute
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.te.epilogue import Arguments, Epilogue, is_plain, only_sum, outside, stride
from webdnn_backends.te.generic import GenericOptions, generic
from webdnn_backends.te.implementation import Implementation, PackedConstant, ScheduleContext
from webdnn_backends.te.layout import CHANNELS_LAST
from webdnn_backends.te.naming import stage_name
from webdnn_backends.te.tensors import Call, ConvHint, MatMulHint, Stage, Tensor
from webdnn_backends.wasm.conv import Conv, conv2d, depthwise_conv2d, pack_conv_weights, pack_depthwise_weights
from webdnn_backends.wasm.matmul import MatMul, matmul, pack_panels, pack_panels_kernel, row_products
from webdnn_backends.wasm.tiles import PANEL, PLAIN, RELAXED, Tile
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import Dim, ceil_div, product

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


# convolutions


def _convolution(
    stage: Stage, hint: ConvHint, context: ScheduleContext, tile: Tile, plain_tile: Tile | None
) -> Implementation | str:
    reduce = only_sum(stage)
    if len(hint.kernel) != 2:
        return f"a convolution over {len(hint.kernel)} axes"
    if hint.w not in context.constants:
        return "the weights are only known at run time"
    if reduce is None or not all(map(is_plain, outside(stage, reduce))):
        return "what is fused with the convolution is no epilogue"
    if any(compute_type(context.tensors[name].dtype) is not Scalar.F32 for name in (hint.x, hint.w)):
        return "an element type other than float32 and what is computed in it"
    axes = _roles(stage, hint, reduce)
    if axes is None:
        return "its axes are not those of the convolution"
    arguments = Arguments(stage, context)
    x, copy = _channels_last_input(stage, hint, context)
    if copy is not None:
        context = replace(context, tensors={**context.tensors, x.name: x})
        arguments.context = context
    conv, packed = _conv(axes, hint, arguments, reduce, x, copy is None)
    if conv.group == conv.channels == conv.out_channels and conv.group > 1:
        kernel = depthwise_conv2d(conv)
        kernel = replace(kernel, plain=None if plain_tile is None else kernel)
    else:
        kernel = replace(conv2d(conv, tile), plain=None if plain_tile is None else conv2d(conv, plain_tile))
    calls = [arguments.call(kernel)]
    if copy is not None:
        calls.insert(0, generic(copy, context, OPTIONS))
    return Implementation(tuple(calls), () if copy is None else (x,), (packed,))


def _roles(stage: Stage, hint: ConvHint, reduce: Reduce) -> tuple[Axis, Axis, Axis, Axis] | None:
    """The stage's axes as batch, channel, row, column; those of one element may be lost."""
    if len(stage.axes) == 4:
        return stage.axes[0], stage.axes[1], stage.axes[2], stage.axes[3]
    x = [part for part in subexpressions(reduce.body) if isinstance(part, Read) and part.tensor == hint.x]
    w = [part for part in subexpressions(reduce.body) if isinstance(part, Read) and part.tensor == hint.w]
    if len(x) != 1 or len(w) != 1:
        return None
    every = {axis.name: axis for axis in stage.axes}
    roles: list[Axis] = []
    for index in (x[0].indices[0], w[0].indices[0], *x[0].indices[2:]):
        found = [every[name] for name in free_variables(index) if name in every]
        if len(found) > 1:
            return None
        roles.append(found[0] if found else Axis("", 1))
    names = [axis.name for axis in roles if axis.name]
    if len(set(names)) != len(names) or len(names) != _long(stage):
        return None
    return roles[0], roles[1], roles[2], roles[3]


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
    axes: tuple[Axis, Axis, Axis, Axis], hint: ConvHint, arguments: Arguments, reduce: Reduce, x: Tensor, direct: bool
) -> tuple[Conv, PackedConstant]:
    stage = arguments.stage
    n_axis, channel_axis, row_axis, column_axis = axes
    batch, channels, in_height, in_width = x.shape if direct else (x.shape[0], x.shape[3], x.shape[1], x.shape[2])
    weights = arguments.context.constants[hint.w]
    assert isinstance(channels, int), "weights are constant, so the channels are"
    depthwise = hint.group == channels == weights.shape[0] and hint.group > 1
    packed = _packed_weights(hint, weights, depthwise)
    buffers = (arguments.buffer(x.name, DType.FLOAT32), arguments.buffer(packed.tensor.name, DType.FLOAT32))
    epilogue = Epilogue(arguments, reduce, channel_axis.name)
    parts, target = list(outside(stage, reduce)), arguments.target()
    by_column = bool(column_axis.name)
    flat = (by_column or not row_axis.name) and arguments.flat(parts, [target], _named(row_axis, column_axis))
    folded = flat and by_column and arguments.flat(parts, [target], _named(n_axis, row_axis, column_axis))
    width = arguments.dim(column_axis.extent)

    def store(image: Expr, pixel: Expr, channel: Expr, total: Expr) -> tuple[Stmt, ...]:
        row: Expr = Const(0) if flat else floor_div(pixel, width)
        column = pixel if flat else floor_mod(pixel, width)
        names = (n_axis.name, channel_axis.name, row_axis.name, column_axis.name)
        return epilogue.store(dict(zip(names, (image, channel, row, column), strict=True)), total)

    conv = Conv(
        stage_name(stage, arguments.context),
        (),
        arguments.dim(batch),
        arguments.dim(row_axis.extent),
        width,
        arguments.dim(in_height),
        arguments.dim(in_width),
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


def _named(*axes: Axis) -> tuple[Axis, ...]:
    return tuple(axis for axis in axes if axis.name)


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
    reduce = only_sum(stage)
    if reduce is None or len(reduce.axes) != 1 or not all(map(is_plain, outside(stage, reduce))):
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
        arguments = Arguments(self.stage, self.context)
        *others, last = self.stage.axes
        own = _variables(self.right)
        shared = [axis for axis in others if axis.name in own and axis.extent != 1]
        rows = [axis for axis in others if axis.name not in own and axis.extent != 1]
        parts = list(outside(self.stage, self.reduce))
        places = [arguments.target(), arguments.place(self.left.tensor, self.left.indices)]
        merged = rows
        while len(merged) > 1 and not (self._adjacent(merged) and arguments.flat(parts, places, merged)):
            merged = merged[1:]
        loops = [axis for axis in others if axis in shared or (axis in rows and axis not in merged)]
        height = product([axis.extent for axis in merged])
        depth = self.reduce.axes[0]
        few = isinstance(height, int) and height < _FEWEST_ROWS
        direct = few and (shared != [] or self.right.tensor not in self.context.constants)
        if direct and not self._along(arguments, depth):
            return "packing the right operand would cost more than the product"
        panels, pack, packed = (None, None, None) if direct else self._panels(arguments, shared, last)
        left, source = arguments.place(self.left.tensor, self.left.indices), arguments.buffer(self.left.tensor)
        start = self._panel_start(arguments, shared, last)
        epilogue = Epilogue(arguments, self.reduce, last.name)
        zeros: dict[str, Expr] = {axis.name: Const(0) for axis in merged}
        row = merged[-1].name if merged else ""

        def store(m: Expr, n: Expr, total: Expr) -> tuple[Stmt, ...]:
            return epilogue.store({**zeros, row: m, last.name: n}, total)

        multiplication = MatMul(
            stage_name(self.stage, self.context),
            (),
            arguments.dim(height),
            arguments.dim(last.extent),
            arguments.dim(depth.extent),
            lambda m, k: Load(source, substitute(left, {**zeros, row: m, depth.name: k}), Scalar.F32),
            "" if panels is None else arguments.buffer(panels.name, DType.FLOAT32),
            store,
            start,
            tuple((axis.name, arguments.dim(axis.extent)) for axis in loops),
        )
        if panels is None:
            kernel = row_products(multiplication, self._right_element(arguments, last, depth))
            return Implementation((arguments.call(kernel),))
        plain = None if self.plain is None else matmul(multiplication, self.plain)
        call = arguments.call(replace(matmul(multiplication, self.tile), plain=plain))
        calls = (call,) if pack is None else (pack, call)
        return Implementation(calls, () if pack is None else (panels,), () if packed is None else (packed,))

    def _along(self, arguments: Arguments, depth: Axis) -> bool:
        """Whether both operands lie side by side along the sum."""
        reads = (self.left, self.right)
        return all(stride(arguments.place(read.tensor, read.indices), depth.name) == 1 for read in reads)

    def _right_element(self, arguments: Arguments, last: Axis, depth: Axis) -> Callable[[Expr, Expr, int], Expr]:
        place, buffer = arguments.place(self.right.tensor, self.right.indices), arguments.buffer(self.right.tensor)
        return lambda n, k, lanes: Load(buffer, substitute(place, {last.name: n, depth.name: k}), Scalar.F32, lanes)

    def _adjacent(self, axes: Sequence[Axis]) -> bool:
        every = [axis for axis in self.stage.axes if axis.extent != 1]
        first = every.index(axes[0])
        return every[first : first + len(axes)] == list(axes)

    def _panel_start(self, arguments: Arguments, shared: Sequence[Axis], last: Axis) -> Expr:
        """First element of the panels that the batch loops' position reads."""
        total: Expr = Const(0)
        for axis in shared:
            total = add(build.mul(total, arguments.dim(axis.extent)), axis.var)
        return build.mul(total, arguments.dim(self._panel_size(last)))

    def _panel_size(self, last: Axis) -> Dim:
        return ceil_div(last.extent, PANEL) * PANEL * self.reduce.axes[0].extent

    def _panels(
        self, arguments: Arguments, shared: Sequence[Axis], last: Axis
    ) -> tuple[Tensor, Call | None, PackedConstant | None]:
        """The packed right operand: prepared now if it is constant, else by a kernel."""
        constant = self._constant_panels(shared, last)
        if constant is not None:
            return constant.tensor, None, constant
        shape = (*(axis.extent for axis in shared), self._panel_size(last))
        tensor = Tensor(f"{self.stage.output}#panels", DType.FLOAT32, shape)
        depth = self.reduce.axes[0]
        place = arguments.place(self.right.tensor, self.right.indices)
        even = stride(place, last.name) == 1

        def element(k: Expr, n: Expr, lanes: int) -> Expr:
            return Load("in0", substitute(place, {depth.name: k, last.name: n}), Scalar.F32, lanes)

        kernel = pack_panels_kernel(
            f"pack_{stage_name(self.stage, self.context)}",
            (
                BufferParameter("in0", DType.FLOAT32, Access.READ),
                BufferParameter("out", DType.FLOAT32, Access.WRITE),
            ),
            arguments.dim(depth.extent),
            arguments.dim(last.extent),
            element,
            "out",
            start=self._panel_start(arguments, shared, last),
            batch=[(axis.name, arguments.dim(axis.extent)) for axis in shared],
            parameters=arguments.parameters.names,
            lanes=4 if even else 1,
        )
        sizes = arguments.parameters.sizes
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
