"""GridSample and AffineGrid: images read at given positions. Jaderberg et al. 2015.

Positions run from -1 to 1 along each axis, the last axis first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Shape
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag, text
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._grid import lower_sample
from rekindle.graph.ops._sampling import WEIGHTS, Sampling, sample
from rekindle.graph.ops._shapes import numel, required, unknown_dim, whole_numbers

NAMES = ("AffineGrid", "GridSample")

_ORDERS: dict[str, Literal["nearest", "linear", "cubic"]] = {
    "nearest": "nearest", "linear": "linear", "bilinear": "linear", "cubic": "cubic",
    "bicubic": "cubic",
}  # fmt: skip
"""Opset 16 says bilinear and bicubic, 20 linear and cubic."""

_PADDING: dict[str, Literal["zeros", "border", "reflection"]] = {
    "zeros": "zeros",
    "border": "border",
    "reflection": "reflection",
}


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, grid = required(node, inputs, 0), required(node, inputs, 1)
    if x.shape is None or grid.shape is None:
        return (TensorType(x.dtype, None),)
    rank = len(x.shape) - 2
    if rank < 1 or len(grid.shape) != rank + 2 or grid.shape[-1] not in (rank, *_names(grid)):
        raise ModelError(
            f"node {node}: a grid of shape {list(grid.shape)} does not fit {list(x.shape)}"
        )
    return (TensorType(x.dtype, (*x.shape[:2], *grid.shape[1:-1])),)


def _names(grid: Operand) -> tuple[str, ...]:
    return tuple(d for d in grid.shape or () if isinstance(d, str))


def _how(node: Node) -> Sampling:
    return Sampling(
        _ORDERS[text(node, "mode", "linear", choices=tuple(_ORDERS))],
        _PADDING[text(node, "padding_mode", "zeros", choices=tuple(_PADDING))],
        flag(node, "align_corners"),
    )


def _lower(lowering: Lowering) -> None:
    lower_sample(lowering, _how(lowering.node))


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, grid = required(node, inputs, 0), wide(required(node, inputs, 1))[..., ::-1]
    how = _how(node)
    sizes = np.array(x.shape[2:], np.float64)
    positions = (grid + 1) / 2 * (sizes - 1) if how.corners else ((grid + 1) * sizes - 1) / 2
    return (rounded(sample(x, positions, how), dtype_of(x)),)


def _affine_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    theta, size = required(node, inputs, 0), required(node, inputs, 1)
    given = whole_numbers(node, size.constant)
    if given is not None:
        return (TensorType(theta.dtype, (given[0], *given[2:], len(given) - 2)),)
    count = (size.shape or (None,))[0]
    shape: Shape | None = None
    if isinstance(count, int):
        shape = (*(unknown_dim(node, i) for i in range(count - 1)), count - 2)
    return (TensorType(theta.dtype, shape),)


def _affine(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Every position (x, y, 1) or (x, y, z, 1) times theta (N, rank, rank + 1)."""
    theta, size = required(node, inputs, 0), required(node, inputs, 1)
    spatial = [int(d) for d in size[2:]]
    lines = []
    for count in spatial:
        steps = np.arange(count)
        if flag(node, "align_corners"):
            lines.append(2 * steps / max(count - 1, 1) - 1)
        else:
            lines.append((2 * steps + 1) / count - 1)
    grids = np.meshgrid(*lines, indexing="ij")
    points = np.stack([*grids[::-1], np.ones(spatial)], axis=-1)
    places = np.einsum("nrk,...k->n...r", wide(theta), points)
    return (rounded(places, dtype_of(theta)),)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    """A multiply-add for each neighbour that counts."""
    taps: int = len(WEIGHTS[_how(node).order][0]) ** (len(outputs[0].shape or ()) - 2)
    return 2 * taps * numel(outputs[0].shape)


register(
    "GridSample",
    Operator(since=16, infer=_infer, reference=_reference, lower=_lower, flops=_flops),
)
register("AffineGrid", Operator(since=20, infer=_affine_infer, reference=_affine))
