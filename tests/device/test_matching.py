"""Names that drivers really report, and the row each must be taken for."""

from __future__ import annotations

import pytest

from rekindle.device import match

GIB = 1 << 30
MESA_580 = "AMD Radeon RX 580 Series (radeonsi, polaris10, ACO, DRM 3.57, 6.8.0-45-generic)"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (MESA_580, "rx580"),
        ("AMD Radeon RX 570 Series (polaris10, LLVM 15.0.4, DRM 3.48, 6.0.7-gentoo-dist)", "rx570"),
        ("Radeon RX 570 Series (POLARIS10, DRM 3.26.0, 4.16.15-amd, LLVM 6.0.1)", "rx570"),
        ("AMD Radeon RX 580 2048SP (radeonsi, polaris10, LLVM 17.0.6, DRM 3.54)", "rx580-2048sp"),
        ("AMD Radeon RX 590 GME (radeonsi, polaris10, ACO, DRM 3.54)", "rx590-gme"),
        ("AMD Radeon RX 590 Series (radeonsi, polaris10, ACO, DRM 3.54)", "rx590"),
        ("AMD Radeon (TM) RX 480 Graphics (polaris10, LLVM 15)", "rx480"),
        ("AMD Radeon RX 5700 XT (radeonsi, navi10, LLVM 15.0.7, DRM 3.49)", "rx5700-xt"),
        ("AMD Radeon RX 6700 XT (radeonsi, navi22, LLVM 15.0.7, DRM 3.49)", "rx6700-xt"),
        ("NVIDIA GeForce GTX 1060 6GB", "gtx1060-6gb"),
        ("NVIDIA GeForce RTX 3060", "rtx3060"),
        ("Intel(R) UHD Graphics 630 [0x3e92]", "uhd630"),
        ("Mesa Intel(R) HD Graphics 630 (KBL GT2)", "hd630"),
        ("Intel(R) Arc(TM) A380 Graphics", "arc-a380"),
    ],
)
def test_a_named_card_is_that_card(name: str, key: str) -> None:
    found = match(name)
    assert found is not None
    assert (found.row.key, found.by, found.alternatives) == (key, "name", ())


def test_the_board_name_tells_what_the_chip_does_not() -> None:
    found = match("Ellesmere", board_name="Radeon RX 580 Series", compute_units=36)
    assert found is not None
    assert (found.row.key, found.by) == ("rx580", "name")


def test_a_name_that_contradicts_the_units_is_not_believed() -> None:
    """A 2048SP card with the BIOS of an RX 580 says RX 580 and has 32 units."""
    found = match(MESA_580, compute_units=32, global_bytes=8 * GIB)
    assert found is not None
    assert found.by == "chip"
    assert {found.row.key, *found.alternatives} == {"rx470", "rx570", "rx580-2048sp"}


@pytest.mark.parametrize(
    ("name", "units", "memory", "clock", "keys", "by"),
    [
        # 36 units: 480, 580, 590 and 590 GME are one chip; the clock may tell.
        ("Ellesmere", 36, 8 * GIB, None, {"rx480", "rx580", "rx590", "rx590-gme"}, "chip"),
        ("Ellesmere", 36, 8 * GIB, 1_545_000_000, {"rx590"}, "units"),
        ("Ellesmere", 36, 8 * GIB, 1_411_000_000, {"rx590-gme"}, "units"),
        ("Ellesmere", 36, 4 * GIB, None, {"rx480", "rx580"}, "chip"),
        ("gfx803", 36, 8 * GIB, 1_340_000_000, {"rx580"}, "units"),
        # gfx803 is Fiji and all of Polaris: the units tell which.
        ("gfx803", 64, 4 * GIB, None, {"r9-fury-x"}, "units"),
        ("gfx803", 16, 4 * GIB, None, {"rx560"}, "units"),
        ("gfx804", 8, 2 * GIB, None, {"rx550"}, "units"),
        ("Baffin", 14, 2 * GIB, None, {"rx460"}, "units"),
        ("AMD Radeon RX Vega (radeonsi, vega10, DRM 3.57)", 56, 8 * GIB, None, {"vega56"}, "units"),
        # No row has 28 units (HD 7950): the chip's only row is offered, and not as certain.
        ("Tahiti", 28, 3 * GIB, None, {"hd7970"}, "chip"),
    ],
)
def test_a_named_chip_is_narrowed_by_what_else_is_known(
    name: str, units: int, memory: int, clock: int | None, keys: set[str], by: str
) -> None:
    reported = int(memory * 0.99)
    found = match(name, compute_units=units, global_bytes=reported, clock_hz=clock)
    assert found is not None
    assert {found.row.key, *found.alternatives} == keys
    assert found.by == by


def test_of_several_cards_the_slowest_is_taken() -> None:
    found = match("Ellesmere", compute_units=36, global_bytes=8 * GIB)
    assert found is not None
    assert found.row.key == "rx480"


def test_device_id_and_revision_decide() -> None:
    found = match("whatever", pci="67DF:EF")
    assert found is not None
    assert (found.row.key, found.by) == ("rx570", "pci")


@pytest.mark.parametrize(
    "name",
    ["", "pthread-skylake-avx512-AMD EPYC", "llvmpipe (LLVM 15.0.6, 256 bits)", "RX 5800", "RX 58"],
)
def test_what_is_not_in_the_table_is_not_guessed(name: str) -> None:
    assert match(name, compute_units=36, pci="67df:00") is None
