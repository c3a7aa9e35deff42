"""The names that Triton has for its figures, so that dashboards made for it work here.

Triton's metrics: https://github.com/triton-inference-server/server/blob/main/docs/user_guide/metrics.md.
Its counters do not end in `_total`, as Prometheus wants it; without a type they stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from rekindle.serve.dataplane import DataPlane

_MODEL = ("model", "version")
_COUNTS = (
    ("nv_inference_request_success", "Requests answered.", "success"),
    ("nv_inference_request_failure", "Requests that failed.", "fail"),
)
_DURATIONS = (
    ("nv_inference_request_duration_us", "Time of requests answered.", "success"),
    ("nv_inference_queue_duration_us", "Time that requests waited.", "queue"),
    ("nv_inference_compute_input_duration_us", "Time for inputs.", "compute_input"),
    ("nv_inference_compute_infer_duration_us", "Time of computing.", "compute_infer"),
    ("nv_inference_compute_output_duration_us", "Time for outputs.", "compute_output"),
)


class TritonCollector(Collector):
    """Aliases of the server's statistics."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def collect(self) -> Iterator[Metric]:
        table = list(self._plane.statistics.items())
        for name, text, part in _COUNTS:
            yield _family(name, text, [(k, s.durations[part].count) for k, s in table])
        yield _family(
            "nv_inference_count", "Rows computed.", [(k, s.inference_count) for k, s in table]
        )
        yield _family(
            "nv_inference_exec_count", "Runs.", [(k, s.execution_count) for k, s in table]
        )
        for name, text, part in _DURATIONS:
            yield _family(name, text, [(k, s.durations[part].ns // 1000) for k, s in table])
        slots = self._plane.fleet.slots()
        yield _family(
            "nv_inference_pending_request_count",
            "Requests that wait.",
            [((s.entry.name, s.entry.version), s.instance.queued) for s in slots if s.instance],
        )


def _family(name: str, text: str, rows: list[tuple[tuple[str, str], int]]) -> Metric:
    family = UnknownMetricFamily(name, text, labels=_MODEL)
    for key, value in rows:
        family.add_metric(key, value)
    return family
