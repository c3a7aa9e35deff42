"""The sliding window of a convolution or pool, in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rekindle.graph.lowering import LogicalCall


@dataclass(frozen=True)
class Window:
    """Sizes per spatial axis, all of one length. `pads` are those at the beginning of an axis."""

    size: tuple[int, ...]
    """Of the input."""
    kernel: tuple[int, ...]
    out: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    pads_end: tuple[int, ...]
    dilations: tuple[int, ...]

    def lifted(self, rank: int) -> Window:
        """The same window with axes of size 1 in front, up to `rank` axes."""
        missing = rank - len(self.size)

        def front(values: Sequence[int], fill: int) -> tuple[int, ...]:
            return (fill,) * missing + tuple(values)

        return Window(
            front(self.size, 1), front(self.kernel, 1), front(self.out, 1),
            front(self.strides, 1), front(self.pads, 0), front(self.pads_end, 0),
            front(self.dilations, 1),
        )  # fmt: skip

    def flattened(self) -> Window:
        """A pointwise window with all space as one axis."""
        assert self.is_pointwise
        space = (math.prod(self.size),)
        return Window(space, (1,), space, (1,), (0,), (0,), (1,))

    @property
    def is_one_tap(self) -> bool:
        """Every output position reads one input position, which lies in no padding."""
        return all(k == 1 for k in self.kernel) and not any((*self.pads, *self.pads_end))

    @property
    def is_pointwise(self) -> bool:
        """Every output position reads the input position of the same index, and no other."""
        return self.is_one_tap and all(s == 1 for s in self.strides) and self.size == self.out


def window(call: LogicalCall, kernel: Sequence[int]) -> Window:
    """The window of a `conv` or `pool` call."""
    x, params = call.inputs[0], call.params
    assert x is not None
    pads = tuple(params["pads"])
    rank = len(pads) // 2
    return Window(
        x.static_shape[2:], tuple(kernel), call.output.static_shape[2:],
        tuple(params["strides"]), pads[:rank], pads[rank:], tuple(params["dilations"]),
    )  # fmt: skip
