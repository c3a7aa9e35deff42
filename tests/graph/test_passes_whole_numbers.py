"""Quantized arithmetic as floats: ONNX Runtime's numbers, and only while they are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_models import agree, counts, model, normal

RNG = np.random.default_rng(3)


def weights(*shape: int, dtype: str = "int8") -> np.ndarray:
    """Of seven bits: ONNX Runtime's products saturate on processors before VNNI."""
    low = 0 if dtype == "uint8" else -64
    return RNG.integers(low, 64, shape).astype(dtype)


def f32(*values: float) -> np.ndarray:
    return np.array(values if len(values) > 1 else values[0], np.float32)


PARAMETERS: dict[str, Any] = {
    "s0": f32(0.02), "z0": np.array(119, np.uint8), "s1": f32(0.01), "z1": np.array(0, np.int8),
    "s2": f32(0.4), "z2": np.array(7, np.uint8), "w": weights(5, 3, 3, 3),
    "v": weights(4, 5, 1, 1), "b": np.arange(-2, 3, dtype=np.int32) * 100,
}  # fmt: skip
CHAIN = """(float[1,3,9,7] x) => (float[1,4,9,7] y) {
  a = QuantizeLinear(x, s0, z0)
  c = QLinearConv <pads = [1,1,1,1]> (a, s0, z0, w, s1, z1, s2, z2, b)
  d = QLinearConv(c, s2, z2, v, s1, z1, s0, z0)
  y = DequantizeLinear(d, s0, z0)
}"""


def test_a_chain_of_convolutions_keeps_floats_throughout() -> None:
    found = agree(model(CHAIN, opset=13, **PARAMETERS), {"x": normal(1, 3, 9, 7) * 2})
    kinds = counts(found)
    assert kinds.pop("rekindle::Conv") == 2
    assert set(kinds) <= {"rekindle::Elementwise", "rekindle::Reorder"}
    assert all(n.attr("exact") for n in found.nodes if n.op_type == "Conv")
    assert {found.values[n.outputs[0]].dtype.value for n in found.nodes} == {"float32"}


def test_a_scale_for_each_filter() -> None:
    each = {**PARAMETERS, "s1": f32(0.01, 0.02, 0.005, 0.03, 0.01), "z1": np.zeros(5, np.int8)}
    text = """(float[1,3,9,7] x) => (uint8[1,5,5,4] y) {
      a = QuantizeLinear(x, s0, z0)
      y = QLinearConv <strides = [2,2], auto_pad = "SAME_UPPER"> (a, s0, z0, w, s1, z1, s2, z2, b)
    }"""
    assert "rekindle::Conv" in counts(agree(model(text, **each), {"x": normal(1, 3, 9, 7) * 2}))


@pytest.mark.parametrize("group", [1, 3])
def test_an_integer_convolution_with_a_computed_zero_point(group: int) -> None:
    w = weights(6, 3 // group, 3, 3, dtype="uint8")
    text = f"""(float[2,3,8,7] x) => (int32[2,6,6,5] y) {{
      a, s, z = DynamicQuantizeLinear(x)
      y = ConvInteger <group = {group}> (a, w, z, zw)
    }}"""
    proto = model(text, w=w, zw=np.array(13, np.uint8))
    assert "rekindle::Conv" in counts(agree(proto, {"x": normal(2, 3, 8, 7)}))


@pytest.mark.parametrize("depth", [13, 127])
def test_integer_products(depth: int) -> None:
    text = f"""(float[2,5,{depth}] x) => (int32[2,5,4] y) {{
      a, s, z = DynamicQuantizeLinear(x)
      y = MatMulInteger(a, w, z, zw)
    }}"""
    proto = model(text, w=weights(depth, 4), zw=np.arange(4, dtype=np.int8))
    assert "rekindle::MatMul" in counts(agree(proto, {"x": normal(2, 5, depth)}))


def test_quantized_products() -> None:
    text = """(float[3,13] x) => (float[3,6] y) {
      a = QuantizeLinear(x, s0, z0)
      c = QLinearMatMul(a, s0, z0, m, s1, z1, s2, z2)
      y = DequantizeLinear(c, s2, z2)
    }"""
    found = agree(model(text, m=weights(13, 6), **PARAMETERS), {"x": normal(3, 13) * 2})
    assert "rekindle::MatMul" in counts(found)


def test_sums_past_what_a_float_holds_stay_whole() -> None:
    """1,200 weights of 64 at a reach of 255 come to 19.6 million; 2^24 is 16.8 million."""
    text = """(float[2,1200] x) => (int32[2,3] y) {
      a, s, z = DynamicQuantizeLinear(x)
      y = MatMulInteger(a, w, z)
    }"""
    proto = model(text, w=np.full((1200, 3), 64, np.uint8))
    assert "MatMulInteger" in counts(agree(proto, {"x": normal(2, 1200)}))


def test_quantization_between_convolutions_is_carried_by_the_first() -> None:
    text = """(float[1,3,9,7] x) => (float[1,4,9,7] y) {
      a = Conv <pads = [1,1,1,1]> (x, w)
      q = QuantizeLinear(a, s, z)
      r = DequantizeLinear(q, s, z)
      y = Conv(r, v)
    }"""
    proto = model(
        text, w=normal(5, 3, 3, 3), v=normal(4, 5, 1, 1), s=f32(0.1), z=np.array(120, np.uint8)
    )
    kinds = counts(agree(proto, {"x": normal(1, 3, 9, 7)}))
    assert kinds.pop("rekindle::Conv") + kinds.pop("Conv", 0) == 2
    assert set(kinds) <= {"rekindle::Reorder"}


def test_a_scale_along_an_axis_is_left_as_it_is() -> None:
    text = """(float[2,3,4] x) => (float[2,3,4] y) {
      q = QuantizeLinear <axis = 1> (x, s, z)
      y = DequantizeLinear <axis = 1> (q, s, z)
    }"""
    proto = model(text, s=f32(0.1, 0.2, 0.3), z=np.array([1, 2, 3], np.uint8))
    assert counts(agree(proto, {"x": normal(2, 3, 4)})) == {
        "QuantizeLinear": 1, "DequantizeLinear": 1
    }  # fmt: skip
