"""A model against the reference, node by node: kernels made wrong on purpose must be named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from rekindle._errors import InputError, UsageError
from rekindle.engine import compiler, program
from rekindle.engine.kernels import source_text
from rekindle.graph.ir import Array
from rekindle.runtime import verification
from rekindle.runtime.verification import NodeCheck, verify
from tests.engine.graphs import classifier, model, write

pytestmark = pytest.mark.opencl
Change = Callable[..., None]
FEEDS = {"x": np.random.default_rng(0).standard_normal((2, 3, 17, 19)).astype(np.float32)}
LAST_TAP = ("pool", "kx < u1; kx++", "kx < u1 - 1; kx++")
"""A window that leaves out its last column."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(classifier(), tmp_path_factory.mktemp("model"))


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Change:
    """Replace text in kernels' sources, in a context that has not compiled them yet."""

    def replaced(*changes: tuple[str, str, str]) -> None:
        def text(stem: str) -> str:
            source = source_text(stem)
            for changed, old, new in changes:
                if changed == stem:
                    assert old in source
                    source = source.replace(old, new)
            return source

        monkeypatch.setattr(program, "source_text", text)
        monkeypatch.setattr(compiler, "_COMPILERS", {})

    return replaced


def test_right_kernels_agree(path: Path) -> None:
    seen: list[int] = []

    def watch(steps, total):  # type: ignore[no-untyped-def]
        for step in steps:
            seen.append(total)
            yield step

    found = verify(path, FEEDS, watch=watch)
    assert found.agrees
    assert found.first is None
    assert len(seen) == len(found.nodes) == seen[0]
    assert [o.name for o in found.outputs] == ["y"]
    assert all(0 <= o.difference <= 1e-4 and o.passes_difference <= 1e-6 for o in found.outputs)
    convolutions = [check for check in found.nodes if check.op_type.endswith("Conv")]
    assert len(convolutions) == 4
    for check in convolutions:
        assert check.where == "device"
        assert check.kernels
        assert 0 < check.difference < 1e-5  # rounding: something was computed
        assert check.tolerance == 1e-4
    worst = [check.difference for check in found.worst(3)]
    assert worst == sorted((c.difference for c in found.nodes), reverse=True)[:3]


@pytest.mark.parametrize(("precision", "least_db"), [("fp16", 60), ("int8w", 40)])
def test_narrow_storage_agrees_with_its_own_graph(
    path: Path, precision: str, least_db: float
) -> None:
    """The price of the storage type is told, and no fault; a wrong kernel still is."""
    found = verify(path, FEEDS, precision=precision)
    assert found.agrees
    (output,) = found.outputs
    assert output.narrow
    assert output.agreement == 1
    assert output.snr_db is not None
    assert output.snr_db >= least_db
    assert output.passes_difference > 1e-5
    assert not output.passes_differ


def test_a_wrong_kernel_is_named_in_half_precision(path: Path, change: Change) -> None:
    change(LAST_TAP)
    found = verify(path, FEEDS, precision="fp16")
    assert found.first is not None
    assert found.first.kernels == ("pool",)


def test_the_wrong_kernel_is_named_and_its_error_is_not_carried_on(
    path: Path, change: Change
) -> None:
    change(LAST_TAP)
    found = verify(path, FEEDS)
    assert not found.agrees
    assert [check.op_type for check in found.nodes if check.differs] == ["MaxPool"]
    assert found.first is not None
    assert found.first.kernels == ("pool",)
    assert found.first.difference > 0.01
    assert [spec.shape for spec in found.first.inputs] == [(2, 26, 9, 10)]
    assert [spec.shape for spec in found.first.outputs] == [(2, 26, 5, 5)]
    assert found.worst(1) == [found.first]
    (output,) = found.outputs
    assert output.differs
    assert not output.passes_differ


def test_of_two_wrong_kernels_the_first_is_named(path: Path, change: Change) -> None:
    change(LAST_TAP, ("softmax", "exp", "exp2"))
    found = verify(path, FEEDS)
    assert [check.op_type for check in found.nodes if check.differs] == ["MaxPool", "Softmax"]
    assert found.first is not None
    assert found.first.op_type == "MaxPool"


def test_a_kernel_that_does_not_compile_is_named(path: Path, change: Change) -> None:
    change(("pool", "kx < u1; kx++", "kx < nonsense; kx++"))
    found = verify(path, FEEDS)
    assert not found.agrees
    assert "did not compile" in found.problem
    assert [check.op_type for check in found.nodes if check.differs] == ["MaxPool"]
    assert found.first is not None
    assert found.first.difference is None
    assert "did not compile" in found.first.problem
    assert found.outputs[0].difference is None


def test_what_the_passes_change_is_told_apart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = verification.reference.run

    def shifted(graph: object, feeds: object) -> dict[str, Array]:
        return {name: array * 1.01 for name, array in right(graph, feeds).items()}  # type: ignore[arg-type]

    monkeypatch.setattr(verification.reference, "run", shifted)
    found = verify(path, FEEDS)
    assert found.first is None
    assert found.outputs[0].passes_differ
    assert not found.agrees


def test_host_nodes_are_listed_and_not_compared(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="cut"),
        helper.make_node(
            "ReverseSequence", ["r", "lengths"], ["h"], name="peak", batch_axis=0, time_axis=1
        ),
        helper.make_node("Neg", ["h"], ["y"], name="turn"),
    ]
    lengths = {"lengths": np.array([3, 5])}
    path = write(model(nodes, {"x": [2, 5]}, {"y": [2, 5]}, lengths), tmp_path)
    found = verify(path, {"x": np.arange(10, dtype=np.float32).reshape(2, 5)})
    assert found.agrees
    assert [(c.node, c.where, c.difference) for c in found.nodes] == [
        ("cut", "device", 0.0),
        ("peak", "host", None),
        ("turn", "device", 0.0),
    ]
    assert "ReverseSequence" in found.nodes[1].problem
    assert [check.node for check in found.worst(9)] == ["cut", "turn"]


def test_the_callers_tolerance_counts(path: Path) -> None:
    found = verify(path, FEEDS, tolerance=1e-12)
    assert not found.agrees
    assert {check.tolerance for check in found.nodes} == {1e-12}


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan"), float("inf")])
def test_a_tolerance_that_is_none(path: Path, tolerance: float) -> None:
    with pytest.raises(UsageError, match="is not a positive number"):
        verify(path, FEEDS, tolerance=tolerance)


def test_wrong_feeds(path: Path) -> None:
    with pytest.raises(InputError, match="the model has"):
        verify(path, {})
    with pytest.raises(InputError, match="float64"):
        verify(path, {"x": FEEDS["x"].astype(np.float64)})
    with pytest.raises(InputError, match="axis 1"):
        verify(path, {"x": FEEDS["x"][:, :2]})


def test_nan_differs() -> None:
    check = NodeCheck("n", "Relu", "device", (), (), (), float("nan"), 1e-4)
    assert check.differs
