"""The operators of com.microsoft against ONNX Runtime: reference, types and lowering."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from single_node import agree, model
from small_models import normal

from rekindle.graph import reference
from rekindle.graph.onnx_io import load_bytes

Case = tuple[str, list[Any], dict[str, Any]]

X, Y = normal(2, 5, 12), normal(2, 5, 12, seed=1)
IMAGE, WEIGHTS = normal(1, 3, 7, 9), normal(5, 3, 3, 3, seed=1)
A, B = normal(3, 13, 7, seed=2), normal(3, 7, 5, seed=3)
VECTOR, OTHER = normal(12, seed=4), normal(12, seed=5)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def byte(*shape: int, seed: int = 0, signed: bool = False) -> np.ndarray:
    """Signed ones have seven bits: ONNX Runtime's products saturate on processors before VNNI."""
    low, high, kind = (-64, 64, np.int8) if signed else (0, 256, np.uint8)
    return np.random.default_rng(seed).integers(low, high, shape).astype(kind)


def f32(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def u8(value: int) -> np.ndarray:
    return np.array(value, np.uint8)


FLOATS: list[Case] = [
    ("Gelu", [X], {}),
    ("BiasGelu", [X, VECTOR], {}),
    ("FastGelu", [X], {}),
    ("FastGelu", [X, VECTOR], {}),
    ("QuickGelu", [X], {"alpha": 1.5}),
    ("FusedConv", [IMAGE, WEIGHTS], {"activation": "Relu", "pads": [1, 0, 1, 2]}),
    ("FusedConv", [IMAGE, WEIGHTS, normal(5)],
     {"activation": "LeakyRelu", "activation_params": [0.3], "strides": [2, 1]}),
    ("FusedConv", [IMAGE, WEIGHTS, normal(5), normal(1, 5, 5, 7)],
     {"activation": "Clip", "activation_params": [-0.5, 1.5]}),
    ("FusedConv", [IMAGE, WEIGHTS],
     {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]}),
    ("FusedConv", [IMAGE, WEIGHTS, None, normal(1, 5, 5, 7)], {"activation": "Sigmoid"}),
    ("FusedGemm", [A[0], B[0], normal(5)], {"activation": "Relu", "alpha": 0.5, "beta": 2.0}),
    ("FusedGemm", [A[0].T.copy(), B[0].T.copy()],
     {"activation": "LeakyRelu", "activation_alpha": 0.2, "transA": 1, "transB": 1}),
    ("FusedMatMul", [A, B], {"alpha": 0.25}),
    ("FusedMatMul", [A.swapaxes(1, 2).copy(), B], {"transA": 1}),
    ("FusedMatMul", [A, B.swapaxes(1, 2).copy()], {"transB": 1, "alpha": 3.0}),
    ("FusedMatMul", [A, B[0]], {}),
    ("FusedMatMul", [A.swapaxes(0, 1).copy(), B], {"transBatchA": 1}),
    ("TransposeMatMul", [A, B.swapaxes(1, 2).copy()], {"transB": 1}),
    ("Trilu", [A, np.array(-2)], {"upper": 0}),
    ("SkipLayerNormalization", [X, Y, VECTOR, OTHER, VECTOR], {"epsilon": 1e-5}),
    ("SkipLayerNormalization", [X, Y[:1], VECTOR, OTHER], {}),
    ("SkipLayerNormalization", [X, Y, VECTOR], {"epsilon": 1e-3}),
    ("SkipSimplifiedLayerNormalization", [X, Y, VECTOR, OTHER], {"epsilon": 1e-5}),
    ("RotaryEmbedding", [normal(2, 3, 5, 8), ints(0, 2, 1, 3, 4, 1, 2, 3, 4, 5).reshape(2, 5),
                         normal(7, 4, seed=1), normal(7, 4, seed=2)], {}),
    ("RotaryEmbedding", [normal(2, 5, 24), ints(2), normal(7, 4, seed=1), normal(7, 4, seed=2)],
     {"interleaved": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "inputs", "attrs"), FLOATS)
def test_floats(operator: str, inputs: list[Any], attrs: dict[str, Any]) -> None:
    assert agree(f"com.microsoft::{operator}", inputs, attrs, opset=14, tolerance=1e-4)


def test_the_sum_that_is_normalized_is_an_output() -> None:
    for name, extra in (("Skip", [OTHER, VECTOR]), ("SkipSimplified", [VECTOR])):
        assert agree(
            f"com.microsoft::{name}LayerNormalization", [X, Y, VECTOR, *extra], {},
            opset=14, outputs=("o0", "", "", "o3"), tolerance=1e-4,
        )  # fmt: skip


def test_simplified_layer_normalization_stands_in_the_default_domain() -> None:
    assert agree("SimplifiedLayerNormalization", [X, VECTOR], {"axis": -1}, opset=14)


def test_embed_layer_normalization() -> None:
    ids, segments = ints(1, 0, 3, 2, 2, 5).reshape(2, 3), ints(0, 1, 1, 0, 0, 1).reshape(2, 3)
    tables = [normal(6, 12), normal(9, 12, seed=1), normal(2, 12, seed=2)]
    mask = ints(1, 1, 0, 1, 1, 1).reshape(2, 3)
    given = [a.astype(np.int32) for a in (ids, segments)]
    for last in ([mask.astype(np.int32)], [], [None, given[1]]):
        assert agree(
            "com.microsoft::EmbedLayerNormalization",
            [*given, *tables, VECTOR, OTHER, *last], {"epsilon": 1e-5},
            opset=14, outputs=2, tolerance=1e-4,
        )  # fmt: skip


SCALES = [f32(0.02), u8(120), f32(0.05), u8(3)]
QUANTIZED: list[Case] = [
    ("QLinearAdd", [byte(2, 3, 5), *SCALES[:2], byte(3, 1, seed=1), *SCALES[2:], f32(0.04), u8(9)],
     {}),
    ("QLinearMul", [byte(2, 3, 5), *SCALES[:2], byte(5, seed=1), *SCALES[2:], f32(0.1), u8(77)],
     {}),
    ("QLinearLeakyRelu", [byte(4, 9), f32(0.02), u8(100), f32(0.02), u8(80)], {"alpha": 0.2}),
    ("QLinearSigmoid", [byte(4, 9), f32(0.05), u8(128), f32(1 / 256), u8(0)], {}),
    ("QLinearSoftmax", [byte(4, 9), f32(0.05), u8(128), f32(1 / 256), u8(0)],
     {"opset": 13, "axis": 1}),
    ("QLinearSoftmax", [byte(2, 3, 4), f32(0.05), u8(128), f32(1 / 256), u8(0)],
     {"opset": 11, "axis": 1}),
    ("QLinearGlobalAveragePool", [byte(2, 3, 5, 7), f32(0.02), u8(100), f32(0.01), u8(120)], {}),
    ("QLinearGlobalAveragePool", [byte(2, 5, 7, 3), f32(0.02), u8(100), f32(0.01), u8(120)],
     {"channels_last": 1}),
    ("QLinearAveragePool", [byte(2, 3, 5, 7), f32(0.02), u8(100), f32(0.01), u8(120)],
     {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "strides": [2, 1]}),
    ("QLinearConcat", [f32(0.05), u8(60), byte(2, 3), f32(0.02), u8(100), byte(2, 5), f32(0.05),
                       u8(40)], {"axis": 1}),
    ("QLinearConv", [byte(1, 6, 5, 3), f32(0.02), u8(100), byte(4, 3, 3, 3, signed=True),
                     f32(0.01), np.array(0, np.int8), f32(0.9), u8(120)], {"channels_last": 1}),
    ("QGemm", [byte(5, 7), f32(0.02), u8(9), byte(7, 3, signed=True), f32(0.03),
               np.array(0, np.int8), np.arange(3, dtype=np.int32), f32(2.0), u8(7)], {}),
    ("QGemm", [byte(7, 5), f32(0.02), u8(9), byte(3, 7, signed=True), f32(0.03),
               np.array(2, np.int8)], {"transA": 1, "transB": 1, "alpha": 0.5}),
    ("QuantizeLinear", [normal(3, 5), f32(0.02), np.array(9, np.uint16)], {}),
    ("DequantizeLinear", [byte(3, 5), f32(0.02), u8(4)], {}),
    ("DynamicQuantizeMatMul", [normal(2, 5, 13), byte(13, 4, signed=True), f32(0.02)], {}),
    ("DynamicQuantizeMatMul", [normal(5, 13), byte(13, 4), normal(4, seed=2), byte(4, seed=1),
                               normal(4)], {}),
    ("MatMulIntegerToFloat", [byte(2, 5, 13), byte(13, 4), f32(0.1), f32(0.2), u8(3), u8(100),
                              normal(4)], {}),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "inputs", "attrs"), QUANTIZED)
def test_quantized(operator: str, inputs: list[Any], attrs: dict[str, Any]) -> None:
    agree(f"com.microsoft::{operator}", inputs, attrs, opset=14, tolerance=1e-4, steps=1)


def packed(count: int, depth: int, size: int, bits: int) -> np.ndarray:
    return byte(count, -(-depth // size), size * bits // 8, seed=bits)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("depth", "size"), [(32, 16), (77, 32), (130, 64)])
@pytest.mark.parametrize("zeros", ["none", "packed"])
def test_products_with_weights_of_few_bits(bits: int, depth: int, size: int, zeros: str) -> None:
    count, groups = 13, -(-depth // size)
    given = [normal(2, 3, depth), packed(count, depth, size, bits), normal(count, groups, seed=1)]
    if zeros == "packed":
        given.append(byte(count, -(-groups * bits // 8), seed=9))
    attrs = {"bits": bits, "block_size": size, "N": count, "K": depth}
    assert agree("com.microsoft::MatMulNBits", given, attrs, opset=17, tolerance=1e-4)


HEADS = {"num_heads": 3}
WIDE = [normal(12, 36, seed=3), normal(36, seed=4)]


@pytest.mark.parametrize(
    ("mask", "attrs"),
    [
        (None, {}),
        (None, {"unidirectional": 1}),
        (ints(3, 5), {}),
        (ints(1, 1, 1, 0, 0, 0, 1, 1, 1, 1).reshape(2, 5), {}),
        (ints(*[1, 0, 1, 1, 1] * 10).reshape(2, 5, 5), {"unidirectional": 1}),
        (None, {"scale": 0.3}),
    ],
)
def test_attention(mask: np.ndarray | None, attrs: dict[str, Any]) -> None:
    given = [X, *WIDE, None if mask is None else mask.astype(np.int32)]
    assert agree("com.microsoft::Attention", given, HEADS | attrs, opset=14, tolerance=1e-4)


def test_attention_with_a_past() -> None:
    past = normal(2, 2, 3, 4, 4, seed=8)
    assert agree(
        "com.microsoft::Attention", [X, *WIDE, None, past], HEADS | {"unidirectional": 1},
        opset=14, outputs=2, tolerance=1e-4,
    )  # fmt: skip


KEYS, VALUES = normal(2, 7, 12, seed=5), normal(2, 7, 12, seed=6)


@pytest.mark.parametrize(
    "given",
    [
        [X, KEYS, VALUES],
        [X, KEYS, VALUES, normal(36, seed=7)],
        [X, KEYS, VALUES, None, ints(*[1] * 6, 0, *[1] * 7).reshape(2, 7).astype(np.int32)],
        [X, KEYS, VALUES, None, None, normal(1, 3, 5, 7, seed=9)],
        [X, normal(2, 3, 7, 4, seed=5), normal(2, 3, 7, 4, seed=6)],
    ],
)
def test_multi_head_attention(given: list[Any]) -> None:
    assert agree("com.microsoft::MultiHeadAttention", given, HEADS, opset=14, tolerance=1e-4)


def test_multi_head_attention_with_a_past() -> None:
    past = [normal(2, 3, 4, 4, seed=s) for s in (1, 2)]
    given = [X, Y, X, None, None, None, *past]
    assert agree(
        "com.microsoft::MultiHeadAttention", given, HEADS | {"unidirectional": 1},
        opset=14, outputs=3, tolerance=1e-4,
    )  # fmt: skip


def test_packed_keys_and_values_are_those_apart() -> None:
    """ONNX Runtime's own cannot do these on a CPU."""
    q, k, v = (normal(2, 5, 3, 4, seed=s) for s in range(3))
    apart = [a.reshape(2, 5, 12) for a in (q, k, v)]
    (expected,) = computed("MultiHeadAttention", apart, HEADS)
    for given in ([np.stack((q, k, v), axis=3)], [apart[0], np.stack((k, v), axis=3)]):
        (found,) = computed("MultiHeadAttention", given, HEADS)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def computed(operator: str, inputs: list[Any], attrs: dict[str, Any]) -> list[np.ndarray]:
    proto = model(f"com.microsoft::{operator}", inputs, attrs, opset=14)
    return list(reference.run(load_bytes(proto.SerializeToString()), {"i0": inputs[0]}).values())
