"""NonMaxSuppression."""

from __future__ import annotations

import numpy as np

from webdnn_onnx.errors import ShapeError
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
    overlap = boxes.dtype.type(0 if iou_threshold is None else scalar(iou_threshold, "iou_threshold"))
    selected = []
    for batch in range(scores.shape[0]):
        corners = _corners(boxes[batch], center_point_box)
        for category in range(scores.shape[1]):
            score = scores[batch, category]
            order = np.argsort(-score, kind="stable")
            if score_threshold is not None:
                order = order[score[order] >= scalar(score_threshold, "score_threshold")]
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
    areas = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    kept: list[int] = []
    while len(order) and len(kept) < limit:
        best, order = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(corners[best, :2], corners[order, :2])
        high = np.minimum(corners[best, 2:], corners[order, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = areas[best] + areas[order] - shared
        real = (shared > 0) & (areas[best] > 0) & (areas[order] > 0) & (union > 0)
        order = order[~(real & (np.divide(shared, union, where=real, out=np.zeros_like(shared)) > overlap))]
    return np.array(kept, np.int64)
