"""Figures and names as people read them."""

from __future__ import annotations

import pytest

from rekindle.cli._page import amount, memory, milliseconds, percent, plain


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [
        (0.0, 1, "0.0%"),
        (0.0004, 1, "<0.1%"),
        (0.0006, 1, "0.1%"),
        (0.5, 1, "50.0%"),
        (0.9994, 1, "99.9%"),
        (0.99999, 1, ">99.9%"),
        (1.0, 1, "100.0%"),
        (0.004, 0, "<1%"),
        (0.996, 0, ">99%"),
        (0.42, 0, "42%"),
    ],
)
def test_percent_never_says_none_or_all_when_it_is_not(
    share: float, digits: int, text: str
) -> None:
    assert percent(share, digits) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "B", "-"),
        (0, "", "0"),
        (999, "B", "999 B"),
        (40_813_184, "", "40.8 M"),
        (6.17e12, "FLOP", "6.17 TFLOP"),
        (1_340_000_000, "Hz", "1.34 GHz"),
    ],
)
def test_amounts(value: float | None, unit: str, text: str) -> None:
    assert amount(value, unit) == text


def test_memory_and_time() -> None:
    assert [memory(v) for v in (None, 512, 1536, 8 << 30)] == ["-", "512 B", "1.5 KiB", "8.0 GiB"]
    assert [milliseconds(v) for v in (0.284, 99.5, 12_877)] == ["0.28 ms", "99.50 ms", "12,877 ms"]


def test_names_keep_their_letters_and_lose_what_acts_on_a_terminal() -> None:
    assert (
        plain("gr\u00fcn \u732b a\u202fb [bold].png").plain
        == "gr\u00fcn \u732b a\u202fb [bold].png"
    )
    assert plain("\x1b[31mred\n\u2028\u202egpj.exe\udc80").plain == (
        "\ufffd[31mred\ufffd\ufffd\ufffdgpj.exe\ufffd"
    )
