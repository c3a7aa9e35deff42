"""Sliding windows of convolutions and pools: attributes, padding, output sizes, NumPy views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rekindle._errors import ModelError
from rekindle._types import Dim
from rekindle.graph.ir import Array, Node
from rekindle.graph.ops._attributes import flag, per_axis, text


@dataclass(frozen=True)
class Window:
    """The window of one node, over `len(kernel)` spatial axes."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    """Begins, then ends; only with auto_pad NOTSET."""
    auto_pad: str
    ceil: bool

    @property
    def reach(self) -> tuple[int, ...]:
        """Positions from the first tap to the last, both included."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def padding(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Begins, then ends, for static spatial sizes."""
        if self.auto_pad == "NOTSET":
            return self.pads
        if self.auto_pad == "VALID":
            return (0,) * (2 * len(self.kernel))
        begins, ends = [], []
        for size, stride, reach in zip(sizes, self.strides, self.reach, strict=True):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            less, more = total // 2, total - total // 2
            begins.append(less if self.auto_pad == "SAME_UPPER" else more)
            ends.append(more if self.auto_pad == "SAME_UPPER" else less)
        return (*begins, *ends)

    def output_dims(self, node: Node, dims: Sequence[Dim]) -> tuple[Dim, ...]:
        """Output sizes; ModelError where the window is larger than the padded input."""
        return tuple(self._output_dim(node, axis, dim) for axis, dim in enumerate(dims))

    def _output_dim(self, node: Node, axis: int, size: Dim) -> Dim:
        stride, reach = self.strides[axis], self.reach[axis]
        if self.auto_pad.startswith("SAME"):
            if isinstance(size, int):
                return -(-size // stride)
            return size if stride == 1 else f"ceil({size}/{stride})"
        begin = end = 0
        if self.auto_pad == "NOTSET":
            begin, end = self.pads[axis], self.pads[axis + len(self.kernel)]
        if isinstance(size, str):
            return _symbolic(size, begin + end - reach, stride, self.ceil)
        span = size + begin + end - reach
        count = (-(-span // stride) if self.ceil else span // stride) + 1
        if count < 1:  # a window that only rounding up allows may reach past the end
            raise ModelError(
                f"node {node}: its window reaches over {reach} positions, the padded input has "
                f"only {size + begin + end} along spatial axis {axis}"
            )
        if self.ceil and (count - 1) * stride >= size + begin:
            return count - 1
        return count


def _symbolic(size: str, extra: int, stride: int, ceil: bool) -> str:
    """The output size of a symbolic one, spelled as arithmetic, so that equal names are equal."""
    if stride == 1:
        return f"({size}{extra + 1:+d})" if extra + 1 else size
    return f"{'ceil' if ceil else 'floor'}(({size}{extra:+d})/{stride})+1"


def window(node: Node, kernel: Sequence[int], *, ceil: bool = False) -> Window:
    """The window that a node's attributes describe; ModelError for malformed ones."""
    count = len(kernel)
    if min(kernel, default=1) < 1:
        raise ModelError(f"node {node}: its kernel {list(kernel)} must be positive")
    return Window(
        kernel=tuple(kernel),
        strides=per_axis(node, "strides", count, 1),
        dilations=per_axis(node, "dilations", count, 1),
        pads=per_axis(node, "pads", 2 * count, 0, least=0),
        auto_pad=text(
            node, "auto_pad", "NOTSET", choices=("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
        ),
        ceil=ceil and flag(node, "ceil_mode"),
    )


def windows_of(x: Array, frame: Window, counts: Sequence[int], fill: float) -> Array:
    """A view (N, C, *counts, *kernel) of x (N, C, *S), padded with `fill` where windows reach."""
    sizes, rank = x.shape[2:], len(frame.kernel)
    begins = frame.padding(sizes)[:rank]
    needed = [
        (count - 1) * stride + reach
        for count, stride, reach in zip(counts, frame.strides, frame.reach, strict=True)
    ]
    ends = [max(n - b - s, 0) for n, b, s in zip(needed, begins, sizes, strict=True)]
    padded = np.pad(
        x, [(0, 0), (0, 0), *zip(begins, ends, strict=True)], constant_values=np.asarray(fill)
    )
    views = sliding_window_view(padded, frame.reach, axis=tuple(range(2, 2 + rank)))
    steps = [
        slice(0, (count - 1) * stride + 1, stride)
        for count, stride in zip(counts, frame.strides, strict=True)
    ]
    taps = [slice(None, None, dilation) for dilation in frame.dilations]
    return views[(slice(None), slice(None), *steps, *taps)]
