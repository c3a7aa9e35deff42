"""NonMaxSuppression and RoiAlign: around detectors, on the host.

RoiAlign: He et al. 2017 "Mask R-CNN".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import DType
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag, integer, number, text
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import optional, required, unknown_dim

NAMES = ("NonMaxSuppression", "RoiAlign")


def _suppression_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    for index in (0, 1):
        shape = required(node, inputs, index).shape
        if shape is not None and len(shape) != 3:
            raise ModelError(f"node {node}: input {index} has shape {list(shape)}, expected 3 axes")
    return (TensorType(DType.INT64, (unknown_dim(node, 0), 3)),)


def _corners(node: Node, boxes: Array) -> Array:
    """(..., 4): y and x of the lower corner, then of the upper one."""
    if flag(node, "center_point_box"):
        x, y, width, height = np.moveaxis(boxes, -1, 0)
        low, high = (y - height / 2, x - width / 2), (y + height / 2, x + width / 2)
        return np.stack([*low, *high], axis=-1)
    pairs = boxes.reshape(*boxes.shape[:-1], 2, 2)
    return np.concatenate((pairs.min(axis=-2), pairs.max(axis=-2)), axis=-1)


def _overlap(box: Array, others: Array) -> Array:
    """Intersection over union of one box with each of (n, 4)."""
    shared = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    both = np.where((shared > 0).all(axis=1), shared.prod(axis=1), 0.0)
    own, areas = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1)
    union = own + areas - both
    sound = (own > 0) & (areas > 0) & (union > 0)
    return np.where(sound, both / np.where(sound, union, 1.0), 0.0)


def _first(inputs: Sequence[Array | None], index: int) -> float | None:
    given = optional(inputs, index)
    return float(given.reshape(-1)[0]) if given is not None and given.size else None


def _suppression(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Greedy by score, of equal scores the first box; each class on its own."""
    boxes, scores = wide(required(node, inputs, 0)), wide(required(node, inputs, 1))
    most, least = int(max(_first(inputs, 2) or 0, 0)), _first(inputs, 4)
    threshold, found = _first(inputs, 3) or 0.0, []
    for image, corners in enumerate(_corners(node, boxes)):
        for label, each in enumerate(scores[image]):
            order = np.argsort(-each, kind="stable")
            if least is not None:
                order = order[each[order] > least]
            kept: list[int] = []
            for box in order:
                if len(kept) == most:
                    break
                if not (_overlap(corners[box], corners[kept]) > threshold).any():
                    kept.append(int(box))
            found += [(image, label, box) for box in kept]
    return (np.array(found, np.int64).reshape(-1, 3),)


# --- RoiAlign ----------------------------------------------------------------------------------


def _roi_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, rois = required(node, inputs, 0), required(node, inputs, 1)
    if x.shape is None or rois.shape is None:
        return (TensorType(x.dtype, None),)
    if len(x.shape) != 4 or len(rois.shape) != 2:
        raise ModelError(f"node {node}: regions {list(rois.shape)} of {list(x.shape)}")
    return (TensorType(x.dtype, (rois.shape[0], x.shape[1], *_pooled(node))),)


def _pooled(node: Node) -> tuple[int, int]:
    return integer(node, "output_height", 1), integer(node, "output_width", 1)


def _roi(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Regions are (x1, y1, x2, y2); until opset 10 they were half a pixel elsewhere."""
    given, rois, images = (required(node, inputs, i) for i in range(3))
    x, halved = wide(given), _is_halved(node)
    pooled, largest = np.array(_pooled(node)), text(node, "mode", "avg", choices=("avg", "max"))
    regions = wide(rois) * number(node, "spatial_scale", 1.0) - (0.5 if halved else 0.0)
    y = np.zeros((len(rois), x.shape[1], *pooled))
    for index, (region, image) in enumerate(zip(regions, images.reshape(-1), strict=True)):
        start, end = region[[1, 0]], region[[3, 2]]
        extent = end - start if halved else np.maximum(end - start, 1.0)
        ratio = integer(node, "sampling_ratio", 0)
        counts = np.full(2, ratio) if ratio > 0 else np.ceil(extent / pooled).astype(int)
        lines = [
            start[i]
            + (np.arange(pooled[i] * counts[i]) + 0.5) * extent[i] / (pooled[i] * counts[i])
            for i in (0, 1)
        ]
        y[index] = _bins(x[image], lines, pooled, counts, largest == "max")
    return (rounded(y, dtype_of(given)),)


def _is_halved(node: Node) -> bool:
    """Opset 16 brought the attribute, whose default moves the regions by half a pixel."""
    choices = ("half_pixel", "output_half_pixel")
    return text(node, "coordinate_transformation_mode", choices[0], choices=choices) == choices[0]


def _old_roi(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    attrs = {**node.attrs, "coordinate_transformation_mode": "output_half_pixel"}
    return _roi(replace(node, attrs=attrs), inputs)


def _bins(x: Array, lines: list[Array], pooled: Array, counts: Array, largest: bool) -> Array:
    """The mean, or the largest weighted corner, of the samples (C, H, W) in each bin."""
    if not counts.all():
        return np.zeros((len(x), *pooled))
    rows, columns = (_corner_weights(p, size) for p, size in zip(lines, x.shape[1:], strict=True))
    corners = [x[:, r[:, None], c] * (rw[:, None] * cw) for r, rw in rows for c, cw in columns]
    shape = (len(x), pooled[0], counts[0], pooled[1], counts[1])
    if largest:
        return np.asarray(np.max(corners, axis=0).reshape(shape).max(axis=(2, 4)))
    return np.asarray(np.sum(corners, axis=0).reshape(shape).mean(axis=(2, 4)))


def _corner_weights(at: Array, size: int) -> list[tuple[Array, Array]]:
    """The two elements around each position with their weights; none more than one past the end."""
    outside = (at < -1.0) | (at > size)
    at = np.clip(at, 0.0, size - 1.0)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    part = np.where(low == high, 0.0, at - low)
    return [(low, np.where(outside, 0.0, 1 - part)), (high, np.where(outside, 0.0, part))]


register("NonMaxSuppression", Operator(since=10, infer=_suppression_infer, reference=_suppression))
register(
    "RoiAlign",
    Operator(since=10, infer=_roi_infer, reference=_old_roi),
    Operator(since=16, infer=_roi_infer, reference=_roi),
)
