"""The physical axis order of intermediate tensors.

Convolution kernels read and write channels-last, so every rank-4 tensor between them is kept that way: a stage reads
any layout by its strides, and nothing is transposed. Inputs, outputs and weights that no kernel packs stay row-major.
"""

from __future__ import annotations

from webdnn_backends.ir.loops import Const, Expr, Var
from webdnn_backends.ir.rewrite import reads
from webdnn_backends.te.implementation import Layout
from webdnn_backends.te.tensors import ConvHint, PoolHint, ReshapeHint, Stage, TensorProgram, arguments_read, results

__all__ = ["CHANNELS_LAST", "channels_last"]

CHANNELS_LAST: Layout = (0, 2, 3, 1)


def channels_last(program: TensorProgram) -> dict[str, Layout]:
    """Layouts for the tensors that are better off channels-last: outputs of 2-D convolutions and poolings, and of
    rank-4 stages that read one of those position by position."""
    fixed = {*program.inputs, *program.outputs, *program.constants}
    for item in program.items:
        if not isinstance(item, Stage):
            fixed.update(arguments_read(item))
            fixed.update(results(item))
        elif isinstance(item.hint, ReshapeHint):
            fixed.add(item.output)
    layouts: dict[str, Layout] = {}
    for item in program.items:
        if not isinstance(item, Stage) or len(item.axes) != 4 or item.output in fixed:
            continue
        own = isinstance(item.hint, ConvHint) or (isinstance(item.hint, PoolHint) and item.hint.x in layouts)
        if own or any(_follows(item, read.indices) for read in reads(item.body) if read.tensor in layouts):
            layouts[item.output] = CHANNELS_LAST
    return layouts


def _follows(stage: Stage, indices: tuple[Expr, ...]) -> bool:
    """Whether a rank-4 read keeps batch and spatial axes in place (channels may be shifted, as in a concatenation)."""
    kept = [
        isinstance(index, Const) or index == Var(axis.name) for axis, index in zip(stage.axes, indices, strict=True)
    ]
    return kept[0] and kept[2] and kept[3]
