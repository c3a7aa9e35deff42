"""`rekindle serve`: a folder of models over REST and gRPC."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

import rekindle
from rekindle._errors import BusyError, MissingExtraError, NotBuiltError, UsageError
from rekindle.cli._commands import Outcome, commands
from rekindle.cli._options import DeviceOption, ProviderOption, check_provider
from rekindle.cli._page import Page, stderr_console

if TYPE_CHECKING:
    from rekindle.serve.rest import Mount
    from rekindle.serve.server import Server
    from rekindle.serve.settings import Settings

_NEEDED = ("fastapi", "uvicorn", "grpc", "google.protobuf", "orjson", "multipart",
           "prometheus_client", "limits")  # fmt: skip
_ISOLATIONS = ("process", "thread")
_LOG_FORMATS = ("text", "json")


Repository = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODELS]",
        help="Folder with <name>/<version>/model.onnx, or one model file. "
        "The bundled models where none is named.",
        show_default=False,
    ),
]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")]
MemoryBudget = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="What loaded models may take together, as in 6GB."),
]
ModelControl = Annotated[
    bool, typer.Option("--allow-model-control", help="Let callers load and unload models.")
]
IsolationOption = Annotated[
    str | None,
    typer.Option(help="process: each model in one of its own; thread: light.", metavar="KIND"),
]
MaxBatch = Annotated[
    int, typer.Option(min=1, max=4096, help="Rows that one run takes; 1: no batching.")
]
Window = Annotated[
    float, typer.Option(min=0, max=10_000, help="How long an idle model waits for company.")
]
MaxQueue = Annotated[int, typer.Option(min=1, help="Requests that may wait for one model.")]
Timeout = Annotated[
    float, typer.Option(min=0.001, help="Seconds for a request that names no deadline.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of each model.")]
Watch = Annotated[
    float | None,
    typer.Option(min=0.1, metavar="SECONDS", help="Take up changed models this often."),
]
ApiKeys = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Let in only who has a key of this file (rekindle keys)."),
]
RateLimit = Annotated[
    str | None,
    typer.Option(metavar="RATE", help="How often one caller may ask, as in 10/second."),
]
MaxRequest = Annotated[str, typer.Option(metavar="SIZE", help="The largest request that is taken.")]
TlsCert = Annotated[
    Path | None, typer.Option(metavar="PEM", help="Certificate chain: encrypt both protocols.")
]
TlsKey = Annotated[Path | None, typer.Option(metavar="PEM", help="The certificate's key.")]

LogFormatOption = Annotated[
    str, typer.Option(help="text, or json: one object a line on stderr.", metavar="KIND")
]
AccessLog = Annotated[
    bool, typer.Option("--access-log/--no-access-log", help="Log a line for each call.")
]
OtlpEndpoint = Annotated[
    str | None, typer.Option(metavar="URL", help="Send traces there, as in http://127.0.0.1:4318.")
]
TritonMetrics = Annotated[
    bool, typer.Option("--triton-metrics", help="Metrics under Triton's names, too.")
]
Precisions = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Other precisions that callers may choose, as in fp16,int8w (OpenCL).",
        show_default=False,
    ),
]
Web = Annotated[bool, typer.Option("--web", help="A page to look at photos with, at /.")]
Lang = Annotated[
    str | None,
    typer.Option(metavar="CODE", help="Language of --web: en, es. As the browser asks if left out.",
                 show_default=False),
]  # fmt: skip


def serve(
    repository: Repository = None,
    host: Host = "127.0.0.1",
    http_port: Port = 8000,
    grpc_port: Port = 8001,
    memory_budget: MemoryBudget = None,
    allow_model_control: ModelControl = False,
    isolation: IsolationOption = None,
    provider: ProviderOption = "auto",
    device: DeviceOption = None,
    max_batch: MaxBatch = 16,
    window_ms: Window = 2.0,
    max_queue: MaxQueue = 256,
    timeout: Timeout = 60.0,
    threads: Threads = None,
    watch: Watch = None,
    log_format: LogFormatOption = "text",
    access_log: AccessLog = True,
    triton_metrics: TritonMetrics = False,
    otlp_endpoint: OtlpEndpoint = None,
    api_keys: ApiKeys = None,
    rate_limit: RateLimit = None,
    max_request: MaxRequest = "64MiB",
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    precisions: Precisions = None,
    web: Web = False,
    lang: Lang = None,
) -> Outcome:
    """Serve a folder of models over REST and gRPC, until Ctrl-C or SIGTERM."""
    chosen: dict[str, Any] = {
        "host": host,
        "http_port": http_port,
        "grpc_port": grpc_port,
        "allow_model_control": allow_model_control,
        "provider": check_provider(provider, device),
        "device": device,
        "max_batch": max_batch,
        "window_s": window_ms / 1e3,
        "max_queue": max_queue,
        "timeout_s": timeout,
        "threads": threads,
        "precisions": _precisions(precisions),
        "watch_s": watch,
        "triton_metrics": triton_metrics,
        "otlp_endpoint": otlp_endpoint,
        "max_request_bytes": _size(max_request),
        "api_keys": api_keys,
        "rate_limit": rate_limit,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
    }
    settings = _settings(repository, memory_budget, isolation, chosen)
    return _run(settings, _mounts(web, lang), log_format, access_log)


def _run(settings: Settings, mounts: list[Mount], log_format: str, access_log: bool) -> Outcome:
    """Serve until the signal; BusyError where requests were not answered in time."""
    if log_format not in _LOG_FORMATS:
        raise UsageError(f"unknown log format {log_format!r}", hint="one of text, json")
    from rekindle.serve.observe.logs import logging_to
    from rekindle.serve.server import run

    # In JSON a line is an event, never a sentence for people.
    page = Page(stderr_console()) if log_format == "text" else None
    with logging_to(sys.stderr, log_format, access_lines=access_log):  # type: ignore[arg-type]
        answered = run(
            settings,
            started=lambda server: _say_started(page, server, web=bool(mounts)),
            loaded=lambda server: _say_loaded(page, server),
            mounts=mounts,
        )
    if not answered:
        raise BusyError(f"requests were still running {settings.drain_s:g} s after the signal")
    return Outcome(
        {"stopped": True, "answered": True},
        lambda shown: shown.line("Stopped; every request in flight was answered."),
    )


def _precisions(text: str | None) -> tuple[str, ...]:
    from rekindle.runtime._options import Precision

    known = get_args(Precision)
    names = tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"unknown precision {unknown[0]!r}", hint=f"one of {', '.join(known)}")
    return names


def _size(text: str) -> int:
    from rekindle.runtime._options import parse_bytes

    return parse_bytes(text)


def _settings(
    repository: str | None, budget: str | None, isolation: str | None, chosen: dict[str, Any]
) -> Settings:
    if missing := [name for name in _NEEDED if not _installed(name)]:
        raise MissingExtraError(
            f"serving needs {', '.join(missing)}", hint="pip install 'rekindle[serve]'"
        )
    if isolation == "process" and sys.platform == "win32":
        raise NotBuiltError("--isolation process is not built for Windows", hint="use thread")
    if isolation is not None and isolation not in _ISOLATIONS:
        raise UsageError(f"unknown isolation {isolation!r}", hint="one of process, thread")
    from rekindle.hub.names import BUNDLED
    from rekindle.serve.settings import DEFAULT_ISOLATION, Settings

    return Settings(
        Path(repository) if repository else BUNDLED,
        memory_budget=_size(budget) if budget else None,
        isolation=isolation or DEFAULT_ISOLATION,  # type: ignore[arg-type]
        **chosen,
    )


def _mounts(web: bool, language: str | None) -> list[Mount]:
    if not web:
        if language is not None:
            raise UsageError("--lang belongs to --web", hint="rekindle serve --web --lang es")
        return []
    from rekindle.web import pages

    return [pages(language)]


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _say_started(page: Page | None, server: Server, *, web: bool) -> None:
    settings = server.settings
    if page is None:
        from rekindle.serve.observe.logs import event

        event("listening", host=settings.host, http_port=server.http_port,
              grpc_port=server.grpc_port, models=str(settings.repository),
              isolation=settings.isolation, memory_budget=settings.memory_budget,
              version=rekindle.__version__)  # fmt: skip
        return
    page.line(f"REST   {server.url}  (API: /docs)")
    if web:
        page.line(f"page   {server.url}/")
    page.line(f"gRPC   {settings.host}:{server.grpc_port}")
    budget = f"{settings.memory_budget:,} bytes" if settings.memory_budget else "no limit"
    page.line(f"models {settings.repository}  (isolation: {settings.isolation}, memory: {budget})")
    if not settings.allow_model_control:
        page.line("Callers may not load or unload models (--allow-model-control).", style="dim")


def _say_loaded(page: Page | None, server: Server) -> None:
    plane = server.plane
    if page is None:
        from rekindle.serve.observe.logs import event

        event("started", ready=sum(slot.ready for slot in plane.fleet.slots()))
        return
    for slot in plane.fleet.slots():
        entry, instance = slot.entry, slot.instance
        label = f"{entry.name} version {entry.version}: "
        if instance is not None:
            opened = instance.opened
            batch = f"batches up to {instance.max_batch}" if opened.batchable else "no batching"
            page.line(label, f"{opened.placement}; {batch} ({opened.batch_reason})")
        else:
            page.line(label, " ".join(slot.state), style="" if slot.ready else "red")
    for name, version, reason in plane.fleet.unavailable():
        page.line(f"{name} {version}: {reason}", style="red")
    ready = [slot for slot in plane.fleet.slots() if slot.instance is not None]
    if ready:
        page.next_steps([(_example(server), "ask it something")])


def _example(server: Server) -> str:
    """A curl command for the first model, with zeros for its inputs."""
    slot = next(slot for slot in server.plane.fleet.slots() if slot.instance is not None)
    assert slot.instance is not None
    url = f"{server.url}/v2/models/{slot.entry.name}"
    if server.settings.api_keys is not None:
        url = f"-H 'X-API-Key: rk_...' {url}"
    specs = slot.instance.opened.inputs
    sizes = [d for spec in specs for d in spec.shape[1:] if isinstance(d, int)]
    if len(specs) != 1 or len(sizes) > 1 or sum(sizes) > 16:
        return f"curl {url}"  # inputs too large for a command line: what they must look like
    from rekindle.serve.tensors import DATATYPES

    spec = specs[0]
    shape = [d if isinstance(d, int) else 1 for d in spec.shape]
    count = 1
    for d in shape:
        count *= d
    tensor = {"name": spec.name, "shape": shape, "datatype": DATATYPES[spec.dtype],
              "data": [0] * count}  # fmt: skip
    return f"curl {url}/infer -d '{json.dumps({'inputs': [tensor]})}'"


commands.register("serve", serve)
