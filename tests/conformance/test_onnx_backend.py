"""ONNX's backend interface: what it takes, what it gives, what it refuses."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rekindle import onnx_backend
from rekindle._errors import InputError, NotBuiltError, UnsupportedOperatorError, UsageError

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
DEVICES = ["CPU", pytest.param("OPENCL", marks=pytest.mark.opencl)]


def model_of(*nodes: onnx.NodeProto, opset: int = 18) -> onnx.ModelProto:
    """From `x`, (3, 4) float32, to `y` of unknown type, through `nodes`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("device", DEVICES)
def test_a_prepared_model_runs_lists_and_dicts(device: str) -> None:
    model = model_of(helper.make_node("Exp", ["x"], ["y"]))
    prepared = onnx_backend.prepare(model, device)
    for feeds in ([X], {"x": X}, X):
        (y,) = prepared.run(feeds)
        np.testing.assert_allclose(y, np.exp(X), rtol=1e-6)
    assert [n.where for n in prepared.placement.nodes] == ["host" if device == "CPU" else "device"]
    prepared.close()


@pytest.mark.parametrize("device", DEVICES)
def test_one_node_runs(device: str) -> None:
    node = helper.make_node("Add", ["a", "a"], ["y"])
    (y,) = onnx_backend.run_node(node, [X], device, [(np.dtype(np.float32), (3, 4))])
    np.testing.assert_array_equal(y, X + X)


@pytest.mark.parametrize("device", DEVICES)
def test_a_number_computed_on_the_host_stays_one_without_axes(device: str) -> None:
    (y,) = onnx_backend.run_node(helper.make_node("Det", ["a"], ["y"]), [X[:2, :2]], device)
    assert y.shape == ()
    np.testing.assert_allclose(y, np.linalg.det(X[:2, :2]), rtol=1e-5)


@pytest.mark.opencl
@pytest.mark.parametrize(("operator", "shape"), [("MatMul", (4, 5)), ("Conv", (3, 1, 3))])
def test_half_precision_is_computed_on_the_device(operator: str, shape: tuple[int, ...]) -> None:
    x = X.reshape(3, 4) if operator == "MatMul" else X.reshape(1, 1, 12)
    arrays = [a.astype(np.float16) for a in (x, np.linspace(-1, 1, 20, dtype=np.float32))]
    arrays[1] = np.resize(arrays[1], shape)
    node = helper.make_node(operator, ["a", "b"], ["y"])
    (y,) = onnx_backend.run_node(node, arrays, "OPENCL", strict=True)
    wide = [a.astype(np.float32) for a in arrays]
    (expected,) = onnx_backend.run_node(node, wide, "CPU")
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-3)


def test_models_older_than_opset_7_are_converted() -> None:
    old = model_of(helper.make_node("Relu", ["x"], ["y"], consumed_inputs=[0]), opset=1)
    old.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 4]))
    (y,) = onnx_backend.run_model(old, [X], "CPU")
    np.testing.assert_array_equal(y, np.maximum(X, 0))


@pytest.mark.opencl
def test_strict_refuses_nodes_without_a_device_form() -> None:
    model = model_of(helper.make_node("NonZero", ["x"], ["y"]))
    (y,) = onnx_backend.run_model(model, [X], "OPENCL")
    np.testing.assert_array_equal(y, np.nonzero(X))
    with pytest.raises(UnsupportedOperatorError, match="NonZero"):
        onnx_backend.prepare(model, "OPENCL", strict=True)
    assert onnx_backend.is_compatible(model, "OPENCL")
    assert not onnx_backend.is_compatible(model, "OPENCL", strict=True)


@pytest.mark.opencl
def test_devices_that_exist_are_supported() -> None:
    assert onnx_backend.supports_device("OPENCL")
    assert onnx_backend.supports_device("OPENCL:0")
    assert not onnx_backend.supports_device("OPENCL:99")


def test_other_devices_are_not_supported() -> None:
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("CUDA")
    with pytest.raises(UsageError, match="CUDA:1"):
        onnx_backend.prepare(model_of(helper.make_node("Exp", ["x"], ["y"])), "CUDA:1")


def test_bad_calls_are_refused() -> None:
    model = model_of(helper.make_node("Exp", ["x"], ["y"]))
    with pytest.raises(UsageError, match="colour"):
        onnx_backend.prepare(model, "CPU", colour="red")
    with pytest.raises(NotBuiltError, match="strict"):
        onnx_backend.prepare(model, "CPU", strict=True)
    prepared = onnx_backend.prepare(model, "CPU")
    with pytest.raises(InputError, match="2 inputs were given"):
        prepared.run([X, X])
    with pytest.raises(InputError, match="float64"):
        prepared.run([X.astype(np.float64)])
