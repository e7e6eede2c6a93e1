"""NonMaxSuppression."""

from __future__ import annotations

import numpy as np

from webdnn_onnx.errors import InvalidModelError, ShapeError
from webdnn_reference.numeric import Array, scalar, scalar_int
from webdnn_reference.registry import op

__all__ = ["non_max_suppression"]


@op("NonMaxSuppression", (10, 11))
def non_max_suppression(
    boxes: Array,
    scores: Array,
    max_output_boxes_per_class: Array | None = None,
    iou_threshold: Array | None = None,
    score_threshold: Array | None = None,
    *,
    center_point_box: int = 0,
) -> Array:
    """The boxes of each class that no better one overlaps by more than a threshold.

    boxes: float[batches, N, 4], scores: float[batches, classes, N] -> int64[selected, 3] as batch, class, box; within
    a class best score first, equal scores by box. Absent thresholds: overlap 0, any score; an absent maximum selects
    nothing. Boxes with a score below the threshold are left out, as are boxes without area from suppressing.
    Raises ShapeError.
    Spec: https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html#nonmaxsuppression-11
    """
    if boxes.ndim != 3 or boxes.shape[2] != 4 or scores.ndim != 3 or scores.shape[::2] != boxes.shape[:2]:
        raise ShapeError(
            f"expected boxes [B, N, 4] and scores [B, C, N], got {list(boxes.shape)}, {list(scores.shape)}"
        )
    limit = 0
    if max_output_boxes_per_class is not None:
        limit = scalar_int(max_output_boxes_per_class, "max_output_boxes_per_class")
    if center_point_box not in (0, 1):
        raise InvalidModelError(f"center_point_box: expected 0 or 1, got {center_point_box}")
    overlap = boxes.dtype.type(0 if iou_threshold is None else scalar(iou_threshold, "iou_threshold"))
    if not 0 <= overlap <= 1:
        raise InvalidModelError(f"iou_threshold: expected one in [0, 1], got {overlap}")
    selected = []
    for batch in range(scores.shape[0]):
        corners = _corners(boxes[batch], center_point_box)
        for category in range(scores.shape[1]):
            score = scores[batch, category]
            order = np.arange(len(score))
            if score_threshold is not None:
                order = np.flatnonzero(score >= scalar(score_threshold, "score_threshold"))
            order = order[np.argsort(-score[order], kind="stable")]
            kept = _select(corners, order, limit, overlap)
            selected.append(np.stack([np.full_like(kept, batch), np.full_like(kept, category), kept], axis=1))
    return np.concatenate(selected) if selected else np.zeros((0, 3), np.int64)


def _corners(boxes: Array, center_point_box: int) -> Array:
    """Least and greatest corner of each box: y1, x1, y2, x2 (the order of the axes does not matter)."""
    if center_point_box:
        center, half = boxes[:, :2], boxes[:, 2:] / 2
        return np.concatenate([center - half, center + half], axis=1)
    return np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)


def _select(corners: Array, order: Array, limit: int, overlap: np.floating) -> Array:
    """Indices kept, best first."""
    top, left, bottom, right = np.ascontiguousarray(corners[order].T)
    areas = (bottom - top) * (right - left)
    alive = np.ones(len(order), np.bool_)
    kept: list[int] = []
    at, fallen = 0, 0
    while len(kept) < limit and at < len(order):
        at += int(alive[at:].argmax())
        if not alive[at]:
            break
        kept.append(int(order[at]))
        best, at = at, at + 1
        height = np.minimum(bottom[best], bottom[at:]) - np.maximum(top[best], top[at:])
        width = np.minimum(right[best], right[at:]) - np.maximum(left[best], left[at:])
        shared = np.maximum(height, 0) * np.maximum(width, 0)
        # Few boxes meet the best one; of these, those without area suppress nothing and stay.
        (met,) = np.nonzero(shared > 0)
        common, others = shared[met], areas[at:][met]
        union = areas[best] + others - common
        real = (areas[best] > 0) & (others > 0) & (union > 0)
        gone = at + met[real & (np.divide(common, union, where=real, out=np.zeros_like(common)) > overlap)]
        fallen += int(np.count_nonzero(alive[gone]))
        alive[gone] = False
        if 2 * (fallen + at) > len(order):
            rest = at + np.flatnonzero(alive[at:])
            order, areas, alive = order[rest], areas[rest], alive[rest]
            top, left, bottom, right = top[rest], left[rest], bottom[rest], right[rest]
            at, fallen = 0, 0
    return np.array(kept, np.int64)
