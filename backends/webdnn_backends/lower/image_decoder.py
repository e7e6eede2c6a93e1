"""ImageDecoder: a host function that reads the common formats by itself and leaves the others to the browser."""

from __future__ import annotations

from webdnn_backends.lower.context import NodeContext
from webdnn_backends.lower.registry import lowering
from webdnn_onnx.errors import InvalidModelError

__all__: list[str] = []


@lowering("ImageDecoder", since=20)
def _image_decoder(context: NodeContext) -> None:
    pixel_format = context.attribute("pixel_format", "RGB")
    if pixel_format not in ("RGB", "BGR", "Grayscale"):
        raise InvalidModelError(f"{context.where}: pixel_format: expected RGB, BGR or Grayscale, got '{pixel_format}'")
    context.host("image_decoder", {"format": pixel_format})
