"""The JPEG 2000 decoder of ImageDecoder gives the pixels that Pillow (OpenJPEG) gives."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from webdnn_backends.js.host_functions import host_module

pytest.importorskip("PIL", reason="Pillow is not installed")

from PIL import Image, features

pytestmark = [
    pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow has no JPEG 2000"),
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not on the PATH"),
]

DRIVER = """
import { readFileSync, writeFileSync } from "node:fs";
const results = process.argv.slice(2).map((path) => {
  try {
    const image = readJpeg2000(new Uint8Array(readFileSync(path)));
    writeFileSync(path + ".rgb", image.rgb);
    return [image.height, image.width];
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
});
console.log(JSON.stringify(results));
"""

LAYERS = {"quality_mode": "rates", "quality_layers": [20, 5, 1]}
PRECINCTS = {"precinct_size": (32, 32), "codeblock_size": (16, 16), "tile_size": (70, 64)}
LOSSLESS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "grey": ((37, 53), {}),
    "rgb": ((37, 53, 3), {}),
    "bare_codestream": ((20, 30, 3), {"no_jp2": True}),
    "no_colour_transform": ((21, 30, 3), {"mct": 0}),
    "alpha_is_dropped": ((50, 41, 4), {}),
    "grey_and_alpha": ((50, 41, 2), {}),
    "one_pixel": ((1, 1, 3), {}),
    "tiles": ((45, 71, 3), {"tile_size": (32, 32)}),
    "tiles_off_the_origin": ((60, 60, 3), {"offset": (13, 7), "tile_offset": (5, 3), "tile_size": (33, 21)}),
    "one_resolution": ((130, 97, 3), {"num_resolutions": 1}),
    "flat_code_blocks": ((70, 97, 3), {"num_resolutions": 4, "codeblock_size": (16, 8)}),
    "layers_that_stop_early": ((99, 120, 3), {"quality_mode": "rates", "quality_layers": [40, 20]}),
    **{
        f"order_{order.lower()}": ((100, 131, 3), {"progression": order, **LAYERS, **PRECINCTS})
        for order in ("LRCP", "RLCP", "RPCL", "PCRL", "CPRL")
    },
}
LOSSY: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "grey": ((128, 99), {}),
    "rgb": ((128, 201, 3), {}),
    "tiles": ((128, 201, 3), {"tile_size": (64, 50)}),
    "seven_resolutions": ((130, 197, 3), {"num_resolutions": 7}),
    "layers": ((130, 197, 3), {"quality_mode": "rates", "quality_layers": [60, 30, 10]}),
    "one_row": ((1, 177, 3), {}),
}


def _pixels(shape: tuple[int, ...]) -> np.ndarray:
    """Waves with noise, so that every coding pass has something to say."""
    height, width, *channels = shape
    generator = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x / 7 + k) * np.cos(y / 5 + 2 * k) for k in range(channels[0] if channels else 1)]
    noisy = np.stack(waves, -1) + generator.normal(0, 9, (height, width, len(waves)))
    return noisy.clip(0, 255).astype(np.uint8).reshape(shape)


def _encoded(pixels: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG2000", **options)
    return stream.getvalue()


def _by_pillow(stream: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(stream)).convert("RGB"))


def _decoded(folder: Path, *streams: bytes) -> list[np.ndarray | str]:
    """The pixels of each stream, or the error, from the host module in Node."""
    module = folder / "module.mjs"
    module.write_text(host_module(["image_decoder"]) + DRIVER, "utf-8")
    paths = [folder / f"{index}.jp2" for index in range(len(streams))]
    for path, stream in zip(paths, streams, strict=True):
        path.write_bytes(stream)
    command = ["node", str(module), *map(str, paths)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    return [
        result if isinstance(result, str) else np.fromfile(f"{path}.rgb", np.uint8).reshape(*result, 3)
        for path, result in zip(paths, json.loads(output), strict=True)
    ]


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_reversible_image_is_exact(name: str, tmp_path: Path) -> None:
    shape, options = LOSSLESS[name]
    stream = _encoded(_pixels(shape), irreversible=False, **options)
    (got,) = _decoded(tmp_path, stream)
    np.testing.assert_array_equal(got, _by_pillow(stream))


@pytest.mark.parametrize("name", LOSSY)
def test_an_irreversible_image_is_close(name: str, tmp_path: Path) -> None:
    shape, options = LOSSY[name]
    stream = _encoded(_pixels(shape), irreversible=True, **options)
    (got,) = _decoded(tmp_path, stream)
    assert isinstance(got, np.ndarray), got
    difference = np.abs(got.astype(int) - _by_pillow(stream)).max(axis=-1)
    assert difference.max() <= 2
    assert np.mean(difference <= 1) >= 0.999


def test_sixteen_bits_of_grey_are_clipped(tmp_path: Path) -> None:
    stream = _encoded(_pixels((40, 33)).astype(np.uint16) * 3)
    (got,) = _decoded(tmp_path, stream)
    np.testing.assert_array_equal(got, _by_pillow(stream))


def test_luma_and_chroma_become_rgb(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(_pixels((40, 33, 3))).convert("YCbCr").save(stream, "JPEG2000")
    (got,) = _decoded(tmp_path, stream.getvalue())
    np.testing.assert_allclose(np.asarray(got, int), _by_pillow(stream.getvalue()), atol=1)


def test_a_smaller_component_is_repeated(tmp_path: Path) -> None:
    pixels = _pixels((20, 24))
    stream = bytearray(_encoded(pixels, no_jp2=True))
    # In SIZ: the sizes of the image and of its one tile, and how many of their points lie between two samples.
    for at, value in ((8, 48), (12, 40), (24, 48), (28, 40)):
        stream[at : at + 4] = value.to_bytes(4, "big")
    stream[43:45] = bytes([2, 2])
    (got,) = _decoded(tmp_path, bytes(stream))
    np.testing.assert_array_equal(np.asarray(got)[..., 1], pixels.repeat(2, axis=0).repeat(2, axis=1))


def test_a_damaged_file_is_one_error_or_an_image(tmp_path: Path) -> None:
    stream = _encoded(_pixels((60, 71, 3)), tile_size=(40, 40), no_jp2=True, **LAYERS)
    generator = np.random.default_rng(3)
    damaged = [stream[:length] for length in range(10, len(stream) - 2, len(stream) // 40)]
    cut = len(damaged)
    for _ in range(200):
        bytes_ = bytearray(stream)
        bytes_[generator.integers(4, 120 if generator.random() < 0.7 else len(stream))] = generator.integers(256)
        damaged.append(bytes(bytes_))
    results = _decoded(tmp_path, *damaged)
    errors = [result for result in results if isinstance(result, str)]
    assert all(isinstance(result, str) for result in results[:cut]), "a part of a file is not an image"
    assert {error for error in errors if not error.startswith("RangeError: JPEG 2000: ")} == set()


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    stream = _encoded(_pixels((8, 8)), no_jp2=True)
    region = stream.replace(b"\xff\x52", b"\xff\x5e\x00\x05\x00\x00\x01\xff\x52", 1)
    deep = stream[:42] + b"\x1f" + stream[43:]
    (first, second) = _decoded(tmp_path, region, deep)
    assert first == "RangeError: JPEG 2000: a region of interest is not read"
    assert second == "RangeError: JPEG 2000: 32 bits per sample, up to 16 are read"


def test_only_image_decoder_carries_the_decoder() -> None:
    assert "readJpeg2000" in host_module(["image_decoder"])
    assert "readJpeg2000" not in host_module(["sequence_at"])
