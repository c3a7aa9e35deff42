"""Plans are made on a Target: no OpenCL is touched here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper

from rekindle._types import Target
from rekindle.engine.kernels import Packed
from rekindle.engine.plan import DeviceStep, HostStep, Plan, plan
from rekindle.graph import onnx_io, passes
from rekindle.graph.infer import bind
from tests.engine.graphs import POLARIS, classifier, model

CPU = replace(POLARIS, name="CPU", family="cpu", wavefront=8, alignment_bytes=128)


def planned(proto: object, target: Target, **shapes: tuple[int, ...]) -> Plan:
    graph = passes.run(onnx_io.load_bytes(proto.SerializeToString()), passes.PORTABLE)  # type: ignore[attr-defined]
    return plan(passes.run(bind(graph, shapes), passes.DEVICE, target), target)


@pytest.mark.parametrize("target", [POLARIS, CPU], ids=lambda t: t.family)
def test_the_whole_classifier_is_on_the_device(target: Target) -> None:
    made = planned(classifier(), target, x=(2, 3, 17, 19))
    assert [s.reason for s in made.steps if isinstance(s, HostStep)] == []
    # BatchNormalization, activations and the residual are folded away or into epilogues.
    # A chain counts as the nodes it stands for.
    nodes = [node for s in made.steps for node in s.node.attrs.get("nodes", (s.node,))]
    types = [node.op_type for node in nodes]
    assert types.count("Conv") == 4
    assert not {"BatchNormalization", "Relu", "Sigmoid", "HardSwish", "Add"} & set(types)


@pytest.mark.parametrize("target", [POLARIS, CPU], ids=lambda t: t.family)
def test_memory_is_near_the_lower_bound_and_known_exactly(target: Target) -> None:
    made = planned(classifier(), target, x=(1, 3, 17, 19))
    assert made.memory.lower_bound_bytes <= made.memory.arena_bytes
    assert made.memory.arena_bytes <= 1.15 * made.memory.lower_bound_bytes
    for constant in made.constants.values():
        assert np.ascontiguousarray(constant.pack()).nbytes == constant.nbytes
    assert made.device_bytes == made.memory.arena_bytes + sum(
        c.nbytes for c in made.constants.values()
    )


def test_memory_holds_the_copy_of_strided_pixels() -> None:
    """In 7 tiles of 5 pixels, beside what it is made of and then what is made of it."""
    w = np.ones((80, 19, 1, 1), np.float32)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["y"], strides=[2, 2]),
    ]
    made = planned(model(nodes, {"x": [1, 19, 9, 13]}, {"y": [1, 80, 5, 7]}, {"w": w}), CPU)
    (copied,) = (each for each in made.lifetimes if each.name.endswith("#pixels"))
    assert (copied.nbytes, copied.last - copied.first) == (32 * 5 * 7 * 4, 1)
    assert made.memory.arena_bytes >= copied.nbytes + 32 * 9 * 13 * 4


def test_every_launch_argument_has_memory() -> None:
    made = planned(classifier(), POLARIS, x=(1, 3, 17, 19))
    for launch in made.launches():
        assert launch.flops >= 0
        assert launch.bytes_moved > 0
        for arg in launch.args:
            if isinstance(arg, Packed):
                assert arg.key in made.constants
            elif hasattr(arg, "name"):
                root = made.root(arg.name)
                assert root in made.memory.offsets or f"raw:{root}" in made.constants


def test_an_operator_without_a_lowering_goes_to_the_host_with_its_reason() -> None:
    proto = model(
        [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("Det", ["r"], ["h"]),
            helper.make_node("Neg", ["h"], ["y"]),
        ],
        {"x": [2, 3, 3]},
        {"y": [2]},
    )
    made = planned(proto, POLARIS, x=(2, 3, 3))
    kinds = [type(s) for s in made.steps]
    assert kinds == [DeviceStep, HostStep, DeviceStep]
    host = made.steps[1]
    assert isinstance(host, HostStep)
    assert "Det" in host.reason


def test_planning_for_a_card_imports_no_opencl() -> None:
    code = (
        "import sys\n"
        "from tests.engine.test_plan import *\n"
        "planned(classifier(), POLARIS, x=(1, 3, 17, 19))\n"
        "assert 'pyopencl' not in sys.modules, 'pyopencl was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
