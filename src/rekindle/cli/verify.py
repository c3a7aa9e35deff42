"""`rekindle verify`: does this device compute what the reference computes?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rekindle._errors import DeviceError, UsageError
from rekindle.cli._commands import Outcome, commands
from rekindle.cli._options import (
    DeviceOption,
    FilesOption,
    MemoryLimitOption,
    PrecisionOption,
    SizesOption,
    check_precision,
)
from rekindle.cli._page import Page, plain, progress, table, working

if TYPE_CHECKING:
    from rekindle.device import Device
    from rekindle.engine.selftest import KernelReport
    from rekindle.runtime.verification import NodeCheck, Verification

_WORST_SHOWN = 8
_STYLES = {"ok": "green", "not used": "dim"}


def verify(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="A model file or folder, or the name of a bundled model."
        ),
    ] = None,
    kernels: Annotated[
        bool,
        typer.Option("--kernels", help="Test every kernel instead, each in its own process."),
    ] = False,
    device: DeviceOption = None,
    given: FilesOption = None,
    shape: SizesOption = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            help="Largest max|a-b| / max|b| that counts as equal; by default 1e-4, more for "
            "16-bit results.",
        ),
    ] = None,
    memory_limit: MemoryLimitOption = None,
    precision: PrecisionOption = None,
    time_limit_s: Annotated[
        float,
        typer.Option("--time-limit", min=1, help="Seconds a kernel may take, with --kernels."),
    ] = 120.0,
) -> Outcome:
    """Compare the device with the reference: a model node by node, or every kernel by itself."""
    if kernels == (model is not None):
        raise UsageError(
            "verify takes either a MODEL or --kernels",
            hint="`rekindle verify MODEL` compares a model, --kernels tests this driver",
        )
    if kernels:
        if given or shape or memory_limit or precision or tolerance is not None:
            what = "--input, --shape, --tolerance, --memory-limit and --precision"
            raise UsageError(f"{what} are for a model", hint="leave them out")
        return _kernels(device, time_limit_s)
    assert model is not None
    how = {"device": device, "tolerance": tolerance, "memory_limit": memory_limit}
    stored = check_precision(precision)
    return _model(model, given or ["random"], shape or [], **how, precision=stored)


def _model(model: str, given: list[str], shape: list[str], **how: Any) -> Outcome:
    from rekindle.cli._arrays import parse_sizes, read_feeds
    from rekindle.runtime import open_session
    from rekindle.runtime.verification import verify as compare

    sizes = parse_sizes(shape)
    with working(f"reading {model}"), open_session(model, provider="reference") as session:
        feeds = read_feeds(session, given, sizes)
    found = compare(
        model,
        feeds,
        **how,
        watch=lambda steps, total: progress(steps, total, "comparing nodes"),
    )

    def draw(page: Page) -> None:
        _draw_model(page, found)
        page.next_steps(
            [("rekindle verify --kernels", "test every kernel on this device and driver")]
        )

    return Outcome(found.to_dict(), draw, 0 if found.agrees else DeviceError.exit_code)


def _draw_model(page: Page, found: Verification) -> None:
    compared = [check for check in found.nodes if check.where == "device"]
    on_host = len(found.nodes) - len(compared)
    page.line(f"{found.model} on {found.device}, driver {found.driver}", style="bold")
    if found.first:
        page.blank()
        _draw_first(page, found.first)
    if compared:
        page.heading("Nodes that come nearest to differing, or differ")
        page.draw(_nodes_table(found.worst(_WORST_SHOWN)))
    page.heading("The whole model")
    page.draw(_outputs_table(found))
    page.blank()
    if found.problem:
        page.line(f"It did not run: {found.problem}", style="red")
    differing = sum(check.differs for check in found.nodes)
    host = f"; {on_host} run on the host, by the reference itself" if on_host else ""
    page.line(f"{len(compared) - differing} of {len(compared)} nodes on the device agree{host}.")
    if any(output.passes_differ for output in found.outputs):
        page.line("The optimised graph itself differs: report that as a bug.", style="red")
    elif found.first is None and any(output.differs for output in found.outputs):
        page.line(
            "No node differs by itself, but the whole does: rounding that a later node (a "
            "threshold, an index) turns into a jump, or memory that two values share.",
            style="yellow",
        )


def _draw_first(page: Page, first: NodeCheck) -> None:
    page.line(f"The first node that differs: {first.op_type} {first.node}", style="bold red")
    page.line(f"kernels  {', '.join(first.kernels) or 'none'}", indent=2)
    for kind, specs in (("input", first.inputs), ("output", first.outputs)):
        for spec in specs:
            page.line(f"{kind:<8} {spec}", indent=2)
    if first.difference is None:
        page.line(f"it did not run: {first.problem}", indent=2)
    else:
        page.line(
            f"max|a-b| / max|b| is {first.difference:.2e}, {first.tolerance:.0e} is accepted",
            indent=2,
        )
    if first.kernels:
        names = ",".join(dict.fromkeys(first.kernels))
        page.line(f"REKINDLE_DISABLE_KERNELS={names} leaves them out", indent=2)


def _nodes_table(checks: list[NodeCheck]) -> Any:
    numbers = ("difference", "accepted")
    made = table("node", "operator", "kernels", "output", *numbers, numbers=numbers)
    for check in checks:
        shapes = ("x".join(map(str, spec.shape)) or "scalar" for spec in check.outputs)
        made.add_row(
            plain(check.node),
            plain(check.op_type),
            ", ".join(dict.fromkeys(check.kernels)) or "none",
            ", ".join(shapes),
            "did not run" if check.difference is None else f"{check.difference:.1e}",
            f"{check.tolerance:.0e}",
            style="bold red" if check.differs else None,
        )
    return made


def _outputs_table(found: Verification) -> Any:
    numbers = ("difference", "by the passes", "accepted", "signal to noise", "same answer")
    made = table("output", *numbers, numbers=numbers)
    for output in found.outputs:
        made.add_row(
            plain(output.name),
            "did not run" if output.difference is None else f"{output.difference:.1e}",
            f"{output.passes_difference:.1e}",
            f"{output.tolerance:.0e}",
            "" if output.snr_db is None else f"{output.snr_db:.1f} dB",
            "" if output.agreement is None else f"{output.agreement:.1%}",
            style="bold red" if output.differs or output.passes_differ else None,
        )
    return made


def _kernels(device: str | None, time_limit_s: float) -> Outcome:
    from rekindle.device import select_device
    from rekindle.engine.kernels import REGISTRY
    from rekindle.engine.selftest import selftest

    with working("looking for the device"):
        chosen = select_device(device)
    total = len(REGISTRY.names())
    running = selftest(chosen, time_limit_s=time_limit_s)
    reports = list(progress(running, total, "testing kernels"))
    failed = [report for report in reports if report.failed]
    document = {
        "device": str(chosen),
        "driver": chosen.target().driver,
        "kernels": [asdict(report) for report in reports],
        "failed": len(failed),
    }

    def draw(page: Page) -> None:
        _draw_kernels(page, chosen, reports)

    return Outcome(document, draw, DeviceError.exit_code if failed else 0)


def _draw_kernels(page: Page, device: Device, reports: list[KernelReport]) -> None:
    page.line(f"{device}, driver {device.target().driver}", style="bold")
    page.blank()
    numbers = ("cases", "difference")
    made = table("kernel", "call", "result", *numbers, "", numbers=numbers)
    for report in reports:
        off = "switched off; " if report.switched_off else ""
        made.add_row(
            report.kernel,
            report.call,
            report.status,
            str(report.cases or ""),
            "" if report.worst is None else f"{report.worst:.1e}",
            plain(f"{off}{report.detail}".removesuffix("; ")),
            style=_STYLES.get(report.status, "bold red"),
        )
    page.draw(made)
    failed = [report.kernel for report in reports if report.failed]
    if failed:
        page.next_steps(
            [
                (f"export REKINDLE_DISABLE_KERNELS={','.join(failed)}", "run without them"),
                ("rekindle doctor", "is the driver the one for this card?"),
            ]
        )
    else:
        page.next_steps([("rekindle verify MODEL", "compare a whole model, node by node")])


commands.register("verify", verify)
