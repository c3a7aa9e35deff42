"""Every text of the page is in the catalogues, and each language has them all."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

import rekindle.web
from rekindle._errors import UsageError
from rekindle.web.catalogue import languages, load, preferred

HOME = Path(rekindle.web.__file__).parent
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in sorted(HOME.glob("*.py"))}


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_english_and_spanish_are_there() -> None:
    assert {"en", "es"} <= set(languages())


@pytest.mark.parametrize("code", [code for code in languages() if code != "en"])
def test_each_language_has_the_same_keys_and_places(code: str) -> None:
    own, english = load(code).texts, load("en").texts
    assert own.keys() == english.keys()
    assert {k: places(v) for k, v in own.items()} == {k: places(v) for k, v in english.items()}
    assert [key for key, text in own.items() if not text.strip()] == []


@pytest.mark.parametrize("code", [code for code in languages() if code != "en"])
def test_little_is_left_untranslated(code: str) -> None:
    own, english = load(code).texts, load("en").texts
    same = {key for key in own if own[key] == english[key]}
    assert same <= {"machine.mean_ms_value"}


def test_every_key_is_used_and_every_used_key_exists() -> None:
    """`c("a.b")`, and families such as `c(f"error.{kind}")`, of which every member counts."""
    text = "\n".join(SOURCES.values())
    keys = set(load("en").texts)
    named = set(
        re.findall(
            r"""["']([a-z_]+(?:\.[a-zA-Z_0-9]+)+|working|language|percent|decimal)["']""", text
        )
    )
    families = set(re.findall(r'f"([a-z]+\.)\{', text))
    assert families == {"error.", "machine.", "place.", "precision.", "state."}
    used = {key for key in keys if key in named or any(key.startswith(f) for f in families)}
    assert keys - used == set()
    dotted = {key for key in named if "." in key and key.partition(".")[0] in
              {known.partition(".")[0] for known in keys}}  # fmt: skip
    assert dotted - keys == set()


def test_no_text_for_readers_stands_in_the_sources() -> None:
    """Gradio's text arguments are calls of the catalogue, and f-strings with tags hold no words."""
    spoken = {"label", "placeholder", "title", "info", "value", "alt_text"}
    loose = []
    for name, text in SOURCES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and name == "page.py":
                for word in node.keywords:
                    if word.arg in spoken and isinstance(word.value, ast.Constant | ast.JoinedStr):
                        loose.append(f"{name}:{node.lineno} {word.arg}")
            if isinstance(node, ast.JoinedStr) and name == "fragments.py":
                fixed = "\0".join(
                    part.value for part in node.values
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                )  # fmt: skip
                if "<" in fixed and (
                    words := re.findall(r">\s*([^<>\0]*[A-Za-z]{2,}[^<>\0]*)<", fixed)
                ):
                    loose.append(f"{name}:{node.lineno} {words}")
    assert loose == []


def test_numbers_are_written_as_the_language_does() -> None:
    english, spanish = load("en"), load("es")
    assert (english.percent(0.852), spanish.percent(0.852)) == ("85.2%", "85,2 %")
    assert (english.percent(0.0001), english.percent(0.99999)) == ("<0.1%", ">99.9%")
    assert (english.percent(0), english.percent(1)) == ("0.0%", "100.0%")
    assert (english.bytes(3 << 29), spanish.bytes(3 << 29)) == ("1.5 GiB", "1,5 GiB")
    assert english.bytes(5) == "5 B"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("es-AR,es;q=0.9,en;q=0.8", "es"), ("en-US,en;q=0.9", "en"), ("", "en"), ("de", "en"),
        ("de,es;q=0.5,en;q=0.4", "es"), ("en;q=0.1,es;q=0.2", "es"), ("*;q=x", "en"),
        ("ES", "es"), ("../en", "en"), ("," * 100_000, "en"),
    ],
)  # fmt: skip
def test_the_browsers_wish_decides(header: str, code: str) -> None:
    assert preferred(header) == code


def test_an_unknown_language_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"does not speak 'tlh'.*en, es"):
        load("tlh")
