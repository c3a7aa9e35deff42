"""Documents are run, not believed: their Python, their model card, their command lines."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from rekindle import cli
from rekindle.hub.card import parse_card

ROOT = Path(__file__).parents[1]
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    """Where and text of each fenced block in one of the languages."""
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            if found[2] in languages:
                line = text.count("\n", 0, found.start()) + 1
                yield f"{path.relative_to(ROOT)}:{line}", textwrap.dedent(found[3])


def command_lines() -> list[tuple[str, str]]:
    found = []
    for where, text in blocks("", "console", "sh"):
        joined = text.replace("\\\n", " ")
        for line in re.findall(r"^(?:\$ )?(?:\S+/)?rekindle (\w.*?)(?: +#.*)?$", joined, re.M):
            found.append((where, line))
    return found


@pytest.mark.opencl
@pytest.mark.parametrize(("where", "code"), list(blocks("python")), ids=lambda v: v.split("\n")[0])
def test_python_in_the_documents_runs(
    where: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, where, "exec"), {"__name__": "document"})


def test_the_model_card_in_the_documents_is_one(tmp_path: Path) -> None:
    (text,) = (t for where, t in blocks("toml") if "model-cards" in where)
    card = parse_card(text, folder=tmp_path)
    assert card.preprocess is not None
    assert card.preprocess.crop == (224, 224)


@pytest.mark.parametrize(("where", "line"), command_lines())
def test_command_lines_in_the_documents_exist(where: str, line: str) -> None:
    words = shlex.split(line.split("|")[0].split(">")[0])
    program: Any = typer.main.get_command(cli.app)
    command = program.get_command(None, words.pop(0))
    if hasattr(command, "list_commands"):  # `rekindle client`: a family
        command = command.get_command(None, words.pop(0))
    assert command is not None, f"{where}: there is no rekindle {line}"
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    used = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert used <= known, f"{where}: rekindle {line}"


def test_links_between_the_documents_lead_somewhere() -> None:
    missing = [
        f"{path.relative_to(ROOT)}: {link}"
        for path in TEXTS
        for link in LINK.findall(path.read_text(encoding="utf-8"))
        if not (path.parent / link).exists()
    ]
    assert missing == []


def test_every_page_is_in_the_navigation() -> None:
    pages = ROOT / "docs" / "pages"
    navigation = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    listed = set(re.findall(r'"([\w/-]+\.md)"', navigation))
    assert listed == {p.relative_to(pages).as_posix() for p in pages.rglob("*.md")}
