"""Constant weights in the types that kernels decode.

A kernel's spec says which storage types its source decodes on a target; weights stored in another
one are widened to float when they are packed, and the plan's byte counts say so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from rekindle._types import DType
from rekindle.engine.kernels import Packed
from rekindle.engine.kernels._render import storage_type
from rekindle.graph.decode import Decode
from rekindle.graph.ir import Array, dtype_of, numpy_dtype

FLOAT, HALF, BFLOAT16, INT8, INT4 = "float", "half", "rk1_bfloat16", "char", "rk1_int4"
"""Names of storage types in the sources. INT4: two in a byte, see rk_nibbles."""
SCALAR = (FLOAT, BFLOAT16)
"""What sources decode whose weights travel through scalar registers: there a bfloat16 costs
nothing, where a half takes vector loads (27 % of peak on gfx803) and a byte three instructions for
one multiply-add. Halves are widened, and integers of eight bits become bfloat16, which has all of
them."""
_PACKED_AS: dict[str, np.dtype[Any]] = {
    FLOAT: np.dtype(np.float32), HALF: np.dtype(np.float16), BFLOAT16: np.dtype(np.uint16),
    INT8: np.dtype(np.int8),
}  # fmt: skip
_UNIT = 16
"""Numbers of four bits that lie in eight bytes together."""


@dataclass(frozen=True)
class Weights:
    """Weights of one call: `array` in the graph's order, of which a packer makes `storage`."""

    name: str
    array: Array
    storage: str
    decode: Decode | None = None

    @property
    def scales(self) -> int:
        """SCALES of the sources: 0 none, 1 a factor for each output, 2 for groups of inputs."""
        return 0 if self.decode is None else 2 if self.decode.group else 1

    @property
    def group(self) -> int:
        return self.decode.group if self.decode is not None else 0

    def defines(self, name: str = "WT") -> tuple[tuple[str, str], ...]:
        four = self.storage == INT4
        return ((name, self.storage), ("W4", str(int(four))), ("SCALES", str(self.scales)))

    @property
    def itemsize(self) -> float:
        return 0.5 if self.storage == INT4 else _PACKED_AS[self.storage].itemsize

    def packed(self, kind: str, count: int, arrange: Callable[[], Array]) -> Packed:
        """`count` numbers, in the order that `arrange` gives them."""

        def pack() -> Array:
            return self.stored(arrange())

        key = f"{kind}:{self.storage}:{self.name}"
        return Packed(key, int(count * self.itemsize), pack, self.itemsize)

    def stored(self, arranged: Array) -> Array:
        """Numbers in a kernel's order as they lie in memory; INT4: rows of whole units."""
        if self.storage == BFLOAT16:
            narrow = np.ascontiguousarray(arranged, numpy_dtype(DType.BFLOAT16))
            return narrow.view(np.uint16)
        if self.storage != INT4:
            return np.ascontiguousarray(arranged, _PACKED_AS[self.storage])
        units = (np.ascontiguousarray(arranged).reshape(-1, 2, _UNIT // 2) + 8).astype(np.uint8)
        return np.ascontiguousarray(units[:, 0] | units[:, 1] << 4)

    def zeros(self, shape: tuple[int, ...]) -> Array:
        """Nothing, in the type that `stored` takes."""
        return np.zeros(shape, self.array.dtype)


def weights_of(
    name: str,
    array: Array,
    decode: Decode | None,
    decodes: Collection[str],
    *,
    groups_of: int = _UNIT,
    whole: bool = True,
) -> Weights:
    """The weights as a kernel that decodes the types `decodes` has them.

    Groups that share a scale must be of a multiple of `groups_of` inputs, and `whole`: the kernel
    sees each filter's inputs as the graph has them. Integers that it cannot decode are bfloat16,
    which has those of eight bits, or widened as all the rest.
    """
    if decode is None:
        storage = storage_type(dtype_of(array))
        if storage in decodes:
            return Weights(name, array, storage)
        return Weights(name, array.astype(np.float32), FLOAT)
    wanted = [INT8, BFLOAT16] if array.dtype == np.int8 else [storage_type(dtype_of(array))]
    if array.dtype == np.int8 and _is_four_bits(array):
        wanted.insert(0, INT4)
    taken = next((s for s in wanted if s in decodes), None)
    # A kernel that has no integers has no groups either.
    grouped = decode.group % groups_of == 0 and whole and taken in (INT8, INT4)
    if taken is not None and (grouped or not decode.group):
        return Weights(name, array, taken, decode)
    return Weights(name, decode(array), FLOAT)


def _is_four_bits(array: Array) -> bool:
    return bool(array.size) and int(array.min()) >= -8 and int(array.max()) <= 7


def padded_scales(weights: Weights, outputs: int, count: int) -> Packed:
    """A factor for each of `outputs`, and ones behind them, `count` in all."""
    assert weights.decode is not None
    scale = weights.decode.scale.reshape(-1)

    def pack() -> Array:
        out = np.ones(count, np.float32)
        out[:outputs] = scale
        return out

    return Packed(f"scales{count}:{weights.name}", 4 * count, pack)


def raw(weights: Weights) -> Packed:
    """The weights as they lie in the graph, in their storage type; no INT4."""
    return weights.packed("raw", weights.array.size, lambda: weights.array)
