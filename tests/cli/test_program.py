"""The program as a whole: commands, help, exit codes, errors, what stdout holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import rekindle
from rekindle._errors import DeviceError, MemoryLimitError
from rekindle.cli import _failures
from rekindle.cli._commands import commands

Run = Callable[..., Result]
Program = Callable[..., subprocess.CompletedProcess[str]]
Document = Callable[..., dict[str, Any]]

NAMES = (
    "bench", "classify", "client classify", "client health", "client infer", "client load",
    "client models", "client unload", "demo", "devices", "doctor", "estimate", "inspect",
    "keys", "profile", "run", "serve", "tune", "verify",
)  # fmt: skip


def test_the_files_are_the_commands() -> None:
    assert tuple(name.replace(".", " ") for name in commands.names()) == NAMES


def test_help_lists_every_command(rekindle: Run) -> None:
    for args in ((), ("--help",), ("-h",)):
        result = rekindle(*args)
        assert result.exit_code == 0
        assert all(f" {name.partition(' ')[0]} " in result.stdout for name in NAMES)


def test_a_family_lists_its_commands_and_corrects_typos(rekindle: Run) -> None:
    for args in (("client",), ("client", "--help")):
        result = rekindle(*args)
        assert (result.exit_code, " infer " in result.stdout) == (0, True)
    result = rekindle("client", "infre")
    assert (result.exit_code, "did you mean infer?" in result.stderr) == (2, True)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself_and_speaks_json(name: str, rekindle: Run) -> None:
    result = rekindle(*name.split(), "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout
    assert result.stderr == ""


def test_one_command_imports_no_other_and_help_no_framework() -> None:
    code = (
        "import sys; from rekindle.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "print(*sys.modules)"
    )

    def loaded(*args: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", code, *args], capture_output=True, text=True, check=True
        )
        return set(done.stdout.splitlines()[-1].split())

    devices = loaded("devices", "--help")
    assert "rekindle.cli.devices" in devices
    assert not devices & {f"rekindle.cli.{name}" for name in NAMES if name != "devices"}
    heavy = {"numpy", "onnx", "onnxruntime", "torch", "pyopencl", "PIL"}
    assert not loaded("--help") & heavy


def test_version(program: Program) -> None:
    done = program("--version")
    assert (done.returncode, done.stdout) == (0, f"rekindle {rekindle.__version__}\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["classfy"], "there is no command 'classfy' (did you mean classify?)"),
        (["xyz"], "there is no command 'xyz' (one of bench, classify,"),
        (["--nope"], "No such option: --nope"),
        (["devices", "--nope"], "devices --help` lists what it takes"),
        (["classify"], "Missing argument"),
        (["classify", "x.png", "--top", "0"], "--top"),
        (["classify", "x.png", "--provider", "openc"], "'openc' (did you mean opencl?)"),
        (["run", "m.onnx", "-p", "tpu"], "one of auto, hybrid, onnxruntime, opencl, reference"),
        (["bench", "m.onnx", "-p", ","], "--provider names no engine"),
        (["run", "m.onnx", "--shape", "N=0"], "write NAME=SIZE"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_line(
    args: list[str], message: str, rekindle: Run, document: Document
) -> None:
    result = rekindle(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    error = document(rekindle(*args, "--json"))["error"]
    assert error["type"] == "UsageError"
    assert error["exit_code"] == 2


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_errors_keep_their_exit_code(
    json: tuple[str, ...], rekindle: Run, document: Document, tmp_path: Path
) -> None:
    result = rekindle("run", tmp_path / "absent.onnx", *json)
    assert result.exit_code == 8
    if json:
        assert result.stderr == ""
        error = document(result)["error"]
        assert error["type"] == "NotFoundError"
        assert "absent.onnx: no such file" in error["message"]
    else:
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1


def _fails_with(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, rekindle: Run, *args: str
) -> Result:
    from rekindle.cli import doctor

    def fail() -> None:
        raise error

    monkeypatch.setattr(doctor, "diagnose", fail)
    return rekindle("doctor", *args)


def test_a_traceback_only_when_debugging(monkeypatch: pytest.MonkeyPatch, rekindle: Run) -> None:
    error = MemoryLimitError("needs 9 GB,\n there are 4", hint="take a smaller one")
    result = _fails_with(error, monkeypatch, rekindle)
    assert result.exit_code == 7
    assert result.stderr == "error: needs 9 GB, there are 4 (take a smaller one)\n"
    monkeypatch.setenv("REKINDLE_DEBUG", "1")
    result = _fails_with(error, monkeypatch, rekindle)
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith("(take a smaller one)\n")


def test_variables_that_make_no_sense(
    monkeypatch: pytest.MonkeyPatch, rekindle: Run, model: Path, photos: Path
) -> None:
    monkeypatch.setenv("REKINDLE_MAX_PIXELS", "many")
    result = rekindle("classify", photos, "-m", model, "-p", "onnxruntime")
    assert result.exit_code == 2
    assert "REKINDLE_MAX_PIXELS='many' is not a whole number" in result.stderr
    monkeypatch.setenv("REKINDLE_DEBUG", "x")
    result = rekindle("devices")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: REKINDLE_DEBUG='x' is not a whole number")


def test_our_own_bugs_say_so(monkeypatch: pytest.MonkeyPatch, rekindle: Run) -> None:
    result = _fails_with(ZeroDivisionError("half"), monkeypatch, rekindle)
    assert result.exit_code == 70
    assert result.stderr.startswith("error: ZeroDivisionError: half (this is a bug in Rekindle")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), 1),
        (PermissionError(13, "Permission denied", "/x"), 1),
        (DeviceError("no"), 6),
    ],
)
def test_other_failures(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, rekindle: Run, document: Document
) -> None:
    result = _fails_with(error, monkeypatch, rekindle, "--json")
    assert result.exit_code == code
    assert document(result)["error"]["type"] in (type(error).__name__, "OSError")


def test_interrupted_in_json(
    monkeypatch: pytest.MonkeyPatch, rekindle: Run, document: Document
) -> None:
    result = _fails_with(KeyboardInterrupt(), monkeypatch, rekindle, "--json")
    assert result.exit_code == _failures.INTERRUPTED == 130
    assert document(result)["error"]["type"] == "Interrupted"


def test_a_real_interrupt_ends_cleanly() -> None:
    code = (
        "import signal; from rekindle.cli import doctor, main; "
        "doctor.diagnose = lambda: signal.raise_signal(signal.SIGINT); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 128 + signal.SIGINT
    assert done.stdout == ""
    assert done.stderr.strip() == "error: interrupted"


@pytest.mark.skipif(os.name == "nt", reason="pipes close otherwise on Windows")
@pytest.mark.parametrize("args", [("devices", "--json"), ("doctor",), ("--help",)])
def test_a_reader_that_leaves_is_no_error(args: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "rekindle.cli", *args],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rekindle.cli", "devices", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


def test_colour_where_it_is_wanted(program: Program) -> None:
    red = program("nope", FORCE_COLOR="1", TERM="xterm")
    assert red.stderr.startswith("\x1b[31merror: there is no command 'nope'")
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        calm = program("nope", FORCE_COLOR="1", **{"TERM": "xterm", **environment})
        assert "\x1b" not in calm.stderr
    assert "\x1b" not in program("nope", FORCE_COLOR="", NO_COLOR="").stderr


def test_a_terminal_that_knows_only_ascii(program: Program, photos: Path, model: Path) -> None:
    (photos / "gr\u00fcn \u2603.png").write_bytes((photos / "green.png").read_bytes())
    done = program("classify", photos, "-m", model, "-p", "onnxruntime", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "gr?n ?.png" in done.stdout
