"""Counts and times per model version, as the statistics extension of the protocol has them."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from rekindle.serve.batching.batcher import Batch


@dataclass(slots=True)
class Duration:
    """How often, and how long together."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float, count: int = 1) -> None:
        self.count += count
        self.ns += int(seconds * 1e9)


_PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


@dataclass
class ModelStatistics:
    """One model version since the server started; unloading does not reset it."""

    inference_count: int = 0
    """Rows that were computed for requests."""
    execution_count: int = 0
    """Runs of the model: rows per run is the mean batch size."""
    last_ms: int = 0
    durations: dict[str, Duration] = field(
        default_factory=lambda: {name: Duration() for name in _PARTS}
    )
    batches: defaultdict[int, dict[str, Duration]] = field(
        default_factory=lambda: defaultdict(
            lambda: {name: Duration() for name in _PARTS if name.startswith("compute")}
        )
    )

    def ran(self, batch: Batch) -> None:
        """A run succeeded."""
        self.execution_count += 1
        self.inference_count += batch.rows
        self.last_ms = time.time_ns() // 1_000_000
        requests, own = batch.requests, self.batches[batch.rows]
        self.durations["queue"].add(sum(batch.queue_s), requests)
        for name, seconds in (
            ("compute_input", batch.input_s),
            ("compute_infer", batch.run_s),
            ("compute_output", batch.output_s),
        ):
            # Each request of a batch has waited for the whole batch, as Triton counts.
            self.durations[name].add(seconds * requests, requests)
            own[name].add(seconds)

    def answered(self, seconds: float, *, ok: bool) -> None:
        """A request has its answer."""
        self.durations["success" if ok else "fail"].add(seconds)

    def to_dict(self, name: str, version: str) -> dict[str, Any]:
        none = {"count": 0, "ns": 0}
        inference = {key: asdict(value) for key, value in self.durations.items()}
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_ms,
            "inference_count": self.inference_count,
            "execution_count": self.execution_count,
            "inference_stats": inference | {"cache_hit": none, "cache_miss": none},
            "batch_stats": [
                {"batch_size": rows} | {key: asdict(value) for key, value in parts.items()}
                for rows, parts in sorted(self.batches.items())
            ],
        }
