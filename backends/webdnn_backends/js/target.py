"""JavaScript as a compilation target."""

from __future__ import annotations

from webdnn_backends.js.dialect import emit_program
from webdnn_backends.te.compile import Target
from webdnn_backends.te.fuse import Policy
from webdnn_backends.te.generic import GenericOptions

__all__ = ["TARGET", "emit"]

TARGET = Target("js", Policy(tensors=16), GenericOptions(lanes=1, parallel=False))

emit = emit_program
