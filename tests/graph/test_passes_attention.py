"""Attention as exporters write it becomes one node that gives the same."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import agree, counts, model, normal

NAMES = ["attention_fusion", "dead_nodes"]
X = normal(2, 5, 24)
HEAD = (
    "(float[2,5,24] x) => (float[2,5,24] y) {"
    "  a = Reshape(x, split)  q = Transpose<perm=[0,2,1,3]>(a)"
    "  b = Mul(a, three)  k = Transpose<perm=[0,2,3,1]>(b)"
    "  c = Sin(a)  v = Transpose<perm=[0,2,1,3]>(c)  s = MatMul(q, k)"
)
TAIL = "  o = MatMul(p, v)  t = Transpose<perm=[0,2,1,3]>(o)  y = Reshape(t, whole) }"
CONSTANTS = {
    "split": np.array([2, 5, 3, 8]), "whole": np.array([2, 5, 24]), "three": np.float32(3),
    "root": np.float32(2.8), "mask": np.where(normal(2, 1, 5, 5) > 0, 0, -1e9).astype("float32"),
}  # fmt: skip
FUSED = {
    "plain": "p = Softmax<axis=3>(s)",
    "scaled": "d = Div(s, root)  p = Softmax(d)",
    "masked": "d = Mul(root, s)  m = Add(d, mask)  p = Softmax(m)",
    "mask first": "m = Add(mask, s)  p = Softmax(m)",
}
SPLIT = HEAD.replace("MatMul(q, k)", "MatMul(q1, k2)").replace(
    "  s =", "  q1 = Mul(q, root)  k1 = Mul(three, k)  k2 = Div(k1, root)  s ="
)
LEFT = {
    "another axis": "p = Softmax<axis=2>(s)",
    "the mask is scaled, too": "m = Add(s, mask)  d = Div(m, root)  p = Softmax(d)",
    "root over scores": "d = Div(root, s)  p = Softmax(d)",
    "scores are read elsewhere": "p0 = Softmax(s)  r = ReduceMax(s)  p = Mul(p0, r)",
}


@pytest.mark.parametrize("middle", FUSED.values(), ids=FUSED.keys())
def test_fused(middle: str) -> None:
    proto = model(HEAD + middle + TAIL, **CONSTANTS)
    found = counts(agree(proto, {"x": X}, NAMES))
    assert found["rekindle::Attention"] == 1
    assert not {"MatMul", "Softmax", "Transpose", "Div", "Add"} & set(found)
    assert found["Mul"] == 1


def test_scales_of_queries_and_of_keys_are_taken_along() -> None:
    proto = model(SPLIT + FUSED["scaled"] + TAIL, **CONSTANTS)
    found = counts(agree(proto, {"x": X}, NAMES))
    assert found["rekindle::Attention"] == 1
    assert not {"Div", "Transpose"} & set(found)


@pytest.mark.parametrize("middle", LEFT.values(), ids=LEFT.keys())
def test_left_alone(middle: str) -> None:
    proto = model(HEAD + middle + TAIL, **CONSTANTS)
    assert "rekindle::Attention" not in counts(agree(proto, {"x": X}, NAMES))


def test_keys_shared_by_broadcasting_are_left_alone() -> None:
    text = (
        "(float[2,3,5,8] x, float[1,1,5,8] z) => (float[2,3,5,8] y)"
        "{ k = Transpose<perm=[0,1,3,2]>(z)  s = MatMul(x, k)  p = Softmax(s)  y = MatMul(p, z) }"
    )
    feeds = {"x": normal(2, 3, 5, 8), "z": normal(1, 1, 5, 8)}
    assert "rekindle::Attention" not in counts(agree(model(text), feeds, NAMES))


def test_scores_that_are_an_output_stay() -> None:
    text = (
        "(float[2,3,5,8] x) => (float[2,3,5,8] y, float[2,3,5,5] p)"
        "{ k = Transpose<perm=[0,1,3,2]>(x)  s = MatMul(x, k)  p = Softmax(s)  y = MatMul(p, x) }"
    )
    feeds = {"x": normal(2, 3, 5, 8)}
    assert "rekindle::Attention" not in counts(agree(model(text), feeds, NAMES))
