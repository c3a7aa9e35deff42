"""The pieces of HTML: what they say, and that nothing from outside becomes HTML."""

from __future__ import annotations

import re
from html import unescape

import pytest

from rekindle import _errors
from rekindle.device.telemetry import Telemetry
from rekindle.serve.photos import Named
from rekindle.serve.rest.body import TooLargeError
from rekindle.tasks.classify import Label
from rekindle.web import fragments
from rekindle.web.catalogue import load
from rekindle.web.view import Figures, ModelRow

EN, ES = load("en"), load("es")
EVIL = "<img src=x onerror=alert(1)>"
CARD = Telemetry(
    card="card0", pci_address=None, device_id="67df", name="Radeon RX 580", busy_percent=87,
    vram_total_bytes=8 << 30, vram_used_bytes=3 << 29, core_clock_hz=None, memory_clock_hz=None,
    temperature_c=61.0, power_w=None, fan_rpm=1350,
)  # fmt: skip


def named(*labels: tuple[str, float], provider: str = "opencl") -> Named:
    made = tuple(Label(name, index, score) for index, (name, score) in enumerate(labels))
    return Named(made, "birds", "3", provider, "opencl on gfx803", 0.004, 0.001, 0.0123, 0.05)


def listed(row: ModelRow) -> str:
    """The row alone: no button, and without the sentence below the list."""
    return fragments.models(EN, [row], control=False).partition('<p class="rk-fine">')[0]


def text(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_an_answer_names_the_best_and_the_rest_with_bars() -> None:
    html = fragments.answer(EN, named(("owl", 0.91), ("jay", 0.06), ("hen", 0.0001)))
    assert "This looks like owl 91.0%" in text(html)
    assert "50 ms in all, 12.3 ms of it in the model" in text(html)
    assert "graphics card or OpenCL device" in text(html)
    assert "birds, version 3" in text(html)
    assert re.findall(r"width:([\d.]+)%", html) == ["91.0", "6.0", "0.0"]
    assert "<0.1%" in text(html)
    assert "rk-unsure" not in html


def test_the_precision_is_named_where_it_was_chosen() -> None:
    assert "Precision" not in text(fragments.answer(EN, named(("owl", 0.91))))
    said = text(fragments.answer(EN, named(("owl", 0.91)), "fp16"))
    assert "Precision half (16 bits)" in said


def test_a_doubtful_answer_says_so_and_what_to_do() -> None:
    html = fragments.answer(ES, named(("owl", 0.42), ("jay", 0.3)))
    assert "rk-unsure" in html
    assert "No es seguro" in text(html)
    assert "Pruebe con una foto más cercana" in text(html)
    assert "42,0 %" in text(html)


def test_nothing_from_outside_becomes_html() -> None:
    hostile = named((EVIL, 0.9), provider=EVIL)
    pieces = [
        fragments.answer(EN, hostile),
        fragments.failure(EN, _errors.InputError(EVIL)),
        listed(ModelRow(EVIL, EVIL, "UNAVAILABLE", EVIL, None)),
        listed(ModelRow(EVIL, "1", "READY", "", 5, EVIL, 4)),
        fragments.figures(EN, figures(cards=(Telemetry(*[EVIL] * 4, *[None] * 8),))),
    ]  # fmt: skip
    for html in pieces:
        assert "<img" not in html
        assert "&lt;img" in html


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (_errors.ImageError("x"), "image"), (TooLargeError("x"), "large"),
        (_errors.BusyError("x"), "busy"), (_errors.RateLimitError("x"), "busy"),
        (_errors.DeadlineError("x"), "deadline"), (_errors.MemoryLimitError("x"), "memory"),
        (_errors.ForbiddenError("x"), "forbidden"), (_errors.AuthenticationError("x"), "forbidden"),
        (_errors.NotFoundError("x"), "missing"), (_errors.CardError("x"), "model"),
        (_errors.RekindleError("x"), "other"), (_errors.InputError("x"), "other"),
    ],
)  # fmt: skip
def test_each_failure_says_what_to_do(error: _errors.RekindleError, key: str) -> None:
    for catalogue in (EN, ES):
        html = text(fragments.failure(catalogue, error))
        assert catalogue(f"error.{key}") in html
        assert catalogue(f"error.{key}_next") in html


def figures(**changes: object) -> Figures:
    values: dict[str, object] = {
        "status": "ok", "answered": 12, "failed": 1, "in_flight": 2, "queued": 3,
        "mean_s": 0.0125, "mean_batch": 2.5, "used_bytes": 3 << 20, "budget_bytes": 6 << 30,
        "cards": (),
    }  # fmt: skip
    return Figures(**(values | changes))  # type: ignore[arg-type]


def test_figures() -> None:
    said = text(fragments.figures(ES, figures(cards=(CARD,))))
    for part in (
        "Todo va bien.", "Respondidas 12", "Fallidas 1", "En curso 2", "En espera 3",
        "Tiempo medio 12,5 ms", "Lote medio 2,5", "3,0 MiB de 6,0 GiB", "Radeon RX 580",
        "Temperatura 61 °C", "Ocupación 87,0 %", "1,5 GiB de 8,0 GiB", "1350 rpm",
    ):  # fmt: skip
        assert part in said
    assert "Potencia" not in said  # the card does not tell


def test_figures_of_a_server_that_has_done_nothing() -> None:
    said = text(fragments.figures(EN, figures(
        status="a worker is being started again", answered=0, mean_s=None, mean_batch=None,
        budget_bytes=None,
    )))  # fmt: skip
    assert "is being started again" in said
    assert "Mean time –" in said
    assert "no limit set" in said
    assert "tells nothing about a graphics card" in said


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (ModelRow("owls", "2", "READY", "", 3 << 20, "cpu", 8),
         "owls ready version 2 · 3.0 MiB in memory · up to 8 photos at once cpu"),
        (ModelRow("owls", "2", "READY", "next request", None), "owls not loaded version 2"),
        (ModelRow("owls", "", "UNLOADED", "unloaded", None), "owls not loaded"),
        (ModelRow("owls", "2", "LOADING", "", None), "owls loading version 2"),
        (ModelRow("owls", "2", "UNAVAILABLE", "no card", None),
         "owls not available version 2 no card"),
    ],
)  # fmt: skip
def test_the_states_of_a_model(row: ModelRow, said: str) -> None:
    assert text(listed(row)) == said


def test_a_button_says_what_it_does_with_which_model() -> None:
    html = fragments.models(EN, [
        ModelRow('a"b', "2", "READY", "", 5), ModelRow("c", "", "UNLOADED", "unloaded", None)
    ], control=True)  # fmt: skip
    assert re.findall(r'data-model="([^"]*)" data-load="(.)">(\w+)<', html) == [
        ("a&quot;b", "0", "Unload"), ("c", "1", "Load"),
    ]  # fmt: skip
    assert "no models" in text(fragments.models(EN, [], control=True))
    assert "--allow-model-control" in text(
        fragments.models(EN, [ModelRow("c", "1", "READY", "", 5)], control=False)
    )
