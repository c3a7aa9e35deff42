"""Write the reference pages from the code; `--check` only says whether they are fresh."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import hybrid_page
import isa_page
import memory_page
import precision_page
import prediction_page
import serve_page
import speed_page
import startup_page
import tuning_page
import typer.main

from rekindle import _config, _errors, cli
from rekindle.graph import ops
from rekindle.graph.onnx_io._sequences import OPERATORS

REFERENCE = Path(__file__).parent / "pages" / "reference"
README = Path(__file__).parents[1] / "README.md"
CONFORMANCE = Path(__file__).parent / "conformance.json"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
ONNX = "https://onnx.ai/onnx/operators/onnx__{}.html"
MARK = "<!-- Written by docs/generate.py from {source}: change that, then `make docs`. -->"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; `|` in a cell is escaped."""
    head = tuple(head)
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def environment() -> str:
    rows = ((f"`{v.name}`", v.default, v.meaning) for v in _config.VARIABLES)
    return (
        "# Environment variables\n\n"
        "Every variable that Rekindle reads. An empty one counts as unset.\n\n"
        + table(("variable", "default", "meaning"), rows)
    )


def errors() -> str:
    rows = (
        (f"`{e.__name__}`", str(e.exit_code), str(e.http_status), first_sentence(e))
        for e in family(_errors.RekindleError)
    )
    return (
        "# Errors and exit codes\n\n"
        "Everything Rekindle raises on purpose is a `RekindleError`; its `message` says what was "
        "given and what was expected, its `hint` what to do. On the command line an error is one "
        "red line and the exit code below, with a traceback only when `REKINDLE_DEBUG` is set. "
        "Exit code 0 means success and nothing else; 130 means interrupted.\n\n"
        + table(("error", "exit code", "HTTP status", "meaning"), rows)
    )


def family(error: type[_errors.RekindleError]) -> Iterator[type[_errors.RekindleError]]:
    """The class and everything below it in its file, parents first."""
    yield error
    for child in error.__subclasses__():
        if child.__module__ == error.__module__:
            yield from family(child)


def first_sentence(item: object) -> str:
    """First paragraph of the docstring, on one line."""
    return " ".join((item.__doc__ or "").strip().split("\n\n")[0].split())


def operators() -> str:
    names = [n for n, home in ops.REGISTRY.modules().items() if home.startswith(ops.__name__)]
    public = sorted(n for n in names if "::" not in n)
    fused = sorted(n for n in names if n.startswith("rekindle::"))
    foreign = sorted(n for n in names if n.startswith("com.microsoft::"))
    device = [n for n in public if runs_on("device", n)]
    return (
        "# Operators\n\n"
        f"{len(public)} ONNX operators; {len(device)} of them become OpenCL kernels. The others, "
        "and what no kernel takes (a data type, a rank), run on the host, in NumPy: "
        "`session.placement` says which and why, and `strict=True` refuses them. *Since* lists "
        "the opset versions whose meaning is implemented: a model gets the newest one that its "
        "opset allows. Any other operator is refused by name when the model is opened.\n\n"
        f"Sequences are written out when a model is opened ({', '.join(sorted(OPERATORS))}): what "
        "is left are operators on the tensors in them.\n\n"
        + table(("operator", "since opset", "runs on"), map(operator_row, public))
        + "\n\n## Of ONNX Runtime\n\nWhat its optimizer and quantizer write into models.\n\n"
        + table(("operator", "since version", "runs on"), map(operator_row, foreign))
        + "\n\n## Of our own\n\nWritten by the passes, never read from a file.\n\n"
        + table(("operator", "since version", "runs on"), map(operator_row, fused))
        + "\n\n"
        + conformance()
    )


def conformance() -> str:
    """The counts of the last `make conformance`, and what did not pass, by name."""
    found = json.loads(CONFORMANCE.read_text(encoding="utf-8"))
    columns = ("driver", "passed", "of", "wholly on the device", "of float cases")
    rows = (
        (
            f"{name} ({run['driver'].split(',')[0]})",
            f"{run['passed']} ({run['passed_percent']} %)",
            str(run["counted"]),
            f"{run['wholly_on_device']} ({run['wholly_on_device_percent']} %)",
            str(run["float_cases"]),
        )
        for name, run in found.items()
    )
    excluded: dict[str, str] = {}
    failed: dict[str, list[str]] = {}
    for name, run in found.items():
        excluded |= run["excluded"]
        for case in run["failed"]:
            failed.setdefault(case, []).append(name)
    left_out = [(f"`{case}`", "not run", why) for case, why in sorted(excluded.items())]
    wrong = [(f"`{case}`", "fails", ", ".join(where)) for case, where in sorted(failed.items())]
    return (
        "## ONNX's own node tests\n\n"
        "Counted are the cases whose inputs and outputs are tensors of float32, float16, int8, "
        "uint8, int32, int64 or bool, default domain; a case passes within rtol 1e-3 and atol "
        "1e-5. *Float cases* have float inputs and outputs only, and no control flow. The last "
        "run of `make conformance`:\n\n"
        + table(columns, rows)
        + "\n\nThese do not pass:\n\n"
        + table(("case", "", "why, or where"), [*wrong, *left_out])
    )


def operator_row(name: str) -> tuple[str, str, str]:
    since = ", ".join(str(v.since) for v in ops.REGISTRY.get(name))
    label = f"`{name}`" if "::" in name else f"[{name}]({ONNX.format(name)})"
    return label, since, runs_on("device", name) or "host"


def runs_on(where: str, name: str) -> str:
    """`where` if the newest version of the operator lowers to logical calls, else nothing."""
    newest = ops.REGISTRY.get(name)[-1]
    return where if newest.lower or newest.expr else ""


def command_line() -> str:
    root = typer.main.get_command(cli.app)
    parts = ["# Command line", root.help or "", *_commands(root, "rekindle")]
    return "\n\n".join(part.strip() for part in parts)


def _commands(group: Any, path: str) -> Iterator[str]:
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if command.hidden:
            continue
        if hasattr(command, "list_commands"):
            yield f"## {path} {name}"
            yield command.help or ""
            yield from (
                part.replace("## ", "### ") for part in _commands(command, f"{path} {name}")
            )
            continue
        yield f"## {path} {name}"
        yield command.help or ""
        yield table(
            ("parameter", "default", "meaning"),
            [_parameter_row(p) for p in command.params if not p.hidden],
        )


def _parameter_row(parameter: Any) -> tuple[str, str, str]:
    """Only attributes that Typer has kept since 0.15, so that the page does not follow it."""
    if parameter.param_type_name == "argument":
        label = f"`{parameter.name.upper()}`"
    else:
        label = " ".join(f"`{o}`" for o in (*parameter.opts, *parameter.secondary_opts))
    default = getattr(parameter.default, "value", parameter.default)
    if parameter.required:
        shown = "required"
    elif default is None or default is False or callable(default):
        shown = ""
    else:
        shown = f"`{default}`"
    return label, shown, " ".join((parameter.help or "").split())


def stored(name: str) -> dict[str, Any]:
    """A stored run; nothing where it has not been made."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def measurements() -> str:
    parts = [
        "# Measurements",
        (
            "Every figure is a stored run in `benchmarks/results/`, with the machine, the versions "
            "and the commit beside it. The script named in each part makes it again."
        ),
    ]
    if run := stored("startup"):
        parts += startup_page.text(run, on_machine(run), table)
    if run := stored("first_steps"):
        parts += [
            "## First steps",
            f"`benchmarks/first_steps.py`: commands in a clean clone. {on_machine(run)}",
            table(
                ("command", "minutes"),
                ((name, f"{value:.1f}") for name, value in run["minutes"].items()),
            ),
        ]
    if run := stored("hybrid"):
        parts += hybrid_page.text(run, on_machine(run), table)
    if run := stored("precision"):
        parts += precision_page.text(run, on_machine(run), table)
    if run := stored("serve"):
        parts += serve_page.text(run, on_machine, table)
    if run := stored("observe_cost"):
        parts += watching(run)
    if run := stored("tuning"):
        parts += tuning_page.text(run, on_machine(run), table)
    return "\n\n".join(parts)


def watching(run: dict[str, Any]) -> list[str]:
    rows = (
        (protocol, kind, *(f"{row[name]:.2f} ms" for name in ("bare_ms", "observed_ms")),
         f"x {row['ratio']:.2f}")
        for protocol, kinds in run["protocols"].items()
        for kind, row in kinds.items()
    )  # fmt: skip
    return [
        "## What watching a server costs",
        (
            "`benchmarks/observe_cost.py`: a request to a model that hardly computes, without and "
            "with metrics, request ids and access lines, in turn; client and servers in one "
            f"process, whose time `processor` is. {on_machine(run)}"
        ),
        table(("protocol", "time", "without", "with", ""), rows),
    ]


def memory() -> str:
    return memory_page.text(stored("memory"), table)


def speed() -> str:
    path = RESULTS / "speed_history.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    history = [json.loads(line) for line in lines]
    return speed_page.text(stored("speed"), stored("speed_profile"), history, table)


def prediction() -> str:
    return prediction_page.text(stored("prediction"), table)


def isa() -> str:
    return isa_page.text(stored("isa"), table)


def on_machine(run: dict[str, Any]) -> str:
    machine = run["machine"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        f"{machine['date']}, commit {machine['commit'][:10]}."
    )


def first_steps() -> str:
    """How long `make demo` and `make test` took; empty: not measured."""
    if not (run := stored("first_steps")):
        return ""
    spent = run["minutes"]
    return (
        f"The first took {spent['make demo, first time']:.1f} minutes in a clean clone, the second "
        f"{spent['make test, after make demo']:.1f} minutes more, on {run['machine']['cores']} "
        "cores with a quick network ([measured](docs/pages/reference/measurements.md))."
    )


def node_tests() -> str:
    """How many of ONNX's own tests pass, on the platform where fewest do."""
    counts = min(
        json.loads(CONFORMANCE.read_text(encoding="utf-8")).values(), key=lambda c: c["passed"]
    )
    return (
        f"{counts['passed']:,} of ONNX's own {counts['counted']:,} counted node tests pass on "
        "OpenCL; every [operator](docs/pages/reference/operators.md) has a NumPy reference that "
        "the kernels are tested against."
    )


def readme() -> str:
    """The README with its figures taken from the stored runs."""
    text = README.read_text(encoding="utf-8")
    for name, sentence in (("times", first_steps()), ("conformance", node_tests())):
        lines = textwrap.fill(sentence, 100, break_long_words=False, break_on_hyphens=False)
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = marked.sub(rf"\g<1>{lines}\n\g<2>", text)
    return text


PAGES: dict[str, tuple[str, Callable[[], str]]] = {
    "cli.md": ("src/rekindle/cli/", command_line),
    "environment.md": ("src/rekindle/_config.py", environment),
    "errors.md": ("src/rekindle/_errors.py", errors),
    "isa.md": ("benchmarks/results/isa.json", isa),
    "measurements.md": ("benchmarks/results/", measurements),
    "memory.md": ("benchmarks/results/memory.json", memory),
    "operators.md": ("src/rekindle/graph/ops/ and docs/conformance.json", operators),
    "prediction.md": ("benchmarks/results/prediction.json", prediction),
    "speed.md": ("benchmarks/results/speed.json", speed),
}


def stale() -> Iterator[tuple[Path, str, str]]:
    """Pages that differ from the code: path, the text there, the text that should be."""
    for name, (source, write) in PAGES.items():
        path = REFERENCE / name
        new = f"{MARK.format(source=source)}\n\n{write().strip()}\n"
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old != new:
            yield path, old, new
    for name, new in speed_page.plots(stored("speed")).items():
        path = REFERENCE / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old != new:
            yield path, old, new
    if (old := README.read_text(encoding="utf-8")) != (new := readme()):
        yield README, old, new


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    check = parser.parse_args().check
    count = 0
    for path, old, new in stale():
        count += 1
        if check:
            lines = (text.splitlines(keepends=True) for text in (old, new))
            sys.stdout.writelines(difflib.unified_diff(*lines, path.name, "the code says"))
        else:
            path.write_text(new, encoding="utf-8")
            print(f"wrote {path.name}")
    if check and count:
        print("Generated pages are stale: run `make docs` and commit them.")
    return int(check and count > 0)


if __name__ == "__main__":
    raise SystemExit(main())
