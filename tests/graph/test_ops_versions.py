"""What opset versions changed, against ONNX Runtime; the official cases know the newest only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from single_node import agree

X = np.random.default_rng(1).standard_normal((2, 4, 6, 5)).astype(np.float32)
POSITIVE = np.abs(X) + 0.5
C = np.random.default_rng(2).standard_normal((4, 4)).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


CASES: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    ("Softmax", 7, [X], {}),
    ("Softmax", 11, [X], {"axis": 2}),
    ("Softmax", 11, [X], {"axis": -1}),
    ("Softmax", 11, [X], {"axis": 0}),
    ("Softmax", 11, [X[:, :, :1, :1]], {}),
    ("Softmax", 13, [X], {}),
    ("LogSoftmax", 11, [X], {"axis": 1}),
    ("LogSoftmax", 13, [X], {"axis": 1}),
    ("Clip", 7, [X], {"min": -0.5, "max": 0.25}),
    ("Clip", 7, [X], {"max": 0.25}),
    ("Clip", 11, [X, floats(-0.5).reshape(())], {}),
    ("Clip", 13, [X, None, floats(0.5).reshape(())], {}),
    ("ReduceSum", 11, [X], {"axes": [1, -1]}),
    ("ReduceSum", 11, [X], {"axes": [2], "keepdims": 0}),
    ("ReduceSum", 13, [X, ints(-2)], {}),
    ("ReduceSum", 13, [X, None], {"noop_with_empty_axes": 1}),
    ("ReduceMean", 13, [X], {"axes": [2, 3]}),
    ("ReduceMean", 18, [X, ints(2, 3)], {}),
    ("ReduceMax", 11, [X], {"axes": [0]}),
    ("ReduceL2", 13, [X], {"axes": [1], "keepdims": 0}),
    ("ReduceLogSumExp", 13, [X], {"axes": [1, 2], "keepdims": 0}),
    ("ReduceLogSum", 13, [POSITIVE], {}),
    ("ReduceProd", 13, [X], {"axes": [3]}),
    ("ReduceSumSquare", 18, [X, ints(0, 3)], {"keepdims": 0}),
    ("Squeeze", 11, [X[:1, :, :, :1]], {"axes": [0, -1]}),
    ("Squeeze", 13, [X[:1, :, :, :1], ints(3)], {}),
    ("Squeeze", 13, [X[:1, :, :, :1]], {}),
    ("Unsqueeze", 11, [X], {"axes": [0, 5]}),
    ("Unsqueeze", 13, [X, ints(-1, 1)], {}),
    ("Pad", 7, [X], {"pads": [0, 1, 0, 2, 0, 0, 3, 0], "value": 1.5}),
    ("Pad", 7, [X], {"pads": [0, 0, 2, 1, 0, 0, 1, 2], "mode": "reflect"}),
    ("Pad", 7, [X], {"pads": [0, 0, 2, 1, 0, 0, 1, 2], "mode": "edge"}),
    ("Pad", 11, [X, ints(0, 0, -1, 1, 0, 0, 2, -2)], {}),
    ("Pad", 13, [X, ints(0, 0, 1, 1, 0, 0, 0, 2), floats(-2.0).reshape(())], {}),
    ("Pad", 18, [X, ints(3, 1, 2, 0), None, ints(-1, 1)], {}),
    ("Pad", 19, [X, ints(2, 1, 3, 0), None, ints(2, 3)], {"mode": "wrap"}),
    ("Slice", 7, [X], {"starts": [1, -3], "ends": [3, 100], "axes": [1, 2]}),
    ("Slice", 10, [X, ints(0, 4), ints(100, 1), ints(0, 3), ints(1, -2)], {}),
    ("Slice", 13, [X, ints(-1), ints(-(2**63)), ints(-1), ints(-1)], {}),
    ("Slice", 13, [X, ints(1, 0), ints(2, 4)], {}),
    ("Upsample", 7, [X], {"scales": [1.0, 1.0, 2.0, 3.0]}),
    ("Upsample", 9, [X, floats(1, 1, 2, 2)], {"mode": "nearest"}),
    ("Upsample", 9, [X, floats(1, 1, 2, 2)], {"mode": "linear"}),
    ("Resize", 10, [X, floats(1, 1, 2, 2)], {}),
    ("Resize", 10, [X, floats(1, 1, 0.6, 0.6)], {}),
    ("Resize", 10, [X, floats(1, 1, 1.5, 0.7)], {"mode": "linear"}),
    ("Resize", 11, [X, floats(), floats(1, 1, 2, 3)], {"mode": "nearest"}),
    (
        "Resize",
        11,
        [X, floats(), floats(), ints(2, 4, 7, 3)],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    (
        "Resize",
        11,
        [X, floats(), floats(1, 1, 0.5, 2)],
        {"coordinate_transformation_mode": "tf_half_pixel_for_nn"},
    ),
    (
        "Resize",
        13,
        [X, None, None, ints(2, 4, 12, 15)],
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"},
    ),
    ("Dropout", 7, [X], {"ratio": 0.3}),
    ("Dropout", 10, [X], {}),
    ("Dropout", 13, [X, floats(0.4).reshape(()), np.array(False)], {}),
    ("BatchNormalization", 7, [X, C[0], C[1], C[2], np.abs(C[3])], {"epsilon": 1e-3}),
    ("BatchNormalization", 9, [X, C[0], C[1], C[2], np.abs(C[3])], {}),
    ("BatchNormalization", 15, [X, C[0], C[1], C[2], np.abs(C[3])], {"momentum": 0.5}),
    ("BatchNormalization", 15, [X[:, :, 0, 0], C[0], C[1], C[2], np.abs(C[3])], {}),
    ("Gemm", 7, [C, X[0, 0, :4, :4], C[0]], {"transB": 1, "alpha": 0.5}),
    ("Gemm", 9, [C, X[0, 0, :4, :4], C[:, :1]], {"transA": 1, "beta": 2.0}),
    ("Gemm", 11, [C, X[0, 0, :4, :5]], {}),
    ("Gemm", 13, [C, C, floats(3.0)], {"beta": 0.0}),
    ("MatMul", 13, [X, C[0, :].repeat(5).reshape(4, 5).T], {}),
    ("MatMul", 9, [C[0], C], {}),
    ("MatMul", 9, [X, C[0, :1].repeat(5)], {}),
    ("MatMul", 9, [C[0], C[1]], {}),
    ("GroupNormalization", 21, [X, C[0], C[1]], {"num_groups": 2}),
    ("InstanceNormalization", 7, [X, C[0], C[1]], {"epsilon": 0.01}),
    ("LayerNormalization", 17, [X, C[0, :1].repeat(5), C[1, :1].repeat(5)], {}),
    ("LayerNormalization", 17, [X, X[0, 0], X[0, 1]], {"axis": 2, "epsilon": 0.1}),
    ("LRN", 7, [X], {"size": 3, "alpha": 0.2, "beta": 0.5, "bias": 2.0}),
    ("LRN", 13, [X], {"size": 5}),
    ("MaxPool", 8, [X], {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    ("MaxPool", 10, [X], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", 12, [X], {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    ("MaxPool", 12, [X], {"kernel_shape": [3, 2], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("AveragePool", 7, [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", 10, [X], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    # EfficientNet's global average, as `transformers` writes it.
    ("AveragePool", 10, [X], {"kernel_shape": [40, 40], "strides": [40, 40], "ceil_mode": 1}),
    (
        "AveragePool",
        11,
        [X],
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    (
        "AveragePool",
        19,
        [X],
        {"kernel_shape": [2, 2], "dilations": [2, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    ),
    ("LpPool", 11, [X], {"kernel_shape": [2, 3], "p": 3, "pads": [0, 1, 0, 1]}),
    ("GlobalLpPool", 7, [X], {"p": 1}),
    ("GlobalAveragePool", 7, [X], {}),
    ("GlobalMaxPool", 7, [X[:, :, :, 0]], {}),
    ("Cast", 9, [X * 10], {"to": 6}),
    ("Cast", 13, [X], {"to": 10}),
    ("Cast", 13, [X], {"to": 9}),
    ("Cast", 13, [np.arange(-200, 200, 7)], {"to": 3}),
    ("PRelu", 7, [X, C[:, :1].reshape(4, 1, 1)], {}),
    ("PRelu", 9, [X, floats(0.3)], {}),
    ("Pow", 7, [POSITIVE, X], {}),
    ("Pow", 12, [X, ints(3).reshape(())], {}),
    ("Pow", 13, [np.arange(-3, 4, dtype=np.int32), floats(2.0)], {}),
    ("Mod", 10, [np.arange(-7, 7), ints(3)], {}),
    ("Mod", 13, [X * 5, floats(-1.5)], {"fmod": 1}),
    ("Div", 7, [np.arange(-7, 8, dtype=np.int32), np.array([-2], np.int32)], {}),
    ("Max", 8, [X, C[0, :1], X[:1]], {}),
    ("Min", 12, [np.arange(6), ints(3)], {}),
    ("Mean", 8, [X, X[:, :1], X[:, :, :1]], {}),
    ("Sum", 8, [X], {}),
    ("Expand", 8, [X[:, :1], ints(3, 1, 4, 1, 1)], {}),
    ("Tile", 7, [X, ints(2, 1, 3, 2)], {}),
    ("Flatten", 9, [X], {"axis": 0}),
    ("Flatten", 11, [X], {"axis": -1}),
    ("Flatten", 9, [X], {"axis": 4}),
    ("Reshape", 7, [X, ints(0, -1, 5)], {}),
    ("Reshape", 14, [X[:0], ints(0, 4, 30)], {"allowzero": 1}),
    ("Transpose", 7, [X], {}),
    ("Transpose", 13, [X[:, :1]], {"perm": [1, 0, 2, 3]}),
    ("Gather", 7, [X, ints(3, 0, 3)], {"axis": 1}),
    ("Gather", 13, [X, ints(-1, -4).reshape(1, 2)], {"axis": -3}),
    ("Gather", 13, [X, ints(1).reshape(())], {"axis": 2}),
    ("GatherElements", 13, [X, np.zeros((2, 1, 3, 5), np.int64) - 1], {"axis": 1}),
    ("ArgMax", 7, [X], {"axis": 1}),
    ("ArgMin", 13, [np.round(X)], {"axis": -1, "keepdims": 0, "select_last_index": 1}),
    ("DepthToSpace", 7, [X], {"blocksize": 2}),
    ("DepthToSpace", 11, [X], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", 7, [X[:, :, :, :4]], {"blocksize": 2}),
    ("QuantizeLinear", 10, [X, floats(0.02).reshape(()), np.array(7, np.uint8)], {}),
    ("QuantizeLinear", 13, [X, np.abs(C[0]) / 50, np.array([1, -2, 3, 0], np.int8)], {"axis": 1}),
    ("QuantizeLinear", 13, [X, np.abs(C[0]) / 50], {"axis": -3}),
    (
        "DequantizeLinear",
        10,
        [np.arange(0, 250, 9, np.uint8), floats(0.1).reshape(()), np.array(128, np.uint8)],
        {},
    ),
    ("DequantizeLinear", 13, [np.arange(40).reshape(10, 4).astype(np.int8), C[0]], {"axis": 1}),
    ("DequantizeLinear", 13, [np.arange(9, dtype=np.int32) * 10**7, floats(1e-3)], {}),
    ("OneHot", 11, [ints(0, 5, -1, 9), ints(6), floats(2, 3)], {"axis": 0}),
    ("CumSum", 11, [X, ints(2).reshape(())], {"exclusive": 1, "reverse": 1}),
    ("Trilu", 14, [X, ints(-1).reshape(())], {"upper": 0}),
    ("Shape", 15, [X], {"start": -3, "end": 3}),
    ("ConstantOfShape", 9, [ints(2, 0, 3)], {}),
    ("Range", 11, [ints(9).reshape(()), ints(-2).reshape(()), ints(-3).reshape(())], {}),
    ("HardSigmoid", 7, [X], {"alpha": 0.3, "beta": 0.4}),
    ("Selu", 7, [X], {"alpha": 2.0, "gamma": 3.0}),
    ("Elu", 7, [X], {"alpha": 2.0}),
    ("Celu", 12, [X], {"alpha": 2.0}),
    ("Shrink", 9, [X], {"bias": 0.5, "lambd": 1.0}),
    ("ThresholdedRelu", 10, [X], {"alpha": 0.4}),
    ("IsInf", 10, [floats(1, np.inf, -np.inf, np.nan)], {"detect_negative": 0}),
    ("IsInf", 20, [floats(1, np.inf, -np.inf, np.nan)], {"detect_positive": 0}),
    ("IsInf", 20, [floats(np.inf)], {"detect_positive": 0, "detect_negative": 0}),
    ("Gelu", 20, [X], {}),
    ("Gelu", 20, [X], {"approximate": "tanh"}),
    ("Mish", 18, [X * 30], {}),
    ("Softplus", 7, [X * 60], {}),
    ("Round", 11, [np.arange(-3, 3.1, 0.5, np.float32)], {}),
    ("Sign", 13, [floats(-2, -0.0, 0.0, 3, np.nan)], {}),
]


@pytest.mark.parametrize(
    ("operator", "opset", "inputs", "attrs"),
    CASES,
    ids=[f"{c[0]}-{c[1]}-{i}" for i, c in enumerate(CASES)],
)
def test_agrees_with_onnx_runtime(
    operator: str, opset: int, inputs: list[Any], attrs: dict[str, Any]
) -> None:
    agree(operator, inputs, attrs, opset=opset)


@pytest.mark.parametrize(
    ("opset", "inputs", "attrs", "outputs"),
    [
        (7, [X], {"axis": 1, "split": [1, 3]}, 2),
        (7, [X], {"axis": 2}, 3),
        (13, [X, ints(2, 0, 3)], {"axis": -1}, 3),
        (18, [X], {"axis": 3, "num_outputs": 2}, 2),
    ],
)
def test_split_gives_all_its_parts(
    opset: int, inputs: list[Any], attrs: dict[str, Any], outputs: int
) -> None:
    agree("Split", inputs, attrs, opset=opset, outputs=outputs)


@pytest.mark.parametrize(
    ("opset", "inputs", "attrs"),
    [
        (9, [X], {"k": 3, "axis": 2}),
        (10, [X, ints(2)], {}),
        (11, [X, ints(4)], {"axis": 1, "largest": 0}),
    ],
)
def test_top_k_gives_values_and_places(
    opset: int, inputs: list[Any], attrs: dict[str, Any]
) -> None:
    assert agree("TopK", inputs, attrs, opset=opset, outputs=2)


def test_max_pool_with_indices_stays_on_the_host() -> None:
    attrs = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 1, 0, 0]}
    assert not agree("MaxPool", [X], attrs, opset=12, outputs=2)
    assert agree("MaxPool", [X], attrs, opset=12)


def test_layer_normalization_gives_its_statistics() -> None:
    weights = [X[0, 0, 0], X[0, 1, 0]]
    assert agree("LayerNormalization", [X, *weights], {}, opset=17, outputs=3)
