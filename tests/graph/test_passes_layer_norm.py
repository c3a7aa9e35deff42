"""Layer normalization in small operators becomes one node that gives the same."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import agree, counts, model, normal

NAMES = ["layer_norm_fusion", "global_average_pool", "dead_nodes"]
X = normal(2, 5, 24) * 3 + 1
HEAD = "(float[2,5,24] x) => (float[2,5,24] y) {"
MEAN = "  m = ReduceMean<axes=[-1]>(x)  d = Sub(x, m)"
DEVIATION = "  s = Pow(d, two)  v = ReduceMean<axes=[-1]>(s)  e = Add(v, eps)  r = Sqrt(e)"
CONSTANTS = {
    "two": np.float32(2), "eps": np.float32(1e-3), "scale": normal(24), "bias": normal(24, seed=1),
    "one": np.float32(1), "four": np.float32(4), "column": normal(5, 1),
}  # fmt: skip
AFFINE = "  n = Div(d, r)  g = Mul(n, scale)  y = Add(g, bias) }"
FUSED = {
    "as torch writes it": MEAN + DEVIATION + AFFINE,
    "turned about": MEAN + DEVIATION.replace("(v, eps)", "(eps, v)")
    + "  n = Div(d, r)  g = Mul(scale, n)  y = Add(bias, g) }",
    "squared by a product": MEAN + DEVIATION.replace("Pow(d, two)", "Mul(d, d)") + AFFINE,
    "two axes": (MEAN + DEVIATION).replace("[-1]", "[2,1]") + "  y = Div(d, r) }",
    "without scale": MEAN + DEVIATION + "  n = Div(d, r)  y = Add(n, bias) }",
    "without bias": MEAN + DEVIATION + "  n = Div(d, r)  y = Mul(n, scale) }",
    "another sum": MEAN + DEVIATION + "  n = Div(d, r)  g = Mul(n, scale)  y = Add(g, column) }",
}  # fmt: skip
LEFT = {
    "another axis": (MEAN + DEVIATION).replace("[-1]", "[1]") + AFFINE,
    "two different axes": MEAN + DEVIATION.replace("[-1]", "[-2]") + AFFINE,
    "the fourth power": MEAN + DEVIATION.replace("two", "four") + AFFINE,
    "not centred": "  d = Sub(x, one)" + DEVIATION + AFFINE,
    "another quotient": MEAN + DEVIATION + AFFINE.replace("Div(d, r)", "Div(x, r)"),
    "the sign": MEAN.replace("Sub(x, m)", "Sub(m, x)") + DEVIATION + AFFINE,
    "no root": MEAN + DEVIATION.replace("Sqrt(e)", "Abs(e)") + AFFINE,
}


@pytest.mark.parametrize("text", FUSED.values(), ids=FUSED.keys())
def test_fused(text: str) -> None:
    found = counts(agree(model(HEAD + text, **CONSTANTS), {"x": X}, NAMES))
    assert found["LayerNormalization"] == 1
    assert set(found) <= {"LayerNormalization", "Add"}
    assert ("Add" in found) == ("column" in text)


@pytest.mark.parametrize("text", LEFT.values(), ids=LEFT.keys())
def test_left_alone(text: str) -> None:
    found = counts(agree(model(HEAD + text, **CONSTANTS), {"x": X}, NAMES))
    assert "LayerNormalization" not in found


def test_what_others_read_stays() -> None:
    text = MEAN + DEVIATION + "  n = Div(d, r)  g = Mul(n, scale)  h = Neg(d)  y = Add(g, h) }"
    found = counts(agree(model(HEAD + text, **CONSTANTS), {"x": X}, NAMES))
    assert found["LayerNormalization"] == found["Sub"] == found["Neg"] == 1
    assert "Div" not in found


def test_axes_as_an_input() -> None:
    text = (MEAN + DEVIATION + AFFINE).replace("<axes=[-1]>(x)", "(x, last)")
    text = text.replace("<axes=[-1]>(s)", "(s, last)")
    proto = model(HEAD + text, opset=18, last=np.array([-1]), **CONSTANTS)
    assert counts(agree(proto, {"x": X}, NAMES))["LayerNormalization"] == 1
