"""Every operator against ONNX's own node tests: reference, types, expression and lowering."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from lowering_oracle import run_node
from node_cases import NodeCase, assert_close, cases

from rekindle.graph import ops, reference
from rekindle.graph.expr import evaluate
from rekindle.graph.infer import bind, operands_of
from rekindle.graph.ir import Array, Graph, Node, dtype_of
from rekindle.graph.lowering import NotLowered

GROUPS = [n for n in ops.REGISTRY.names() if "::" not in n] + ["expanded"]

UNTESTED = {
    "GlobalLpPool": "has no official node test; see test_ops_versions.py",
    "SimplifiedLayerNormalization": "is ONNX Runtime's own; see test_ops_microsoft.py",
}
"""Operators without an official case."""

HOST_ONLY = {
    "AffineGrid", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
    "BlackmanWindow", "CenterCropPad", "Col2Im", "Compress", "Constant", "DeformConv", "Det",
    "EyeLike", "GlobalLpPool", "HammingWindow", "HannWindow", "If", "Loop", "MaxUnpool",
    "MelWeightMatrix", "NegativeLogLikelihoodLoss", "NonMaxSuppression", "NonZero",
    "OptionalHasElement", "Range", "ReverseSequence", "RoiAlign", "STFT", "Scan", "Shape",
    "Size", "SoftmaxCrossEntropyLoss", "TensorScatter", "TfIdfVectorizer", "Unique",
}  # fmt: skip
"""Operators that no engine runs: around a network's arithmetic, or rare in it."""

NEVER_LOWERED = HOST_ONLY | {"ConstantOfShape"}
"""The official cases of ConstantOfShape fold, or have shapes only the data tells."""

EXPECTED_CASES = 1620
"""At least so many cases must run: a loader or a filter that drops them must not pass unseen."""


def operators(graph: Graph, node: Node) -> ops.Operator:
    operator = ops.find(node.qualified, graph.opset(node.domain))
    assert operator is not None
    return operator


def steps(case: NodeCase) -> Iterator[tuple[Graph, Node, dict[str, Array]]]:
    """Each node of a case, with every value before it and its own outputs, all as arrays.

    Every input but the first is a constant, as axes, shapes and weights are in real models.
    """
    graph, (first, *others) = case.graph(), (*case.feeds, None)
    graph.inputs = graph.inputs[:1]
    graph.initializers |= {n: case.feeds[n] for n in others if n is not None}
    graph = bind(graph, {first: case.feeds[first].shape} if first is not None else {})
    values = {**graph.initializers, **case.feeds}
    for node in graph.nodes:
        inputs = [values[n] if n else None for n in node.inputs]
        outputs = ops.compute(operators(graph, node), node, inputs)
        values |= {n: a for n, a in zip(node.outputs, outputs, strict=True) if n}
        yield graph, node, values


@pytest.mark.parametrize("group", [g for g in GROUPS if g not in UNTESTED])
def test_reference_gives_the_recorded_outputs(group: str) -> None:
    assert cases().get(group), "no official case left for this operator"
    for case in cases()[group]:
        got = reference.run(case.graph(), case.feeds)
        for name, expected in case.expected.items():
            try:
                assert_close(got[name], expected, *case.feeds.values())
            except AssertionError as error:
                error.add_note(f"{case.name}, output {name}")
                raise


def test_no_case_is_lost() -> None:
    assert sum(map(len, cases().values())) >= EXPECTED_CASES
    assert not set(UNTESTED) & cases().keys()


def check_types(graph: Graph, node: Node, values: dict[str, Array]) -> None:
    """What is inferred on the shapes of the case is what the reference gave."""
    types = ops.infer(operators(graph, node), node, operands_of(graph, node))
    for name, kind in zip(node.outputs, types, strict=True):
        if name:
            assert kind.dtype is dtype_of(values[name])
            assert fits(values[name].shape, kind.shape), f"{kind.shape}, not {values[name].shape}"


def fits(actual: tuple[int, ...], inferred: tuple[int | str, ...] | None) -> bool:
    return inferred is None or (
        len(actual) == len(inferred)
        and all(isinstance(d, str) or a == d for a, d in zip(actual, inferred, strict=True))
    )


def test_operators_without_a_device_form_are_known() -> None:
    found = {
        name
        for name in ops.REGISTRY.names()
        if any(v.lower is None and v.expr is None for v in ops.REGISTRY.get(name))
    }
    assert found == HOST_ONLY


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("group", [g for g in GROUPS if g not in UNTESTED])
def test_types_expressions_and_lowerings_fit_the_reference(group: str) -> None:
    lowered = 0
    for case in cases()[group]:
        for graph, node, values in steps(case):
            operator = operators(graph, node)
            try:
                check_types(graph, node, values)
                check_expression(operator, node, values)
                lowered += check_lowering(graph, node, values)
            except AssertionError as error:
                error.add_note(f"{case.name}, {node}")
                raise
    assert bool(lowered) == (group not in NEVER_LOWERED)


def check_expression(operator: ops.Operator, node: Node, values: dict[str, Array]) -> None:
    expr = ops.express(operator, node)
    if expr is None:
        return
    expected = values[node.outputs[0]]
    if expected.dtype.kind == "O" or not expected.size:
        return
    inputs = [values[n] if n else np.zeros(()) for n in node.inputs]
    got = np.broadcast_to(evaluate(expr, inputs), expected.shape).astype(expected.dtype)
    assert_close(got, expected, *inputs)


def check_lowering(graph: Graph, node: Node, values: dict[str, Array]) -> bool:
    """Whether the node has a lowering in this case, which then gives the reference's values."""
    try:
        got = run_node(graph, node, values)
    except NotLowered:
        return False
    for name in filter(None, node.outputs):
        assert_close(got[name], values[name], *(values[n] for n in node.inputs if n))
    return True
