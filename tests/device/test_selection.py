"""Which device is taken: by capability, never by platform order; or the one that was named."""

from __future__ import annotations

import pytest
from recorded_devices import (
    ACCELERATOR,
    Driver,
    amd,
    clover,
    devices,
    facts,
    llvmpipe,
    pocl,
    rusticl,
    windows_rx580,
)

from rekindle._errors import DeviceError
from rekindle.device import discovery, select_device
from rekindle.device.selection import by_capability, choose

VEGA8 = facts(
    name="AMD Radeon Vega 8 Graphics (radeonsi, raven, ACO, DRM 3.57)",
    max_compute_units=8,
    max_clock_frequency=1250,
    global_mem_size=2 << 30,
)
UHD630 = facts(
    name="Intel(R) UHD Graphics 630 [0x3e92]",
    max_compute_units=24,
    max_clock_frequency=1200,
    preferred_work_group_size_multiple=16,
)


def chosen(*drivers: Driver) -> str:
    device = choose(devices(*drivers), None)
    return f"{device.platform_name}: {device.name.split(' (')[0]}"


def test_an_empty_clover_in_front_does_not_matter() -> None:
    assert chosen(clover(), rusticl(facts())) == "rusticl: AMD Radeon RX 580 Series"


@pytest.mark.parametrize("order", [1, -1])
def test_the_card_before_the_processor_in_any_order(order: int) -> None:
    drivers = [pocl(), pocl("3.0-rc2"), rusticl(facts())][::order]
    assert chosen(*drivers) == "rusticl: AMD Radeon RX 580 Series"


@pytest.mark.parametrize("order", [1, -1])
def test_one_card_through_several_platforms(order: int) -> None:
    pocl_gpu = pocl(**facts(name="AMD Radeon RX 580 Series (polaris10)"))
    drivers = [clover(facts()), rusticl(facts()), pocl_gpu, amd(windows_rx580())][::order]
    names = [device.platform_name for device in by_capability(devices(*drivers))]
    assert names == [
        "rusticl",
        "AMD Accelerated Parallel Processing",
        "Portable Computing Language",
        "Clover",
    ]


def test_preference_holds_within_one_card_only() -> None:
    """A weak processor graphics under Rusticl does not displace the card under AMD's driver."""
    assert chosen(rusticl(VEGA8), amd(windows_rx580())).endswith("Ellesmere")


@pytest.mark.parametrize("order", [1, -1])
def test_the_stronger_of_two_cards(order: int) -> None:
    both = [VEGA8, facts()][::order]
    assert chosen(rusticl(*both)) == "rusticl: AMD Radeon RX 580 Series"
    assert chosen(*[rusticl(VEGA8), amd(UHD630)][::order]).startswith("rusticl: AMD Radeon Vega 8")


@pytest.mark.parametrize("order", [1, -1])
def test_on_the_processor_the_compiler_with_fewer_quirks(order: int) -> None:
    drivers = [
        pocl("3.0-rc2", name="wheel"),
        pocl("3.1+debian", name="debian"),
        rusticl(llvmpipe()),
    ]
    assert chosen(*drivers[::order]) == "Portable Computing Language: debian"


def test_a_software_renderer_that_calls_itself_a_gpu_is_the_processor() -> None:
    posing = rusticl(llvmpipe(type=4))
    (device,) = devices(posing)
    assert device.is_host_cpu
    assert device.family == "generic"
    assert chosen(posing, pocl()).startswith("Portable")


def test_clover_never_by_itself() -> None:
    """OpenCL 1.1 cannot build the kernels: the processor that can comes first."""
    assert chosen(clover(facts()), pocl()).startswith("Portable")
    with pytest.raises(DeviceError, match=r"no usable OpenCL device.*OpenCL 1.1.*rekindle doctor"):
        choose(devices(clover(facts())), None)
    assert choose(devices(clover(facts())), "clover").platform_name == "Clover"


def test_a_driver_before_opencl_1_2_never_by_itself() -> None:
    old = amd(facts(version="OpenCL 1.1 old"))
    assert devices(old)[0].unusable == "OpenCL 1.1 old; the kernels need OpenCL 1.2"
    assert chosen(old, pocl()).startswith("Portable")


def test_an_accelerator_between_card_and_processor() -> None:
    drivers = [pocl(), amd(facts(name="FPGA", type=ACCELERATOR)), rusticl(facts())]
    kinds = [device.kind for device in by_capability(devices(*drivers))]
    assert kinds == ["gpu", "accelerator", "cpu"]


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (0, "debian"),
        (1, "AMD Radeon RX 580 Series"),
        ("2", "Ellesmere"),
        (" 2 ", "Ellesmere"),
        ("ellesmere", "Ellesmere"),
        ("rx 580", "AMD Radeon RX 580 Series"),
        ("580", "AMD Radeon RX 580 Series"),
        ("RUSTICL", "AMD Radeon RX 580 Series"),
        ("Accelerated", "Ellesmere"),
        ("portable", "debian"),
    ],
)
def test_choice_by_index_or_part_of_a_name(choice: str | int, name: str) -> None:
    present = devices(pocl(name="debian"), rusticl(facts()), amd(windows_rx580()))
    assert choose(present, choice).name.split(" (")[0] == name


@pytest.mark.parametrize("choice", [3, -1, "9", "geforce", "", "  "])
def test_a_choice_that_fits_nothing_lists_what_there_is(choice: str | int) -> None:
    present = devices(pocl(name="debian"), rusticl(facts()))
    with pytest.raises(DeviceError) as caught:
        choose(present, choice)
    message = str(caught.value)
    assert repr(choice) in message
    assert "0: debian (Portable Computing Language)" in message
    assert "1: AMD Radeon RX 580 Series" in message
    assert "rekindle doctor" in message


def test_no_device_at_all_sends_to_the_doctor() -> None:
    with pytest.raises(DeviceError, match=r"OpenCL offers no device.*rekindle doctor"):
        choose([], None)


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    present = tuple(devices(pocl(name="debian"), rusticl(facts())))
    monkeypatch.setattr("rekindle.device.selection.list_devices", lambda: present)


@pytest.mark.usefixtures("two_devices")
def test_the_variable_decides_unless_the_caller_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert select_device().platform_name == "rusticl"
    monkeypatch.setenv("REKINDLE_DEVICE", "debian")
    assert select_device().name == "debian"
    assert select_device("rusticl").platform_name == "rusticl"
    monkeypatch.setenv("REKINDLE_DEVICE", "0")
    assert select_device().name == "debian"
    monkeypatch.setenv("REKINDLE_DEVICE", "geforce")
    with pytest.raises(DeviceError, match="REKINDLE_DEVICE='geforce' fits none"):
        select_device()
    monkeypatch.setenv("REKINDLE_DEVICE", "")
    assert select_device().platform_name == "rusticl"


@pytest.mark.opencl
def test_the_real_choice_is_one_of_the_real_devices() -> None:
    assert select_device() in discovery.list_devices()
