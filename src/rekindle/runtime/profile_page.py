"""A profile as one self-contained page: time by kernel, the timeline, and the memory plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from rekindle.engine.profile import LaunchTime, Profile, with_launches

_WIDTH, _ROW, _MEMORY_HEIGHT = 1180.0, 34.0, 360.0
_ROWS = ("upload", "kernel", "download", "host")
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --soft: #6b7280; --paper: #ffffff;
  --line: #d4d8df; --light: 72%; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ec; --soft: #9aa3b2; --paper: #16181d;
  --line: #3a404b; --light: 38%; } }
body { margin: 2rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { color: var(--soft); margin: .2rem 0 .6rem; max-width: 60rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: normal; text-align: left; }
td, th { padding: .1rem 1.2rem .1rem 0; } td.n, th.n { text-align: right; }
figure { margin: 0; overflow-x: auto; }
text { fill: var(--soft); font: 11px system-ui, sans-serif; }
rect:hover { stroke: var(--ink); stroke-width: 1.5; }
.axis { stroke: var(--line); }
"""


@dataclass(frozen=True)
class KernelTotal:
    """All launches of one kernel."""

    kernel: str
    launches: int
    seconds: float
    flops: int
    moved_bytes: int
    roofline: float
    """Least time by the measured peaks over the time taken."""


def by_kernel(launches: Iterable[LaunchTime]) -> list[KernelTotal]:
    """Launches added up by kernel, the one with most time first."""
    groups: dict[str, list[LaunchTime]] = {}
    for launch in launches:
        groups.setdefault(launch.kernel, []).append(launch)
    totals = []
    for kernel, members in groups.items():
        seconds = sum(m.seconds for m in members)
        least = sum(m.roofline * m.seconds for m in members)
        totals.append(
            KernelTotal(
                kernel, len(members), seconds, sum(m.flops for m in members),
                sum(m.moved_bytes for m in members), least / seconds,
            )
        )  # fmt: skip
    return sorted(totals, key=lambda total: -total.seconds)


def profile_page(found: Profile, title: str) -> str:
    """The page as text; it needs nothing from elsewhere."""
    roof = found.peaks
    heading = escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title><style>{_STYLE}</style></head>\n<body><h1>{heading}</h1>\n"
        f"<p>{escape(found.device)}; measured peaks: {roof.flops_s / 1e9:,.0f} GFLOP/s, "
        f"{roof.bandwidth_bytes_s / 1e9:,.1f} GB/s, {roof.launch_s * 1e6:,.1f} µs from kernel to "
        f"kernel. Times of launches are the least of {found.runs} runs; the timeline is the "
        f"quickest of them: {found.run_s * 1e3:,.2f} ms, of which kernels "
        f"{found.seconds('kernel') * 1e3:,.2f}, transfers "
        f"{(found.seconds('upload') + found.seconds('download')) * 1e3:,.2f}, host steps "
        f"{found.seconds('host') * 1e3:,.2f}, nothing {found.gap_s * 1e3:,.2f}.</p>\n"
        f"<h2>By kernel</h2>{_kernels(found)}\n"
        f"<h2>Timeline</h2><figure>{_timeline(found)}</figure>\n"
        "<h2>Memory plan</h2><p>Left to right: launches and host steps. Bottom to top: bytes of "
        "the arena. A box is a value from its first writer to its last reader; what is alive at "
        f"once never overlaps. {found.plan.memory.arena_bytes:,} bytes, lower bound "
        f"{found.plan.memory.lower_bound_bytes:,}; weights {found.plan.constant_bytes:,}.</p>"
        f"<figure>{_memory(found)}</figure>\n"
        f"<h2>Launches, slowest first</h2>{_launches(found)}\n</body></html>\n"
    )


def _colour(name: str) -> str:
    hue = int(hashlib.sha256(name.encode()).hexdigest()[:4], 16) % 360
    return f"hsl({hue} 55% var(--light))"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> str:
    """The first `words` columns are text, the others numbers."""

    def line(tag: str, cells: Sequence[str]) -> Iterator[str]:
        for place, cell in enumerate(cells):
            kind = ' class="n"' if place >= words else ""
            yield f"<{tag}{kind}>{escape(cell)}</{tag}>"

    lines = ["".join(line("th", head)), *("".join(line("td", row)) for row in rows)]
    return "<table>" + "".join(f"<tr>{cells}</tr>\n" for cells in lines) + "</table>"


def _kernels(found: Profile) -> str:
    total = sum(launch.seconds for launch in found.launches) or 1.0
    head = ("kernel", "launches", "ms", "share", "GFLOP/s", "GB/s", "of roofline")
    rows = (
        (
            t.kernel, str(t.launches), f"{t.seconds * 1e3:.3f}", f"{t.seconds / total:.1%}",
            f"{t.flops / t.seconds / 1e9:.1f}", f"{t.moved_bytes / t.seconds / 1e9:.1f}",
            f"{t.roofline:.0%}",
        )
        for t in by_kernel(found.launches)
    )  # fmt: skip
    return _table(head, rows, 1)


def _launches(found: Profile) -> str:
    head = ("node", "operator", "kernel", "µs", "GFLOP/s", "GB/s", "of roofline", "limit", "items")
    rows = (
        (
            t.node, t.operator, f"{t.kernel}: {t.entry}", f"{t.seconds * 1e6:.1f}",
            f"{t.flops_s / 1e9:.1f}", f"{t.bytes_s / 1e9:.1f}", f"{t.roofline:.0%}", t.limit,
            "x".join(map(str, t.global_size)),
        )
        for t in sorted(found.launches, key=lambda t: -t.seconds)
    )  # fmt: skip
    return _table(head, rows, 3)


def _svg(height: float, drawn: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="img">' + "\n".join(drawn) + "</svg>"
    )


def _rect(place: tuple[float, float, float, float], fill: str, tip: str) -> str:
    x, y, width, height = place
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(width, 0.4):.2f}" height="{height:.2f}" '
        f'fill="{fill}"><title>{escape(tip)}</title></rect>'
    )


def _timeline(found: Profile) -> str:
    label = 70.0
    start = found.spans[0].start_ns
    scale = (_WIDTH - label - 10) / max(found.run_s * 1e9, 1.0)
    used = [kind for kind in _ROWS if any(s.kind == kind for s in found.spans)]
    drawn = [f'<text x="0" y="{k * _ROW + 20:.0f}">{kind}</text>' for k, kind in enumerate(used)]
    for span, launch in with_launches(found):
        taken = span.end_ns - span.start_ns
        tip = f"{span.name}\n{taken / 1e3:.1f} µs from {(span.start_ns - start) / 1e3:.1f}"
        if launch:
            tip = (
                f"{launch.kernel} {launch.operator}\n{tip}\n{launch.flops_s / 1e9:.1f} GFLOP/s, "
                f"{launch.bytes_s / 1e9:.1f} GB/s, {launch.roofline:.0%} of roofline"
            )
        x = label + (span.start_ns - start) * scale
        place = (x, used.index(span.kind) * _ROW + 4, taken * scale, _ROW - 8)
        drawn.append(_rect(place, _colour(launch.kernel if launch else span.kind), tip))
    bottom = len(used) * _ROW
    for tick in range(11):
        x = label + (_WIDTH - label - 10) * tick / 10
        drawn.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom:.0f}"/>')
        drawn.append(
            f'<text x="{x:.1f}" y="{bottom + 14:.0f}" text-anchor="middle">'
            f"{found.run_s * 1e2 * tick:.2f} ms</text>"
        )
    return _svg(bottom + 20, drawn)


def _memory(found: Profile) -> str:
    memory, alive = found.plan.memory, found.plan.lifetimes
    if not alive:
        return "<p>No value lies on the device.</p>"
    last = max(v.last for v in alive) + 1
    across, up = (_WIDTH - 10) / last, _MEMORY_HEIGHT / max(memory.arena_bytes, 1)
    drawn = []
    for v in sorted(alive, key=lambda v: v.first):
        offset, size = memory.offsets[v.name], memory.sizes[v.name]
        place = (
            v.first * across,
            _MEMORY_HEIGHT - (offset + size) * up,
            (v.last - v.first + 1) * across,
            max(size * up, 0.5),
        )
        tip = f"{v.name}\n{v.nbytes:,} bytes at {offset:,}\nsteps {v.first} to {v.last}"
        drawn.append(_rect(place, _colour(v.name), tip))
    return _svg(_MEMORY_HEIGHT, drawn)
