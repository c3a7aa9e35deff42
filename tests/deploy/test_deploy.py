"""Dockerfile, compose, Kubernetes, cloud-init, nginx: what they name exists, and they agree."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from rekindle.cli._commands import build
from rekindle.serve import Settings
from rekindle.serve.access.gate import Gate
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.rest import build_app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DEFAULTS = Settings(Path("models"))


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined, comments left out."""
    lines = [line for line in text_of("Dockerfile").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(word, rest.strip()) for word, _, rest in pairs]


def last(word: str) -> str:
    return [rest for name, rest in instructions() if name == word][-1]


def deployment() -> Any:
    objects = list(yaml.safe_load_all(text_of("kubernetes/rekindle.yml")))
    return next(o for o in objects if o["kind"] == "Deployment")["spec"]["template"]["spec"]


def compose() -> Any:
    return yaml.safe_load(text_of("compose.yml"))


def test_the_image_runs_as_nobody_in_particular_and_can_write_only_its_cache() -> None:
    assert last("USER") == "10001:10001"
    container = deployment()["containers"][0]
    assert deployment()["securityContext"]["runAsUser"] == 10001
    cache = re.findall(r"REKINDLE_CACHE_DIR=(\S+)", last("ENV"))
    assert json.loads(last("VOLUME")) == cache
    # PoCL has no device without a cache that it can write: seen with a read-only root.
    assert re.findall(r"XDG_CACHE_HOME=(\S+)", last("ENV")) == cache
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    service = compose()["services"]["rekindle"]
    assert {*cache, "/tmp", "/models"} <= mounts
    assert {f"kernels:{cache[0]}"} <= set(service["volumes"])
    assert service["read_only"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    for capabilities in (service["cap_drop"], container["securityContext"]["capabilities"]["drop"]):
        assert capabilities == ["ALL"]


def test_what_is_copied_is_not_ignored_and_exists() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            for name in rest.split()[:-1]:
                assert (ROOT / name).exists()
                assert f"!{name}" in ignored


def test_its_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = re.findall(r"'\.\[(.*?)\]'", text_of("Dockerfile"))
    assert asked == ["otel,pocl,serve"]
    assert set(asked[0].split(",")) <= set(project["optional-dependencies"])


def test_ports_and_probes_are_the_servers(tmp_path: Path) -> None:
    ports = {DEFAULTS.http_port, DEFAULTS.grpc_port}
    assert {int(port) for port in last("EXPOSE").split()} == ports
    container = deployment()["containers"][0]
    assert {port["containerPort"] for port in container["ports"]} == ports
    published = compose()["services"]["rekindle"]["ports"]
    assert {int(port.rpartition(":")[2]) for port in published} == ports
    assert all(port.startswith("127.0.0.1:") for port in published)
    upstreams = re.findall(r"server 127\.0\.0\.1:(\d+);", text_of("nginx/rekindle.conf"))
    assert {int(port) for port in upstreams} == ports
    settings = Settings(tmp_path)
    routes = build_app(DataPlane(settings), Gate(settings)).openapi()["paths"]
    probes = {container[f"{kind}Probe"]["httpGet"]["path"]
              for kind in ("startup", "liveness", "readiness")}  # fmt: skip
    health = re.findall(r"http://127\.0\.0\.1:8000(/[\w/]+)", last("HEALTHCHECK"))
    assert len(health) == 1
    assert {*probes, *health, "/metrics"} <= set(routes)


@pytest.mark.parametrize("where", ["Dockerfile", "compose", "kubernetes"])
def test_the_servers_options_exist(where: str) -> None:
    if where == "Dockerfile":
        arguments = json.loads(last("CMD"))
    elif where == "compose":
        arguments = compose()["services"]["rekindle"]["command"]
    else:
        arguments = deployment()["containers"][0]["args"]
    assert arguments[:2] == ["serve", "/models"]
    known = {option for parameter in build("serve").params for option in parameter.opts}
    asked = {a.partition("=")[0] for a in arguments if a.startswith("--")}
    assert "--host" in asked
    assert asked <= known


def test_there_is_time_to_drain() -> None:
    grace = compose()["services"]["rekindle"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > DEFAULTS.drain_s
    assert deployment()["terminationGracePeriodSeconds"] > DEFAULTS.drain_s


def test_the_proxy_takes_what_the_server_takes_and_waits_longer() -> None:
    conf = text_of("nginx/rekindle.conf")
    sizes = [int(size) * 2**20 for size in re.findall(r"client_max_body_size (\d+)m;", conf)]
    assert sizes[0] == DEFAULTS.max_request_bytes
    assert sizes[1] > sizes[0]  # a message around the tensors
    waits = [int(s) for s in re.findall(r"(?:proxy|grpc)_read_timeout (\d+)s;", conf)]
    assert len(waits) == 2
    assert min(waits) > DEFAULTS.timeout_s
    assert conf.count("{") == conf.count("}")


def test_cloud_init_writes_a_script_that_is_one() -> None:
    text = text_of("cloud/cloud-init.yml")
    assert text.startswith("#cloud-config\n")
    document = yaml.safe_load(text)
    written = {file["path"]: file["content"] for file in document["write_files"]}
    commands = [command[0] for command in document["runcmd"]]
    assert set(written) <= set(commands)
    scripts = [*written.values(), *(p.read_text() for p in sorted(DEPLOY.glob("cloud/*.sh")))]
    assert len(scripts) == 4
    for script in scripts:
        done = subprocess.run(
            ["sh", "-n"], input=script, text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
    for name in re.findall(r"deploy/(\w+)", written["/etc/rekindle/start"]):
        assert (DEPLOY / name).exists()
    for name in re.findall(r"-f (compose[\w.]+)", written["/etc/rekindle/start"]):
        assert (DEPLOY / name).is_file()


def test_check_is_a_script() -> None:
    done = subprocess.run(["bash", "-n", DEPLOY / "check.sh"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
