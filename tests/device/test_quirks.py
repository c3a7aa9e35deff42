"""Quirks: which rows apply where, and that every row can be used and traced."""

from __future__ import annotations

import re

import pytest
from recorded_devices import amd, clover, devices, facts, llvmpipe, pocl, rusticl, windows_rx580

from rekindle.device import quirks as table
from rekindle.device.quirks import EFFECTS, Quirk, quirks


@pytest.mark.parametrize("quirk", quirks(), ids=lambda quirk: quirk.key)
def test_a_row_is_complete(quirk) -> None:
    assert quirk.effects or quirk.disabled_kernels
    assert set(quirk.effects) <= set(EFFECTS)
    assert quirk.reason
    assert quirk.source
    patterns = (quirk.platform, quirk.version, quirk.device, quirk.driver)
    assert any(patterns), "a quirk of everything is no quirk"
    for pattern in patterns:
        re.compile(pattern)


def test_every_effect_is_the_effect_of_something() -> None:
    assert {effect for quirk in quirks() for effect in quirk.effects} == set(EFFECTS)


@pytest.mark.parametrize(
    ("driver", "effects"),
    [
        (pocl("3.0-rc2"), {"no_float16_builtins", "slow_fma", "slow_mad", "float8_vectors"}),
        (pocl("3.1+debian"), {"slow_mad"}),
        (pocl("6.0"), set()),
        (rusticl(llvmpipe()), {"no_inline_asm"}),
        (rusticl(facts()), {"no_inline_asm", "slow_fma"}),
        (amd(windows_rx580()), {"lds_32k", "slow_fma"}),
        (amd(facts(name="gfx1032", max_compute_units=28)), set()),
        (rusticl(facts(name="AMD Radeon RX Vega (radeonsi, vega10)")), {"no_inline_asm"}),
        (clover(facts()), {"unsupported", "slow_fma"}),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_effects_by_driver_and_chip(driver, effects: set[str]) -> None:
    (device,) = devices(driver)
    assert {effect for quirk in device.quirks for effect in quirk.effects} == effects
    assert all(device.has(effect) == (effect in effects) for effect in EFFECTS)


def test_the_chip_found_for_a_board_counts() -> None:
    """AMD's driver may report the board alone: the table knows that an RX 570 is Polaris."""
    (device,) = devices(amd(facts(name="Radeon RX 570 Series", max_compute_units=32)))
    assert device.has("slow_fma")
    assert device.lds_bytes == 32768


def test_kernels_switched_off_reach_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """By rows that fit the driver, then by the variable; each once."""
    rows = (
        Quirk("a", (), "r", "s", platform="^rusticl$", disabled_kernels=("pool", "fill")),
        Quirk("b", (), "r", "s", driver="^25", disabled_kernels=("fill", "copy")),
        Quirk("c", (), "r", "s", platform="^Clover$", disabled_kernels=("gather",)),
    )
    monkeypatch.setattr(table, "quirks", lambda: rows)
    (device,) = devices(rusticl(facts()))
    assert device.target().disabled_kernels == ("pool", "fill", "copy")
    monkeypatch.setenv("REKINDLE_DISABLE_KERNELS", "reduce,copy")
    assert device.target().disabled_kernels == ("pool", "fill", "copy", "reduce")


def test_a_row_may_only_switch_kernels_off() -> None:
    row = {"key": "k", "driver": "^1", "reason": "r", "source": "s", "disabled_kernels": ["pool"]}
    quirk = table._quirk(row)
    assert (quirk.effects, quirk.disabled_kernels) == ((), ("pool",))
