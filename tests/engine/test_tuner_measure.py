"""Measuring on PoCL: every candidate's result is held against the heuristic's, and NumPy's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from kernel_harness import CPU16, value
from tuning_cases import every_call

from rekindle._errors import KernelError
from rekindle.device import Device, select_device
from rekindle.engine import kernels
from rekindle.engine.choices import Setting, settings
from rekindle.engine.executor import Executor
from rekindle.engine.kernels import Context, Kernel, Launch
from rekindle.engine.plan import plan_call
from rekindle.engine.tuner.measure import compare
from rekindle.engine.weights import Weights
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl
PARAMS = {"transpose_a": False, "transpose_b": False, "epilogue": None, "decode": None}


@pytest.fixture(scope="module")
def device() -> Device:
    return select_device()


def product(device: Device) -> tuple[LogicalCall, Context]:
    w = np.random.default_rng(5).standard_normal((31, 45)).astype(np.float32)
    values = (value("a", (17, 31)), value("w", w))
    call = LogicalCall("matmul", values, value("y", (17, 45)), PARAMS, "product")
    return call, Context(device.target(), {"w": w}.get)


class Fixed:
    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def best(self, call: LogicalCall, context: Context) -> Setting | None:
        return self.setting


def test_a_tuned_plan_computes_what_numpy_does(device: Device) -> None:
    call, context = product(device)
    (row,) = settings(call, context)
    a = np.random.default_rng(6).standard_normal((17, 31)).astype(np.float32)
    expected = a @ np.asarray(context.constant("w"))
    weights = Weights(device.opencl())
    for setting in (row[0], row[1], row[-1]):
        executor = Executor(plan_call(call, context, Fixed(setting)), device.opencl(), weights)
        found = executor.run({"a": a})["y"]
        executor.release()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    weights.release()


def test_variants_are_measured_beside_the_first(device: Device) -> None:
    call, context = product(device)
    (row,) = settings(call, context)
    first, second = compare(device, call, context, [row[0], row[-1]], rounds=3)
    assert (first.status, first.ratio, first.runs) == ("ok", 1.0, 3)
    assert second.status == "ok"
    assert 2 <= second.runs <= 3
    assert str(second.against) == str(row[0])
    assert second.heuristic_s == first.seconds > 0
    assert second.seconds > 0
    assert len(first.setting.sources) == 16


def spoiled(monkeypatch: pytest.MonkeyPatch, positions: int, define: tuple[str, str]) -> None:
    """One tile of the kernel is compiled with another define than it needs."""
    real = kernels.REGISTRY.get("matmul_tiled")

    def launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
        made = list(real.launches(call, context))
        if context.setting("P", 0) == positions:
            kept = [d for d in made[0].defines if d[0] != define[0]]
            made[0] = replace(made[0], defines=(*kept, define))
        return made

    bad: Kernel = replace(real, launches=launches)
    get = kernels.REGISTRY.get
    monkeypatch.setattr(
        kernels.REGISTRY, "get", lambda name: bad if name == "matmul_tiled" else get(name)
    )


@pytest.mark.parametrize(
    ("define", "status", "said"),
    [(("EPILOGUE", "v + 1"), "wrong", "differs by"), (("VW", "oops"), "broken", "did not compile")],
    ids=["wrong", "broken"],
)
def test_a_variant_that_is_wrong_or_broken_is_told(
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    define: tuple[str, str],
    status: str,
    said: str,
) -> None:
    call, context = product(device)
    (row,) = settings(call, context)
    other = next(s for s in row if dict(s.variant)["P"] != dict(row[0].variant)["P"])
    spoiled(monkeypatch, dict(other.variant)["P"], define)
    first, found = compare(device, call, context, [row[0], other], rounds=2)
    assert first.status == "ok"
    assert found.status == status
    assert said in found.reason


def test_where_the_heuristic_does_not_compile_nothing_is_measured(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, context = product(device)
    (row,) = settings(call, context)
    spoiled(monkeypatch, dict(row[0].variant)["P"], ("VW", "oops"))
    with pytest.raises(KernelError, match="did not compile"):
        compare(device, call, context, [row[0]], rounds=1)


def test_a_setting_outside_the_space_is_a_mistake(device: Device) -> None:
    call, context = product(device)
    (row,) = settings(call, context)
    outside = Setting("matmul_tiled", (("P", 12), ("Q", 8), ("JOBS", 32)))
    with pytest.raises(ValueError, match="not in the declared space"):
        compare(device, call, context, [row[0], outside])


SPREAD = [
    (call, context)
    for call, context in every_call()
    if context.target is not CPU16 and call.node != "row"
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "context"),
    SPREAD,
    ids=[f"{x.target.family}-{c.node or c.name}-{i}" for i, (c, x) in enumerate(SPREAD)],
)
def test_variants_all_over_the_space_compute_alike(
    call: LogicalCall, context: Context, device: Device
) -> None:
    """Planned for cards, too: PoCL runs their kernels."""
    rows = settings(call, context)
    spread = [rows[0][0]]
    for row in rows:
        spread += row[1 :: max(1, len(row) // 3)][:3]
    found = compare(device, call, context, list(dict.fromkeys(spread)), rounds=1)
    assert {(str(m.setting), m.status, m.reason) for m in found} == {
        (str(s), "ok", "") for s in spread
    }
