"""The part of the measurements page about the model server, from benchmarks/results/serve.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

Table = Callable[[Iterable[str], Iterable[Iterable[str]]], str]
OnMachine = Callable[[dict[str, Any]], str]


def text(run: dict[str, Any], on_machine: OnMachine, table: Table) -> list[str]:
    """Paragraphs and tables; each part names the machine and day it was measured on."""
    parts = [
        "## Serving",
        (
            "`make bench-serve`: clients, server and model share one machine, and ONNX Runtime on "
            "one thread runs the models, each in a process of its own but for batching, where it "
            "is a thread of the server."
        ),
    ]
    for name, (title, write) in _PARTS.items():
        if name in run:
            parts += [f"### {title}", on_machine(run[name])]
            parts += write(run[name]["figures"], table)
    return parts


def _overhead(figures: dict[str, Any], table: Table) -> Iterator[str]:
    yield (
        "One client, one request after another with tritonclient, beside `session.run` in process; "
        "rounds of each in turn. *Bare* is a FastAPI and grpc.aio server with nothing behind it, "
        "asked in the same rounds: what the libraries, the client and this machine cost by "
        "themselves."
    )
    yield table(
        ("tensor", "path", "p50", "p99", "p50 above session.run"),
        (
            (label, path, _ms(row["p50_ms"]), _ms(row["p99_ms"]),
             _ms(row["overhead_ms"]) if "overhead_ms" in row else "")
            for label, rows in figures["paths"].items()
            for path, row in rows.items()
        ),
    )  # fmt: skip


def _batching(figures: dict[str, Any], table: Table) -> Iterator[str]:
    network, times = figures["network"], figures["run_ms"]
    runs = ", ".join(f"{_ms(value)} at {rows}" for rows, value in times.items())
    yield (
        f"{figures['clients']} clients of one row each, batches up to {figures['max_batch']}, on a "
        f"network of {network['nodes']} nodes and {network['multiply_adds']:,} multiply-adds a "
        f"row. A run in process takes {runs}. Medians of rounds in turn."
    )
    yield table(
        ("where", "batching", "requests/s", "p50", "p99", "mean batch"),
        (
            (where, word, f"{row['per_second']:.0f}", _ms(row["p50_ms"]), _ms(row["p99_ms"]),
             f"{row['mean_batch']:.1f}")
            for where in ("data plane", "gRPC")
            for word, row in figures[where].items()
        ),
    )  # fmt: skip
    plane, grpc = figures["data plane"], figures["gRPC"]
    spent = 1e3 / grpc["off"]["per_second"] - 1e3 / plane["off"]["per_second"]
    gains = (rows["on"]["per_second"] / rows["off"]["per_second"] for rows in (plane, grpc))
    yield (
        "Batching answers {:.2f} times as many at the data plane and {:.2f} times over gRPC".format(
            *gains
        )
        + f", where the protocol, both sides of it, costs {_ms(spent)} a request."
    )


def _overload(figures: dict[str, Any], table: Table) -> Iterator[str]:
    yield (
        f"Ten times what a slow model answers ({figures['capacity_per_second']:.0f}/s), whether or "
        f"not earlier requests have been answered; {figures['max_queue']} may wait, each for "
        f"{figures['deadline_s']:g} s at most."
    )
    memory = [f"memory_{when}_bytes" for when in ("before", "after")]
    yield table(
        ("protocol", "answers", "p50", "p99", "memory before and after"),
        (
            (protocol, ", ".join(f"{n:,} × {word}" for word, n in sorted(row["statuses"].items())),
             _ms(row["p50_ms"]), _ms(row["p99_ms"]),
             ", ".join(f"{row[key] / 1e6:.1f} MB" for key in memory))
            for protocol, row in figures["protocols"].items()
        ),
    )  # fmt: skip
    yield "Times are those of the requests that were answered."


def _recovery(figures: dict[str, Any], table: Table) -> Iterator[str]:
    yield "A worker process is killed, or stopped, while clients ask one request after another."
    yield table(
        ("signal", "clients", "requests failed", "not ready after", "answers again after"),
        (
            (word, str(row["clients"]), str(row["failed"]),
             "not seen" if row["unready_after_s"] is None else f"{row['unready_after_s']:.2f} s",
             f"{row['answers_again_after_s']:.2f} s")
            for word, row in figures.items()
        ),
    )  # fmt: skip


def _peers(figures: dict[str, Any], table: Table) -> Iterator[str]:
    yield (
        f"The same network by ONNX Runtime on one thread behind each server in turn: "
        f"{figures['clients']} clients, batches up to {figures['max_batch']}, a window of "
        f"{figures['window_ms']:g} ms; the best of the rounds."
    )
    yield table(
        ("server", "protocol", "requests/s", "p50", "p99"),
        (
            (name, protocol, row, "", "") if isinstance(row, str) else
            (name, protocol, f"{row['per_second']:.0f}", _ms(row["p50_ms"]), _ms(row["p99_ms"]))
            for name, rows in figures["servers"].items()
            for protocol, row in rows.items()
        ),
    )  # fmt: skip


def _ms(value: float) -> str:
    return f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"


_PARTS: dict[str, tuple[str, Callable[[dict[str, Any], Table], Iterable[str]]]] = {
    "overhead": ("What serving adds", _overhead),
    "batching": ("Batching", _batching),
    "overload": ("Overload", _overload),
    "recovery": ("Lost workers", _recovery),
    "peers": ("Beside other servers", _peers),
}
