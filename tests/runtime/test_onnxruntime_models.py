"""Models that ONNX Runtime optimized or quantized, on the device and there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from rekindle import open_session
from rekindle._errors import UnsupportedOperatorError

pytestmark = [pytest.mark.opencl, pytest.mark.filterwarnings("ignore")]

CONVOLUTIONS = """(float[1,3,13,11] x) => (float[1,5] y) {
  a = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w0, b0)
  b = Relu(a)
  c = Conv <pads = [1,1,1,1], group = 8> (b, w1, b1)
  d = LeakyRelu <alpha = 0.2> (c)
  e = Conv(d, w2)
  f = Add(e, b)
  g = Relu(f)
  h = Sigmoid(g)
  i = Concat <axis = 1> (g, h)
  j = GlobalAveragePool(i)
  k = Flatten(j)
  l = Gemm <transB = 1> (k, w3, b3)
  y = Softmax <axis = 1> (l)
}"""
TOKENS = """(float[2,7,32] x) => (float[2,7,32] y) {
  a = LayerNormalization <axis = -1> (x, g0, b0)
  q = MatMul(a, w0)
  k = MatMul(a, w1)
  t = Transpose <perm = [0,2,1]> (k)
  s = MatMul(q, t)
  u = Mul(s, scale)
  p = Softmax <axis = -1> (u)
  v = MatMul(a, w2)
  o = MatMul(p, v)
  r = Add(x, o)
  n = LayerNormalization <axis = -1> (r, g1, b1)
  m = MatMul(n, w3)
  e = Add(m, b3)
  f = Div(e, root)
  h = Erf(f)
  i = Add(h, one)
  j = Mul(e, i)
  l = Mul(j, half)
  z = MatMul(l, w4)
  y = Add(z, b4)
}"""
Make = Callable[[Path, Path], None]


def normal(seed: int, *shape: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.4).astype(np.float32)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


WEIGHTS = {
    "convolutions": {
        "w0": normal(0, 8, 3, 3, 3), "b0": normal(1, 8), "w1": normal(2, 8, 1, 3, 3),
        "b1": normal(3, 8), "w2": normal(4, 8, 8, 1, 1), "w3": normal(5, 5, 16),
        "b3": normal(6, 5),
    },
    "tokens": {
        "g0": normal(0, 32), "b0": normal(1, 32), "g1": normal(2, 32), "b1": normal(3, 32),
        "w0": normal(4, 32, 32), "w1": normal(5, 32, 32), "w2": normal(6, 32, 32),
        "w3": normal(7, 32, 48), "b3": normal(8, 48), "w4": normal(9, 48, 32),
        "b4": normal(10, 32), "scale": number(0.2), "root": number(2**0.5), "one": number(1),
        "half": number(0.5),
    },
}  # fmt: skip
TEXTS = {"convolutions": CONVOLUTIONS, "tokens": TOKENS}
FEEDS = {"convolutions": normal(20, 1, 3, 13, 11) * 3, "tokens": normal(21, 2, 7, 32) * 3}


def written(name: str, path: Path) -> Path:
    proto = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> net ' + TEXTS[name])
    weights = WEIGHTS[name].items()
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights)
    onnx.save(proto, path)
    return path


def options(level: str) -> onnxruntime.SessionOptions:
    made = onnxruntime.SessionOptions()
    made.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    made.log_severity_level = 3
    made.intra_op_num_threads = 1
    return made


def optimized(level: str) -> Make:
    def make(source: Path, target: Path) -> None:
        chosen = options(level)
        chosen.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(source, chosen)

    return make


def dynamic(source: Path, target: Path) -> None:
    quantize_dynamic(source, target, weight_type=QuantType.QUInt8)


class Samples(CalibrationDataReader):
    def __init__(self, x: np.ndarray) -> None:
        self._left = [{"x": x}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self._left.pop() if self._left else None


def static(form: QuantFormat, *, per_channel: bool) -> Make:
    def make(source: Path, target: Path) -> None:
        quantize_static(
            source, target, Samples(FEEDS[source.stem]), quant_format=form,
            per_channel=per_channel, reduce_range=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip

    return make


def few_bits(bits: int, *, symmetric: bool) -> Make:
    def make(source: Path, target: Path) -> None:
        quantizer = MatMulNBitsQuantizer(
            onnx.load(source), bits=bits, block_size=16, is_symmetric=symmetric
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(target))

    return make


CASES = [
    ("convolutions", "extended", optimized("ORT_ENABLE_EXTENDED"), "FusedConv"),
    ("convolutions", "dynamic", dynamic, "ConvInteger"),
    ("convolutions", "QDQ", static(QuantFormat.QDQ, per_channel=True), "QuantizeLinear"),
    ("convolutions", "QOperator", static(QuantFormat.QOperator, per_channel=True), "QLinearConv"),
    ("tokens", "basic", optimized("ORT_ENABLE_BASIC"), "LayerNormalization"),
    ("tokens", "all", optimized("ORT_ENABLE_ALL"), "FusedMatMul"),
    ("tokens", "dynamic", dynamic, "MatMulInteger"),
    ("tokens", "QDQ", static(QuantFormat.QDQ, per_channel=False), "QuantizeLinear"),
    ("tokens", "QOperator", static(QuantFormat.QOperator, per_channel=False), "QLinearMatMul"),
    ("tokens", "4 bits", few_bits(4, symmetric=False), "MatMulNBits"),
    ("tokens", "8 bits", few_bits(8, symmetric=True), "MatMulNBits"),
]

QUICK = {("convolutions", "QOperator"), ("tokens", "all"), ("tokens", "4 bits")}


@pytest.mark.parametrize(
    ("name", "make", "operator"),
    [
        pytest.param(
            n, m, o, id=f"{n}-{kind}", marks=() if (n, kind) in QUICK else pytest.mark.slow
        )
        for n, kind, m, o in CASES
    ],
)
def test_the_device_gives_what_onnx_runtime_gives(
    name: str, make: Make, operator: str, tmp_path: Path
) -> None:
    path = tmp_path / "made.onnx"
    make(written(name, tmp_path / f"{name}.onnx"), path)
    assert operator in {node.op_type for node in onnx.load(path).graph.node}
    feeds = {"x": FEEDS[name]}
    session = onnxruntime.InferenceSession(path, options("ORT_DISABLE_ALL"))
    (expected,) = session.run(None, feeds)
    with open_session(path, provider="opencl", strict=True) as ours:
        (found,) = ours.run(feeds).values()
    # A step of a quantized value may fall to the other side of a half.
    tolerance = 1e-5 if operator in ("FusedConv", "FusedMatMul", "MatMulNBits") else 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_weights_laid_out_for_one_processor_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "made.onnx"
    optimized("ORT_ENABLE_ALL")(written("convolutions", tmp_path / "convolutions.onnx"), path)
    if not any("nchwc" in node.domain for node in onnx.load(path).graph.node):
        pytest.skip("ONNX Runtime has no such layout on this processor")
    with pytest.raises(UnsupportedOperatorError, match="one kind of processor"):
        open_session(path, provider="opencl")
