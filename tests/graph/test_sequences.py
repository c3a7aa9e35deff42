"""Sequences of tensors, written out on load: against ONNX Runtime, which has real ones."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import compute, graph_of, model, normal, onnx_runtime

from rekindle._errors import ModelError, UnsupportedOperatorError

WEIGHTS = {
    "zero": np.array(0), "one": np.array(1), "two": np.array(2), "last": np.array(-1),
    "sizes": np.array([1, 3, 2]),
}  # fmt: skip
BODIES = {
    "a list": """s = SequenceConstruct(x, x)  t = Neg(x)  u = SequenceInsert(s, t, one)
        y = ConcatFromSequence <axis = 0> (u)  z = SequenceAt(u, last)""",
    "a list that grows": """e = SequenceEmpty()  a = SequenceInsert(e, x)  t = Neg(x)
        b = SequenceInsert(a, t)  c = SequenceInsert(b, x, zero)  d = SequenceErase(c, one)
        y = ConcatFromSequence <axis = 1, new_axis = 1> (d)  z = SequenceLength(c)""",
    "parts of one size": """s = SplitToSequence <axis = 1> (x, two)  y = SequenceAt(s, two)
        z = SequenceAt(s, zero)""",
    "single positions": """s = SplitToSequence <axis = 1, keepdims = 0> (x)
        y = SequenceAt(s, last)  z = SequenceAt(s, two)""",
    "parts of several sizes": """s = SplitToSequence <axis = -1> (x, sizes)
        y = SequenceAt(s, one)  z = ConcatFromSequence <axis = -1> (s)""",
    "an optional": """o = Optional(x)  y = OptionalGetElement(o)  s = SequenceConstruct(y)
        z = SequenceAt(s, zero)""",
}  # fmt: skip


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("columns", ["6", "N"])
def test_sequences_give_what_onnx_runtime_gives(kind: str, columns: str) -> None:
    text = f"(float[2,{columns}] x) => (float[a,b] y, float[c,d] z) {{ {BODIES[kind]} }}"
    text = text.replace("float[c,d] z", "int64[] z") if "z = SequenceLength" in text else text
    text = (
        text.replace("[a,b] y", "[a] y").replace("[c,d] z", "[c] z") if "single" in kind else text
    )
    if "new_axis" in text:
        text = text.replace("[a,b] y", "[a,b,e] y")
    feeds = {"x": normal(2, 6)}
    expected = onnx_runtime(model(text, opset=18, **WEIGHTS), feeds)
    found = compute(graph_of(text, opset=18, **WEIGHTS), feeds)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("s = SequenceConstruct(x)  y = SequenceAt(s, i)", "at run time"),
        ("s = SplitToSequence <axis = 1> (x, i)  y = SequenceAt(s, zero)", "at run time"),
        ("s = SplitToSequence <axis = 1> (x, two)  y = SequenceAt(s, last)", "from the end"),
        ("y = SequenceConstruct(x)", "is a sequence"),
    ],
)
def test_what_only_a_run_could_tell_is_refused(body: str, problem: str) -> None:
    text = f"(float[2,N] x, int64 i) => (float[a,b] y) {{ {body} }}"
    with pytest.raises(UnsupportedOperatorError, match=problem):
        graph_of(text, opset=18, **WEIGHTS)


def test_a_position_past_the_end_is_an_error() -> None:
    text = "(float[2,6] x) => (float[a,b] y) { s = SequenceConstruct(x)  y = SequenceAt(s, two) }"
    with pytest.raises(ModelError, match="position 2 of a sequence of 1"):
        graph_of(text, opset=18, **WEIGHTS)
