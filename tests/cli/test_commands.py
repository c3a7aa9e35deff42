"""Each command: what it finds, as a page and as one JSON document."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from rekindle.cli import demo as demo_file
from rekindle.cli import devices as devices_file
from rekindle.cli import doctor as doctor_file
from rekindle.device import list_devices
from rekindle.device.doctor import Finding
from rekindle.device.telemetry import Telemetry
from rekindle.hub import ModelCard
from rekindle.runtime.hybrid import measure
from rekindle.runtime.hybrid.calibration import Calibration, Link, SideRates

Run = Callable[..., Result]
Program = Callable[..., subprocess.CompletedProcess[str]]
Document = Callable[..., dict[str, Any]]
ORT = ("--provider", "onnxruntime")


@pytest.mark.opencl
def test_devices(rekindle: Run, document: Document) -> None:
    listed = document(rekindle("devices", "--json"))
    assert [d["name"] for d in listed["devices"]] == [d.name for d in list_devices()]
    assert listed["default"] in range(len(listed["devices"]))
    page = rekindle("devices")
    assert page.exit_code == 0
    assert f"*{listed['default']}" in page.stdout
    assert listed["devices"][0]["name"] in page.stdout


@pytest.mark.opencl
def test_calibrating_measures_anew_and_shows_both_sides(
    rekindle: Run, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = SideRates(2e-6, 4e9, 2e9, 1e9)
    made = Calibration(rates, rates, Link(1e-5, 1e9), Link(3e-5, 2e9))
    monkeypatch.setattr(measure, "measure", lambda device, key: replace(made, key=key))
    told = document(rekindle("devices", "--calibrate", "--json"))
    assert told["upload"] == {"latency_s": 1e-5, "bytes_s": 1e9}
    page = rekindle("devices", "--calibrate", "--device", "0").stdout
    for words in ("4 GFLOP/s", "2.0 us", "upload: 1 GB/s, and 10.0 us each time"):
        assert words in page
    wrong = rekindle("devices", "--device", "0")
    assert wrong.exit_code == 2
    assert "goes with --calibrate" in wrong.stderr


def test_no_devices(rekindle: Run, document: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices_file, "list_devices", tuple)
    monkeypatch.setattr(devices_file, "list_platforms", tuple)
    monkeypatch.setattr(devices_file, "_default_index", lambda: None)
    result = rekindle("devices")
    assert result.exit_code == 0
    assert "OpenCL offers no device" in result.stdout
    assert document(rekindle("devices", "--json"))["devices"] == []


def test_telemetry_shows_what_is_there_and_nothing_else(
    rekindle: Run, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Telemetry(
        "card0", None, "67df", "Radeon RX 580", 12, 8 << 30, 1 << 30, 1_340_000_000, None, 61.5,
        None, None,
    )  # fmt: skip
    monkeypatch.setattr(devices_file, "read_telemetry", lambda: (card,))
    line = next(text for text in rekindle("devices").stdout.splitlines() if "RX 580" in text)
    assert line.split() == [
        "Radeon", "RX", "580", "61.5", "C", "-", "12", "%", "1.0", "GiB", "of", "8.0", "GiB",
        "1.34", "GHz", "-", "-",
    ]  # fmt: skip
    (told,) = document(rekindle("devices", "--json"))["telemetry"]
    assert told["temperature_c"] == 61.5
    assert told["power_w"] is None


@pytest.mark.parametrize(("severity", "code"), [("error", 6), ("warning", 0), ("ok", 0)])
def test_doctor(
    severity: str,
    code: int,
    rekindle: Run,
    document: Document,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finding = Finding("x", severity, "A thing [is] so", "Why it is.", "sudo mend it")  # type: ignore[arg-type]
    monkeypatch.setattr(doctor_file, "diagnose", lambda: (finding,))
    result = rekindle("doctor")
    assert result.exit_code == code
    assert result.stdout.startswith(f"{severity:<8}A thing [is] so\n")
    assert "\n          sudo mend it\n" in result.stdout
    told = rekindle("doctor", "--json")
    assert told.exit_code == code
    assert document(told)["findings"][0]["command"] == "sudo mend it"


def test_classify_one(rekindle: Run, document: Document, model: Path, photos: Path) -> None:
    args = ("classify", photos / "blue.png", "--model", model, *ORT)
    result = rekindle(*args, "--top", 2)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == str(photos / "blue.png")
    assert [line.split()[0] for line in lines[2:4]] == ["blue", "red"]
    found = document(rekindle(*args, "--json"))
    assert found["model"] == {"name": "colours", "version": "1"}
    assert found["provider"] == "onnxruntime"
    assert found["results"][0]["labels"][0]["name"] == "blue"
    assert sum(label["score"] for label in found["results"][0]["labels"]) == pytest.approx(1)


def test_classify_many_with_one_bad(
    rekindle: Run, document: Document, model: Path, photos: Path
) -> None:
    (photos / "bad.png").write_text("no picture")
    args = ("classify", photos, "--model", model, *ORT, "--batch", 2)
    result = rekindle(*args)
    assert result.exit_code == 5
    assert result.stderr == ""
    for word in ("bad.png is not a picture", "blue.png", "3 of 4 photos by colours"):
        assert word in result.stdout
    told = rekindle(*args, "--json")
    assert told.exit_code == 5
    found = document(told)
    assert found["failed"] == 1
    assert [r["error"] and r["error"]["type"] for r in found["results"]] == [
        "ImageError",
        None,
        None,
        None,
    ]


def test_classify_with_a_card_from_elsewhere(rekindle: Run, bare: Path, model: Path) -> None:
    photo = model  # never opened: the card is missing first
    result = rekindle("classify", photo, "-m", bare, *ORT)
    assert result.exit_code == 4
    assert "--card FILE" in result.stderr
    card = model.with_name("colours.card.toml")
    assert rekindle("classify", photo, "-m", bare, "--card", card, *ORT).exit_code == 5


def test_names_from_outside_are_shown_as_they_are_and_harmless(
    rekindle: Run, model: Path, photos: Path
) -> None:
    odd = photos / "[red]\x1b[31m.png"
    (photos / "red.png").rename(odd)
    result = rekindle("classify", odd, "-m", model, *ORT)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "[red]" in result.stdout


def test_run_random(rekindle: Run, document: Document, bare: Path) -> None:
    assert "1x3x8x8" in rekindle("run", bare, *ORT).stdout
    found = document(rekindle("run", bare, *ORT, "--shape", "N=4", "--json"))
    assert found["inputs"] == [{"name": "image", "dtype": "float32", "shape": [4, 3, 8, 8]}]
    assert found["outputs"][0]["shape"] == [4, 3]
    assert found["outputs"][0]["not_finite"] == 0


@pytest.mark.opencl
def test_a_device_means_opencl(rekindle: Run, document: Document, bare: Path) -> None:
    assert document(rekindle("run", bare, "--device", "0", "--json"))["provider"] == "opencl"
    result = rekindle("run", bare, "--device", "no such card")
    assert result.exit_code == 6
    assert "'no such card' fits none of the OpenCL devices" in result.stderr
    assert rekindle("run", bare, "--device", "0", *ORT).exit_code == 2


def test_run_files(rekindle: Run, document: Document, bare: Path, tmp_path: Path) -> None:
    image = np.abs(np.random.default_rng(3).standard_normal((2, 3, 8, 8))).astype(np.float32)
    np.save(tmp_path / "x.npy", image)
    np.savez(tmp_path / "all.npz", image=image)
    (tmp_path / "a=b.npy").write_bytes((tmp_path / "x.npy").read_bytes())
    for given in ("x.npy", "image=x.npy", "all.npz", "a=b.npy"):
        name, _, file = given.rpartition("=") if given.startswith("image=") else ("", "", given)
        text = f"{name}={tmp_path / file}" if name else str(tmp_path / file)
        saved = tmp_path / "out.npz"
        told = document(rekindle("run", bare, *ORT, "-i", text, "-o", saved, "--json"))
        assert told["saved"] == str(saved)
        assert told["outputs"][0]["max"] == pytest.approx(image.mean((2, 3)).max())
        logits = np.load(saved)["logits"]
        np.testing.assert_allclose(logits, image.mean((2, 3)), rtol=1e-5)
        saved.unlink()
    assert sorted(p.name for p in tmp_path.glob("*.npz")) == ["all.npz"]


def test_run_counts_what_is_not_finite(
    rekindle: Run, document: Document, bare: Path, tmp_path: Path
) -> None:
    image = np.ones((4, 3, 8, 8), np.float32)
    image[1, 2, 0, 0], image[2, 0, 3, 3] = np.nan, np.inf
    np.save(tmp_path / "x.npy", image)
    (output,) = document(rekindle("run", bare, *ORT, "-i", tmp_path / "x.npy", "--json"))["outputs"]
    assert output["not_finite"] == 6  # 0 * NaN: each channel looks at all three
    assert output["min"] == output["max"] == 1


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["-i", "absent.npy"], 8, "absent.npy: no such file"),
        (["-i", "colours.onnx"], 5, "cannot be read as a NumPy array"),
        (["-i", "object.npy"], 5, "pickled objects are refused"),
        (["-i", "other=random"], 5, "no --input for image: float32[N, 3, 8, 8]"),
        (["-i", "wrong.npy"], 5, "expected dtype float32, got float64"),
        (["-i", "several.npz"], 5, "no --input for image"),
        (["-i", "image=several.npz"], 5, "holds several arrays: a, b"),
        (["-o", "out.txt"], 2, "must end in .npz (use out.npz)"),
        (["-o", "absent/out.npz"], 2, "cannot be written: No such file"),
        (["--shape", "H=3"], 2, "no dynamic dimension H"),
        (["--shape", "N"], 2, "write NAME=SIZE"),
    ],
)
def test_run_with_bad_input(
    args: list[str],
    code: int,
    message: str,
    rekindle: Run,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(model.parent)
    np.save("wrong.npy", np.zeros((1, 3, 8, 8)))
    np.save("object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez("several.npz", a=np.zeros(1), b=np.zeros(1))
    result = rekindle("run", model, *ORT, *args)
    assert result.exit_code == code
    assert message in result.stderr
    assert not list(Path().glob("**/*partial*"))


def test_sizes_that_the_model_leaves_open(
    rekindle: Run, document: Document, bare: Path, tmp_path: Path
) -> None:
    import onnx

    loose = onnx.load(bare)
    for axis, name in ((2, "H"), (3, "W")):
        loose.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    path = tmp_path / "loose.onnx"
    onnx.save(loose, path)
    for command in ("run", "bench"):
        result = rekindle(command, path, *ORT)
        assert result.exit_code == 2
        assert "leaves the size of H, W open" in result.stderr
        assert "--shape H=SIZE --shape W=SIZE" in result.stderr
    sizes = ("--shape", "H=5", "--shape", "W=7")
    found = document(rekindle("run", path, *ORT, *sizes, "--shape", "N=2", "--json"))
    assert found["inputs"][0]["shape"] == [2, 3, 5, 7]
    report = document(rekindle("bench", path, *ORT, *sizes, "--batch", 3, "--repeats", 1, "--json"))
    assert report["shapes"] == {"image": [3, 3, 5, 7]}


def test_bench(rekindle: Run, document: Document, bare: Path) -> None:
    args = ("bench", bare, "-p", "onnxruntime,reference", "--repeats", 3, "--warmup", 0)
    found = document(rekindle(*args, "--batch", 2, "--json"))
    assert found["shapes"] == {"image": [2, 3, 8, 8]}
    first, second = found["results"]
    assert (first["provider"], second["provider"]) == ("onnxruntime", "reference")
    assert 0 < first["p50_ms"] <= first["p95_ms"] <= first["p99_ms"]
    assert second["max_relative_difference"] <= 1e-4
    assert second["argmax_agreement"] == 1
    page = rekindle(*args).stdout
    assert "3 runs each after 0 to warm up, in turn; image 1x3x8x8" in page


def test_bench_with_a_batch_that_is_fixed(rekindle: Run, tmp_path: Path, bare: Path) -> None:
    import onnx

    fixed = onnx.load(bare)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(fixed, tmp_path / "fixed.onnx")
    result = rekindle("bench", tmp_path / "fixed.onnx", "-p", "onnxruntime", "--batch", 2)
    assert result.exit_code == 2
    assert "the model's batch is fixed: image: float32[1, 3, 8, 8]" in result.stderr


@pytest.mark.opencl
def test_demo(rekindle: Run, document: Document, bundled: ModelCard, photos: Path) -> None:
    result = rekindle("demo", "--photo", photos / "green.png")
    assert result.exit_code == 0, result.stderr
    for word in (
        "cifar10-resnet 1, ",
        "top-1 accuracy 90.0% (80.0% to 95.0%) on three colours",
        "It knows 3 classes: red, green, blue.",
        "green.png, 16x12",
        "The engines agree",
        "rekindle classify YOUR_PHOTO.jpg",
    ):
        assert word in result.stdout
    found = document(rekindle("demo", "--photo", photos / "green.png", "--json"))
    assert [r["provider"] for r in found["results"]] == ["opencl", "onnxruntime"]
    assert {r["labels"][0]["name"] for r in found["results"]} == {"green"}
    assert all(r["p50_ms"] > 0 for r in found["results"])
    assert found["agree"] is True


def test_demo_without_opencl(
    rekindle: Run,
    document: Document,
    bundled: ModelCard,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo_file, "_device", lambda: (None, "OpenCL offers no device"))
    result = rekindle("demo", "--photo", photos / "green.png")
    assert result.exit_code == 0, result.stderr
    assert "OpenCL offers no device: the demo runs on ONNX Runtime alone" in result.stdout
    assert "rekindle doctor" in result.stdout
    found = document(rekindle("demo", "--photo", photos / "green.png", "--json"))
    assert [r["provider"] for r in found["results"]] == ["onnxruntime"]
    assert found["agree"] is None


def test_engines_that_disagree_are_a_failure(
    rekindle: Run, bundled: ModelCard, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_file, "_device", lambda: (None, "no"))
    monkeypatch.setattr(demo_file, "_agree", lambda named: False)
    result = rekindle("demo", "--photo", photos / "green.png")
    assert result.exit_code == 1
    assert "THE ENGINES DISAGREE" in result.stdout


def test_demo_without_its_photo(rekindle: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_file.importlib.util, "find_spec", lambda name: None)
    result = rekindle("demo")
    assert result.exit_code == 3
    assert 'pip install "rekindle[demo]", or use your own: rekindle demo --photo' in result.stderr


def test_the_demos_photo_is_in_the_wheel_and_found_without_importing_it() -> None:
    import sys

    pytest.importorskip("skimage")
    sys.modules.pop("skimage", None)
    assert demo_file._chelsea().stat().st_size == 240_512
    assert "skimage" not in sys.modules


@pytest.mark.opencl
def test_demo_with_a_photo_that_is_none(rekindle: Run, bundled: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("nothing")
    result = rekindle("demo", "--photo", tmp_path / "x.png")
    assert result.exit_code == 5
    assert "is not a picture" in result.stderr


def test_json_is_the_only_thing_on_stdout_of_a_process(
    program: Program, document: Document, model: Path, bare: Path, photos: Path
) -> None:
    for args, key in (
        (("devices",), "devices"),
        (("doctor",), "findings"),
        (("classify", photos, "-m", model, *ORT), "results"),
        (("inspect", bare), "operators"),
        (("run", bare, *ORT), "outputs"),
        (("bench", bare, "-p", "onnxruntime", "--repeats", 2), "results"),
        (("classify", photos / "absent.png", "-m", model, *ORT), "results"),
        (("run", photos, *ORT), "error"),
    ):
        assert key in document(program(*args, "--json")), args
