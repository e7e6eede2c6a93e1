"""Tensors as bytes between Python and JavaScript."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from webdnn_onnx.dtypes import DType
from webdnn_onnx.engines.tensors import decode, encode
from webdnn_onnx.errors import BackendError

PLAIN = [dtype for dtype in DType if dtype is not DType.STRING]


def sample(dtype: DType, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Every bit pattern the type has, as far as they fit."""
    random = np.random.default_rng(1)
    if dtype is DType.BOOL:
        return random.random(shape) < 0.5
    if dtype.bits < 8:
        codes = random.integers(0, 1 << dtype.bits, shape).astype(np.uint8)
        if dtype.is_signed_integer:
            return (codes.astype(np.int8) - (1 << (dtype.bits - 1))).astype(dtype.numpy)
        return codes.astype(dtype.numpy) if dtype.is_integer else codes.view(dtype.numpy)
    return random.integers(0, 256, (*shape, dtype.numpy.itemsize), np.uint8).view(dtype.numpy).reshape(shape)


@pytest.mark.parametrize("dtype", PLAIN, ids=lambda dtype: dtype.value)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4), (5,)], ids=str)
def test_a_tensor_survives_the_way(dtype: DType, shape: tuple[int, ...]) -> None:
    array = sample(dtype, shape)
    header, values = decode(encode({"number": 7}, {"x": array}))
    got = values["x"]
    assert header == {"number": 7}
    assert isinstance(got, np.ndarray)
    assert got.dtype == array.dtype
    assert got.shape == array.shape
    assert got.tobytes() == array.tobytes()


def test_four_bit_elements_are_packed_low_nibble_first() -> None:
    message = encode({}, {"x": np.array([1, 2, 3], dtype=ml_dtypes.uint4)})
    assert message.endswith(bytes([0x21, 0x03]))


def test_the_payload_starts_at_a_multiple_of_eight() -> None:
    message = encode({"pad": "x"}, {"x": np.zeros(1)})
    assert (4 + int.from_bytes(message[:4], "little")) % 8 == 0


def test_every_tensor_starts_at_a_multiple_of_eight() -> None:
    array = np.arange(4, dtype=np.int64)
    _, values = decode(encode({}, {"flags": np.array([True]), "x": array}))
    assert np.array_equal(np.asarray(values["x"]), array)


def test_strings_sequences_maps_and_absent_values_survive() -> None:
    given: dict[str, Any] = {
        "text": np.array([["a", "ß"], ["", "\0"]], dtype=object),
        "list": [np.ones(2, np.float32), np.zeros((0, 3), np.int8)],
        "map": {"cat": np.float32(0.5), "dog": np.float32(0.25)},
        "none": None,
    }
    _, values = decode(encode({}, given))
    text, items, mapping = np.asarray(values["text"]), values["list"], values["map"]
    assert text.tolist() == given["text"].tolist()
    assert isinstance(items, list)
    assert [item.shape for item in items] == [(2,), (0, 3)]
    assert isinstance(mapping, dict)
    assert {key: float(value) for key, value in mapping.items()} == {"cat": 0.5, "dog": 0.25}
    assert values["none"] is None


def test_non_contiguous_and_big_endian_arrays_are_sent_by_value() -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2]
    _, values = decode(encode({}, {"x": array}))
    assert np.array_equal(np.asarray(values["x"]), array)


@pytest.mark.parametrize("message", [b"", b"\xff\xff\xff\x7f", b"\x02\x00\x00\x00{]"])
def test_a_damaged_message_is_a_backend_error(message: bytes) -> None:
    with pytest.raises(BackendError, match="message of tensors"):
        decode(message)
