"""Which stages get the tiled kernels: sums of products that separate into rows and columns, in float32.

A matrix product and a convolution are one case here: the sum's terms are `left * right`; the column axis is the one
that only `right` depends on, the row axes are those that it does not depend on, and axes of both are a batch. A
convolution's rows are its output positions, its columns the output channels, and its left operand is gathered from
the image, zeros outside. Constant right operands are packed when the model is compiled, as [k][column].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from webdnn_backends.ir.build import add, mul, select
from webdnn_backends.ir.loops import (
    Apply,
    Axis,
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
from webdnn_backends.ir.rewrite import free_variables, reads, substitute
from webdnn_backends.ir.scalars import Op, Scalar, compute_type
from webdnn_backends.te.epilogue import Arguments, Epilogue, is_plain, only_sum, outside, split, stride
from webdnn_backends.te.implementation import Implementation, PackedConstant, ScheduleContext
from webdnn_backends.te.naming import stage_name
from webdnn_backends.te.tensors import ConvHint, MatMulHint, Stage, Tensor
from webdnn_backends.webgpu.depthwise import depthwise_schedule, is_depthwise
from webdnn_backends.webgpu.groups import by_group
from webdnn_backends.webgpu.profile import DEFAULT, PROFILES
from webdnn_backends.webgpu.rows import row_schedule
from webdnn_backends.webgpu.tiles import Product, choose_tile, narrow_product, row_product, tiled_product
from webdnn_onnx.dtypes import DType
from webdnn_onnx.symbolic import product

__all__ = ["implement"]

_FEW_ROWS = 8
_FEWEST_ROWS = 16
_FEWEST_COLUMNS = 16


def implement(stage: Stage, context: ScheduleContext) -> Implementation | str:
    """The kernels of a stage, or the reason why the generic schedule should take it.

    Raises LimitError where a tensor is larger than a storage buffer may be.
    """
    _check_sizes(stage, context)
    if isinstance(stage.hint, ConvHint):
        if is_depthwise(stage.hint, context):
            return depthwise_schedule(stage, stage.hint, context)
        return _contraction(*(by_group(stage, stage.hint, context) if stage.hint.group > 1 else (stage, context)))
    if isinstance(stage.hint, MatMulHint):
        found = _contraction(stage, context)
        if isinstance(found, Implementation):
            return found
        rows = row_schedule(stage, context)
        return f"{found}; {rows}" if isinstance(rows, str) else rows
    return row_schedule(stage, context)


def _check_sizes(stage: Stage, context: ScheduleContext) -> None:
    """Raises LimitError where a tensor of the stage is larger than a storage buffer may be."""
    for name in (stage.output, *dict.fromkeys(read.tensor for read in reads(stage.body))):
        tensor = context.tensors[name]
        if isinstance(tensor.elements, int):
            PROFILES["desktop"].check_buffer(f"tensor '{name}'", -(-tensor.elements * tensor.dtype.bits // 8))


def _contraction(stage: Stage, context: ScheduleContext) -> Implementation | str:
    reduce = only_sum(stage)
    if reduce is None or not all(map(is_plain, outside(stage, reduce))):
        return "what is fused with the sum is no epilogue"
    sides = _sides(reduce)
    if sides is None:
        return "the terms of the sum are no products of two elements"
    found = _separate(stage, context, reduce, *sides)
    if isinstance(found, str):
        turned = _separate(stage, context, reduce, *sides[::-1])
        found = found if isinstance(turned, str) else turned
    return found if isinstance(found, str) else found.implementation()


def _sides(reduce: Reduce) -> tuple[Expr, Expr] | None:
    """The factors of the terms: elements, or elements where they lie inside and else zero."""
    match reduce.body:
        case Apply(op=Op.MUL, args=(left, right)) if _is_element(left) and _is_element(right):
            return left, right
        case Select(condition=condition, true=Apply(op=Op.MUL, args=(left, right)), false=Const(value=0.0)):
            return (Select(condition, left, Const(0.0, Scalar.F32)), right) if _is_element(left) else None
        case _:
            return None


def _is_element(expr: Expr) -> bool:
    match expr:
        case Read(type=Scalar.F32):
            return is_plain(expr)
        case Select(condition=condition, true=Read(type=Scalar.F32) as read, false=Const(value=0.0)):
            return is_plain(read) and not any(isinstance(part, Read) for part in subexpressions(condition))
        case _:
            return False


def _separate(stage: Stage, context: ScheduleContext, reduce: Reduce, left: Expr, right: Expr) -> _Contraction | str:
    if not isinstance(right, Read):
        return "no operand is read without a condition"
    read = left.true if isinstance(left, Select) else left
    assert isinstance(read, Read), "an element is a read, perhaps guarded"
    if compute_type(context.tensors[read.tensor].dtype) is not Scalar.F32:
        return "an element type that is not computed in float32"
    if context.tensors[right.tensor].dtype is not DType.FLOAT32:
        return "weights of an element type other than float32"
    axes = [stage.axes[axis] for axis in context.layout(stage.output) if stage.axes[axis].extent != 1]
    of_left, of_right = free_variables(left), free_variables(right)
    columns = [axis for axis in axes if axis.name in of_right and axis.name not in of_left]
    if len(columns) != 1:
        return f"{len(columns)} axes depend on one operand only, where there is to be one of columns"
    batch = [axis for axis in axes if axis.name in of_right and axis.name in of_left]
    rows = [axis for axis in axes if axis.name not in of_right]
    depth = tuple(axis for axis in reduce.axes if axis.extent != 1)
    most = DEFAULT.max_compute_workgroups_per_dimension
    for count in (product([axis.extent for axis in rows]) // _FEWEST_ROWS, product([axis.extent for axis in batch])):
        if isinstance(count, int) and count > most:
            return f"{count} workgroups in one dimension, where at most {most} are certain"
    return _Contraction(stage, context, reduce, left, read, right, tuple(rows), columns[0], tuple(batch), depth)


@dataclass(frozen=True)
class _Contraction:
    stage: Stage
    context: ScheduleContext
    reduce: Reduce
    left: Expr
    read: Read
    right: Read
    rows: tuple[Axis, ...]
    column: Axis
    batch: tuple[Axis, ...]
    depth: tuple[Axis, ...]

    def implementation(self) -> Implementation:
        arguments = Arguments(self.stage, self.context)
        epilogue = Epilogue(arguments, self.reduce, self.column.name)
        depth = self._depth_order(arguments)
        packed = self._packed(arguments, depth)
        m, n, k = (
            arguments.dim(product([axis.extent for axis in axes])) for axes in (self.rows, (self.column,), depth)
        )
        batch = arguments.dim(product([axis.extent for axis in self.batch]))
        flat = self._rows_are_flat(arguments)
        ones: dict[str, Expr] = {
            axis.name: Const(0) for axis in (*self.stage.axes, *self.reduce.axes) if axis.extent == 1
        }
        batches = split(Var("batch"), self.batch, arguments)
        source, place = arguments.buffer(self.read.tensor), arguments.place(self.read.tensor, self.read.indices)
        left_vectors = self._left_vectors(place, depth)

        def position(at: Expr) -> dict[str, Expr]:
            if flat:
                return {**{axis.name: Const(0) for axis in self.rows[:-1]}, self.rows[-1].name: at}
            return split(at, self.rows, arguments)

        def left(row: Mapping[str, Expr], at: Expr, lanes: int) -> Expr:
            values = {**ones, **batches, **row, **split(at, depth, arguments)}
            value: Expr = Load(source, substitute(place, values), Scalar.F32, lanes)
            if isinstance(self.left, Select):
                condition = substitute(arguments.parameters.expr(self.left.condition), values)
                zero = Const(0.0, Scalar.F32)
                value = select(condition, value, zero)
            return value

        weights = arguments.buffer(packed.tensor.name if packed else self.right.tensor, DType.FLOAT32)
        if packed:
            padded = int(str(packed.tensor.shape[1]))
            start = mul(Var("batch"), k) if self.batch else Const(0)

            def right(at: Expr, column: Expr, lanes: int) -> Expr:
                return Load(weights, add(mul(add(start, at), padded), column), Scalar.F32, lanes)

            right_vectors = True
        else:
            far = arguments.place(self.right.tensor, self.right.indices)

            def right(at: Expr, column: Expr, lanes: int) -> Expr:
                values = {**ones, **batches, **split(at, depth, arguments), self.column.name: column}
                return Load(weights, substitute(far, values), Scalar.F32, lanes)

            right_vectors = stride(far, self.column.name) == 1 and isinstance(n, int) and n % 4 == 0

        def store(row: Mapping[str, Expr], column: Expr, value: Expr) -> tuple[Stmt, ...]:
            return epilogue.store({**ones, **batches, **row, self.column.name: column}, value)

        multiplication = Product(
            name=stage_name(self.stage, self.context),
            m=m,
            n=n,
            k=k,
            rows=position,
            left=left,
            right=right,
            store=store,
            batch=batch,
            left_vectors=left_vectors and isinstance(k, int) and k % 4 == 0,
            right_vectors=right_vectors,
            store_vectors=epilogue.vectors() and isinstance(n, int) and n % 4 == 0,
        )
        if isinstance(m, int) and m <= _FEW_ROWS:
            kernel = row_product(multiplication)
        elif isinstance(self.stage.hint, ConvHint) and self.batch and isinstance(n, int) and n < _FEWEST_COLUMNS:
            kernel = narrow_product(multiplication)
        else:
            kernel = tiled_product(multiplication, choose_tile(m, n, batch))
        return Implementation((arguments.call(kernel),), (), (packed,) if packed else ())

    def _depth_order(self, arguments: Arguments) -> tuple[Axis, ...]:
        """The axes of the sum, the one along which the left operand lies densest last."""
        place = arguments.place(self.read.tensor, self.read.indices)
        dense = [axis for axis in self.depth if stride(place, axis.name) == 1]
        if not dense:
            return self.depth
        return (*(axis for axis in self.depth if axis != dense[-1]), dense[-1])

    def _left_vectors(self, place: Expr, depth: tuple[Axis, ...]) -> bool:
        if not depth or stride(place, depth[-1].name) != 1:
            return False
        extent = depth[-1].extent
        free = isinstance(self.left, Select) and depth[-1].name in free_variables(self.left.condition)
        return isinstance(extent, int) and extent % 4 == 0 and not free

    def _rows_are_flat(self, arguments: Arguments) -> bool:
        """Whether the row axes can be counted as one: every access depends on them as on a flat index."""
        if len(self.rows) < 2:
            return bool(self.rows)
        parts = [*outside(self.stage, self.reduce), *(subexpressions(self.left) if self.left != self.read else ())]
        places = [arguments.target(), arguments.place(self.read.tensor, self.read.indices)]
        return arguments.flat(parts, places, self.rows)

    def _packed(self, arguments: Arguments, depth: tuple[Axis, ...]) -> PackedConstant | None:
        """The right operand as [batch][k][column], columns padded to a multiple of four; None where it is not constant,
        or not read at even steps."""
        axes = (*self.batch, *depth, self.column)
        if self.right.tensor not in self.context.constants or not all(isinstance(axis.extent, int) for axis in axes):
            return None
        place = arguments.place(self.right.tensor, self.right.indices)
        steps = [stride(place, axis.name) for axis in axes]
        first = substitute(place, {axis.name: Const(0) for axis in (*self.stage.axes, *self.reduce.axes)})
        if not isinstance(first, Const) or not all(isinstance(step, int) for step in steps):
            return None
        shape, strides = tuple(int(str(axis.extent)) for axis in axes), tuple(int(str(step)) for step in steps)
        rows, padded = math.prod(shape[:-1]), -(-shape[-1] // 4) * 4
        key = f"columns/{first.value}/{','.join(map(str, shape))}/{','.join(map(str, strides))}"
        tensor = Tensor(f"{self.right.tensor}#{key}", DType.FLOAT32, (rows, padded))
        pack = partial(_pack_columns, first=int(first.value), shape=shape, strides=strides)
        return PackedConstant(tensor, self.right.tensor, pack, key)


def _pack_columns(
    array: npt.NDArray[Any], *, first: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Rows of columns, of which there are a multiple of four, from elements that lie `strides` apart."""
    flat = np.ascontiguousarray(array).reshape(-1)[first:]
    view = np.lib.stride_tricks.as_strided(flat, shape, [step * flat.itemsize for step in strides], writeable=False)
    return np.pad(view.reshape(-1, shape[-1]), ((0, 0), (0, -shape[-1] % 4)))
