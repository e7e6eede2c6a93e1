"""The errors that this package raises; users catch them by type, never by text.

A message is one line with four facts: where (operator, node, opset), what, expected, got; and, where it helps,
a fifth: what to do.
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "DTypeError",
    "InvalidModelError",
    "LimitError",
    "OutputError",
    "ShapeError",
    "UnsupportedOpError",
    "WebDNNError",
    "describe_node",
]


class WebDNNError(Exception):
    """Base of every error that is the input's fault, not ours."""


class InvalidModelError(WebDNNError):
    """The file is no ONNX model, is damaged, or breaks a rule of the specification."""


class UnsupportedOpError(WebDNNError):
    """No implementation of an operator at the version that the model asks for."""


class ShapeError(WebDNNError):
    """A shape, rank, axis or dimension is not what the operator or the caller allows."""


class DTypeError(WebDNNError):
    """An element type is not what the operator or the caller allows."""


class LimitError(WebDNNError):
    """A limit of the device profile, the file format or the machine would be exceeded."""


class BackendError(WebDNNError):
    """A backend failed while it ran: a lost device, a validation error, a browser that did not start."""


class OutputError(WebDNNError):
    """The result could not be written: the folder is not ours, the disk is full, permission is missing."""


def describe_node(op: str, name: str = "", opset: int | None = None, domain: str = "") -> str:
    """The place an error message starts with: `Conv 'stem' (opset 11)`."""
    qualified = f"{domain}.{op}" if domain else op
    text = f"{qualified} '{name}'" if name else qualified
    return f"{text} (opset {opset})" if opset is not None else text
