"""Convolutions, alone and one behind another, by their definition in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from kernel_harness import Array, Case, pocl_device, run_case, value
from numpy.lib.stride_tricks import sliding_window_view

from rekindle._types import Layout
from rekindle.graph.expr import Expr
from rekindle.graph.ir import Value, dtype_of
from rekindle.graph.lowering import LogicalCall


def reference(
    x: Array, w: Array, bias: Array | None, strides: Sequence[int], pads: Sequence[int],
    dilations: Sequence[int], group: int,
) -> Array:  # fmt: skip
    """Convolution by its definition, float64."""
    rank = x.ndim - 2
    spatial = list(zip(pads[:rank], pads[rank:], strict=True))
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *spatial])
    extent = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    axes = tuple(range(2, 2 + rank))
    windows = sliding_window_view(padded, extent, axis=axes)
    every = tuple(slice(None, None, s) for s in strides)
    taps = tuple(slice(None, None, d) for d in dilations)
    windows = windows[(slice(None), slice(None), *every, *taps)]
    x_groups = np.split(windows, group, axis=1)
    w_groups = np.split(w.astype(np.float64), group)
    over = (1, *range(2 + rank, 2 + 2 * rank))
    sums = [
        np.moveaxis(np.tensordot(a, b, (over, tuple(range(1, 2 + rank)))), -1, 1)
        for a, b in zip(x_groups, w_groups, strict=True)
    ]
    y = np.concatenate(sums, axis=1)
    return y if bias is None else y + bias.reshape(1, -1, *[1] * rank)


@dataclass(frozen=True)
class Step:
    """A convolution of a chain: its weights, its numbers, and what follows the sum."""

    w: Array
    bias: Array | None = None
    epilogue: Expr | None = None
    end: Callable[..., Array] = lambda sums: sums
    """What the epilogue means, of the sum and the operands."""
    operands: tuple[Array, ...] = ()
    numbers: dict[str, Any] | None = None

    def params(self) -> dict[str, Any]:
        rank = self.w.ndim - 2
        plain = {"strides": (1,) * rank, "pads": (0,) * (2 * rank), "dilations": (1,) * rank}
        return {**plain, "group": 1, "epilogue": self.epilogue, **(self.numbers or {})}


def chain(
    x: Array, steps: Sequence[Step], block: int, target: Any, kernel: str
) -> tuple[Case, Array]:
    """The case of a chain, and its result; values lie in blocks, and are stored as x is."""
    inside, made, parts = value("x", x, block), x, []
    constants: dict[str, Array] = {}
    feeds = {"x": x}
    for i, step in enumerate(steps):
        p = step.params()
        decode = p.get("decode")
        w = step.w if decode is None else decode(step.w)
        sums = reference(made, w, step.bias, p["strides"], p["pads"], p["dilations"], p["group"])
        made = step.end(sums, *(o.astype(np.float64) for o in step.operands))
        known = {f"w{i}": step.w} | ({f"b{i}": step.bias} if step.bias is not None else {})
        extra = {f"e{i}_{k}": o for k, o in enumerate(step.operands)}
        constants |= known
        feeds |= extra
        inputs = [inside, value(f"w{i}", step.w)]
        inputs.append(value(f"b{i}", step.bias) if step.bias is not None else None)
        inputs += [value(n, o, block if o.size > 1 else 0) for n, o in extra.items()]
        inside = Value(f"y{i}", dtype_of(x), made.shape, Layout(block))
        parts.append(LogicalCall("conv", tuple(inputs), inside, p, f"c{i}"))
    outer = (parts[0].inputs[0], *(v for part in parts for v in part.inputs[1:]))
    call = LogicalCall("chain", outer, inside, {}, "chain", tuple(parts))
    return Case(kernel, call, feeds, constants, target), made


def agree(found: Array, expected: Array, within: float = 2e-5) -> None:
    """Equal shapes, and no element off by more than that share of the largest one."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= within * np.abs(expected).max()


def check(case: Case, expected: Array, within: float = 2e-5) -> None:
    """The case on PoCL."""
    agree(run_case(case, pocl_device()), expected, within)
