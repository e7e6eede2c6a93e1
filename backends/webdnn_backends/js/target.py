"""JavaScript as a compilation target."""

from __future__ import annotations

from webdnn_backends.js.dialect import emit_program
from webdnn_backends.js.schedule import OPTIONS, implement
from webdnn_backends.te.compile import Target
from webdnn_backends.te.fuse import Policy

__all__ = ["TARGET", "emit"]

TARGET = Target("js", Policy(tensors=16), OPTIONS, channels_last=True, implement=implement)

emit = emit_program
