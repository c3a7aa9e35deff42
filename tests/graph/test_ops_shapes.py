"""Awkward shapes, drawn at random, against ONNX Runtime: windows, slices, padding, resampling."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from single_node import agree

EXAMPLES = settings(max_examples=80)
Draw = st.DrawFn


def array(draw: Draw, *shape: int) -> np.ndarray:
    seed = draw(st.integers(0, 2**16))
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def window(draw: Draw, kernel: list[int], sizes: list[int]) -> dict[str, Any]:
    """Strides, dilations and padding such that at least one window fits each axis."""
    rank = len(kernel)
    counts = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    attrs: dict[str, Any] = {"strides": draw(counts), "dilations": draw(counts)}
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, attrs["dilations"], strict=True)]
    auto = draw(st.sampled_from(["", "", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if auto.startswith("SAME"):
        # ONNX Runtime refuses dilations there, and strides that leave pixels out.
        attrs["dilations"] = [1] * rank
        attrs["strides"] = [min(s, k) for s, k in zip(attrs["strides"], kernel, strict=True)]
    pads = [0] * (2 * rank)
    if auto:
        attrs["auto_pad"] = auto
    else:
        limit = st.tuples(*(st.integers(0, min(k - 1, 2)) for k in kernel * 2))
        pads = attrs["pads"] = list(draw(limit))
    if not auto.startswith("SAME"):
        ends = (s + pads[i] + pads[i + rank] for i, s in enumerate(sizes))
        assume(all(end >= r for end, r in zip(ends, reach, strict=True)))
    return attrs


@st.composite
def images(draw: Draw) -> tuple[list[int], list[int]]:
    """Spatial sizes and a kernel for one, two or three axes."""
    rank = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(1, 9), min_size=rank, max_size=rank))
    return sizes, draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))


@EXAMPLES
@given(st.data())
def test_conv(data: st.DataObject) -> None:
    sizes, kernel = data.draw(images())
    n, group, depth, filters = (data.draw(st.integers(1, 3)) for _ in range(4))
    attrs = data.draw(st.composite(window)(kernel, sizes)) | {"group": group}
    x = data.draw(st.composite(array)(n, group * depth, *sizes))
    w = data.draw(st.composite(array)(group * filters, depth, *kernel))
    bias = data.draw(st.none() | st.composite(array)(group * filters))
    event(f"rank {len(kernel)}, group {group}")
    assert agree("Conv", [x, w, bias], attrs, opset=13)


@EXAMPLES
@given(st.data())
def test_pools(data: st.DataObject) -> None:
    sizes, kernel = data.draw(images())
    attrs = data.draw(st.composite(window)(kernel, sizes)) | {"kernel_shape": kernel}
    # A dilation wider than the input may step over all of it: the maximum of nothing.
    assume(all(s >= d for s, d in zip(sizes, attrs["dilations"], strict=True)))
    x = data.draw(st.composite(array)(2, 3, *sizes))
    operator = data.draw(st.sampled_from(["MaxPool", "AveragePool"]))
    attrs["ceil_mode"] = data.draw(st.integers(0, 1))
    if operator == "AveragePool":
        attrs["count_include_pad"] = data.draw(st.integers(0, 1))
    event(f"{operator}, ceil {attrs['ceil_mode']}")
    assert agree(operator, [x], attrs, opset=19)


BOUNDS = st.integers(-8, 8) | st.sampled_from([2**31 - 1, 2**63 - 1, -(2**31), -(2**63)])


@EXAMPLES
@given(st.data())
def test_slice(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    signs = [axis - data.draw(st.sampled_from([0, len(shape)])) for axis in axes]
    starts, ends = (data.draw(st.tuples(*[BOUNDS] * len(axes))) for _ in range(2))
    steps = data.draw(st.tuples(*[st.sampled_from([1, 1, 2, 3, -1, -2, -3])] * len(axes)))
    # Backwards to INT_MAX: nothing by the standard, everything in ONNX Runtime.
    assume(all(step > 0 or end < 2**31 - 1 for step, end in zip(steps, ends, strict=True)))
    x = data.draw(st.composite(array)(*shape))
    lists = [np.array(v, np.int64) for v in (starts, ends, signs, steps)]
    event("lowered" if agree("Slice", [x, *lists], {}, opset=13) else "empty")


@EXAMPLES
@given(st.data())
def test_pad(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    mode = data.draw(st.sampled_from(["constant", "edge", "reflect", "wrap"]))
    low = [-(s // 2) if mode == "constant" else 0 for s in shape] * 2
    high = [{"reflect": s - 1, "wrap": s}.get(mode, 4) for s in shape] * 2
    pads = [data.draw(st.integers(a, b)) for a, b in zip(low, high, strict=True)]
    x = data.draw(st.composite(array)(*shape))
    value = np.array(data.draw(st.sampled_from([0.0, -1.5, np.inf])), np.float32)
    inputs = [x, np.array(pads, np.int64), value if mode == "constant" else None]
    agree("Pad", inputs, {"mode": mode}, opset=19)


@EXAMPLES
@given(st.data())
def test_resize(data: st.DataObject) -> None:
    height, width = data.draw(st.tuples(st.integers(2, 7), st.integers(2, 7)))
    x = data.draw(st.composite(array)(1, 2, height, width))
    mode = data.draw(st.sampled_from(["nearest", "linear", "cubic"]))
    modes = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    attrs: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": data.draw(st.sampled_from(modes)),
    }
    if mode == "nearest":
        rounding = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
        attrs["nearest_mode"] = data.draw(st.sampled_from(rounding))
    if mode == "cubic":
        attrs["exclude_outside"] = data.draw(st.integers(0, 1))
    scales = data.draw(st.tuples(*[st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0, 4.0])] * 2))
    if data.draw(st.booleans()):
        inputs = [x, None, np.array([1, 1, *scales], np.float32), None]
    else:
        sizes = [1, 2, int(height * scales[0]), int(width * scales[1])]
        inputs = [x, None, None, np.array(sizes, np.int64)]
    event(mode + (", lowered" if agree("Resize", inputs, attrs, opset=13) else ""))


@EXAMPLES
@given(st.data())
def test_gemm(data: st.DataObject) -> None:
    m, k, n = (data.draw(st.sampled_from([1, 2, 5, 13])) for _ in range(3))
    flip_a, flip_b = (data.draw(st.integers(0, 1)) for _ in range(2))
    a = data.draw(st.composite(array)(*((k, m) if flip_a else (m, k))))
    b = data.draw(st.composite(array)(*((n, k) if flip_b else (k, n))))
    shapes = st.sampled_from([(), (1,), (n,), (1, n), (m, 1), (m, n)])
    c = data.draw(st.none() | shapes.flatmap(lambda s: st.composite(array)(*s)))
    scale = st.sampled_from([1.0, 0.5, -2.0])
    attrs = {
        "transA": flip_a,
        "transB": flip_b,
        "alpha": data.draw(scale),
        "beta": data.draw(scale),
    }
    assert agree("Gemm", [a, b, c], attrs, opset=13)


@EXAMPLES
@given(st.data())
def test_reductions(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3, 7]), min_size=1, max_size=4))
    axes = data.draw(st.lists(st.integers(-len(shape), -1), unique=True))
    names = ["Sum", "Mean", "Max", "Min", "Prod", "SumSquare", "L1", "L2", "LogSumExp"]
    operator = "Reduce" + data.draw(st.sampled_from(names))
    attrs = {
        "keepdims": data.draw(st.integers(0, 1)),
        "noop_with_empty_axes": data.draw(st.integers(0, 1)) if axes else 0,
    }
    x = data.draw(st.composite(array)(*shape))
    assert agree(operator, [x, np.array(axes, np.int64)], attrs, opset=18)
