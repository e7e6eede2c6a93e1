"""The JavaScript dialect: kernels as functions of one readable ES module."""

from webdnn_backends.js.dialect import emit, emit_module

__all__ = ["emit", "emit_module"]
