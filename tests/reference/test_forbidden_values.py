"""Values of attributes and inputs that the specification excludes, and how the reference names them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.reference.one_node import run
from webdnn_onnx.errors import WebDNNError

IMAGE = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
HEADS = np.ones((1, 2, 3, 4), np.float32)
BOXES = np.array([[[0, 0, 1, 1], [0, 0, 2, 2]]], np.float32)
SCORES = np.array([[[0.5, 0.6]]], np.float32)
STEPS, GATES = np.ones((2, 1, 2), np.float32), np.ones((1, 8, 2), np.float32)
SIGNAL, KERNEL = np.ones((1, 2, 4), np.float32), np.ones((2, 2, 3), np.float32)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def i64(value: int) -> np.ndarray:
    return np.array(value, np.int64)


@pytest.mark.parametrize(
    ("op", "opset", "inputs", "attributes", "message"),
    [
        ("Attention", 23, [HEADS] * 3, {"softmax_precision": 7}, "softmax_precision: expected 1, 10, 11 or 16, got 7"),
        ("Attention", 25, [HEADS] * 3, {"left_window_size": -2}, "expected -1 or more, got -2 and -1"),
        (
            "Attention", 24, [HEADS, HEADS, HEADS, None, None, None, np.array([4])], {},
            r"nonpad_kv_seqlen: expected lengths of 0\.\.3, got \[4\]",
        ),
        ("ConvTranspose", 11, [SIGNAL, KERNEL], {"output_shape": (3, 4)}, r"output_shape: .* got \[3, 4\]"),
        ("ConvTranspose", 11, [SIGNAL, KERNEL[:, :, :0]], {}, "W: expected a kernel of at least one element"),
        ("GridSample", 16, [np.ones((1, 1, 2, 2, 2)), np.ones((1, 1, 1, 1, 3))], {}, "X: expected rank 4 before"),
        ("LSTM", 14, [STEPS, GATES, GATES], {"clip": -1.0}, "clip: expected a positive number, got -1"),
        ("LSTM", 14, [STEPS, GATES, GATES], {"layout": 2}, "layout: expected 0 or 1, got 2"),
        ("MelWeightMatrix", 17, [i64(4), i64(8), i64(0), f32(0)[0], f32(9)[0]], {}, "got 4, 8 and 0"),
        ("NonMaxSuppression", 11, [BOXES, SCORES, i64(1), f32(1.5)], {}, r"iou_threshold: .* got 1\.5"),
        ("NonMaxSuppression", 11, [BOXES, SCORES, i64(1), f32(np.nan)], {}, "iou_threshold: .* got nan"),
        ("NonMaxSuppression", 11, [BOXES, SCORES], {"center_point_box": 2}, "center_point_box: expected 0 or 1, got 2"),
        ("Resize", 10, [IMAGE, f32(1, 1, 0, 2)], {}, r"axis 2: expected a positive scale or size, got 0\.0"),
        ("Resize", 10, [IMAGE, f32(1, 1, 2, 2)], {"mode": "cubic"}, "mode: expected nearest or linear, got 'cubic'"),
        (
            "Resize", 19, [IMAGE, f32(0, 0, 0, np.nan, 1, 1, 1, 1), f32(1, 1, 2, 2)],
            {"coordinate_transformation_mode": "tf_crop_and_resize"}, "roi: expected finite numbers",
        ),
        ("Upsample", 9, [IMAGE, f32(1, 1, 0.5, 1)], {}, r"scales: expected at least 1, got \[1\.0, 1\.0, 0\.5, 1\.0\]"),
    ],
)  # fmt: skip
def test_what_the_specification_excludes_is_refused(
    op: str, opset: int, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(WebDNNError, match=message):
        run(op, *(None if value is None else np.asarray(value) for value in inputs), opset=opset, **attributes)
