"""The part on storage types of the page of measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


def text(run: dict[str, Any], machine: str, table: Callable[..., str]) -> list[str]:
    """Paragraphs made of `benchmarks/results/precision.json`."""
    head = ("network", "precision", "signal to noise", "same answer", "bytes on the device", "time")
    return [
        "## Storage types",
        (
            "`benchmarks/precision.py`: every network against itself in `fp32`, on the same device "
            f"and pictures; time is that of one picture, in turn with `fp32`. {machine}"
        ),
        table(head, rows(run["models"])),
        (
            "The MobileNets' weights were integers of eight bits once, which 16-bit types keep "
            "exactly. Depthwise filters and those of first layers stay float32 in every precision. "
            "Where `conv_winograd` is chosen, the transformed filters of narrow weights are halves."
        ),
    ]


def rows(models: dict[str, Any]) -> Iterator[Iterable[str]]:
    for name, model in models.items():
        whole = model["precisions"]["fp32"]["device_bytes"]
        for precision, facts in model["precisions"].items():
            first = precision == "fp32"
            label = f"{name}, {facts['images']} {model['inputs']}" if first else ""
            snr = facts["snr_db"]
            yield (
                label,
                f"`{precision}`",
                "" if snr is None else f"{snr:.1f} dB",
                "" if first else f"{facts['agreement']:.2%}",
                f"{facts['device_bytes']:,} ({facts['device_bytes'] / whole:.0%})",
                f"{facts['ms']:.2f} ms" + ("" if first else f" (x {facts['ratio']:.2f})"),
            )
