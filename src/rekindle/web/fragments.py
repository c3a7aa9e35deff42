"""Pieces of HTML. Everything that comes from outside (labels, names, messages) is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from rekindle._errors import (
    BusyError,
    DeadlineError,
    ForbiddenError,
    ImageError,
    InputError,
    MemoryLimitError,
    ModelError,
    NotFoundError,
    RekindleError,
)
from rekindle.device.telemetry import Telemetry
from rekindle.serve.photos import Named
from rekindle.web.catalogue import Catalogue
from rekindle.web.view import Figures, ModelRow

_SURE = 0.5
"""Below it a wrong answer is likelier than a right one."""
_KINDS: tuple[tuple[type[RekindleError], str], ...] = (
    (ImageError, "image"),
    (BusyError, "busy"),
    (DeadlineError, "deadline"),
    (MemoryLimitError, "memory"),
    (ForbiddenError, "forbidden"),
    (NotFoundError, "missing"),
    (ModelError, "model"),
)
_PLACES = ("opencl", "onnxruntime", "hybrid", "torchscript", "reference")
_STATUSES = {"ok": "ok", "starting": "starting", "draining": "draining"}


def header(c: Catalogue, others: Iterable[Catalogue]) -> str:
    """The name, one sentence, and the way to the other languages."""
    links = "".join(
        f'<a href="../{o.code}/" lang="{o.code}" hreflang="{o.code}">{escape(o("language"))}</a>'
        for o in others
    )
    current = f'<span aria-current="true">{escape(c("language"))}</span>'
    return (
        f'<header class="rk-head"><div><h1>{escape(c("page.title"))}</h1>'
        f"<p>{escape(c('page.lead'))}</p></div>"
        f'<nav aria-label="{escape(c("page.language"))}">{current}{links}</nav></header>'
    )


def nothing_yet(c: Catalogue) -> str:
    return _note(c("result.empty"), c("result.empty_next"))


def no_model(c: Catalogue) -> str:
    return _note(c("photo.no_model"), c("photo.no_model_next"))


def working(c: Catalogue) -> str:
    return _note(c("working"), "")


def answer(c: Catalogue, named: Named, precision: str = "") -> str:
    """The best label, the others with bars, what it took, and what to do next.

    `precision` is named where there is a choice.
    """
    best = named.labels[0]
    sure = best.score >= _SURE
    kicker = c("result.title" if sure else "result.unsure")
    bars = "".join(_bar(c, label.name, label.score) for label in named.labels)
    place = named.provider if named.provider in _PLACES else "other"
    took = c(
        "result.took_value",
        total=c.number(named.total_s * 1e3),
        run=c.number(named.run_s * 1e3, 1),
    )
    facts = [
        (c("result.took"), escape(took)),
        (c("result.where"), escape(c(f"place.{place}"))),
        (c("result.model"), escape(f"{named.model}, {c('result.version', version=named.version)}")),
    ]
    if precision:
        facts.append((c("photo.precision"), escape(c(f"precision.{precision}"))))
    waited = c("result.ms_queue", queue=c.number(named.queue_s * 1e3, 1))
    details = f"{named.placement}; {waited}"
    return (
        f'<section class="rk-answer{"" if sure else " rk-unsure"}" role="status">'
        f'<p class="rk-kicker">{escape(kicker)}</p>'
        f'<p class="rk-best"><span>{escape(best.name)}</span> '
        f"<b>{escape(c.percent(best.score))}</b></p>"
        f'<ol class="rk-bars">{bars}</ol>'
        f'<p class="rk-next">{escape(c("result.sure_next" if sure else "result.unsure_next"))}</p>'
        f"{_facts(facts)}"
        f"<details><summary>{escape(c('result.where_detail'))}</summary>"
        f"<p>{escape(details)}</p></details></section>"
    )


def failure_texts(c: Catalogue, error: RekindleError) -> tuple[str, str]:
    """What happened and what to do, in the reader's language."""
    kind = next((word for cls, word in _KINDS if isinstance(error, cls)), "other")
    if isinstance(error, InputError) and error.http_status == 413:
        kind = "large"
    return c(f"error.{kind}"), c(f"error.{kind}_next")


def failure(c: Catalogue, error: RekindleError) -> str:
    """An error that stays on the page after its toast has gone."""
    what, then = failure_texts(c, error)
    return (
        f'<section class="rk-note rk-error" role="alert"><p><b>{escape(what)}</b></p>'
        f"<p>{escape(then)}</p>"
        f"<details><summary>{escape(c('error.detail'))}</summary>"
        f'<p lang="en">{escape(str(error))}</p></details></section>'
    )


def models(c: Catalogue, rows: Sequence[ModelRow], *, control: bool) -> str:
    """The list of models, with buttons where they may be loaded and unloaded."""
    if not rows:
        return _note(c("models.none"), "")
    listed = "".join(_model(c, row, control=control) for row in rows)
    off = "" if control else f'<p class="rk-fine">{escape(c("models.control_off"))}</p>'
    return f'<div class="rk-models">{listed}</div>{off}'


def _model(c: Catalogue, row: ModelRow, *, control: bool) -> str:
    state = row.state if row.nbytes is not None or row.state != "READY" else "UNLOADED"
    parts = [c("models.version", version=row.version)] if row.version else []
    if row.nbytes is not None:
        parts.append(c("models.memory", bytes=c.bytes(row.nbytes)))
        if row.max_batch > 1:
            parts.append(c("models.batching", rows=row.max_batch))
    reason = row.placement
    if row.state == "UNAVAILABLE":
        reason = row.reason
    loads = row.state in ("UNLOADED", "UNAVAILABLE")
    button = (
        f'<button class="rk-control{" rk-main" if loads else ""}" data-model="{escape(row.name)}" '
        f'data-load="{int(loads)}">{escape(c("models.load" if loads else "models.unload"))}'
        "</button>"
    )
    return (
        f'<article class="rk-model"><div><h3>{escape(row.name)} '
        f'<span class="rk-state rk-{state.lower()}">{escape(c(f"state.{state}"))}</span></h3>'
        f"<p>{escape(' · '.join(parts))}</p>"
        + (f'<p class="rk-fine" lang="en">{escape(reason)}</p>' if reason else "")
        + f"</div>{button if control else ''}</article>"
    )


def figures(c: Catalogue, now: Figures) -> str:
    """The server in large figures, then each card."""
    mean = (
        "–"
        if now.mean_s is None
        else c("machine.mean_ms_value", value=c.number(now.mean_s * 1e3, 1))
    )
    batch = "–" if now.mean_batch is None else c.number(now.mean_batch, 1)
    used = c.bytes(now.used_bytes)
    if now.budget_bytes is None:
        memory = c("machine.memory_unlimited", used=used)
    else:
        memory = c("machine.memory_of", used=used, budget=c.bytes(now.budget_bytes))
    tiles = (
        (c("machine.answered"), str(now.answered)),
        (c("machine.failed"), str(now.failed)),
        (c("machine.in_flight"), str(now.in_flight)),
        (c("machine.queued"), str(now.queued)),
        (c("machine.mean_ms"), mean),
        (c("machine.mean_batch"), batch),
    )
    status = c(f"machine.{_STATUSES.get(now.status, 'worker')}")
    cards = "".join(_card(c, card) for card in now.cards)
    return (
        f'<section class="rk-machine"><h2>{escape(c("machine.server"))}</h2>'
        f'<p class="rk-status rk-{_STATUSES.get(now.status, "worker")}">{escape(status)}</p>'
        f"{_tiles(tiles)}"
        f"{_facts([(c('machine.memory'), escape(memory))])}"
        f"<h2>{escape(c('machine.card'))}</h2>"
        + (cards or f"<p>{escape(c('machine.no_card'))}</p>")
        + "</section>"
    )


def _card(c: Catalogue, card: Telemetry) -> str:
    readings = (
        (
            "temperature",
            None if card.temperature_c is None else f"{c.number(card.temperature_c)} °C",
        ),
        ("power", None if card.power_w is None else f"{c.number(card.power_w)} W"),
        ("busy", None if card.busy_percent is None else c.percent(card.busy_percent / 100)),
        ("video_memory", _video_memory(c, card)),
        ("fan", None if card.fan_rpm is None else f"{card.fan_rpm} rpm"),
    )
    told = [(c(f"machine.{key}"), value) for key, value in readings if value is not None]
    return f"<h3>{escape(card.name or card.card)}</h3>{_tiles(told)}"


def _video_memory(c: Catalogue, card: Telemetry) -> str | None:
    if card.vram_used_bytes is None or card.vram_total_bytes is None:
        return None
    used, total = c.bytes(card.vram_used_bytes), c.bytes(card.vram_total_bytes)
    return c("machine.memory_of", used=used, budget=total)


def _bar(c: Catalogue, name: str, score: float) -> str:
    width = max(0.0, min(score, 1.0)) * 100
    return (
        f'<li><span class="rk-name">{escape(name)}</span>'
        f'<span class="rk-bar" aria-hidden="true"><i style="width:{width:.1f}%"></i></span>'
        f'<span class="rk-score">{escape(c.percent(score))}</span></li>'
    )


def _note(what: str, then: str) -> str:
    after = f"<p>{escape(then)}</p>" if then else ""
    return f'<section class="rk-note" role="status"><p><b>{escape(what)}</b></p>{after}</section>'


def _facts(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{v}</dd></div>" for k, v in pairs)
    return f'<dl class="rk-facts">{rows}</dl>'


def _tiles(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs)
    return f'<dl class="rk-tiles">{rows}</dl>'
