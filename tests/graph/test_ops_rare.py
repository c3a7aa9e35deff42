"""Operators around networks against ONNX Runtime, on shapes that the official cases leave out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from single_node import agree, model

from rekindle._errors import ModelError
from rekindle.graph import reference
from rekindle.graph.onnx_io import load_bytes

RANDOM = np.random.default_rng(7)


def draw(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def bytes_of(low: int, high: int, *shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return RANDOM.integers(low, high, shape).astype(dtype)


TRANSPOSED: list[tuple[list[Any], dict[str, Any]]] = [
    ([draw(2, 4, 5), draw(4, 3, 3)], {}),
    ([draw(2, 4, 5), draw(4, 3, 3), draw(3)], {"strides": [3], "dilations": [2]}),
    ([draw(1, 4, 5, 3), draw(4, 2, 3, 2), draw(4)], {"group": 2, "strides": [2, 3]}),
    ([draw(1, 4, 5, 3), draw(4, 1, 4, 4)], {"group": 4, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ([draw(1, 2, 4, 4), draw(2, 3, 3, 3)], {"strides": [2, 2], "output_padding": [1, 1]}),
    ([draw(1, 2, 4, 4), draw(2, 3, 3, 3)], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ([draw(1, 2, 4, 4), draw(2, 3, 4, 3)], {"strides": [3, 2], "output_shape": [12, 9]}),
    ([draw(1, 2, 3, 2, 4), draw(2, 3, 2, 3, 1)], {"strides": [2, 1, 2]}),
]


@pytest.mark.parametrize(("inputs", "attrs"), TRANSPOSED)
def test_transposed_convolutions(inputs: list[Any], attrs: dict[str, Any]) -> None:
    assert agree("ConvTranspose", inputs, attrs, opset=11)


def test_a_transposed_convolution_that_crops_deeply_runs_on_the_host() -> None:
    inputs = [draw(1, 2, 6), draw(2, 3, 3)]
    assert not agree("ConvTranspose", inputs, {"strides": [2], "pads": [4, 4]}, opset=11)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
def test_grid_sample(mode: str, padding: str, corners: int) -> None:
    grid = (1.6 * draw(2, 3, 5, 2)).clip(-2.5, 2.5)
    attrs = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    agree("GridSample", [draw(2, 3, 5, 4), grid], attrs, opset=20, tolerance=1e-4)


CASES: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    ("ScatterElements", 18, [draw(4, 5), ints(3, 0, -1, 3, 1, 2).reshape(2, 3), draw(2, 3)], {}),
    ("ScatterElements", 18, [draw(4, 5), ints(4, -5, 4, 4).reshape(2, 2), draw(2, 2)],
     {"axis": 1, "reduction": "add"}),
    ("ScatterND", 18, [draw(4, 3, 2), ints(3, -1, 0, 2).reshape(2, 2), draw(2, 2)], {}),
    ("ScatterND", 18, [draw(4, 3), ints(1, 1, -2).reshape(3, 1), draw(3, 3)],
     {"reduction": "max"}),
    ("Einsum", 12, [draw(2, 3, 4), draw(2, 4, 5)], {"equation": "bij,bjk->bik"}),
    ("Einsum", 12, [draw(2, 3, 4), draw(4)], {"equation": "...j,j->..."}),
    ("Einsum", 12, [draw(3, 2), draw(2, 3)], {"equation": "ij,jk"}),
    ("Einsum", 12, [draw(4, 4)], {"equation": "ii->i"}),
    ("Einsum", 12, [draw(5, 3), draw(5, 3)], {"equation": "...i,...i->...i"}),
    ("MatMulInteger", 10, [bytes_of(0, 255, 3, 4), bytes_of(0, 255, 4, 5), np.uint8([9]),
                           bytes_of(0, 9, 5)], {}),
    ("ConvInteger", 10, [bytes_of(0, 255, 1, 2, 5, 4), bytes_of(0, 255, 3, 2, 2, 3),
                         np.uint8(7)], {"strides": [2, 1], "pads": [1, 0, 0, 1]}),
    ("QLinearConv", 10, [bytes_of(0, 255, 1, 2, 5, 4), np.float32(0.02), np.uint8(120),
                         bytes_of(-9, 9, 3, 2, 2, 3, dtype=np.int8),
                         np.float32([0.1, 0.2, 0.05]), np.int8([0, 0, 0]), np.float32(0.3),
                         np.uint8(100), np.int32([5, -40, 900])], {"pads": [1, 1, 0, 0]}),
    ("QLinearMatMul", 10, [bytes_of(0, 255, 2, 3, 4), np.float32(0.05), np.uint8(128),
                           bytes_of(0, 255, 4, 5), np.float32(0.02), np.uint8(100),
                           np.float32(0.2), np.uint8(3)], {}),
    ("ReverseSequence", 10, [draw(3, 4, 2), ints(1, 4, 2)], {"batch_axis": 0, "time_axis": 1}),
    ("Compress", 11, [draw(3, 4), np.array([True, False, True])], {"axis": -1}),
    ("Compress", 11, [draw(3, 4), np.array([False, True, True, True, True])], {}),
    ("EyeLike", 9, [draw(3, 5)], {"k": -1}),
    ("Det", 11, [draw(2, 3, 4, 4)], {}),
    ("LpNormalization", 7, [draw(3, 4, 2)], {"axis": 1, "p": 1}),
    ("LpNormalization", 7, [draw(3, 4, 2)], {"axis": 0}),
    ("MeanVarianceNormalization", 13, [draw(2, 3, 4, 2)], {}),
    ("DFT", 20, [draw(2, 9, 1)], {"onesided": 1}),
    ("DFT", 17, [draw(2, 8, 2)], {"axis": 1, "inverse": 1}),
    ("HannWindow", 17, [np.array(9, np.int64)], {"periodic": 0}),
    ("BitShift", 11, [bytes_of(0, 255, 3, 4), bytes_of(0, 7, 4)], {"direction": "RIGHT"}),
    ("MaxUnpool", 11, [draw(1, 1, 2, 2), ints(5, 7, 13, 15).reshape(1, 1, 2, 2)],
     {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("Col2Im", 18, [draw(2, 12, 15), ints(5, 4), ints(2, 3)],
     {"pads": [0, 1, 1, 0], "dilations": [1, 1]}),
    ("CenterCropPad", 18, [draw(5, 4, 3), ints(8, 1)], {"axes": [1, 0]}),
    ("RoiAlign", 16, [draw(2, 3, 9, 8), 9 * np.abs(draw(4, 4)), ints(0, 1, 1, 0)],
     {"output_height": 3, "output_width": 2, "sampling_ratio": 2, "spatial_scale": 0.5}),
    ("NegativeLogLikelihoodLoss", 13, [draw(3, 4, 2), ints(0, 3, 1, 2, 2, 0).reshape(3, 2),
                                       np.abs(draw(4))], {"ignore_index": 2}),
    ("SoftmaxCrossEntropyLoss", 13, [draw(3, 4), ints(3, 0, 1)], {"reduction": "sum"}),
    ("RotaryEmbedding", 23, [draw(2, 5, 12), draw(7, 2), draw(7, 2), ints(*range(10)).reshape(2, 5)
                             % 7], {"num_heads": 3}),
    ("RMSNormalization", 23, [draw(2, 3, 5), draw(5)], {"epsilon": 1e-3}),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "opset", "inputs", "attrs"), CASES)
def test_against_onnx_runtime(
    operator: str, opset: int, inputs: list[Any], attrs: dict[str, Any]
) -> None:
    agree(operator, inputs, attrs, opset=opset, tolerance=1e-4)


@pytest.mark.parametrize("center", [0, 1])
def test_non_max_suppression(center: int) -> None:
    boxes = np.abs(draw(2, 20, 4))
    scores = RANDOM.random((2, 3, 20)).astype(np.float32).round(1)
    inputs = [boxes, scores, ints(4), np.float32([0.3]), np.float32([0.2])]
    agree("NonMaxSuppression", inputs, {"center_point_box": center}, opset=11)


@pytest.mark.parametrize("order", [0, 1])
def test_unique(order: int) -> None:
    x = RANDOM.integers(0, 4, (3, 5)).astype(np.float32)
    agree("Unique", [x], {"sorted": order}, opset=11, outputs=4)
    agree("Unique", [x[[0, 1, 0]]], {"sorted": order, "axis": 0}, opset=11, outputs=4)


HEADS = {"q_num_heads": 4, "kv_num_heads": 2}
ATTENTION: list[tuple[list[Any], dict[str, Any]]] = [
    ([draw(2, 4, 3, 8), draw(2, 2, 5, 8), draw(2, 2, 5, 6)], {}),
    ([draw(2, 3, 32), draw(2, 5, 16), draw(2, 5, 12)], HEADS),
    ([draw(2, 3, 32), draw(2, 5, 16), draw(2, 5, 12), draw(3, 5)], HEADS | {"softcap": 2.0}),
    ([draw(1, 2, 3, 8), draw(1, 2, 3, 8), draw(1, 2, 3, 8)], {"is_causal": 1, "scale": 0.1}),
    ([draw(1, 2, 3, 4), draw(1, 2, 3, 4), draw(1, 2, 3, 4),
      np.array([[True, False, True], [True, True, False], [False, True, True]])], {}),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "attrs"), ATTENTION)
def test_attention(inputs: list[Any], attrs: dict[str, Any]) -> None:
    assert agree("Attention", inputs, attrs, opset=23)


BAD: list[tuple[str, int, list[Any], dict[str, Any], str]] = [
    ("ScatterND", 18, [draw(2, 3), ints(2).reshape(1, 1), draw(1, 3)], {}, "out of"),
    ("ScatterElements", 18, [draw(2, 3), ints(0, -3).reshape(1, 2), draw(1, 2)], {}, "out of"),
    ("Einsum", 12, [draw(2, 3), draw(4, 5)], {"equation": "ij,jk->ik"}, "3 and 4 must be equal"),
    ("Einsum", 12, [draw(2, 3)], {"equation": "ij,jk->ik"}, "does not fit 1 operands"),
    ("Einsum", 12, [draw(2, 3)], {"equation": "ij->k"}, "no operand has"),
    ("ConvTranspose", 11, [draw(1, 3, 4), draw(3, 2, 3)], {"group": 2}, "do not split"),
    ("ConvTranspose", 11, [draw(1, 2, 2), draw(2, 2, 3)], {"pads": [9, 9]}, "leave nothing"),
    ("MatMulInteger", 10, [draw(2, 3), draw(3, 2)], {}, "int8 or uint8"),
    ("Attention", 23, [draw(1, 2, 8), draw(1, 2, 8), draw(1, 2, 8)], {}, "need q_num_heads"),
    ("Attention", 23, [draw(1, 3, 2, 4), draw(1, 2, 2, 4), draw(1, 2, 2, 4)], {}, "do not share"),
    ("BitShift", 11, [draw(2), draw(2)], {"direction": "LEFT"}, "whole numbers"),
    ("GridSample", 20, [draw(1, 1, 4, 4), draw(1, 2, 2, 3)], {}, "does not fit"),
    ("Col2Im", 18, [draw(1, 5, 4), ints(2, 2), ints(2, 1)], {}, "do not split"),
    ("LpNormalization", 22, [draw(2, 3)], {"p": 3}, "expected 1 or 2"),
]


@pytest.mark.parametrize(("operator", "opset", "inputs", "attrs", "message"), BAD)
def test_malformed_nodes_are_refused(
    operator: str, opset: int, inputs: list[Any], attrs: dict[str, Any], message: str
) -> None:
    proto = model(operator, inputs, attrs, opset=opset)
    with pytest.raises(ModelError, match=message):
        reference.run(load_bytes(proto.SerializeToString()), {"i0": inputs[0]})
