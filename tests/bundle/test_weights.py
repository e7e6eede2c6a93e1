"""Weight files: storage forms, encodings, shards."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from webdnn_onnx.bundle import weights
from webdnn_onnx.bundle.weights import WeightFile, stored_bytes
from webdnn_onnx.dtypes import DType
from webdnn_onnx.errors import DTypeError


def collect(encoding: str = "f32") -> tuple[WeightFile, dict[str, bytes]]:
    files: dict[str, bytes] = {}
    return WeightFile(encoding, files.__setitem__), files  # type: ignore[arg-type]  # one of the encodings


def test_four_bit_elements_are_packed_low_nibble_first() -> None:
    array = np.array([1, -2, 7], ml_dtypes.int4)
    assert stored_bytes(array, DType.INT4) == bytes([0xE1, 0x07])


def test_two_bit_elements_are_packed_four_to_a_byte() -> None:
    assert stored_bytes(np.array([1, 2, 3, 0, 2], ml_dtypes.uint2), DType.UINT2) == bytes([0b00111001, 0b10])


@pytest.mark.parametrize("dtype", [DType.FLOAT6E2M3, DType.FLOAT6E3M2], ids=lambda dtype: dtype.value)
def test_six_bits_have_no_storage_form(dtype: DType) -> None:
    with pytest.raises(DTypeError, match="expected a numeric type"):
        stored_bytes(np.zeros(3, dtype.numpy), dtype)


def test_strings_have_no_storage_form() -> None:
    with pytest.raises(DTypeError, match="string"):
        stored_bytes(np.array(["a"], object), DType.STRING)


def test_equal_constants_are_stored_once() -> None:
    file, _ = collect()
    array = np.arange(100, dtype=np.float32)
    assert file.add(array, DType.FLOAT32) is file.add(array.copy(), DType.FLOAT32)
    file.finish()
    assert file.stored == 400


def test_a_constant_of_equal_elements_takes_no_bytes() -> None:
    file, files = collect()
    assert file.add(np.full((64, 64), 0.5, np.float32), DType.FLOAT32) == {"encoding": "fill", "value": 0.5}
    assert file.finish() == []
    assert files == {}


def test_a_large_constant_runs_over_several_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SHARD_BYTES", 1 << 12)
    file, files = collect()
    array = np.arange(5000, dtype=np.float32)
    record = file.add(array, DType.FLOAT32)
    shards = file.finish()
    assert [shard["file"] for shard in shards] == sorted(files)
    assert all(len(content) <= 1 << 12 for content in files.values())
    stored = b"".join(
        files[shards[piece["shard"]]["file"]][piece["offset"] : piece["offset"] + piece["bytes"]]
        for piece in record["pieces"]
    )
    assert stored == array.tobytes()


def test_half_precision_storage_is_refused_beyond_its_range() -> None:
    file, _ = collect("f16")
    small, large = np.linspace(-1, 1, 2048, dtype=np.float32), np.linspace(0, 1e6, 2048, dtype=np.float32)
    assert file.add(small, DType.FLOAT32)["encoding"] == "f16"
    assert file.add(large, DType.FLOAT32)["encoding"] == "raw"


@pytest.mark.parametrize("shape", [(16, 300), (4, 60, 8)])
def test_int8_storage_is_within_half_a_step_of_each_channel(shape: tuple[int, ...]) -> None:
    file, files = collect("int8")
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    record = file.add(array, DType.FLOAT32)
    file.finish()
    (content,) = files.values()

    def part(pieces: list[dict[str, int]], dtype: str) -> np.ndarray:
        return np.frombuffer(b"".join(content[p["offset"] : p["offset"] + p["bytes"]] for p in pieces), dtype)

    codes, scales = part(record["pieces"], "<i1"), part(record["scales"], "<f4")
    index = np.arange(codes.size)
    scale = scales[index // record["channel"] * record["lanes"] + index % record["lanes"]]
    assert np.max(np.abs(codes * scale - array.ravel()) / scale) <= 0.5 + 1e-3
