"""Dashboard, alerts and Prometheus: all that they name is what the server says."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from serving import LIMIT_S, Running, affine, put

from rekindle.device.telemetry import Telemetry
from rekindle.serve import Settings
from rekindle.serve.rest import metrics as route

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana/dashboards/rekindle.json"
ALERTS = DEPLOY / "prometheus/alerts.yml"
GIVEN = {"instance", "job", "le"}
"""Labels that Prometheus or a histogram adds."""
BODY = b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}'
CARD = Telemetry(
    card="card0", pci_address="0000:01:00.0", device_id="67df", name="Radeon RX 580",
    busy_percent=37, vram_total_bytes=2**33, vram_used_bytes=2**30, core_clock_hz=1_266_000_000,
    memory_clock_hz=2_000_000_000, temperature_c=61.5, power_w=87.25, fan_rpm=1200,
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def expressions() -> dict[str, str]:
    """Every PromQL expression, by where it stands."""
    found = {}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            found[rule["alert"]] = rule["expr"]
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a card and a budget, that has answered one request."""
    root = tmp_path_factory.mktemp("models")
    put(root, "affine", "1", affine())
    settings = Settings(
        root, http_port=0, grpc_port=0, isolation="process", provider="onnxruntime", threads=1,
        memory_budget=2**40,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(route, "read_telemetry", lambda: (CARD,))
        running = Running(settings)
    request = urllib.request.Request(f"http://{running.http}/v2/models/affine/infer", BODY)
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        assert answer.status == 200
    yield running
    running.stop()


@pytest.fixture(scope="module")
def labels(server: Running) -> dict[str, set[str]]:
    """The labels of every series that the server has, by name."""
    with urllib.request.urlopen(f"http://{server.http}/metrics", timeout=LIMIT_S) as answer:
        text = answer.read().decode()
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("where", list(expressions()))
def test_every_name_and_label_is_one_of_the_servers(
    where: str, labels: dict[str, set[str]]
) -> None:
    text = expressions()[where]
    names = set(re.findall(r"\b(?:rekindle|process|python)_\w+", text))
    assert names or text.startswith("up{")
    assert names <= set(labels)
    known = GIVEN.union(*(labels[name] for name in names))
    asked = set(re.findall(r"(\w+) *(?:=~|!~|!=|=)", " ".join(re.findall(r"\{(.*?)\}", text))))
    grouped = {
        label.strip() for found in re.findall(r"by \((.*?)\)", text) for label in found.split(",")
    }
    assert asked | grouped <= known


def test_what_the_server_counts_is_shown_or_has_a_reason(labels: dict[str, set[str]]) -> None:
    shown = " ".join(expressions().values())
    silent = {
        "rekindle_build_info", "rekindle_call_duration_seconds", "rekindle_memory_used_bytes",
        "rekindle_model_load_duration_seconds", "rekindle_device_core_clock_hertz",
        "rekindle_device_memory_clock_hertz", "rekindle_device_fan_revolutions_per_minute",
    }  # fmt: skip
    ours = {re.sub(r"_(bucket|sum|count)$", "", n) for n in labels if n.startswith("rekindle_")}
    assert {name for name in ours if name not in shown} == silent


def test_panels_do_not_overlap_and_fill_the_width() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells)) == 24 * (1 + max(y for _, y in cells))


def test_the_pieces_find_each_other() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    for name in prometheus["rule_files"]:
        assert (DEPLOY / "prometheus" / name).is_file()
    targets = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    assert [target.split(":")[0] in compose["services"] for target in targets] == [True]
    provided = DEPLOY / "grafana/provisioning"
    source = yaml.safe_load((provided / "datasources/prometheus.yml").read_text(encoding="utf-8"))
    address = urllib.parse.urlsplit(source["datasources"][0]["url"])
    assert address.hostname in compose["services"]
    folder = yaml.safe_load((provided / "dashboards/rekindle.yml").read_text(encoding="utf-8"))
    mounted = [v.split(":")[1] for v in compose["services"]["grafana"]["volumes"]]
    assert folder["providers"][0]["options"]["path"] in mounted


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: prometheus)")
    return found


def test_promtool_accepts_the_rules_and_their_tests() -> None:
    for arguments in (("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")):
        done = subprocess.run(
            [tool("promtool"), *arguments], cwd=DEPLOY / "prometheus", capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def query(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real Prometheus that has scraped the server twice; ask it with PromQL."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    text = (DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8")
    text = text.replace("rekindle:8000", server.http).replace("15s", "1s")
    (folder / "prometheus.yml").write_text(text, encoding="utf-8")
    shutil.copy(ALERTS, folder)
    process = subprocess.Popen(
        [tool("prometheus"), f"--config.file={folder}/prometheus.yml",
         f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={folder}/data"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ,
    )  # fmt: skip

    def ask(expression: str) -> list[Any]:
        url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode(
            {"query": expression}
        )
        with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:
            found: list[Any] = json.load(answer)["data"]["result"]
            return found

    try:
        _until(lambda: ask("count_over_time(rekindle_ready[1m]) >= 3"))
        yield ask
    finally:
        process.terminate()
        process.wait(LIMIT_S)


def _until(check: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            if check():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.2)  # another program's start: there is nothing to wait on


@pytest.mark.slow
def test_a_real_prometheus_answers_every_panel(server: Running, query: Any) -> None:
    for where, text in expressions().items():
        if where.startswith("Rekindle"):
            continue
        filled = text.replace("$__rate_interval", "30s").replace('"$job"', '"rekindle"')
        filled = filled.replace("$instance", ".*").replace("$model", ".+")
        assert query(filled), where
    assert float(query('up{job="rekindle"}')[0]["value"][1]) == 1
