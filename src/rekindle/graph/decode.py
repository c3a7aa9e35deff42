"""Quantised weights: integers and the scales that make numbers of them.

A convolution or product that reads such weights carries a `Decode`; the engine keeps the integers
on the device and its kernels decode them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rekindle.graph.ir import Array


@dataclass(frozen=True, eq=False)
class Decode:
    """Number = integer * scale; zero points are taken off the integers beforehand.

    `scale` (float32) has the rank of the weights. A dimension of it is that of the weights, or 1:
    one scale for all; along `axis`, with `group` > 0, it is one for each `group` neighbours.
    """

    scale: Array
    axis: int = 0
    group: int = 0

    def spread(self, shape: tuple[int, ...]) -> Array:
        """The scale of every weight, for weights of `shape`; broadcast where it can be."""
        if not self.group:
            return self.scale
        repeated = self.scale.repeat(self.group, axis=self.axis)
        return repeated.take(range(shape[self.axis]), axis=self.axis)

    def __call__(self, integers: Array) -> Array:
        """The weights in float32."""
        return np.asarray(integers.astype(np.float32) * self.spread(integers.shape))

    @property
    def nbytes(self) -> int:
        return self.scale.nbytes
