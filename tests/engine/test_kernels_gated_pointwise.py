"""An image times a gate, and the 1 x 1 convolution of that in one launch, against float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conv_cases import check, reference
from kernel_harness import CPU8, CPU16, GCN, Array, Case, chosen, value

from rekindle._types import Layout, Target
from rekindle.graph.expr import Arg, maximum
from rekindle.graph.ir import Value, dtype_of
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl
KERNEL, LANES = "gated_pointwise_tiled", "gated_pointwise_lanes"
RX580 = replace(GCN, compute_units=36)
PLAIN = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "group": 1}


def make(
    x_shape: tuple[int, int, int, int], m: int, *, target: Target = CPU8, dtype: Any = np.float32,
    weights: Any = np.float32, gate_first: bool = False, gate_block: int | None = None,
) -> tuple[Case, Array]:  # fmt: skip
    """A case and what it gives, with a residual and an activation at its end."""
    block, kernel = (16, KERNEL) if target.family == "cpu" else (4, LANES)
    gate_block = block if gate_block is None else gate_block
    rng = np.random.default_rng(m + sum(x_shape))
    x = rng.standard_normal(x_shape).astype(dtype)
    gate = rng.uniform(0, 1, (*x_shape[:2], 1, 1)).astype(dtype)
    w = rng.standard_normal((m, x_shape[1], 1, 1)).astype(weights)
    bias = rng.standard_normal(m).astype(np.float32)
    product = x.astype(np.float64) * gate
    expected = reference(product, w, bias, (1, 1), (0, 0, 0, 0), (1, 1), 1)
    residual = rng.standard_normal(expected.shape).astype(dtype)
    expected = np.maximum(expected + residual, 0)
    inner = Value("inner", dtype_of(x), x.shape, Layout(block))
    y = Value("y", dtype_of(x), expected.shape, Layout(block))
    pair = (value("x", x, block), value("g", gate, gate_block))
    first = LogicalCall(
        "elementwise", pair[::-1] if gate_first else pair, inner, {"expr": Arg(0) * Arg(1)}, "c"
    )
    rest = (value("w", w), value("b", bias), value("e", residual, block))
    params = {**PLAIN, "epilogue": maximum(Arg(0) + Arg(1), 0.0)}
    last = LogicalCall("conv", (inner, *rest), y, params, "c")
    call = LogicalCall("chain", (*first.inputs, *rest), y, {}, "c", (first, last))
    feeds = {"x": x, "g": gate, "e": residual}
    return Case(kernel, call, feeds, {"w": w, "b": bias}, target), expected


@pytest.mark.parametrize(
    ("x", "m", "options"),
    [
        pytest.param((1, 48, 7, 9), 24, {}, id="three blocks"),
        pytest.param((3, 19, 5, 3), 33, {"gate_first": True}, id="gate first"),
        pytest.param((2, 33, 1, 1), 17, {}, id="one pixel"),
        pytest.param((2, 40, 6, 11), 48, {"target": CPU16}, id="vectors of 16"),
        pytest.param((3, 19, 5, 3), 33, {"target": GCN, "gate_first": True}, id="lanes"),
        pytest.param((1, 260, 3, 5), 70, {"target": RX580}, id="lanes, in slices"),
    ],
)
def test_gated(x: tuple[int, int, int, int], m: int, options: Any) -> None:
    check(*make(x, m, **options))


def test_storage_types() -> None:
    check(*make((1, 40, 5, 7), 19, weights=np.float16))
    check(*make((1, 40, 5, 7), 19, weights=np.float16, dtype=np.float16), within=1e-3)
    check(*make((1, 40, 5, 7), 19, dtype=np.float16, target=GCN), within=1e-3)


def changed(case: Case, part: int, **changes: Any) -> str | None:
    parts = list(case.call.parts)
    parts[part] = replace(parts[part], **changes)
    return chosen(replace(case.call, parts=tuple(parts)), case.constants, case.target)


def test_what_it_takes() -> None:
    """A gate for each channel that lies as x does, a plain product, few panels of outputs."""
    case, _ = make((1, 48, 7, 9), 24)
    assert chosen(case.call, case.constants, case.target) == KERNEL
    assert chosen(case.call, case.constants, replace(case.target, family="gcn")) is None
    assert changed(case, 0, params={"expr": Arg(0) + Arg(1)}) is None
    assert changed(case, 0, params={"expr": Arg(0) * Arg(0)}) is None
    assert changed(case, 1, params={**PLAIN, "strides": (2, 2), "epilogue": None}) is None
    full = (case.call.inputs[0], case.call.inputs[0])
    assert changed(case, 0, inputs=full) is None
    rows, _ = make((1, 48, 7, 9), 24, gate_block=0)
    assert chosen(rows.call, rows.constants, rows.target) is None
    lanes, _ = make((1, 48, 7, 9), 24, target=GCN)
    assert chosen(lanes.call, lanes.constants, GCN) == LANES
    assert changed(lanes, 1, params={**PLAIN, "strides": (2, 2), "epilogue": None}) is None
    lanes, _ = make((1, 48, 7, 9), 24, target=GCN, gate_block=0)
    assert chosen(lanes.call, lanes.constants, GCN) is None
    many, _ = make((8, 672, 7, 7), 192, target=RX580)
    assert chosen(many.call, many.constants, RX580) is None, "48 panels multiply x anew"
    many, _ = make((1, 16, 7, 9), 16 * 7 * 4 + 1)
    assert chosen(many.call, many.constants, many.target) is None
