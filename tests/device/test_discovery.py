"""What OpenCL is asked and what becomes of the answers, on real drivers and on recorded ones."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded_devices import (
    ACCELERATOR,
    Driver,
    amd,
    devices,
    facts,
    llvmpipe,
    need,
    need_program,
    platforms,
    pocl,
    rusticl,
    windows_rx580,
)

from rekindle import _log
from rekindle._errors import DeviceError
from rekindle.device import discovery, list_devices, list_platforms

RUSTICL_ICD = Path("/etc/OpenCL/vendors/rusticl.icd")


def python(code: str, **environment: str) -> str:
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("POCL_", "RUSTICL_", "OCL_"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**keep, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.opencl
def test_pocl_is_found_and_is_a_processor() -> None:
    found = [d for d in list_devices() if d.platform_name == "Portable Computing Language"]
    assert found
    for device in found:
        assert (device.kind, device.family, device.is_host_cpu) == ("cpu", "cpu", True)
        assert device.architecture is None
        assert device.target().channel_block == 16
        assert device.target().driver.startswith("OpenCL 3.0 PoCL")
        assert device.unusable is None


@pytest.mark.opencl
def test_facts_are_those_that_pyopencl_gives() -> None:
    import pyopencl as cl

    handles = [handle for platform in cl.get_platforms() for handle in platform.get_devices()]
    assert len(handles) == len(list_devices())
    for index, (device, handle) in enumerate(zip(list_devices(), handles, strict=True)):
        assert device.opencl() == handle
        assert device.index == index
        assert device.platform_name == handle.platform.name
        assert device.name == handle.name.strip()
        assert device.compute_units == handle.get_info(cl.device_info.MAX_COMPUTE_UNITS)
        assert device.global_bytes == handle.get_info(cl.device_info.GLOBAL_MEM_SIZE)
        assert device.max_alloc_bytes == handle.get_info(cl.device_info.MAX_MEM_ALLOC_SIZE)
        assert device.alignment_bytes * 8 == handle.get_info(cl.device_info.MEM_BASE_ADDR_ALIGN)
        assert device.clock_hz == handle.get_info(cl.device_info.MAX_CLOCK_FREQUENCY) * 10**6
        assert device.max_work_group == handle.get_info(cl.device_info.MAX_WORK_GROUP_SIZE)
        assert device.driver == handle.get_info(cl.device_info.DRIVER_VERSION)
        assert device.fp64 == ("cl_khr_fp64" in handle.extensions.split())
        assert device.extensions <= set(handle.extensions.split())


@pytest.mark.opencl
def test_sub_buffers_at_the_reported_alignment_are_accepted() -> None:
    """The proof that bits became bytes: the driver takes an origin of exactly that many bytes."""
    import pyopencl as cl

    for device in list_devices():
        context = cl.Context([device.opencl()])
        step = device.alignment_bytes
        parent = cl.Buffer(context, cl.mem_flags.READ_WRITE, 4 * step)
        assert parent.get_sub_region(step, step).size == step


@pytest.mark.opencl
def test_facts_are_those_that_clinfo_prints() -> None:
    # Rusticl is what both loaders see: clinfo's does not know PoCL's wheel.
    environment = os.environ | {"RUSTICL_ENABLE": "llvmpipe"}

    def output(*command: str) -> str:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=True, env=environment
        ).stdout

    printed = {
        facts["CL_DEVICE_NAME"]: facts
        for platform in json.loads(output(need_program("clinfo"), "--json"))["devices"]
        for facts in platform["online"]
    }
    code = (
        "import json; from rekindle import list_devices; print(json.dumps([[d.name,"
        "d.compute_units, d.lds_bytes, d.alignment_bytes * 8] for d in list_devices()]))"
    )
    ours = {name: facts for name, *facts in json.loads(output(sys.executable, "-c", code))}
    common = ours.keys() & printed.keys()
    need(common, "clinfo and pyopencl's loader see no device in common")
    for name in common:
        theirs = printed[name]
        assert ours[name] == [
            theirs["CL_DEVICE_MAX_COMPUTE_UNITS"],
            theirs["CL_DEVICE_LOCAL_MEM_SIZE"],
            theirs["CL_DEVICE_MEM_BASE_ADDR_ALIGN"],
        ]


@pytest.mark.opencl
def test_rusticl_is_listed_when_it_is_switched_on() -> None:
    need(RUSTICL_ICD.exists(), "Rusticl (mesa-opencl-icd) is not installed")
    code = (
        "from rekindle.device import list_devices, select_device\n"
        "for d in list_devices():\n"
        "    print(d.platform_name, d.family, d.is_host_cpu, d.alignment_bytes, sep='|')\n"
        "print(select_device().platform_name, select_device('llvmpipe').platform_name, sep='|')"
    )
    *lines, last = python(code, RUSTICL_ENABLE="llvmpipe").splitlines()
    assert "rusticl|generic|True|512" in lines
    assert last == "Portable Computing Language|rusticl"


def test_without_any_driver_there_is_no_device_and_the_doctor_is_named(tmp_path: Path) -> None:
    code = (
        "from rekindle.device import list_devices, list_platforms, select_device\n"
        "print(list_devices(), list_platforms())\n"
        "try:\n    select_device()\nexcept Exception as e:\n    print(type(e).__name__, e)"
    )
    listed, raised = python(code, OCL_ICD_VENDORS=str(tmp_path / "none")).splitlines()
    assert listed == "() ()"
    assert raised.startswith("DeviceError OpenCL offers no device")
    assert "rekindle doctor" in raised


def test_importing_the_room_loads_no_pyopencl() -> None:
    assert python("import sys, rekindle.device; print('pyopencl' in sys.modules)") == "False\n"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "1"),
        ({"POCL_AFFINITY": "0"}, "0"),
        ({"REKINDLE_KEEP_AFFINITY": "1"}, "None"),
        ({"REKINDLE_KEEP_AFFINITY": "0"}, "1"),
    ],
)
def test_pocl_is_told_to_spread_its_workers(environment: dict[str, str], expected: str) -> None:
    code = (
        "import os\nfrom rekindle.device import discovery\n"
        "discovery._opencl()\nprint(os.environ.get('POCL_AFFINITY'))"
    )
    assert python(code, **environment) == f"{expected}\n"


@pytest.fixture
def fresh_listing() -> Iterator[None]:
    list_platforms.cache_clear()
    _log.warn_once.cache_clear()
    yield
    list_platforms.cache_clear()
    _log.warn_once.cache_clear()


@pytest.mark.usefixtures("fresh_listing")
def test_a_pyopencl_that_does_not_load_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pyopencl", None)
    with caplog.at_level(logging.WARNING, logger="rekindle"):
        assert list_devices() == ()
    assert ["OpenCL cannot be used" in line for line in caplog.messages] == [True]


def test_a_broken_platform_is_reported_and_harms_no_other() -> None:
    broken = Driver("AMD-APP", "OpenCL 2.0", "AMD", RuntimeError("clGetDeviceIDs failed: -6"))
    found = platforms(broken, rusticl(facts()), pocl())
    assert [platform.problem for platform in found] == ["clGetDeviceIDs failed: -6", None, None]
    assert [len(platform.devices) for platform in found] == [0, 1, 1]
    assert [d.index for platform in found for d in platform.devices] == [0, 1]


def test_a_broken_device_is_reported_and_its_neighbours_are_listed() -> None:
    bad = facts(max_compute_units=OSError("lost"))
    (platform,) = platforms(rusticl(facts(name="first"), bad, facts(name="third")))
    assert [(d.index, d.name) for d in platform.devices] == [(0, "first"), (1, "third")]
    assert platform.problem == "lost"


def test_a_platform_without_a_name_is_listed() -> None:
    class Nameless(Driver):
        @property
        def name(self) -> str:
            raise ValueError

        @name.setter
        def name(self, value: str) -> None:
            pass

    (platform,) = platforms(Nameless("", "v", "w"))
    assert (platform.name, platform.version, platform.problem) == ("", "v", "ValueError")


def test_amd_on_windows() -> None:
    (device,) = devices(amd(windows_rx580()))
    assert (device.name, device.board_name) == ("Ellesmere", "Radeon RX 580 Series")
    assert device.match is not None
    assert (device.match.row.key, device.match.by) == ("rx580", "name")
    assert (device.family, device.wavefront, device.lds_bytes) == ("gcn", 64, 32768)
    assert device.alignment_bytes == 256
    assert str(device) == "0: Radeon RX 580 Series (AMD Accelerated Parallel Processing)"
    target = device.target()
    assert target.name == "Radeon RX 580 Series"
    assert target.driver == "OpenCL 2.1 AMD-APP (3240.7) | 3240.7"
    assert target.platform == "AMD Accelerated Parallel Processing"


def test_local_memory_the_driver_promises_but_does_not_give() -> None:
    (device,) = devices(amd(windows_rx580() | {"local_mem_size": 65536}))
    assert device.lds_bytes == 32768


def test_rusticl_on_polaris() -> None:
    (device,) = devices(rusticl(facts()))
    assert (device.family, device.kind, device.is_host_cpu) == ("gcn", "gpu", False)
    assert (device.wavefront, device.lds_bytes, device.alignment_bytes) == (64, 65536, 512)
    assert (device.fp16, device.fp64) == (False, True)
    assert device.extensions == {"cl_khr_byte_addressable_store", "cl_khr_fp64"}
    (newer,) = devices(rusticl(facts(extensions="cl_khr_fp16 cl_khr_fp64")))
    assert newer.fp16


@pytest.mark.parametrize(
    ("reported", "wavefront"),
    [
        (facts(preferred_work_group_size_multiple=ValueError()), 64),
        (facts(name="unheard of", preferred_work_group_size_multiple=ValueError()), 1),
        (facts(name="NVIDIA GeForce GTX 1650", max_compute_units=14, warp_size_nv=32), 32),
        (facts(name="GPU", preferred_work_group_size_multiple=16), 16),
        (facts(name="gfx803", wavefront_width_amd=64, preferred_work_group_size_multiple=256), 64),
        (llvmpipe(), 32),
        (facts(name="some cpu", type=2, preferred_vector_width_float=8), 8),
    ],
)
def test_wavefront_from_driver_then_table(reported: dict[str, object], wavefront: int) -> None:
    (device,) = devices(amd(reported))
    assert device.wavefront == wavefront


@pytest.mark.parametrize(
    ("reported", "family"),
    [
        (facts(name="AMD Radeon RX 6600 (radeonsi, navi23)", max_compute_units=28), "generic"),
        (facts(name="unheard of"), "generic"),
        (facts(name="FPGA", type=ACCELERATOR), "generic"),
        (facts(name="gfx900", max_compute_units=56), "gcn"),
        (llvmpipe(), "generic"),
    ],
)
def test_family(reported: dict[str, object], family: str) -> None:
    (device,) = devices(rusticl(reported))
    assert device.family == family


def test_the_handle_is_no_fact() -> None:
    (device,) = devices(rusticl(facts()))
    bare = dataclasses.replace(device, handle=None)
    assert bare == device
    assert hash(bare) == hash(device)
    assert "handle" not in repr(device)
    assert device.opencl() is device.handle
    with pytest.raises(DeviceError, match=r"recorded facts.*list_devices"):
        bare.opencl()


@pytest.mark.opencl
def test_listing_asks_the_drivers_once() -> None:
    assert discovery.list_platforms() is discovery.list_platforms()


@pytest.mark.opencl
def test_the_target_of_an_avx2_build_has_eight_lanes_whatever_it_reports() -> None:
    wheels = [d for d in list_devices() if d.has("float8_vectors")]
    if not wheels:
        pytest.skip("no OpenCL build here that is limited to eight lanes")
    assert wheels[0].target().wavefront <= 8
