"""Small files that ask for more memory than there can be: an error with the figure, no crash."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_models import model

from rekindle import onnx_backend
from rekindle._errors import MemoryLimitError

SIDE = 2**24
"""A square of so many floats is 1 PiB: beyond the address space, whatever the system promises."""
SQUARE = np.array([SIDE, SIDE])
BODIES: dict[str, tuple[str, dict[str, np.ndarray]]] = {
    "expand": ("{ y = Expand(x, s) }", {"s": SQUARE}),
    "fill": ("{ c = ConstantOfShape(s)  y = Add(c, x) }", {"s": SQUARE}),
    "tile": ("{ r = Reshape(x, t)  y = Tile(r, s) }", {"s": SQUARE, "t": np.array([1, 1])}),
    "pad": ("{ r = Reshape(x, t)  y = Pad(r, s) }",
            {"s": np.array([0, 0, SIDE, SIDE]), "t": np.array([1, 1])}),
    "product": ("{ a = Expand(x, s)  b = Expand(x, t)  y = MatMul(a, b) }",
                {"s": np.array([SIDE, 1]), "t": np.array([1, SIDE])}),
    "then a host node": ("{ a = Expand(x, s)  d = Det(a)  y = Expand(d, t) }",
                         {"s": SQUARE, "t": np.array([1, 1])}),
}  # fmt: skip


@pytest.mark.parametrize("device", ["CPU", pytest.param("OPENCL", marks=pytest.mark.opencl)])
@pytest.mark.parametrize("name", BODIES)
def test_a_model_that_asks_for_a_pebibyte(name: str, device: str) -> None:
    body, weights = BODIES[name]
    proto = model(f"(float[1] x) => (float[N,M] y) {body}", opset=18, **weights)
    with pytest.raises(MemoryLimitError, match=r"PiB|TiB|bytes") as caught:
        onnx_backend.run_model(proto, [np.ones(1, np.float32)], device)
    assert caught.value.hint


@pytest.mark.parametrize("device", ["CPU", pytest.param("OPENCL", marks=pytest.mark.opencl)])
@pytest.mark.parametrize(
    ("body", "size"),
    [
        ("(float[1] x, int64[2] s) => (float[N,M] y) { y = Expand(x, s) }", SQUARE),
        ("(float[1] x, int64[1] s) => (float[N] y) { y = ConstantOfShape(s) }", SQUARE[:1] ** 2),
    ],
    ids=["expand", "fill"],
)
def test_a_feed_that_asks_for_a_pebibyte(body: str, size: Any, device: str) -> None:
    feeds = [np.ones(1, np.float32), size]
    with pytest.raises(MemoryLimitError, match="PiB"):
        onnx_backend.run_model(model(body, opset=18), feeds, device)
