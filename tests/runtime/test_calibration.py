"""What is measured of this machine, and how the record is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rekindle.device import Device, select_device
from rekindle.device.architectures import architecture
from rekindle.graph.infer import bind
from rekindle.runtime.hybrid import calibration, measure
from rekindle.runtime.hybrid.calibration import Calibration, Link, SideRates, calibration_for

pytestmark = pytest.mark.opencl
RATES = SideRates(2e-6, 4e9, 2e9, 1e9)
TABLE = Calibration(RATES, RATES, Link(1e-5, 1e9), Link(3e-5, 2e9))


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path / "cache"))
    return select_device()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for measuring: one entry for each time it was done."""
    done: list[str] = []

    def stand_in(device: Device, key: dict[str, str]) -> Calibration:
        done.append(device.name)
        return replace(TABLE, key=key)

    monkeypatch.setattr(measure, "measure", stand_in)
    return done


def test_a_time_is_the_call_and_the_roofline() -> None:
    assert RATES.nanoseconds(8e3, 1e3) == 2000 + 4000  # arithmetic: 8 kFLOP at 2 GFLOP/s
    assert RATES.nanoseconds(8e3, 1e3, convolves=True) == 2000 + 2000
    assert RATES.nanoseconds(8e3, 9e3, calls=3) == 6000 + 9000  # memory: 9 kB at 1 GB/s
    assert Link(1e-5, 1e9).nanoseconds(500) == 10_500


def test_it_is_measured_once_and_again_when_asked(device: Device, runs: list[str]) -> None:
    first = calibration_for(device)
    assert calibration_for(device) == first
    assert len(runs) == 1
    calibration_for(device, anew=True)
    assert len(runs) == 2
    assert first.key["device"] == device.target().name
    assert device.driver in first.key["driver"]


def test_another_driver_has_another_record(device: Device, runs: list[str]) -> None:
    calibration_for(device)
    calibration_for(replace(device, driver="another"))
    assert len(runs) == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"device": 3}', "infinite", "negative"])
def test_a_damaged_record_is_made_again(device: Device, runs: list[str], damage: str) -> None:
    calibration_for(device)
    (record,) = (calibration._config.cache_dir() / "calibration").iterdir()
    data = json.loads(record.read_text())
    if damage in ("infinite", "negative"):
        data["cpu"]["bytes_s"] = float("inf") if damage == "infinite" else -1
        damage = json.dumps(data)
    record.write_text(damage)
    assert calibration_for(device).cpu == RATES
    assert len(runs) == 2


def test_without_a_cache_folder_it_is_measured_each_time(
    device: Device, runs: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REKINDLE_CACHE_DIR", str(tmp_path / "file"))
    assert calibration_for(device).cpu == calibration_for(device).cpu
    assert len(runs) == 2


def test_probes_have_the_work_they_are_divided_by() -> None:
    """Against the definition: two operations a multiply-add, four bytes a number."""
    convolutions, products, added = measure._convolutions(), measure._products(), measure._sum()
    outputs, window = 64 * 56 * 56, 64 * 3 * 3
    assert convolutions.flops == 4 * 2 * outputs * window
    assert products.flops == 4 * 2 * 512**3
    assert added.moved_bytes == 3 * 4 * 1024 * 4096
    chain = measure._chain()
    assert len(bind(chain.graph, {"v0": (1, 16)}).nodes) == measure._CHAIN


def test_this_machine_can_be_measured(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_REPEATS", 1)
    made = measure.measure(device, {"device": "this"})
    assert Calibration.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    for side in (made.device, made.cpu):
        assert 1e-9 < side.call_s < 0.1
        assert np.all(np.array([side.conv_flops_s, side.matmul_flops_s]) > 1e7)
        assert side.bytes_s > 1e6
    assert made.source == "measured"


def test_a_card_that_is_not_here_is_assumed_from_its_roofline() -> None:
    row = architecture("rx580")
    made = calibration.assumed(row, RATES)
    assert made.cpu == RATES
    assert made.device.matmul_flops_s <= row.fp32_flops
    assert made.device.bytes_s <= row.bandwidth_bytes_s()
    assert "RX 580" in made.source
    assert made.source.startswith("assumed")
