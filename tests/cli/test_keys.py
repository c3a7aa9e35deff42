"""`rekindle keys`: made once, listed without secrets, taken back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from rekindle.serve.access.keys import KeyFile

Run = Callable[..., Result]
Document = Callable[..., dict[str, Any]]


def test_a_key_is_made_used_listed_and_taken_back(rekindle: Run, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    made = rekindle("keys", str(file), "--add", "phone")
    assert made.exit_code == 0
    key = made.stdout.strip()
    found = KeyFile(file).find(key)
    assert found is not None
    assert (found.name, found.scopes) == ("phone", ("infer",))
    added = ("--add", "lab", "--scope", "admin", "--scope", "metrics")
    assert rekindle("keys", str(file), *added).exit_code == 0
    listed = rekindle("keys", str(file))
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["name", "phone", "lab"]
    assert key not in listed.output
    assert key not in file.read_text()
    assert rekindle("keys", str(file), "--remove", "phone").exit_code == 0
    assert KeyFile(file).find(key) is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--add", "one"), 2, "has a key 'one' already"),
        (("--add", "two words"), 2, "is no name for a key"),
        (("--add", "two", "--scope", "everything"), 2, "some of infer, admin, metrics"),
        (("--remove", "two"), 8, "has no key 'two'"),
        (("--add", "two", "--remove", "one"), 2, "exclude each other"),
        (("--scope", "infer"), 2, "belongs to --add"),
    ],
    ids=[str(k) for k in range(6)],
)
def test_what_is_wrong_is_named(
    rekindle: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    file = tmp_path / "keys.toml"
    assert rekindle("keys", str(file), "--add", "one").exit_code == 0
    result = rekindle("keys", str(file), *arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert rekindle("keys", str(tmp_path / "none.toml")).exit_code == 8
