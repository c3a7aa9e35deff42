"""What the design promises about the shape of the code, checked on the code itself."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rekindle

ROOT = Path(rekindle.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
HEAVY = (
    "onnx", "onnxruntime", "torch", "pyopencl", "PIL", "typer", "rich",
    "fastapi", "google", "grpc", "gradio", "orjson", "prometheus_client", "uvicorn",
)  # fmt: skip
VAGUE = {"common", "core", "enhanced", "helper", "helpers", "manager", "misc", "util", "utils"}
MAX_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 500, 60, 7
MAX_FILE_BYTES = 2_000_000


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in SOURCES:
        yield name_of(path), ast.parse(path.read_text(encoding="utf-8"))


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{node.lineno} {node.name}", node


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_public_names_are_few_and_resolve() -> None:
    assert len(rekindle.__all__) <= 12
    assert len(set(rekindle.__all__)) == len(rekindle.__all__)
    for name in rekindle.__all__:
        assert getattr(rekindle, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = rekindle.nonsense


def test_import_loads_no_framework() -> None:
    out = run_python("import json, sys, rekindle; print(json.dumps(sorted(sys.modules)))")
    loaded = {name.partition(".")[0] for name in json.loads(out)}
    assert "rekindle" in loaded
    assert not loaded & set(HEAVY)


def test_files_are_small() -> None:
    lengths = {name_of(p): len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    assert {n: lines for n, lines in lengths.items() if lines > MAX_LINES} == {}


def test_functions_are_short() -> None:
    lengths = {where: (node.end_lineno or 0) - node.lineno + 1 for where, node in functions()}
    assert {w: lines for w, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def test_functions_take_few_parameters() -> None:
    counts = {}
    for where, node in functions():
        args = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        # `open_session`: the design's seven, and `inputs` for PyTorch archives. A command of the
        # command line has a parameter for each of its options.
        command = where.startswith("cli/") and Path(where.partition(".py:")[0]).name == node.name
        if node.name != "open_session" and not command:
            counts[where] = sum(a.arg not in ("self", "cls") for a in args)
    assert {w: count for w, count in counts.items() if count > MAX_PARAMETERS} == {}


def test_names_say_what_is_done() -> None:
    stems = [
        (name_of(p), p.stem if p.stem != "__init__" else p.parent.name)
        for p in SOURCES
        if p.parent != ROOT or p.stem != "__init__"
    ]
    assert [name for name, stem in stems if VAGUE & set(stem.strip("_").split("_"))] == []


def test_the_environment_is_read_in_one_file() -> None:
    found = []
    for name, tree in trees():
        if name == "_config.py":
            continue
        allowed = _setdefault_targets(tree) if name == "device/discovery.py" else set()
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in ("environ", "environb", "getenv")
                and isinstance(node.value, ast.Name)
                and node.value.id == "os"
                and node not in allowed
            ):
                found.append(f"{name}:{node.lineno}")
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                assert {a.name for a in node.names}.isdisjoint({"environ", "getenv"}), name
    assert found == []


def _setdefault_targets(tree: ast.Module) -> set[ast.expr]:
    """`os.environ` of each `os.environ.setdefault(...)`: a driver's switch, set and not read."""
    return {
        node.func.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "setdefault"
    }


def test_the_package_stays_light() -> None:
    files = (p for p in ROOT.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    assert {name_of(p): p.stat().st_size for p in files if p.stat().st_size > MAX_FILE_BYTES} == {}


# Runs in a fresh interpreter, where no entry's file has been imported yet. The owner of an entry
# is the registry file nearest to the call: a file may register through a function of its package.
_AUDIT = """
import importlib, json, sys
from rekindle._registry import Registry

owners, plain = {}, Registry.register

def register(self, name, entry):
    files, frame = set(self.modules().values()), sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") not in files:
        frame = frame.f_back
    owners.setdefault(id(self), {})[name] = frame and frame.f_globals["__name__"]
    return plain(self, name, entry)

Registry.register = register
report = {}
for home in HOMES:
    for value in list(vars(importlib.import_module(home)).values()):
        if isinstance(value, Registry):
            declared = value.modules()
            for module in sorted(set(declared.values())):
                importlib.import_module(module)
            report[value.package] = [declared, owners.get(id(value), {})]
print(json.dumps(report))
"""


def test_every_registry_file_registers_exactly_what_it_declares() -> None:
    homes = [_module(name) for name, tree in trees() if _makes_a_registry(tree)]
    if not homes:
        pytest.skip("no room has a registry yet")
    report = json.loads(run_python(f"HOMES = {homes!r}\n{_AUDIT}"))
    assert report
    for package, (declared, registered) in report.items():
        assert declared, f"{package} declares nothing"
        assert registered == declared, package


def _makes_a_registry(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            made = node.func.value if isinstance(node.func, ast.Subscript) else node.func
            if isinstance(made, ast.Name) and made.id == "Registry":
                return True
    return False


def _module(name: str) -> str:
    parts = Path(name).with_suffix("").parts
    return ".".join(("rekindle", *(parts[:-1] if parts[-1] == "__init__" else parts)))
