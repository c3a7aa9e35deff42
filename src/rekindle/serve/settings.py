"""How a server is run: every option, its default, and what it means."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Isolation = Literal["process", "thread"]
DEFAULT_ISOLATION: Isolation = "thread" if sys.platform == "win32" else "process"
"""A process for each model, but on Windows, where handing over its memory is not built."""


@dataclass(frozen=True)
class Settings:
    """Options of a server. Amounts of memory are in bytes, times in seconds."""

    repository: Path
    host: str = "127.0.0.1"
    http_port: int = 8000
    """0: any free port."""
    grpc_port: int = 8001
    memory_budget: int | None = None
    """What loaded models may take together; None: no limit."""
    allow_model_control: bool = False
    """Whether callers may load and unload models."""
    api_keys: Path | None = None
    """A file of API keys (`rekindle keys`); None: everybody may call."""
    rate_limit: str | None = None
    """How often one caller may ask, as in "10/second"; None: as often as it likes."""
    tls_cert: Path | None = None
    """Certificate chain and key in PEM: both protocols are then encrypted."""
    tls_key: Path | None = None
    isolation: Isolation = DEFAULT_ISOLATION
    provider: str = "auto"
    device: str | None = None
    precision: str = "model"
    precisions: tuple[str, ...] = ()
    """Other precisions that callers may ask for; each takes memory of its own while it is used."""
    threads: int | None = None
    """CPU threads of each model, for providers that have such a setting."""
    max_batch: int = 16
    """Rows that one run of a model takes at most; a model's serve.toml may say otherwise."""
    window_s: float = 0.002
    """How long an idle model waits for company; less where waiting has not paid."""
    max_queue: int = 256
    """Requests that wait for one model; more are answered 503."""
    timeout_s: float = 60.0
    """Deadline of a request that names none."""
    max_request_bytes: int = 64 * 2**20
    max_pending_bytes: int = 2**30
    """Requests that are being read or answered together; more are answered 503."""
    load_timeout_s: float = 600.0
    room_s: float = 30.0
    """How long a load waits until models in use become idle and leave room for it."""
    hang_s: float = 5.0
    """A worker process without a heartbeat for so long is killed and started again."""
    run_timeout_s: float = 60.0
    """A worker process that runs one batch for longer is killed and started again."""
    drain_s: float = 30.0
    """How long requests in flight may take to finish after SIGTERM."""
    watch_s: float | None = None
    """Look for new and changed versions this often; None: only when asked to."""
    triton_metrics: bool = False
    """Give the metrics under Triton's names, too."""
    otlp_endpoint: str | None = None
    """Send traces there; None: as OpenTelemetry's variables say."""
