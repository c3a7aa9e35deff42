"""Plans of one session share packed constants by key: one key, one content, whatever the shapes."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import CPU, graph_of, normal

from rekindle.engine.plan import Plan
from rekindle.graph import passes
from rekindle.graph.ir import Graph
from rekindle.runtime.providers.opencl import plan_for

MODELS = {
    # What is folded from the sizes of x: rows of a table, and the count itself.
    "folded": (
        """(float[T,4] x) => (float[T,4] y) {
             s = Shape(x)  size = Gather(s, zero)  ends = Unsqueeze(size, at)
             rows = Slice(table, starts, ends, at)  z = Add(x, rows)  y = MatMul(z, w) }""",
        {
            "zero": np.array(0), "at": np.array([0]), "starts": np.array([0]),
            "table": normal(40, 4), "w": normal(4, 4, seed=1),
        },
        {"x": (7, 4)}, {"x": (12, 4)},
    ),
    # What an operator brings along: where the rows of a resized image come from.
    "literal": (
        "(float[1,2,H,4] x) => (float[1,2,H2,8] y) { y = Resize<mode=\"linear\">(x, , scales) }",
        {"scales": np.array([1, 1, 2, 2], np.float32)},
        {"x": (1, 2, 3, 4)}, {"x": (1, 2, 5, 4)},
    ),
    # What a kernel makes: where each matrix of a batch begins.
    "offsets": (
        "(float[B,T,5] a, float[B,5,3] b) => (float[B,T,3] y) { y = MatMul(a, b) }",
        {},
        {"a": (3, 4, 5), "b": (3, 5, 3)}, {"a": (3, 7, 5), "b": (3, 5, 3)},
    ),
}  # fmt: skip


def plans(name: str) -> tuple[Graph, Plan, Plan]:
    body, weights, *shapes = MODELS[name]
    graph = passes.run(graph_of(body, **weights), passes.PORTABLE)
    first, second = (plan_for(graph, CPU, s) for s in shapes)
    return graph, first, second


@pytest.mark.parametrize("name", MODELS)
def test_constants_with_one_key_hold_the_same(name: str) -> None:
    _, first, second = plans(name)
    assert first.constants
    for key in first.constants.keys() & second.constants.keys():
        a, b = first.constants[key].pack(), second.constants[key].pack()
        np.testing.assert_array_equal(a, b, err_msg=key)


def test_the_models_own_weights_are_shared() -> None:
    graph, first, second = plans("folded")
    own = {k for k in first.constants if k.endswith(":w")}
    assert own
    assert own <= second.constants.keys()
    assert "w" in graph.initializers
    assert len(first.constants.keys() ^ second.constants.keys()) == 2  # the rows, once a plan
