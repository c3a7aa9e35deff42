"""The architecture table: its figures against what was published, and Targets made from it."""

from __future__ import annotations

import pytest

from rekindle._errors import NotFoundError, UsageError
from rekindle.device import architecture, architectures, target_from
from rekindle.device.architectures import GIB, chip_of_pci, chips

ROWS = list(architectures().values())

# TFLOP/s and GB/s as reviews and AMD's slides of the time print them, written down apart.
PUBLISHED = {
    "rx460": (2.15, 112),
    "rx470": (4.94, 211),
    "rx480": (5.83, 256),
    "rx550": (1.21, 112),
    "rx560": (2.61, 112),
    "rx570": (5.10, 224),
    "rx580": (6.17, 256),
    "rx580-2048sp": (5.26, 224),
    "rx590": (7.12, 256),
    "pro-555x": (1.39, 94),
    "hd7970": (3.79, 264),
    "r9-290x": (5.63, 320),
    "r9-fury-x": (8.60, 512),
    "vega56": (10.54, 410),
    "vega64": (12.66, 484),
    "radeon-vii": (13.82, 1024),
    "rx5700-xt": (9.75, 448),
    "rx6700-xt": (13.21, 384),
    "rx7600": (21.75 / 2, 288),
    "gtx1060-6gb": (4.38, 192),
    "rtx3060": (12.74, 360),
    "arc-a380": (4.10, 186),
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_a_row_is_consistent_and_has_a_source(row) -> None:
    assert row.fp32_flops == pytest.approx(row.published_fp32_flops, rel=0.01)
    assert row.source
    assert row.chip.source
    assert row.memory == tuple(sorted(row.memory, key=lambda m: m.size_bytes))
    assert row.aliases or row.family == "cpu"
    assert all(m.bandwidth_bytes_s > 1e10 for m in row.memory)
    assert all(pci.partition(":")[0] in row.chip.pci for pci in row.pci)


@pytest.mark.parametrize("key", PUBLISHED)
def test_peaks_are_the_published_ones(key: str) -> None:
    tflops, gb_s = PUBLISHED[key]
    row = architecture(key)
    assert row.fp32_flops / 1e12 == pytest.approx(tflops, rel=0.01)
    assert row.bandwidth_bytes_s() / 1e9 == pytest.approx(gb_s, rel=0.01)


def test_no_id_names_two_cards_and_no_device_two_chips() -> None:
    pci = [pci for row in ROWS for pci in row.pci]
    assert len(pci) == len(set(pci))
    ids = [device for chip in chips().values() for device in chip.pci]
    assert len(ids) == len(set(ids))
    aliases = [alias for row in ROWS for alias in row.aliases]
    assert len(aliases) == len(set(aliases))


def test_every_chip_carries_a_card() -> None:
    assert {row.chip.name for row in ROWS} == set(chips())


def test_bandwidth_follows_the_size_sold() -> None:
    rx480 = architecture("rx480")
    assert rx480.bandwidth_bytes_s(4 * GIB) == 224e9
    assert rx480.bandwidth_bytes_s(8 * GIB) == rx480.bandwidth_bytes_s() == 256e9
    assert rx480.memory_bytes == (4 * GIB, 8 * GIB)


def test_target_of_an_rx580() -> None:
    target = target_from("rx580")
    assert (target.family, target.compute_units, target.wavefront) == ("gcn", 36, 64)
    assert (target.global_bytes, target.max_alloc_bytes) == (8 * GIB, 2 * GIB)
    assert target.lds_bytes == 32768, "AMD's own driver gives a work-group no more"
    assert target.alignment_bytes == 512
    assert target.max_work_group == 256
    assert target.channel_block == 4
    assert (target.fp16, target.fp64) == (True, True)
    assert target_from("rx580", 4 * GIB).global_bytes == 4 * GIB


@pytest.mark.parametrize(
    ("key", "family", "block"),
    [
        ("vega64", "gcn", 4),
        ("rx6600", "generic", 4),
        ("uhd630", "generic", 4),
        ("cpu-avx2", "cpu", 16),
    ],
)
def test_family_decides_the_layout(key: str, family: str, block: int) -> None:
    target = target_from(key)
    assert (target.family, target.channel_block) == (family, block)


@pytest.mark.parametrize("name", ["rx580", "RX 580", "radeon rx-580", "Radeon RX 580"])
def test_a_card_may_be_called_by_its_name(name: str) -> None:
    assert architecture(name).key == "rx580"


def test_half_precision_only_where_it_is_worth_something() -> None:
    assert not target_from("gtx1060-6gb").fp16
    assert not target_from("hd7970").fp16
    assert target_from("vega56").fp16


def test_unknown_key_lists_near_ones_or_all() -> None:
    with pytest.raises(NotFoundError, match=r"'voodoo'.*rx580, .*vega64"):
        architecture("voodoo")
    with pytest.raises(NotFoundError, match=r"'rx5800' .*did you mean rx580 or "):
        architecture("rx5800")
    with pytest.raises(NotFoundError, match="known: rx460"):
        target_from("")


def test_a_size_never_sold_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Radeon RX 580 was not sold.*4 GiB.*8 GiB"):
        target_from("rx580", 6 * GIB)


def test_chip_of_a_pci_id() -> None:
    for device, name in (("67df", "polaris10"), ("67ff", "polaris11"), ("699f", "polaris12")):
        chip = chip_of_pci("1002", device)
        assert chip is not None
        assert chip.name == name
    assert chip_of_pci("1002", "ffff") is None
    assert chip_of_pci("10de", "67df") is None
