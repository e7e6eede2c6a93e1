"""Which stages get tiled JavaScript kernels: matrix products and two-dimensional convolutions in float32.

The kernels are those of WebAssembly with a tile that suits scalar registers, so both backends read the same packed
weights and a bundle with both holds them once.
"""

from __future__ import annotations

from dataclasses import replace

from webdnn_backends.js.innermost import tightened
from webdnn_backends.js.sums import with_double_sums
from webdnn_backends.te.generic import GenericOptions, generic
from webdnn_backends.te.implementation import Implementation, ScheduleContext
from webdnn_backends.te.tensors import Stage
from webdnn_backends.wasm.schedule import implement as tiled
from webdnn_backends.wasm.tiles import Tile

__all__ = ["OPTIONS", "TILE", "implement"]

OPTIONS = GenericOptions(lanes=1, parallel=False)

TILE = Tile(rows=3, vectors=1, most_registers=3, unroll=1, blocked=False)
"""12 sums: more spill, and fewer load more often than they multiply."""


def implement(stage: Stage, context: ScheduleContext) -> Implementation | str:
    """The kernels of a stage, or the reason why the generic schedule should take it."""
    found = tiled(stage, context, TILE, None)
    if isinstance(found, str):
        if stage.hint is not None or not stage.reductions:
            return found
        found = Implementation((generic(stage, context, OPTIONS),))
    calls = tuple(replace(call, kernel=tightened(with_double_sums(call.kernel))) for call in found.calls)
    return replace(found, calls=calls)
