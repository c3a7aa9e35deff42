"""Loading, evicting, replacing and unloading, with requests going on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from serving import LIMIT_S, Running, affine, mixing, model, put, until

from rekindle._errors import BusyError, MemoryLimitError, NotFoundError, RekindleError
from rekindle.serve import InferRequest
from rekindle.serve.events import Listener
from rekindle.serve.worker import opening
from rekindle.serve.worker.opening import resident_bytes

X = np.array([[1, 2, 3]], np.float32)


class Diary(Listener):
    """What happened to models, in order."""

    def __init__(self, server: Running) -> None:
        self.lines: list[str] = []
        server.plane.listeners.add(self)

    def model_loaded(self, model: str, version: str, nbytes: int, seconds: float) -> None:
        self.lines.append(f"loaded {model} {version}")

    def model_gone(self, model: str, version: str, reason: str) -> None:
        self.lines.append(f"{reason} {model} {version}")


def infer(server: Running, name: str, x: Any = X, **options: Any) -> Any:
    return server.do(server.plane.infer(InferRequest(name, {"x": x}, **options)))


def factor(server: Running, name: str = "affine", **options: Any) -> tuple[str, float]:
    """Which version answers, and with which weight."""
    response = infer(server, name, **options)
    return response.version, float(response.outputs["y"][0, 0]) - 1


def get(server: Running, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(f"http://{server.http}{path}", data, LIMIT_S) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def heavy(megabytes: int, seed: int) -> bytes:
    """Y = x + 0 * (a large constant): a file of that size."""
    rng = np.random.default_rng(seed)
    ballast = rng.random(megabytes * 250_000, np.float32)
    nodes = [
        helper.make_node("ReduceMax", ["ballast"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "nothing"], ["zero"]),
        helper.make_node("Add", ["x", "zero"], ["y"]),
    ]
    constants = {"ballast": ballast, "nothing": np.float32(0)}
    return model(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, constants)


def test_models_share_a_budget(start: Callable[..., Running], tmp_path: Path) -> None:
    """A model counts at least its file, so three never fit; one does with room for its worker."""
    for k in range(3):
        put(tmp_path, f"m{k}", "1", heavy(24, k))
    budget = 71_000_000
    server = start(tmp_path, memory_budget=budget, isolation="process")
    fleet = server.plane.fleet
    most = [fleet.budget.used]
    for name in ("m0", "m1"):
        np.testing.assert_array_equal(infer(server, name).outputs["y"], X)
        most.append(fleet.budget.used)
    assert max(most) <= budget
    loaded = [slot.entry.name for slot in fleet.slots() if slot.instance]
    assert 1 <= len(loaded) < 3
    assert "m1" in loaded
    assert all(slot.ready for slot in fleet.slots())  # evicted models are loaded when asked
    assert [row["state"] for row in get(server, "/v2/repository/index", {})[1]] == ["READY"] * 3


def test_a_model_larger_than_the_budget_is_refused_with_figures(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    put(tmp_path, "small", "1", affine())
    put(tmp_path, "large", "1", heavy(20, 0))
    server = start(tmp_path, memory_budget=10_000_000)
    assert factor(server, "small") == ("1", 2)
    with pytest.raises(BusyError, match=r"large version 1 needs 20,000,\d\d\d bytes; the budget"):
        infer(server, "large")
    status, answer = get(server, "/v2/models/large/ready")
    assert (status, answer["ready"]) == (503, False)
    with pytest.raises(MemoryLimitError):
        server.do(server.plane.fleet.load("large"))


def test_many_requests_load_a_model_once(start: Callable[..., Running], repository: Path) -> None:
    server = start(repository)
    diary = Diary(server)

    async def rush() -> list[Any]:
        slot = server.plane.fleet.find("affine")
        await server.plane.fleet._close(slot, "evicted")
        asked = (server.plane.infer(InferRequest("affine", {"x": X + k})) for k in range(20))
        return await asyncio.gather(*asked)

    answers = server.do(rush())
    for k, answer in enumerate(answers):
        np.testing.assert_array_equal(answer.outputs["y"], 2 * (X + k) + 1)
    assert diary.lines == ["evicted affine 1", "loaded affine 1"]


def test_two_models_of_which_one_fits_take_turns(
    start: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each load evicts the other; a model is pinned for its waiters before anybody can take it."""
    monkeypatch.setattr(opening, "resident_bytes", lambda: 0)  # each counts as its file, each time
    for k in range(2):
        put(tmp_path, f"m{k}", "1", affine(k + 1.0))
    server = start(tmp_path)
    fleet = server.plane.fleet
    sizes = [fleet.budget.holding(slot.key).nbytes for slot in fleet.slots()]
    fleet.budget.capacity = max(sizes) + 1

    async def rush() -> list[Any]:
        for slot in fleet.slots():
            await fleet._close(slot, "evicted")
        asked = [
            server.plane.infer(InferRequest(f"m{k % 2}", {"x": X}, parameters={"k": k}))
            for k in range(12)
        ]
        return await asyncio.gather(*asked)

    for k, answer in enumerate(server.do(rush())):
        np.testing.assert_array_equal(answer.outputs["y"], (k % 2 + 1) * X + 1)
    assert fleet.budget.used <= fleet.budget.capacity


def test_a_model_that_grows_while_running_pushes_idle_ones_out(
    start: Callable[..., Running], repository: Path
) -> None:
    server = start(repository)
    diary, fleet = Diary(server), server.plane.fleet
    fleet.budget.capacity = fleet.budget.used + 1_000_000
    instance = fleet.find("affine").instance
    run, grown = instance._worker.run, fleet.budget.capacity - 1

    async def growing(parts: Any, rows: int) -> Any:
        return replace(await run(parts, rows), nbytes=grown)

    instance._worker.run = growing
    assert factor(server) == ("1", 2)
    until(lambda: diary.lines == ["evicted mixing 1"])
    assert fleet.budget.used == grown
    assert factor(server) == ("1", 2)


def test_a_model_chosen_to_go_cannot_be_pinned_any_more(
    start: Callable[..., Running], repository: Path
) -> None:
    server = start(repository)

    async def race() -> Any:
        fleet = server.plane.fleet
        slot = fleet.find("affine")
        old = slot.instance
        closing = fleet._close(slot, "evicted")
        new = await fleet.acquire(slot)  # before the closing has had its first turn
        await closing
        assert new is not old
        assert fleet.budget.holding(slot.key).pins == 1
        fleet.release(slot)
        return len(fleet._loaded)

    assert server.do(race()) == 2
    assert factor(server) == ("1", 2)


def test_a_new_version_replaces_the_old_one_without_a_gap(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    put(tmp_path, "affine", "9", affine(9.0))
    server = start(tmp_path)
    diary = Diary(server)
    assert factor(server) == ("9", 9)
    seen: list[tuple[str, float]] = []
    stop = False

    def ask() -> None:
        while not stop:
            seen.append(factor(server))

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        put(tmp_path, "affine", "10", affine(10.0))
        server.do(server.plane.fleet.load("affine"))
        until(lambda: diary.lines == ["loaded affine 10", "replaced affine 9"])
        stop = True
        for future in asking:
            future.result(LIMIT_S)
    assert set(seen) <= {("9", 9.0), ("10", 10.0)}
    assert seen == sorted(seen, key=lambda pair: int(pair[0]))
    assert factor(server) == ("10", 10)
    with pytest.raises(NotFoundError, match="served: 10"):
        factor(server, version="9")


def test_a_new_version_evicts_the_old_one_where_both_do_not_fit(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    """Who asks meanwhile waits for the new one; nobody is refused."""
    put(tmp_path, "affine", "1", affine(1.0))
    server = start(tmp_path)
    diary, fleet = Diary(server), server.plane.fleet
    fleet.budget.capacity = 100_000_000
    put(tmp_path, "affine", "2", affine(2.0))
    fleet._known_bytes[path_of(server, "2")] = 100_000_000

    async def reload() -> list[Any]:
        loading = asyncio.create_task(fleet.load("affine"))
        while fleet.find("affine").instance is not None:
            await asyncio.sleep(0)
        asked = [server.plane.infer(InferRequest("affine", {"x": X})) for _ in range(5)]
        found = await asyncio.gather(*asked)
        await loading
        return found

    assert {answer.version for answer in server.do(reload())} == {"2"}
    assert diary.lines == ["evicted affine 1", "loaded affine 2"]
    assert fleet.budget.used <= fleet.budget.capacity


def path_of(server: Running, version: str) -> tuple[object, ...]:
    """What a version's size is remembered by."""
    index = server.do(server.plane.fleet._scan())
    entry = next(e for e in index.wanted("affine") if e.version == version)
    return entry.path, entry.fingerprint, entry.precision


def test_a_load_waits_for_models_in_use_and_then_is_refused_with_figures(
    start: Callable[..., Running], repository: Path
) -> None:
    server = start(repository, room_s=0.05)
    fleet = server.plane.fleet

    async def crowd() -> None:
        slots = fleet.slots()
        fleet.budget.capacity = 100_000_000
        await fleet._close(slots[0], "evicted")
        fleet._known_bytes = dict.fromkeys(fleet._known_bytes, fleet.budget.capacity)
        await fleet.acquire(slots[1])
        try:
            with pytest.raises(BusyError, match=r"0\.05 s: mixing version 1") as caught:
                await fleet.acquire(slots[0])
            needed, free = fleet.budget.capacity, fleet.budget.capacity - fleet.budget.used
            assert f"needs {needed:,} bytes; {free:,} of the budget's {needed:,}" in str(
                caught.value
            )
        finally:
            fleet.release(slots[1])
        await fleet.acquire(slots[0])  # now that it is idle, it goes
        assert slots[1].instance is None
        fleet.release(slots[0])

    server.do(crowd())


def test_two_loads_at_once_load_once(start: Callable[..., Running], tmp_path: Path) -> None:
    put(tmp_path, "affine", "1", affine(1.0))
    server = start(tmp_path)
    diary, fleet = Diary(server), server.plane.fleet
    put(tmp_path, "affine", "2", affine(2.0))

    async def twice() -> None:
        await asyncio.gather(fleet.load("affine"), fleet.load("affine"))

    server.do(twice())
    until(lambda: "replaced affine 1" in diary.lines)
    assert sorted(diary.lines) == ["loaded affine 2", "replaced affine 1"]
    assert len(fleet._loaded) == 1
    assert len(fleet._changing) == 0


def test_a_broken_new_version_changes_nothing(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    put(tmp_path, "affine", "1", affine(1.0))
    server = start(tmp_path)
    put(tmp_path, "affine", "2", b"broken")
    with pytest.raises(RekindleError):
        server.do(server.plane.fleet.load("affine"))
    assert factor(server) == ("1", 1)
    assert server.plane.ready


def test_a_changed_file_is_taken_up_by_watching(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    put(tmp_path, "affine", "1", affine(1.0))
    server = start(tmp_path, watch_s=0.05)
    put(tmp_path, "affine", "1", affine(4.0))
    put(tmp_path, "second", "1", affine(5.0))
    until(lambda: factor(server) == ("1", 4))
    until(lambda: server.plane.fleet.versions("second") != [])
    (tmp_path / "second" / "1" / "model.onnx").unlink()
    (tmp_path / "second" / "1").rmdir()
    (tmp_path / "second").rmdir()
    until(lambda: server.plane.fleet.versions("second") == [])
    assert server.plane.fleet.unavailable() == []


def test_unloading_waits_for_requests_and_gives_the_memory_back(
    start: Callable[..., Running], repository: Path
) -> None:
    server = start(repository, isolation="process")
    pid = server.plane.fleet.find("affine").instance._worker.pid
    asked = asyncio.run_coroutine_threadsafe(
        server.plane.infer(InferRequest("affine", {"x": X})), server.loop
    )
    server.do(server.plane.fleet.unload("affine"))
    assert asked.result(LIMIT_S).version == "1"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(NotFoundError, match="unloaded"):
        factor(server)
    server.do(server.plane.fleet.load("affine"))
    assert factor(server) == ("1", 2)


def test_a_dead_worker_is_started_again_and_readiness_tells(
    start: Callable[..., Running], repository: Path
) -> None:
    server = start(repository, isolation="process")
    instance = server.plane.fleet.find("affine").instance
    assert server.plane.ready
    os.kill(instance._worker.pid, signal.SIGKILL)
    until(lambda: not server.plane.ready)
    assert get(server, "/v2/health/ready")[0] in (200, 503)
    assert factor(server) == ("1", 2)  # waits for the new worker
    assert factor(server, "mixing")[0] == "1"
    until(lambda: server.plane.ready)


def test_a_thread_that_hangs_makes_the_server_unready(
    start: Callable[..., Running], repository: Path
) -> None:
    server = start(repository, run_timeout_s=0.05)
    session = server.plane.fleet.find("affine").instance._worker._model.session
    gate, run = threading.Event(), session.run

    def held(feeds: Any) -> Any:
        assert gate.wait(LIMIT_S)
        return run(feeds)

    session.run = held
    work = server.plane.infer(InferRequest("affine", {"x": X}))
    asked = asyncio.run_coroutine_threadsafe(work, server.loop)
    until(lambda: get(server, "/v2/health/ready")[0] == 503)
    assert get(server, "/v2/models/affine/ready")[0] == 503
    assert get(server, "/v2/models/mixing/ready")[0] == 200
    gate.set()
    assert asked.result(LIMIT_S).version == "1"
    until(lambda: get(server, "/v2/health/ready")[0] == 200)


def test_what_is_wrong_with_the_repository_is_told(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    put(tmp_path, "good", "1", affine())
    put(tmp_path, "broken", "1", b"nothing")
    put(tmp_path, "odd", "1", mixing())
    (tmp_path / "odd" / "serve.toml").write_text("max_batches = 3\n")
    (tmp_path / "bare.onnx").write_bytes(affine())
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "model.onnx").write_bytes(affine())
    server = start(tmp_path)
    rows = {row["name"]: row for row in get(server, "/v2/repository/index", {})[1]}
    assert {name: row["state"] for name, row in rows.items()} == {
        "good": "READY", "broken": "UNAVAILABLE", "odd": "UNAVAILABLE", "flat": "UNAVAILABLE",
    }  # fmt: skip
    assert "max_batches" in rows["odd"]["reason"]
    assert "move the model into" in rows["flat"]["reason"]
    assert get(server, "/v2/repository/index", {"ready": True})[1] == [rows["good"]]
    with pytest.raises(BusyError, match="max_batches"):
        infer(server, "odd")
    assert server.plane.ready  # the others are served


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_drain_loses_no_accepted_request(
    start: Callable[..., Running], repository: Path, isolation: str
) -> None:
    server = start(repository, isolation=isolation, window_s=0.05)
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    answers: list[tuple[int, Any]] = []

    def ask() -> None:
        while True:
            try:
                answers.append(get(server, "/v2/models/affine/infer", body))
            except (urllib.error.URLError, ConnectionError):
                return  # refused: not accepted

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        until(lambda: len(answers) > 20)
        server.begin_stop()
        for future in asking:
            future.result(LIMIT_S)
    server.stop()
    assert server.drained is True
    good = [answer for status, answer in answers if status == 200]
    assert len(good) > 20
    assert all(answer["outputs"][0]["data"] == [3, 5, 7] for answer in good)
    assert {status for status, _ in answers} <= {200, 503}


def test_a_client_that_leaves_takes_its_request_out_of_the_queue(
    start: Callable[..., Running], repository: Path
) -> None:
    server = start(repository)
    instance = server.plane.fleet.find("affine").instance
    gate, run = asyncio.Event(), instance._worker.run

    async def held(parts: Any, rows: int) -> Any:
        await gate.wait()
        return await run(parts, rows)

    instance._worker.run = held
    first = asyncio.run_coroutine_threadsafe(
        server.plane.infer(InferRequest("affine", {"x": X})), server.loop
    )
    until(lambda: server.plane.in_flight == 1 and instance.queued == 0)
    body = json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    ).encode()
    head = f"POST /v2/models/affine/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        until(lambda: instance.queued == 1)
    until(lambda: instance.queued == 0)
    over_grpc = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
    client = over_grpc.InferenceServerClient(server.grpc)
    tensor = over_grpc.InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(X)
    call = client.async_infer("affine", [tensor], lambda result, error: None)
    until(lambda: instance.queued == 1)
    call.cancel()
    until(lambda: instance.queued == 0)
    client.close()
    server.loop.call_soon_threadsafe(gate.set)
    assert first.result(LIMIT_S).version == "1"
    assert server.plane.in_flight == 0
    assert server.plane.statistics["affine", "1"].execution_count == 1


@pytest.mark.slow
@pytest.mark.parametrize(("isolation", "cycles"), [("process", 25), ("thread", 200)])
def test_loading_and_unloading_leaves_nothing_behind(
    start: Callable[..., Running], repository: Path, isolation: str, cycles: int
) -> None:
    server = start(repository, isolation=isolation)
    fleet = server.plane.fleet
    sizes = []
    for _ in range(cycles):
        server.do(fleet.unload("affine"))
        server.do(fleet.load("affine"))
        assert factor(server) == ("1", 2)
        sizes.append(resident_bytes())
    half = len(sizes) // 2
    growth = np.median(sizes[half:]) - np.median(sizes[:half])
    assert growth < 100_000 * half, sizes  # a session of its own would be far more
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    server.do(fleet.unload("affine"))
    server.do(fleet.load("affine"))
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors + 1
