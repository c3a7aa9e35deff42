"""Sessions of every precision on the device: answers, bytes, and models that bring integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from small_models import model, normal, onnx_runtime
from test_passes_storage import NETWORK, WEIGHTS, X

from rekindle import open_session
from rekindle.runtime.fidelity import fidelity

pytestmark = pytest.mark.opencl
Array = np.ndarray[Any, np.dtype[Any]]


def saved(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return path


def by_onnx_runtime(path: Path, feeds: dict[str, Array]) -> Array:
    """As the file says: its optimiser would compute in eight bits what we compute in floats."""
    return onnx_runtime(onnx.load(path), feeds)["y"]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(model(NETWORK, **WEIGHTS), tmp_path_factory.mktemp("network"))


@pytest.mark.parametrize(
    ("precision", "least_db"),
    [("fp32", 100), ("fp16", 60), ("bf16w", 45), ("int8w", 40), ("int4w", 40)],
)
def test_a_network_runs_wholly_on_the_device(network: Path, precision: str, least_db: int) -> None:
    with open_session(network, provider="opencl", precision=precision, strict=True) as session:
        found = session.run(X)["y"]
        assert session.inputs[0].dtype.value == found.dtype.name == "float32"
    assert fidelity(found, by_onnx_runtime(network, X)).snr_db >= least_db


def test_bytes_shrink_as_promised(tmp_path: Path) -> None:
    """Weights of a product by 2, 4 and 8 (and scales); a value between nodes by 2."""
    proto = model(
        "(float[2,512] x) => (float[2,512] y) { a = MatMul(x, v)  y = MatMul(a, w) }",
        v=normal(512, 512), w=normal(512, 512, seed=1),
    )  # fmt: skip
    path, held = saved(proto, tmp_path), {}
    for precision in ("fp32", "fp16", "bf16w", "int8w", "int4w"):
        with open_session(path, provider="opencl", precision=precision) as session:
            held[precision] = session.device_bytes or 0
    whole = 2 * 512 * 512 * 4
    assert whole <= held["fp32"] <= 1.02 * whole
    assert held["fp16"] == held["bf16w"] <= 0.52 * whole
    assert held["int8w"] <= 0.27 * whole
    assert held["int4w"] <= 0.17 * whole  # an eighth, and a scale for each 32


class _Calibration(CalibrationDataReader):
    def __init__(self) -> None:
        self.left = [{"x": normal(2, 8, 9, 9, seed=s)} for s in range(4)]

    def get_next(self) -> dict[str, Array] | None:
        return self.left.pop() if self.left else None


def test_a_model_that_onnx_runtime_quantized(network: Path, tmp_path: Path) -> None:
    """Q/DQ around every layer: equal but for results on the edge between two integers."""
    path = tmp_path / "quantized.onnx"
    quantize_static(
        network, path, _Calibration(), quant_format=QuantFormat.QDQ, per_channel=True,
        weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
        op_types_to_quantize=["Conv", "Gemm"],
    )  # fmt: skip
    expected = by_onnx_runtime(path, X)
    with open_session(path, provider="opencl") as session:
        assert np.abs(session.run(X)["y"] - expected).max() <= 0.02
        whole = session.device_bytes or 0
    with open_session(path, provider="opencl", precision="fp32") as session:
        assert np.abs(session.run(X)["y"] - expected).max() <= 0.02
        assert (session.device_bytes or 0) > whole


def test_integers_of_weights_alone(tmp_path: Path) -> None:
    """Per channel for a convolution, in blocks of four bits for a product; as ONNX Runtime."""
    rng = np.random.default_rng(0)
    q = rng.integers(-128, 128, (40, 8, 3, 3)).astype(np.int8)
    four = rng.integers(-8, 8, (40, 21))
    initializers = [
        helper.make_tensor("q", TensorProto.INT8, q.shape, q.tobytes(), raw=True),
        helper.make_tensor("s", TensorProto.FLOAT, (40,), rng.uniform(0.001, 0.002, 40)),
        helper.make_tensor("r", TensorProto.INT4, four.shape, four.reshape(-1)),
        helper.make_tensor("t", TensorProto.FLOAT, (3, 21), rng.uniform(0.01, 0.02, 63)),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0),
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalMaxPool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("DequantizeLinear", ["r", "t"], ["v"], axis=0, block_size=16),
        helper.make_node("MatMul", ["f", "v"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 8, 9, 9))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 21))], initializers,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21)]
    path = saved(helper.make_model(graph, ir_version=10, opset_imports=opsets), tmp_path)
    expected, held = by_onnx_runtime(path, X), {}
    for precision in ("model", "fp32"):
        with open_session(path, provider="opencl", precision=precision, strict=True) as session:
            found = session.run(X)["y"]
            held[precision] = session.device_bytes or 0
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert held["model"] < held["fp32"]


def test_a_transformer_block(tmp_path: Path) -> None:
    """Attention with a mask, normalisation, GELU by erf: half values all the way."""
    body = """
        (float[2,9,32] x, float[2,1,1,9] m) => (float[2,9,32] y) {
          n = LayerNormalization(x, ls, lb)
          q0 = MatMul(n, wq)  k0 = MatMul(n, wk)  v0 = MatMul(n, wv)
          q1 = Reshape(q0, heads)  k1 = Reshape(k0, heads)  v1 = Reshape(v0, heads)
          q = Transpose<perm=[0,2,1,3]>(q1)  k = Transpose<perm=[0,2,3,1]>(k1)
          v = Transpose<perm=[0,2,1,3]>(v1)
          s0 = MatMul(q, k)  s1 = Mul(s0, quarter)  s2 = Add(s1, m)  p = Softmax<axis=-1>(s2)
          a0 = MatMul(p, v)  a1 = Transpose<perm=[0,2,1,3]>(a0)  a = Reshape(a1, tokens)
          o = MatMul(a, wo)  h = Add(o, x)
          f = MatMul(h, w1)  e0 = Mul(f, rsqrt)  e1 = Erf(e0)  e2 = Add(e1, one)  e3 = Mul(f, e2)
          e = Mul(e3, half)  r = MatMul(e, w2)  y = Add(r, h)
        }"""
    proto = model(
        body, heads=np.array([2, 9, 2, 16]), tokens=np.array([2, 9, 32]),
        quarter=np.float32(0.25), rsqrt=np.float32(0.5**0.5), one=np.float32(1),
        half=np.float32(0.5), ls=normal(32), lb=normal(32, seed=1),
        w1=normal(32, 64, seed=6) / 6, w2=normal(64, 32, seed=7) / 8,
        **{n: normal(32, 32, seed=i) / 6 for i, n in enumerate(("wq", "wk", "wv", "wo"), 2)},
    )  # fmt: skip
    feeds = {"x": normal(2, 9, 32, seed=9), "m": np.zeros((2, 1, 1, 9), np.float32)}
    feeds["m"][:, ..., 7:] = -3.4e38
    path = saved(proto, tmp_path)
    expected = by_onnx_runtime(path, feeds)
    for precision, least_db in (("fp16", 60), ("int8w", 40), ("int4w", 18)):
        with open_session(path, provider="opencl", precision=precision, strict=True) as session:
            assert fidelity(session.run(feeds)["y"], expected).snr_db >= least_db, precision
