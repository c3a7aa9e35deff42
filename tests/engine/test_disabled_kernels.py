"""Kernels that are switched off: others take their calls, or the host, and the plan says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from rekindle import open_session
from rekindle._errors import UnsupportedOperatorError, UsageError
from rekindle._types import Target
from rekindle.device.architectures import target_from
from rekindle.device.quirks import quirks
from rekindle.engine.kernels import check_disabled
from rekindle.engine.plan import DeviceStep, HostStep, Plan, plan
from rekindle.graph import onnx_io, passes
from rekindle.graph.infer import bind
from tests.engine.graphs import POLARIS, classifier, model, write

VARIABLE = "REKINDLE_DISABLE_KERNELS"


def planned(target: Target) -> Plan:
    graph = onnx_io.load_bytes(classifier().SerializeToString())
    bound = bind(passes.run(graph, passes.PORTABLE), {"x": (1, 3, 17, 19)})
    return plan(passes.run(bound, passes.DEVICE, target), target)


def test_another_kernel_takes_the_call_and_the_step_says_why() -> None:
    off = replace(POLARIS, disabled_kernels=("conv_lanes", "conv_winograd_lanes"))
    before, after = planned(POLARIS), planned(off)
    assert "conv_lanes" in before.algorithms
    assert "conv_lanes" not in after.algorithms
    for old, new in zip(before.steps, after.steps, strict=True):
        assert isinstance(old, DeviceStep)
        assert isinstance(new, DeviceStep)
        assert old.reason == ""
        if "conv_lanes" in old.algorithms:
            assert new.algorithms == ("conv_direct",)
            assert new.reason == "conv_lanes is switched off"
        else:
            assert (new.algorithms, new.reason) == (old.algorithms, "")


def test_without_another_kernel_the_node_runs_on_the_host() -> None:
    made = planned(replace(POLARIS, disabled_kernels=("softmax",)))
    (host,) = (s for s in made.steps if isinstance(s, HostStep))
    assert host.node.op_type == "Softmax"
    assert "softmax is switched off" in host.reason


def test_switching_off_what_is_not_chosen_changes_nothing() -> None:
    made = planned(replace(POLARIS, disabled_kernels=("conv_tiled",)))
    assert made.algorithms == planned(POLARIS).algorithms
    assert {s.reason for s in made.steps} == {""}


@pytest.mark.parametrize(
    ("name", "hint"), [("conv_lane", "did you mean conv_lanes"), ("qqqq", "one of arg_reduce,")]
)
def test_a_name_that_is_no_kernel(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' is to be switched off") as caught:
        planned(replace(POLARIS, disabled_kernels=(name,)))
    assert hint in str(caught.value)


def test_the_quirk_table_names_kernels_that_exist() -> None:
    names = tuple(name for quirk in quirks() for name in quirk.disabled_kernels)
    check_disabled(replace(POLARIS, disabled_kernels=names))


def test_the_variable_counts_for_a_card_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert target_from("rx580").disabled_kernels == ()
    monkeypatch.setenv(VARIABLE, " conv_lanes, ,softmax,conv_lanes,")
    assert target_from("rx580").disabled_kernels == ("conv_lanes", "softmax")


@pytest.mark.opencl
def test_a_session_without_some_kernels_computes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["n"], name="negate"),
        helper.make_node("Softmax", ["n"], ["y"], name="share", axis=1),
    ]
    path = write(model(nodes, {"x": ["N", 5]}, {"y": ["N", 5]}), tmp_path)
    x = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    monkeypatch.setenv(VARIABLE, "softmax")
    with open_session(path, provider="opencl") as session:
        found = session.run({"x": x})["y"]
        places = {n.node: (n.where, n.reason) for n in session.placement.nodes}
    assert places["negate"] == ("device", "")
    assert places["share"][0] == "host"
    assert "softmax is switched off" in places["share"][1]
    power = np.exp(-x.astype(np.float64))
    np.testing.assert_allclose(found, power / power.sum(1, keepdims=True), rtol=1e-5)
    with pytest.raises(UnsupportedOperatorError, match="softmax is switched off"):
        open_session(path, provider="opencl", strict=True)
    monkeypatch.setenv(VARIABLE, "softmaks")
    with pytest.raises(UsageError, match="'softmaks' is to be switched off"):
        open_session(path, provider="opencl")
