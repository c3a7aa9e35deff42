"""The page of a graph: complete, self-contained, readable."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import CPU, graph_of, model, normal, optimized

from rekindle._types import DType
from rekindle.graph import render
from rekindle.graph.expr import Arg, call, maximum, minimum
from rekindle.graph.expr import Cast as CastTo
from rekindle.graph.infer import bind
from rekindle.graph.ir import Graph
from rekindle.graph.onnx_io import load, load_bytes
from rekindle.graph.passes import DEVICE, PORTABLE, run
from rekindle.graph.render import page, summary
from rekindle.graph.render._formula import formula
from rekindle.graph.render._layers import arrange

SVG = "{http://www.w3.org/2000/svg}"
BODY = (
    "(float[N,3,8,8] x) => (float[N,4] y, float[N,4,8,8] r)"
    "{ c = Conv<pads=[1,1,1,1]>(x, w)  r = Relu(c)  two = Constant<value = float {2.0}>()"
    "  m = Mul(r, two)  a = Add(m, c)  g = GlobalAveragePool(a)  y = Flatten(g) }"
)


def net() -> Graph:
    return graph_of(BODY, w=normal(4, 3, 3, 3))


def drawing(text: str) -> ET.Element:
    return ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])


def boxes(svg: ET.Element) -> dict[str, ET.Element]:
    """First line of each box → its group."""
    return {g.findall(f"{SVG}text")[0].text or "": g for g in svg.iter(f"{SVG}g")}


def test_summary_is_plain_data() -> None:
    figures = summary(net())
    assert figures == {
        "name": "test",
        "opsets": {"": 17},
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["N", 3, 8, 8]}],
        "outputs": [
            {"name": "y", "dtype": "float32", "shape": ["N", 4]},
            {"name": "r", "dtype": "float32", "shape": ["N", 4, 8, 8]},
        ],
        "nodes": 7,
        "operators": {
            "Conv": 1, "Relu": 1, "Constant": 1, "Mul": 1, "Add": 1, "GlobalAveragePool": 1,
            "Flatten": 1,
        },
        "parameters": 108,
        "constant_bytes": 432,
    }  # fmt: skip


def test_a_page_shows_every_node_once_with_its_shapes() -> None:
    text = page(net(), title="a & b", facts={"file": "7 <bytes>"})
    found = boxes(drawing(text))
    assert set(found) == {
        "x", "y", "r", "Conv", "Relu", "Mul", "Add", "GlobalAveragePool", "Flatten",
    }  # fmt: skip
    tip = found["Conv"].findtext(f"{SVG}title") or ""
    assert "in   x: float32[N, 3, 8, 8]" in tip
    assert "in   w: float32[4, 3, 3, 3] constant" in tip
    assert "out  c: float32[N, 4, 8, 8]" in tip
    assert "pads = (1, 1, 1, 1)" in tip
    assert "<h1>a &amp; b</h1>" in text
    assert "7 &lt;bytes&gt;" in text


def test_a_page_needs_nothing_from_outside() -> None:
    text = page(net(), title="model")
    assert "<script" not in text
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {"http://www.w3.org/2000/svg"}


def test_fused_nodes_say_what_they_do_and_where_they_run() -> None:
    proto = model(BODY, w=normal(4, 3, 3, 3))
    graph = optimized(proto, {"x": normal(1, 3, 8, 8)})
    (conv,) = (n for n in graph.nodes if n.op_type == "Conv")
    text = page(graph, title="m", notes={conv.outputs[0]: "kernel conv_stem"}, host=["y"])
    found = boxes(drawing(text))
    assert "kernel conv_stem" in (found["Conv"].findtext(f"{SVG}title") or "")
    assert "blocked16" in (found["Conv"].findtext(f"{SVG}title") or "")
    assert "expr = " in (found["Elementwise"].findtext(f"{SVG}title") or "")
    assert "host" in found["Flatten"].attrib["class"]
    assert "host" not in found["Conv"].attrib["class"]


def test_names_are_escaped_and_do_not_collide() -> None:
    proto = model(
        "(float[2] x) => (float[2] y) { z = Relu(x)  y = Exp(z) }",
    )
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [{"z": "input x"}.get(n, n) for n in names]
    proto.graph.node[0].name = "<b>&\"'"
    text = page(load_bytes(proto.SerializeToString()), title="<script>")
    assert "<script>" not in text
    assert "<b>" not in text
    assert len(boxes(drawing(text))) == 4


def test_a_graph_with_unknown_operators_is_drawn() -> None:
    proto = model("(float[2] x) => (float[2] y) { a = Relu(x)  y = Exp(a) }")
    proto.graph.node[0].op_type = "Frobnicate"
    proto.graph.output[0].type.Clear()
    graph = load_bytes(proto.SerializeToString(), allow_unknown=True)
    text = page(graph, title="m")
    assert "shape unknown" in text
    assert "a: of unknown type" in text
    assert summary(graph)["outputs"] == [{"name": "y", "dtype": None, "shape": None}]


def test_too_many_nodes_are_counted_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_MAX_DRAWN", 3)
    text = page(net(), title="m")
    assert "7 nodes are too many to draw" in text
    assert "<svg" not in text


def test_an_empty_graph_has_a_page() -> None:
    graph = Graph("nothing", (), ("c",), [], {}, {}, {"": 17})
    graph.outputs = (graph.add_initializer("c", np.array(2.5)),)
    assert "c: float64[] constant = 2.5" in page(graph, title="m")


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (minimum(maximum(Arg(0), 0.0), 6.0), "min(max(a0, 0), 6)"),
        ((Arg(0) + 1) * -Arg(1), "(a0 + 1) * (-a1)"),
        (CastTo(DType.INT32, call("not", Arg(0))), "int32(not(a0))"),
        (call("where", Arg(0) < 0.5, Arg(1), True), "where(a0 < 0.5, a1, True)"),
    ],
)
def test_formulas_read_like_formulas(expr, text: str) -> None:
    assert formula(expr) == text


@given(st.integers(1, 40).flatmap(lambda n: st.lists(
    st.lists(st.integers(0, max(n - 1, 0)), max_size=4), min_size=n, max_size=n
)))  # fmt: skip
def test_boxes_never_overlap_and_lines_lead_down(picks: list[list[int]]) -> None:
    names = [f"b{i}" for i in range(len(picks))]
    sources = {
        names[i]: [names[p % i] for p in chosen] if i else [] for i, chosen in enumerate(picks)
    }
    places, lines = arrange(names, sources, 100.0)
    layers: dict[int, list[float]] = {}
    for (_, thin), place in places.items():
        assert place.x >= 0
        if not thin:
            layers.setdefault(place.layer, []).append(place.x)
    for row in layers.values():
        assert all(b - a >= 100 for a, b in zip(sorted(row), sorted(row)[1:], strict=False))
    assert set(lines) == {(s, box) for box, found in sources.items() for s in found}
    for (source, box), way in lines.items():
        assert (way[0], way[-1]) == ((source, 0), (box, 0))
        depths = [places[item].layer for item in way]
        assert depths == list(range(depths[0], depths[0] + len(way)))


@pytest.mark.parametrize("name", ["resnet56_cifar10_f32", "mobilenet_v2_1.0_224_f32"])
def test_pages_of_real_networks_stay_narrow(test_data: Path, name: str) -> None:
    graph = load(test_data / "onnx" / f"{name}.onnx")
    before = drawing(page(graph, title=name))
    x = graph.inputs[0]
    bound = bind(run(graph, PORTABLE), {x: (1, *graph.values[x].shape[1:])})
    after = drawing(page(run(bound, DEVICE, CPU), title=name))
    assert float(before.attrib["width"]) < 900
    assert float(after.attrib["height"]) < float(before.attrib["height"])
