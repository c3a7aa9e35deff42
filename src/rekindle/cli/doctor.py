"""`rekindle doctor`: what is wrong with the OpenCL set-up, and the command that mends it."""

from __future__ import annotations

from dataclasses import asdict

from rich.text import Text

from rekindle._errors import DeviceError
from rekindle.cli._commands import Outcome, commands
from rekindle.cli._page import Page, plain
from rekindle.device.doctor import Finding, diagnose

_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim", "ok": "green"}


def doctor() -> Outcome:
    """Examine the OpenCL set-up: what is wrong, and the exact command that mends it."""
    findings = diagnose()
    errors = sum(finding.severity == "error" for finding in findings)
    document = {"findings": [asdict(finding) for finding in findings], "errors": errors}

    def draw(page: Page) -> None:
        for finding in findings:
            _draw(page, finding)
        if errors:
            page.next_steps([("rekindle doctor", "again, once the commands above are done")])
        else:
            page.next_steps([("rekindle demo", "see a network name a photo")])

    return Outcome(document, draw, DeviceError.exit_code if errors else 0)


def _draw(page: Page, finding: Finding) -> None:
    word = Text(f"{finding.severity:<8}", style=_STYLES[finding.severity])
    title = plain(finding.title)
    title.stylize("bold")
    page.line(word, title)
    if finding.detail:
        page.line(finding.detail, indent=8)
    if finding.command:
        page.line(Text(finding.command, style="cyan"), indent=10, wrap=False)


commands.register("doctor", doctor)
