"""An `attention` call in numbers, for the kernels that do it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rekindle.engine.kernels._render import SINGLE, storage_type
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall


@dataclass(frozen=True)
class Attention:
    """Sizes and strides, in elements, of an `attention` call."""

    call: LogicalCall
    q: Value
    k: Value
    v: Value
    mask: Value | None

    @property
    def sizes(self) -> tuple[int, int, int, int, int, int]:
        """Batch, heads, queries, keys, floats in a key, floats in a value."""
        sizes: tuple[int, int, int, int, int, int] = self.call.params["sizes"]
        return sizes

    @property
    def scale(self) -> np.float32:
        return np.float32(self.call.params["scale"])

    def strides(self, *names: str) -> tuple[np.int32, ...]:
        """Steps along batch, head and row of each of "q", "k", "v", "y" or "mask"."""
        steps = (s for name in names for s in self.call.params[f"{name}_strides"][:3])
        return tuple(map(np.int32, steps))

    @property
    def mask_args(self) -> tuple[Value | np.int32, ...]:
        return () if self.mask is None else (self.mask, *self.strides("mask"))

    @property
    def defines(self) -> tuple[tuple[str, str], ...]:
        *_, size, value_size = self.sizes
        masked = str(int(self.mask is not None))
        return (("D", str(size)), ("DV", str(value_size)), ("MASK", masked), *self.types)

    @property
    def types(self) -> tuple[tuple[str, str], ...]:
        """How all but the keys are stored."""
        values = {"QT": self.q, "VT": self.v, "MT": self.mask or self.q, "YT": self.call.output}
        return tuple((name, storage_type(v.dtype)) for name, v in values.items())

    @property
    def key_type(self) -> tuple[tuple[str, str], ...]:
        return (("KT", storage_type(self.k.dtype)),)

    @property
    def flops(self) -> int:
        batch, heads, queries, keys, size, value_size = self.sizes
        return 2 * batch * heads * queries * keys * (size + value_size)

    @property
    def nbytes(self) -> int:
        values = (self.q, self.k, self.v, self.mask, self.call.output)
        return sum(v.nbytes for v in values if v is not None)


def attention(call: LogicalCall) -> Attention:
    q, k, v, mask = call.inputs
    assert q is not None
    assert k is not None
    assert v is not None
    return Attention(call, q, k, v, mask)


def takes(call: LogicalCall) -> bool:
    """Whether all are floats of 32 or 16 bits, row-major, and the last axis lies together."""
    values = [v for v in (*call.inputs, call.output) if v is not None]
    plain = all(v.dtype in SINGLE and not v.layout.block for v in values)
    whole = all(call.params[f"{name}_strides"][3] == 1 for name in ("q", "k", "v", "y"))
    return plain and whole and 0 not in call.params["sizes"]
