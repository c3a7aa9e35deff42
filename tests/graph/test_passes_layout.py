"""Where images lie channel-blocked, and how often the layout changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from small_models import CPU, agree, counts, graph_of, model, normal

from rekindle._errors import ModelError, UsageError
from rekindle._types import Layout
from rekindle.graph import passes
from rekindle.graph.ir import Graph
from rekindle.graph.passes import run
from rekindle.graph.verify import verify

GPU = replace(CPU, name="card", family="gcn")
X = {"x": normal(1, 8, 6, 6)}
W = {"w": normal(8, 8, 3, 3) / 8, "p": normal(8, 8, 1, 1, seed=1)}
PAD = "pads=[1,1,1,1]"


def laid_out(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> Graph:
    """All passes on both families of devices; the CPU's graph."""
    agree(proto, feeds, target=GPU, tolerance=1e-4)
    return agree(proto, feeds, tolerance=1e-4)


def blocked(graph: Graph) -> set[str]:
    return {n for n, v in graph.values.items() if v.layout.block}


def reorders(graph: Graph) -> int:
    return counts(graph).get("rekindle::Reorder", 0)


@pytest.mark.parametrize(("target", "block"), [(CPU, 16), (GPU, 4)])
def test_the_block_is_the_targets(target, block: int) -> None:
    proto = model(
        "(float[1,8,6,6] x) => (float[1,8,6,6] y) { c = Conv(x, p)  y = Conv(c, p) }", **W
    )
    graph = agree(proto, X, target=target, tolerance=1e-4)
    assert graph.values["c"].layout == Layout(block)
    assert graph.values["y"].layout == Layout()
    assert reorders(graph) == 2


def test_layout_needs_a_target() -> None:
    graph = graph_of("(float[2] x) => (float[2] y) { y = Relu(x) }")
    with pytest.raises(UsageError, match="target"):
        run(graph, ["layout"])


def test_a_chain_of_convolutions_changes_layout_at_its_ends_only() -> None:
    proto = model(
        "(float[1,8,6,6] x) => (float[1,8,2,2] y)"
        f"{{ a = Conv<{PAD}>(x, w)  r = Relu(a)  b = Conv<{PAD}>(r, w)  s = Add(b, a)"
        "  m = MaxPool<kernel_shape=[3,3], strides=[3,3]>(s)  t = Tanh(m)  y = Conv(t, p) }",
        **W,
    )
    graph = laid_out(proto, X)
    assert reorders(graph) == 2
    assert {"a", "r", "m"} <= blocked(graph)


def test_the_first_convolution_reads_the_picture_as_it_is() -> None:
    proto = model(
        "(float[1,3,6,6] x) => (float[1,8] y)"
        f"{{ a = Conv<{PAD}>(x, stem)  r = Relu(a)  g = GlobalAveragePool(r)"
        "  f = Flatten(g)  y = Gemm(f, m) }",
        stem=normal(8, 3, 3, 3), m=normal(8, 8),
    )  # fmt: skip
    graph = laid_out(proto, {"x": normal(1, 3, 6, 6)})
    assert reorders(graph) == 0
    assert blocked(graph) == {"r"}


def test_a_pooled_result_stays_blocked_for_a_convolution() -> None:
    """Squeeze and excitation (Hu et al. 2018): the gate is never row-major."""
    proto = model(
        "(float[1,8,6,6] x) => (float[1,8,6,6] y)"
        f"{{ a = Conv<{PAD}>(x, w)  g = GlobalAveragePool(a)  s = Conv(g, p)  r = Relu(s)"
        "   e = Conv(r, p)  h = HardSigmoid(e)  k = Mul(a, h)  y = Conv(k, p) }",
        **W,
    )
    graph = laid_out(proto, X)
    assert reorders(graph) == 2
    assert {"a", "g", "r", "h", "k"} <= blocked(graph)


def test_pools_and_activations_between_row_major_nodes_stay_row_major() -> None:
    proto = model(
        "(float[1,8,6,6] x) => (float[1,8,9] y)"
        "{ t = Transpose<perm=[0,1,3,2]>(x)  r = Relu(t)  n = Neg(r)"
        "  m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(n)  y = Reshape(m, s) }",
        s=np.array([1, 8, 9]),
    )
    assert blocked(laid_out(proto, X)) == set()


def test_readers_of_one_value_share_its_reorder() -> None:
    proto = model(
        "(float[1,8,6,6] x) => (float[1,8,6,6] y, float[1,6,8,6] z, float[1,6,6,8] v)"
        f"{{ a = Conv<{PAD}>(x, w)  b = Conv(x, p)  y = Add(a, b)"
        "   z = Transpose<perm=[0,2,1,3]>(a)  v = Transpose<perm=[0,2,3,1]>(a) }",
        **W,
    )
    graph = laid_out(proto, X)
    assert reorders(graph) == 3  # x to blocks, a to rows, the result to rows
    (to_rows,) = {n.inputs[0] for n in graph.nodes if n.op_type == "Transpose"}
    assert graph.values[to_rows].layout == Layout()


def test_an_output_that_is_read_again_exists_in_both_layouts() -> None:
    proto = model(
        "(float[1,8,6,6] x) => (float[1,8,6,6] a, float[1,8,6,6] y, float[1,6,8,6] z)"
        f"{{ a = Conv<{PAD}>(x, w)  y = Conv(a, p)  z = Transpose<perm=[0,2,1,3]>(a) }}",
        **W,
    )
    graph = laid_out(proto, X)
    assert reorders(graph) == 3
    transpose = next(n for n in graph.nodes if n.op_type == "Transpose")
    assert transpose.inputs == ("a",)


@pytest.mark.parametrize(
    ("filters", "depth", "group", "channels", "inside"),
    [
        (8, 1, 8, 8, True),  # depthwise
        (16, 1, 8, 8, False),  # depthwise with a multiplier
        (8, 4, 2, 8, False),  # groups that share a block of 16
        (32, 16, 2, 32, True),  # groups of whole blocks
        (32, 32, 1, 32, True),
        (5, 7, 1, 7, True),
    ],
)
def test_which_groups_work_on_blocks(
    filters: int, depth: int, group: int, channels: int, inside: bool
) -> None:
    proto = model(
        f"(float[1,{channels},6,6] x) => (float[1,{filters},4,4] y)"
        f"{{ r = Relu(x)  c = Conv<group={group}>(r, w)  y = Relu(c) }}",
        w=normal(filters, depth, 3, 3),
    )
    graph = agree(proto, {"x": normal(1, channels, 6, 6)}, tolerance=1e-4)
    assert bool(blocked(graph)) is inside


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks_stay_row_major(rank: int) -> None:
    dims = ",".join(["5"] * rank)
    proto = model(
        f"(float[1,8,{dims}] x) => (float[1,8,{dims}] y) {{ c = Conv(x, w)  y = Conv(c, w) }}",
        w=normal(8, 8, *[1] * rank),
    )
    assert not blocked(laid_out(proto, {"x": normal(1, 8, *[5] * rank)}))


def test_doubles_stay_row_major() -> None:
    graph = graph_of(
        "(double[1,8,6,6] x) => (double[1,8,6,6] y) { c = Conv(x, p)  y = Relu(c) }",
        p=normal(8, 8, 1, 1, dtype="float64"),
    )
    assert not blocked(run(graph, passes.DEVICE, CPU, check=True))


SMALL_OPERANDS = {
    "per channel": normal(8, 1, 1),
    "per pixel": normal(1, 1, 6, 6),
    "per row": normal(6, 1),
    "whole image": normal(1, 8, 6, 6),
}


@pytest.mark.parametrize("other", SMALL_OPERANDS.values(), ids=SMALL_OPERANDS.keys())
def test_operands_of_other_shapes_join_blocked_images(other: np.ndarray) -> None:
    dims = ",".join(map(str, other.shape))
    proto = model(
        f"(float[1,8,6,6] x, float[{dims}] o) => (float[1,8,6,6] y)"
        f"{{ a = Conv<{PAD}>(x, w)  m = Mul(a, o)  y = Conv(m, p) }}",
        **W,
    )
    graph = laid_out(proto, {**X, "o": other})
    assert "m" in blocked(graph)
    assert reorders(graph) == 2 + (other.size == 8 * 6 * 6)


def test_images_meet_in_the_layout_that_costs_less() -> None:
    body = (
        "(float[1,8,6,6] x) => (float[1,8,6,6] y, float[1,8,1,1] g)"
        "{{ a = Conv<pads=[1,1,1,1]>(x, w)"
        "  g = GlobalAveragePool(a)  r = Softmax<axis=3>(x)  m = Max(a, r)  y = {} }}"
    )
    inside = laid_out(model(body.format("Conv(m, p)"), **W), X)
    outside = laid_out(model(body.format("Softmax<axis=2>(m)"), **W), X)
    assert "m" in blocked(inside)
    assert "m" not in blocked(outside)


def test_indices_of_a_maximum_keep_a_pool_row_major() -> None:
    proto = model(
        "(float[1,8,6,6] x) => (float[1,8,3,3] y, int64[1,8,3,3] i)"
        "{ c = Conv(x, p)  y, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(c) }",
        **W,
    )
    graph = laid_out(proto, X)
    assert blocked(graph) == {"c", "x.blocked"}


def test_verify_refuses_layouts_that_no_kernel_could_read() -> None:
    proto = model("(float[1,8,6,6] x) => (float[1,8,6,6] y) { c = Conv(x, p)  y = Tanh(c) }", **W)
    good = agree(proto, X, tolerance=1e-4)
    for name in ("x", "y"):
        bad = good.copy()
        bad.values[name] = replace(bad.values[name], layout=Layout(16))
        with pytest.raises(ModelError, match=f"'{name}'|layout|reorders"):
            verify(bad)


JOINED = (
    "(float[2,8,6,6] x) => (float[2,8,6,6] y) { a = Conv<pads=[1,1,1,1]>(x, w)  b = Conv(x, p)"
    "  c = Concat<axis=AXIS>(a, PARTS)  y = Conv(c, q) }"
)


@pytest.mark.parametrize("parts", ["b", "x", "b, a", "last"])
def test_images_are_joined_block_behind_block(parts: str) -> None:
    """At multiples of the block; the last may end where it likes, and a plain one is reordered."""
    channels = 16 * 2 + 16 * parts.count(",") + (3 - 16) * (parts == "last")
    body = JOINED.replace("AXIS", "1").replace("PARTS", "b" if parts == "last" else parts)
    body = body.replace("[2,8,6,6] x", "[2,16,6,6] x")
    weights = {
        "w": normal(16, 16, 3, 3) / 16,
        "p": normal(3 if parts == "last" else 16, 16, 1, 1, seed=1),
        "q": normal(8, channels, 1, 1, seed=2) / 4,
    }
    graph = laid_out(model(body, **weights), {"x": normal(2, 16, 6, 6)})
    assert "c" in blocked(graph)
    assert reorders(graph) == 2


def test_images_whose_blocks_would_not_meet_are_joined_as_rows() -> None:
    body = JOINED.replace("AXIS", "1").replace("PARTS", "b")
    weights = W | {"q": normal(8, 16, 1, 1)}
    graph = agree(model(body, **weights), {"x": normal(2, 8, 6, 6)}, tolerance=1e-4)
    assert "c" not in blocked(graph)
