"""`/metrics`: known traffic gives known figures; what callers invent becomes no series."""

from __future__ import annotations

import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from serving import LIMIT_S, Running, affine, put

from rekindle._errors import ModelError
from rekindle.device.telemetry import Telemetry
from rekindle.serve.observe.metrics import SECONDS, Metrics
from rekindle.serve.observe.states import CardCollector, resident_bytes

pytest.importorskip("tritonclient", reason="tritonclient is not installed")
import tritonclient.grpc as over_grpc
from tritonclient.utils import InferenceServerException

GOOD = b'{"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1,2,3,4,5,6]}]}'
WRONG = b'{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1,2,3,4]}]}'
AFFINE = {"model": "affine", "version": "1"}


def post(server: Running, path: str, body: bytes = GOOD) -> int:
    request = urllib.request.Request(f"http://{server.http}{path}", body)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def grpc_infer(server: Running, model: str, columns: int = 3) -> str:
    """`OK`, or the status that came."""
    tensor = over_grpc.InferInput("x", [2, columns], "FP32")
    tensor.set_data_from_numpy(np.ones((2, columns), np.float32))
    with over_grpc.InferenceServerClient(server.grpc) as client:
        try:
            client.infer(model, [tensor])
        except InferenceServerException as error:
            return str(error.status()).partition(".")[2]
    return "OK"


def scrape(server: Running, accept: str = "") -> tuple[str, str]:
    request = urllib.request.Request(f"http://{server.http}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        return answer.read().decode(), answer.headers["content-type"]


def value(text: str, name: str, **labels: str) -> float | None:
    """The one series of exactly these labels; None where there is none."""
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    assert len(found) < 2
    return found[0] if found else None


def series(text: str) -> set[tuple[Any, ...]]:
    return {
        (sample.name, *sorted(sample.labels.items()))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def server(tmp_path: Path, start: Callable[..., Running]) -> Running:
    put(tmp_path / "models", "affine", "1", affine())
    return start(tmp_path / "models", memory_budget=2**40, triton_metrics=True)


def test_requests_are_counted_exactly(server: Running) -> None:
    assert [post(server, "/v2/models/affine/infer") for _ in range(7)] == [200] * 7
    assert [post(server, "/v2/models/affine/infer", WRONG) for _ in range(3)] == [400] * 3
    assert [grpc_infer(server, "affine") for _ in range(4)] == ["OK"] * 4
    assert grpc_infer(server, "affine", 5) == "INVALID_ARGUMENT"
    assert post(server, "/v2/models/nothing/infer") == 404
    assert post(server, "/v2/models/affine/versions/9/infer") == 404
    text = scrape(server)[0]

    def requests(protocol: str, outcome: str, **model: str) -> float | None:
        key = {"model": "", "version": ""} | model
        return value(text, "rekindle_requests_total", protocol=protocol, outcome=outcome, **key)

    assert requests("http", "success", **AFFINE) == 7
    assert requests("http", "invalid", **AFFINE) == 3
    assert requests("grpc", "success", **AFFINE) == 4
    assert requests("grpc", "invalid", **AFFINE) == 1
    assert requests("http", "not_found") == 2
    infer = {"protocol": "http", "call": "/v2/models/{name}/infer"}
    assert value(text, "rekindle_calls_total", **infer, status="200") == 7
    assert value(text, "rekindle_calls_total", **infer, status="400") == 3
    assert value(text, "rekindle_calls_total", **infer, status="404") == 1
    assert value(text, "rekindle_call_duration_seconds_count", **infer) == 11
    infer = {"protocol": "grpc", "call": "/inference.GRPCInferenceService/ModelInfer"}
    assert value(text, "rekindle_calls_total", **infer, status="OK") == 4
    assert value(text, "rekindle_calls_total", **infer, status="INVALID_ARGUMENT") == 1
    for name in ("request", "queue"):
        assert value(text, f"rekindle_{name}_duration_seconds_count", **AFFINE) == 11
    assert value(text, "rekindle_batch_rows_sum", **AFFINE) == 22
    runs = value(text, "rekindle_batch_rows_count", **AFFINE)
    assert runs == value(text, "rekindle_compute_duration_seconds_count", **AFFINE) == 11
    seconds = value(text, "rekindle_request_duration_seconds_sum", **AFFINE)
    compute = value(text, "rekindle_compute_duration_seconds_sum", **AFFINE)
    assert seconds is not None
    assert compute is not None
    assert 0 < compute < seconds
    assert value(text, "rekindle_in_flight_requests") == 0
    assert value(text, "rekindle_ready") == 1


def test_buckets_are_cumulative_and_end_with_the_count(server: Running) -> None:
    post(server, "/v2/models/affine/infer")
    text = scrape(server)[0]
    name = "rekindle_request_duration_seconds"
    edges = [repr(float(edge)) for edge in SECONDS] + ["+Inf"]
    counts = [value(text, f"{name}_bucket", le=edge, **AFFINE) for edge in edges]
    assert None not in counts
    assert counts == sorted(counts, key=float)  # type: ignore[arg-type]
    assert counts[-1] == 1


def test_what_callers_invent_makes_no_series(server: Running) -> None:
    def invent(k: int) -> None:
        assert post(server, f"/v2/models/ghost{k}/infer") == 404
        assert post(server, f"/v2/models/affine/versions/{k + 2}/infer") == 404
        assert post(server, f"/ghosts/{k}") == 404
        assert grpc_infer(server, f"ghost{k}") == "NOT_FOUND"

    invent(0)
    scrape(server)
    before = series(scrape(server)[0])
    for k in range(1, 12):
        invent(k)
    text = scrape(server)[0]
    assert series(text) == before
    assert "ghost" not in text
    other = value(text, "rekindle_calls_total", protocol="http", call="other", status="404")
    assert other == 12


def test_both_texts_parse_and_say_what_they_are(server: Running) -> None:
    post(server, "/v2/models/affine/infer")
    text, kind = scrape(server)
    assert kind.startswith("text/plain; version=0.0.4")
    wanted = "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"
    open_text, open_kind = scrape(server, wanted)
    assert open_kind.startswith("application/openmetrics-text; version=1.0.0")
    assert open_text.endswith("# EOF\n")
    families = list(openmetrics.text_string_to_metric_families(open_text))
    plain = list(text_string_to_metric_families(text))
    for found in (families, plain):
        names = {family.name.removesuffix("_info") for family in found}
        assert {"rekindle_requests", "rekindle_build", "process_cpu_seconds"} <= names
        assert all(family.documentation for family in found)
    assert "_created" not in text
    build = next(f for f in plain if f.name == "rekindle_build_info")
    assert set(build.samples[0].labels) == {"version", "python"}


def test_loads_unloads_and_failures(server: Running) -> None:
    text = scrape(server)[0]
    assert value(text, "rekindle_model_loads_total", outcome="success", **AFFINE) == 1
    assert value(text, "rekindle_model_loads_total", outcome="failure", **AFFINE) == 0
    assert value(text, "rekindle_model_unloads_total", reason="evicted", **AFFINE) == 0
    assert value(text, "rekindle_worker_restarts_total", **AFFINE) == 0
    assert value(text, "rekindle_model_load_duration_seconds_count", **AFFINE) == 1
    assert value(text, "rekindle_memory_budget_bytes") == 2**40
    nbytes = value(text, "rekindle_model_bytes", **AFFINE)
    assert nbytes == value(text, "rekindle_memory_used_bytes") == server.plane.fleet.budget.used
    server.do(server.plane.fleet.unload("affine"))
    text = scrape(server)[0]
    assert value(text, "rekindle_model_unloads_total", reason="unloaded", **AFFINE) == 1
    assert value(text, "rekindle_memory_used_bytes") == 0
    assert value(text, "rekindle_model_ready", **AFFINE) is None


def test_a_broken_model_counts_as_a_failed_load(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    put(tmp_path / "models", "broken", "1", b"not ONNX")
    text = scrape(start(tmp_path / "models"))[0]
    broken = {"model": "broken", "version": "1"}
    assert value(text, "rekindle_model_loads_total", outcome="failure", **broken) == 1
    assert value(text, "rekindle_model_ready", **broken) == 0
    assert value(text, "rekindle_model_bytes", **broken) == 0
    assert value(text, "rekindle_memory_budget_bytes") is None


def test_events_of_the_fleet_have_their_counters(server: Running) -> None:
    metrics = Metrics(server.plane, lambda: ())
    metrics.model_gone("m", "3", "evicted")
    metrics.worker_lost("m", "3", "died or hung")
    metrics.load_failed("m", "3", ModelError("no"))
    read = metrics.registry.get_sample_value
    key = {"model": "m", "version": "3"}
    assert read("rekindle_model_unloads_total", key | {"reason": "evicted"}) == 1
    assert read("rekindle_worker_restarts_total", key) == 1
    assert read("rekindle_model_loads_total", key | {"outcome": "failure"}) == 1


def test_a_workers_memory_is_what_the_system_says(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    put(tmp_path / "models", "affine", "1", affine())
    server = start(tmp_path / "models", isolation="process")
    told = value(scrape(server)[0], "rekindle_worker_resident_memory_bytes", **AFFINE)
    pid = server.plane.fleet.find("affine").instance.pid
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    assert told == pytest.approx(kilobytes * 1024, rel=0.2)
    assert resident_bytes(2**30) == 0


def test_triton_names_hold_what_the_statistics_hold(server: Running) -> None:
    for _ in range(3):
        post(server, "/v2/models/affine/infer")
    post(server, "/v2/models/affine/infer", WRONG)
    text = scrape(server)[0]
    assert value(text, "nv_inference_request_success", **AFFINE) == 3
    assert value(text, "nv_inference_request_failure", **AFFINE) == 1
    assert value(text, "nv_inference_count", **AFFINE) == 6
    assert value(text, "nv_inference_exec_count", **AFFINE) == 3
    assert value(text, "nv_inference_pending_request_count", **AFFINE) == 0
    counted = server.plane.statistics["affine", "1"].durations
    for part in ("queue", "compute_infer"):
        told = value(text, f"nv_inference_{part}_duration_us", **AFFINE)
        assert told == counted[part].ns // 1000


def test_without_asking_there_are_no_triton_names(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    put(tmp_path / "models", "affine", "1", affine())
    assert "nv_" not in scrape(start(tmp_path / "models"))[0]


CARD = Telemetry(
    card="card0", pci_address="0000:01:00.0", device_id="67df", name="Radeon RX 580",
    busy_percent=37, vram_total_bytes=8 * 2**30, vram_used_bytes=2**30, core_clock_hz=1_266_000_000,
    memory_clock_hz=None, temperature_c=61.5, power_w=87.25, fan_rpm=1200,
)  # fmt: skip


def test_cards_tell_what_their_driver_tells() -> None:
    collector = CardCollector(triton=True)
    assert all(not family.samples for family in collector.collect())
    collector.cards = (CARD,)
    read = {s.name: (s.labels, s.value) for f in collector.collect() for s in f.samples}
    name = {"card": "card0", "name": "Radeon RX 580"}
    assert read["rekindle_device_temperature_celsius"] == (name, 61.5)
    assert read["rekindle_device_power_watts"] == (name, 87.25)
    assert read["rekindle_device_memory_used_bytes"] == (name, 2**30)
    assert read["rekindle_device_memory_bytes"] == (name, 8 * 2**30)
    assert read["rekindle_device_busy_ratio"] == (name, pytest.approx(0.37))
    assert read["nv_gpu_power_usage"] == ({"gpu_uuid": "0000:01:00.0"}, 87.25)
    assert "rekindle_device_memory_clock_hertz" not in read  # the driver does not tell


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return found


def test_promtool_finds_nothing_to_mend(
    promtool: str, tmp_path: Path, start: Callable[..., Running]
) -> None:
    put(tmp_path / "models", "affine", "1", affine())
    server = start(tmp_path / "models", memory_budget=2**40)
    post(server, "/v2/models/affine/infer")
    text = scrape(server)[0]
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
