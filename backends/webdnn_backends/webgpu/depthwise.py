"""Depthwise 2-D convolutions, channels-last: an invocation computes neighbouring pixels of four channels.

Each input pixel of a kernel row is read once for all output pixels that it reaches.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir.build import add, apply, f32, i32, mul, select, sub
from webdnn_backends.ir.loops import (
    Assign,
    Axis,
    Const,
    Expr,
    If,
    Kernel,
    Lane,
    Load,
    Local,
    Loop,
    LoopKind,
    Splat,
    Stmt,
    Var,
)
from webdnn_backends.ir.scalars import Op, Scalar
from webdnn_backends.te.epilogue import Arguments, Epilogue, is_plain, only_sum, outside
from webdnn_backends.te.implementation import Implementation, PackedConstant, ScheduleContext
from webdnn_backends.te.layout import CHANNELS_LAST
from webdnn_backends.te.naming import stage_name
from webdnn_backends.te.tensors import ConvHint, Stage, Tensor
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import ceil_div, product

__all__ = ["depthwise_schedule", "is_depthwise"]

_WIDEST_KERNEL = 7
_ENOUGH_INVOCATIONS = 4096


def is_depthwise(hint: ConvHint, context: ScheduleContext) -> bool:
    """Whether every channel has a filter of its own."""
    channels, filters = context.tensors[hint.x].shape[1], context.tensors[hint.w].shape[0]
    return hint.group > 1 and hint.group == channels == filters


def depthwise_schedule(stage: Stage, hint: ConvHint, context: ScheduleContext) -> Implementation | str:
    """The kernel of a depthwise convolution, or the reason why the generic schedule should take it."""
    reduce = only_sum(stage)
    if len(hint.kernel) != 2 or len(stage.axes) != 4:
        return f"a depthwise convolution over {len(hint.kernel)} axes"
    if reduce is None or not all(map(is_plain, outside(stage, reduce))):
        return "what is fused with the convolution is no epilogue"
    if hint.w not in context.constants:
        return "the weights are only known at run time"
    if any(context.tensors[name].dtype is not DType.FLOAT32 for name in (hint.x, hint.w)):
        return "an element type other than float32"
    if context.layout(hint.x) != CHANNELS_LAST or context.layout(stage.output) != CHANNELS_LAST:
        return "the channels of a pixel do not lie side by side"
    if hint.group % 4:
        return f"{hint.group} channels are no multiple of four"
    if hint.kernel[1] > _WIDEST_KERNEL:
        return f"kernels of {hint.kernel[1]} columns are wider than what is kept in registers"
    name = f"{hint.w}#depthwise"
    weights = Tensor(name, DType.FLOAT32, (hint.kernel[0] * hint.kernel[1], hint.group))
    arguments = Arguments(stage, context)
    channel = stage.axes[1]
    kernel = _Depthwise(stage, hint, arguments, Epilogue(arguments, reduce, channel.name), name).kernel()
    packed = PackedConstant(weights, hint.w, _pack, "depthwise")
    return Implementation((arguments.call(kernel),), (), (packed,))


def _pack(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Filters as [kernel position][channel]."""
    return array.reshape(array.shape[0], -1).T.copy()


class _Depthwise:
    def __init__(self, stage: Stage, hint: ConvHint, arguments: Arguments, epilogue: Epilogue, weights: str) -> None:
        self.stage, self.hint, self.arguments, self.epilogue = stage, hint, arguments, epilogue
        self.image = arguments.buffer(hint.x)
        self.weights = arguments.buffer(weights, DType.FLOAT32)
        self.batch, self.channel, self.row, self.column = stage.axes
        self.pixels = self._pixels()

    def _pixels(self) -> int:
        """Neighbouring output pixels per invocation: as many as leave enough invocations."""
        extents = [axis.extent for axis in self.stage.axes]
        if not all(isinstance(extent, int) for extent in extents[1:]):
            return 4
        for pixels in (4, 2):
            count = product([*extents[:3], ceil_div(extents[3], pixels)]) // 4
            if not isinstance(count, int) or count >= _ENOUGH_INVOCATIONS:
                return pixels
        return 1

    def kernel(self) -> Kernel:
        """Parallel over images, rows, groups of pixels, fours of channels."""
        arguments = self.arguments
        body: tuple[Stmt, ...] = (
            *(Local(_sum(p), Scalar.F32, Splat(f32(0.0), 4), lanes=4) for p in range(self.pixels)),
            Loop("kernel_row", Const(self.hint.kernel[0]), tuple(self._kernel_row())),
            *self._stores(),
        )
        blocks = ceil_div(self.column.extent, self.pixels)
        for name, extent, step in (
            ("channel", i32(self.hint.group // 4), 4),
            ("column", i32(arguments.dim(blocks)), self.pixels),
            ("row", i32(arguments.dim(self.row.extent)), 1),
            ("image", i32(arguments.dim(self.batch.extent)), 1),
        ):
            body = (Loop(name, extent, body, LoopKind.PARALLEL, Const(0), step),)
        return Kernel(stage_name(self.stage, arguments.context), (), (), body)

    def _kernel_row(self) -> Iterator[Stmt]:
        """One row of the kernel, where it lies in the image."""
        hint = self.hint
        (top, bottom), _ = hint.pads
        height = self.arguments.context.tensors[hint.x].shape[2]
        at = sub(add(mul(Var("row"), hint.strides[0]), mul(Var("kernel_row"), hint.dilations[0])), top)
        yield Local("source_row", Scalar.I32, at)
        terms = tuple(self._terms())
        if top <= 0 and bottom <= 0:
            yield from terms
            return
        inside = apply(Op.LT, Var("source_row"), i32(self.arguments.dim(height)))
        yield If(apply(Op.AND, apply(Op.GE, Var("source_row"), Const(0)), inside), terms)

    def _terms(self) -> Iterator[Stmt]:
        """The row's filters, then its pixels with all that each contributes to."""
        hint, arguments = self.hint, self.arguments
        columns, (left, right) = hint.kernel[1], hint.pads[1]
        width = arguments.context.tensors[hint.x].shape[3]
        weights = [Var(f"weight_{q}", Scalar.F32, 4) for q in range(columns)]
        for q, weight in enumerate(weights):
            place = add(mul(add(mul(Var("kernel_row"), columns), q), hint.group), Var("channel"))
            yield Local(weight.name, Scalar.F32, Load(self.weights, place, Scalar.F32, 4), lanes=4)
        reached: dict[int, list[tuple[int, int]]] = {}
        for p in range(self.pixels):
            for q in range(columns):
                reached.setdefault(p * hint.strides[1] + q * hint.dilations[1], []).append((p, q))
        beyond = right > 0 or self._ends_early()
        for offset, uses in sorted(reached.items()):
            column = add(mul(Var("column"), hint.strides[1]), offset - left)
            place = arguments.place(hint.x, (Var("image"), Var("channel"), Var("source_row"), column))
            value: Expr = Load(self.image, place, Scalar.F32, 4)
            conditions = []
            if offset < left:
                conditions.append(apply(Op.GE, column, Const(0)))
            if beyond:
                conditions.append(apply(Op.LT, column, i32(arguments.dim(width))))
            if conditions:
                inside = conditions[0] if len(conditions) == 1 else apply(Op.AND, *conditions)
                value = select(inside, value, Splat(f32(0.0), 4))
            pixel = Var(f"pixel_{offset}", Scalar.F32, 4)
            yield Local(pixel.name, Scalar.F32, value, lanes=4)
            for p, q in uses:
                total = Var(_sum(p), Scalar.F32, 4)
                yield Assign(total.name, apply(Op.FMA, pixel, weights[q], total))

    def _ends_early(self) -> bool:
        """Whether the last invocation of a row has fewer pixels."""
        extent = self.column.extent
        return self.pixels > 1 and not (isinstance(extent, int) and extent % self.pixels == 0)

    def _stores(self) -> Iterator[Stmt]:
        for p in range(self.pixels):
            column = add(Var("column"), p)
            total = Var(_sum(p), Scalar.F32, 4)
            if self.epilogue.vectors():
                stores = self._store(column, 0, total)
            else:
                stores = tuple(item for k in range(4) for item in self._store(column, k, Lane(total, k)))
            if p and self._ends_early():
                yield If(apply(Op.LT, column, i32(self.arguments.dim(self.column.extent))), stores)
            else:
                yield from stores

    def _store(self, column: Expr, lane: int, value: Expr) -> tuple[Stmt, ...]:
        places = (Var("image"), add(Var("channel"), lane), Var("row"), column)
        values = {axis.name: self._at(axis, place) for axis, place in zip(self.stage.axes, places, strict=True)}
        return self.epilogue.store(values, value)

    @staticmethod
    def _at(axis: Axis, place: Expr) -> Expr:
        return Const(0) if axis.extent == 1 else place


def _sum(pixel: int) -> str:
    return f"sum_{pixel}"
