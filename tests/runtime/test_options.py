"""The arguments of open_session: what is wrong with one is said, nothing is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from rekindle import open_session
from rekindle._errors import NotBuiltError, NotFoundError, UsageError
from rekindle.runtime._options import parse_bytes
from tests.engine.graphs import classifier, write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GB", 2_000_000_000),
        ("2 gb", 2_000_000_000),
        ("1.5GiB", 1_610_612_736),
        ("512MiB", 536_870_912),
        ("12", 12),
        (12, 12),
        ("3kb", 3000),
    ],
)
def test_amounts_of_memory(text: str | int, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1", "two", "1TBs", "0", "1e9", 0, -5])
def test_what_is_no_amount_of_memory(text: str | int) -> None:
    with pytest.raises(UsageError, match="not an amount of memory"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"precision": "fp8"}, UsageError, "fp16, bf16w"),
        (
            {"precision": "fp16", "provider": "onnxruntime"},
            NotBuiltError,
            "cannot honour precision",
        ),
        ({"precision": "int8w", "provider": "reference"}, NotBuiltError, "cannot honour precision"),
        ({"threads": 0}, UsageError, "threads=0"),
        ({"provider": "cuda"}, NotFoundError, "unknown provider"),
        ({"provider": "onnxruntim"}, NotFoundError, "did you mean onnxruntime"),
        ({"provider": "reference", "threads": 2}, NotBuiltError, "cannot honour threads"),
        ({"provider": "onnxruntime", "memory_limit": "1GB"}, NotBuiltError, "memory_limit"),
        ({"provider": "onnxruntime", "device": 0}, NotBuiltError, "device"),
    ],
)
def test_an_argument_that_cannot_be_honoured_raises(
    tmp_path: Path, arguments: dict[str, object], error: type[Exception], says: str
) -> None:
    path = write(classifier(), tmp_path)
    with pytest.raises(error, match=says):
        open_session(path, **arguments)  # type: ignore[arg-type]


@pytest.mark.opencl
def test_threads_are_no_setting_of_an_opencl_device(tmp_path: Path) -> None:
    with pytest.raises(NotBuiltError, match="opencl provider cannot honour threads"):
        open_session(write(classifier(), tmp_path), provider="opencl", threads=2)
