"""ImageDecoder, the one operator that needs Pillow."""

from __future__ import annotations

import io

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError, UnsupportedOpError
from webdnn_reference.numeric import Array
from webdnn_reference.registry import op

_FORMATS = ("BMP", "JPEG", "JPEG2000", "TIFF", "PNG", "WEBP", "PPM")
_MODES = {"RGB": "RGB", "BGR": "RGB", "Grayscale": "L"}


@op("ImageDecoder", since=20)
def image_decoder(encoded_stream: Array, *, pixel_format: str = "RGB") -> Array:
    """The pixels of an encoded image: BMP, JPEG, JPEG2000, TIFF, PNG, WebP, or the portable formats.

    encoded_stream: uint8[n] -> uint8[height, width, channels], 3 channels or, for Grayscale, 1. A stream that cannot
    be decoded gives an empty image. Raises UnsupportedOpError where Pillow is not installed.
    Spec: https://onnx.ai/onnx/operators/onnx__ImageDecoder.html#imagedecoder-20
    """
    if encoded_stream.ndim != 1:
        raise ShapeError(f"encoded_stream: expected rank 1, got shape {list(encoded_stream.shape)}")
    if pixel_format not in _MODES:
        raise InvalidModelError(f"pixel_format: expected {', '.join(_MODES)}, got '{pixel_format}'")
    try:
        from PIL import Image
    except ImportError:
        raise UnsupportedOpError("decoding: expected the package pillow, got none; install pillow") from None
    try:
        with Image.open(io.BytesIO(encoded_stream.tobytes()), formats=_FORMATS) as image:
            pixels = np.asarray(image.convert(_MODES[pixel_format]), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        # Pillow reports damaged PNG chunks as SyntaxError.
        return np.zeros((0, 0, 1 if pixel_format == "Grayscale" else 3), np.uint8)
    if pixel_format == "Grayscale":
        return pixels[:, :, None]
    return pixels[:, :, ::-1] if pixel_format == "BGR" else pixels
