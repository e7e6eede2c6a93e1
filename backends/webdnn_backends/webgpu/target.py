"""WebGPU as a compilation target, on what every WebGPU device has."""

from __future__ import annotations

from webdnn_backends.te.compile import Target
from webdnn_backends.te.fuse import Policy
from webdnn_backends.te.generic import GenericOptions
from webdnn_backends.webgpu.dialect import emit_program, objection
from webdnn_backends.webgpu.profile import DEFAULT
from webdnn_backends.webgpu.schedule import implement
from webdnn_backends.webgpu.share import shared

__all__ = ["TARGET", "emit"]

_ENOUGH_INVOCATIONS = 8192

TARGET = Target(
    "webgpu",
    Policy(tensors=DEFAULT.max_storage_buffers_per_shader_stage - 1, split=True),
    GenericOptions(lanes=4, parallel=True, iterations=_ENOUGH_INVOCATIONS),
    channels_last=True,
    implement=implement,
    objection=objection,
    adapt=shared,
)

emit = emit_program
