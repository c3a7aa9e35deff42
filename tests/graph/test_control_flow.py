"""If, Loop and Scan: what they read from around them, and the way to a file and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rekindle._errors import ModelError
from rekindle.graph import onnx_io, passes, reference
from rekindle.graph.verify import verify

X = np.array([1.0, -2.0, 3.0], np.float32)


def value(name: str, element: int = TensorProto.FLOAT, shape: object = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def load(graph: onnx.GraphProto, opset: int = 18) -> onnx_io.Graph:
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return onnx_io.load_bytes(model.SerializeToString())


def choice() -> onnx_io.Graph:
    """Give exp(x) + w if c, else w - x; the exponential is made outside the branch."""
    make = helper.make_node
    then = helper.make_graph([make("Add", ["e", "w"], ["t"])], "then", [], [value("t")])
    other = helper.make_graph(
        [make("Neg", ["x"], ["n"]), make("Add", ["n", "w"], ["o"])], "else", [], [value("o")]
    )
    nodes = [
        make("Exp", ["x"], ["e"]),
        make("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    weights = [helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])]
    inputs = [value("x", shape=[3]), value("c", TensorProto.BOOL, [])]
    return load(helper.make_graph(nodes, "g", inputs, [value("y", shape=[3])], weights))


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_reads_what_lies_around_it(condition: bool) -> None:
    graph = choice()
    (node,) = (n for n in graph.nodes if n.op_type == "If")
    assert set(node.inputs) == {"c", "e", "w", "x"}
    expected = (np.exp(X) if condition else -X) + np.float32([1, 2, 3])
    got = reference.run(graph, {"x": X, "c": np.array(condition)})
    np.testing.assert_allclose(got["y"], expected, rtol=1e-6)


@pytest.mark.parametrize("condition", [True, False])
def test_a_saved_branch_reads_it_again(tmp_path: Path, condition: bool) -> None:
    graph = passes.run(choice(), passes.PORTABLE)
    verify(graph)
    path = tmp_path / "choice.onnx"
    onnx_io.save(graph, path)
    onnx.checker.check_model(str(path))
    feeds = {"x": X, "c": np.array(condition)}
    again = reference.run(onnx_io.load(path), feeds)
    np.testing.assert_array_equal(again["y"], reference.run(graph, feeds)["y"])


def doubling(limit: int | None, body_shape: object = (3,)) -> onnx_io.Graph:
    """Doubles x while its sum is below 50, at most `limit` times; stacks the sums."""
    make = helper.make_node
    nodes = [
        make("Add", ["v", "v"], ["w"]),
        make("ReduceSum", ["w"], ["s"], keepdims=0),
        make("Less", ["s", "fifty"], ["more"]),
    ]
    body = helper.make_graph(
        nodes,
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("v")],
        [value("more", TensorProto.BOOL, []), value("w"), value("s", shape=[])],
    )
    trips = "" if limit is None else "trips"
    weights = [
        helper.make_tensor("fifty", TensorProto.FLOAT, [], [50.0]),
        helper.make_tensor("trips", TensorProto.INT64, [], [limit or 0]),
    ]
    loop = make("Loop", [trips, "", "x"], ["last", "sums"], body=body)
    outputs = [value("last"), value("sums")]
    return load(helper.make_graph([loop], "g", [value("x", shape=[3])], outputs, weights))


@pytest.mark.parametrize(("limit", "turns"), [(None, 5), (2, 2), (0, 0), (99, 5)])
def test_a_loop_ends_by_its_condition_or_its_count(limit: int | None, turns: int) -> None:
    graph = doubling(limit)
    assert graph.values["last"].shape == (3,)
    got = reference.run(graph, {"x": X})
    np.testing.assert_array_equal(got["last"], X * 2.0**turns)
    np.testing.assert_array_equal(
        got["sums"], np.float32([2.0 * 2**k for k in range(1, turns + 1)])
    )
    assert got["sums"].dtype == np.float32


def test_a_scan_walks_backwards_and_stacks_along_any_axis() -> None:
    make = helper.make_node
    body = helper.make_graph(
        [make("Add", ["state", "row"], ["next"]), make("Identity", ["next"], ["kept"])],
        "body",
        [value("state"), value("row")],
        [value("next"), value("kept")],
    )
    scan = make(
        "Scan", ["start", "x"], ["last", "all"], body=body, num_scan_inputs=1,
        scan_input_axes=[1], scan_output_axes=[-1], scan_input_directions=[1],
    )  # fmt: skip
    inputs = [value("start", shape=[2]), value("x", shape=[2, 4])]
    graph = load(helper.make_graph([scan], "g", inputs, [value("last"), value("all")]))
    assert graph.values["all"].shape == (2, 4)
    x, start = np.arange(8, dtype=np.float32).reshape(2, 4), np.float32([10, 20])
    got = reference.run(graph, {"x": x, "start": start})
    np.testing.assert_array_equal(got["all"], start[:, None] + np.cumsum(x[:, ::-1], axis=1))
    np.testing.assert_array_equal(got["last"], start + x.sum(axis=1))


def test_a_scan_of_opset_8_has_batch_rows_of_their_own_lengths() -> None:
    make = helper.make_node
    body = helper.make_graph(
        [make("Add", ["state", "row"], ["next"]), make("Identity", ["next"], ["kept"])],
        "body",
        [value("state"), value("row")],
        [value("next"), value("kept")],
    )
    scan = make(
        "Scan", ["lengths", "start", "x"], ["last", "all"], body=body, num_scan_inputs=1,
        directions=[1],
    )  # fmt: skip
    inputs = [
        value("lengths", TensorProto.INT64, [2]),
        value("start", shape=[2, 3]),
        value("x", shape=[2, 4, 3]),
    ]
    graph = load(helper.make_graph([scan], "g", inputs, [value("last"), value("all")]), opset=8)
    assert graph.values["all"].shape == (2, 4, 3)
    x, start = np.arange(24, dtype=np.float32).reshape(2, 4, 3), np.ones((2, 3), np.float32)
    got = reference.run(graph, {"lengths": np.array([4, 2]), "start": start, "x": x})
    first, second = np.cumsum(x[0, ::-1], axis=0) + 1, np.cumsum(x[1, 1::-1], axis=0) + 1
    np.testing.assert_array_equal(got["all"][0], first)
    np.testing.assert_array_equal(got["all"][1], np.concatenate((second, np.zeros((2, 3)))))
    np.testing.assert_array_equal(got["last"], [first[-1], second[-1]])


def test_branches_must_agree_on_a_type() -> None:
    make = helper.make_node
    then = helper.make_graph([make("Identity", ["x"], ["t"])], "then", [], [value("t")])
    other = helper.make_graph(
        [make("Cast", ["x"], ["o"], to=TensorProto.INT32)],
        "else",
        [],
        [value("o", TensorProto.INT32)],
    )
    node = make("If", ["c"], ["y"], then_branch=then, else_branch=other)
    inputs = [value("x", shape=[3]), value("c", TensorProto.BOOL, [])]
    with pytest.raises(ModelError, match="float32 and int32"):
        load(helper.make_graph([node], "g", inputs, [value("y")]))
