"""The part on hybrid plans and streams of the page of measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Table = Callable[[tuple[str, ...], Iterable[tuple[str, ...]]], str]


def text(run: dict[str, Any], machine: str, table: Table) -> list[str]:
    """Paragraphs and tables of the stored run."""
    where = f"{run['device']} ({run['platform']})"
    caution = (
        "The OpenCL device is the processor itself here, so these figures show that work overlaps, "
        "not what a card gains: **that gain is not measured**."
        if run["device_is_the_processor"]
        else ""
    )
    kinds = ("opencl", "hybrid")
    pairs = sorted({pair for kind in kinds for pair in run[kind]["overlap_ms"]})
    return [
        "## Hybrid plans and streams",
        (
            f"`benchmarks/hybrid.py` on {where}: {run['model']} at batch {run['batch']}, "
            f"{run['inputs']} inputs, {run['depth']} under way at a time; for `hybrid`, the first "
            f"half of the units forced onto the device. {machine} {caution}"
        ),
        table(
            ("", *kinds),
            [
                (
                    "dispatch of a run, median (99th percentile)",
                    *(
                        f"{run[kind]['dispatch_us']['median']:.1f} µs "
                        f"({run[kind]['dispatch_us']['p99']:.1f})"
                        for kind in kinds
                    ),
                ),
                (
                    "runs per second, one after another",
                    *(f"{run[kind]['single_per_s']:.1f}" for kind in kinds),
                ),
                (
                    "runs per second, as a stream",
                    *(f"{run[kind]['stream_per_s']:.1f}" for kind in kinds),
                ),
                *(
                    (
                        f"{pair} of different inputs at once",
                        *(f"{run[kind]['overlap_ms'].get(pair, 0):.2f} ms" for kind in kinds),
                    )
                    for pair in pairs
                ),
            ],
        ),
        (
            "Dispatch is all that `run` does before the plan's executor starts. Overlap comes from "
            "the timestamps of OpenCL's events (PROFILING_COMMAND_START and END) and of the parts "
            "on the CPU. Dividing a chain of 2000 units whose sides cost nearly the same takes "
            f"{run['partition_2000_units']:.0f} ms, once for each plan."
        ),
    ]
