"""The server as a whole: one event loop with REST, gRPC and the data plane, from start to drain."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from fastapi import APIRouter

from rekindle._errors import NotFoundError, UsageError
from rekindle._log import logger
from rekindle.serve import heap
from rekindle.serve.access import tls
from rekindle.serve.access.exposure import check_exposure
from rekindle.serve.access.gate import Gate
from rekindle.serve.dataplane import DataPlane
from rekindle.serve.grpc.service import make_server
from rekindle.serve.observe.logs import Log
from rekindle.serve.observe.tracing import exporting
from rekindle.serve.rest import Mount, build_app
from rekindle.serve.rest.observed import Observed
from rekindle.serve.settings import Settings

_LINGER_S = 0.3
"""After the last answer: how long requests that were sent meanwhile are still refused in words."""
_ANSWER_S = 3.0
"""How long answers may take to reach their callers at the end."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Server:
    """Bind, serve until told to stop, drain. Use it as an async context manager, or `run`."""

    def __init__(
        self,
        settings: Settings,
        routers: Sequence[APIRouter] = (),
        mounts: Sequence[Mount] = (),
    ) -> None:
        self.settings = settings
        self._routers = routers
        self._mounts = mounts
        self._stop = asyncio.Event()

    async def start(self) -> None:
        """Bind both ports and begin to load the models.

        UsageError where a port is taken, keys or certificate cannot be used, or the server would
        be too open; NotFoundError where there is no repository.
        """
        settings = self.settings
        if not settings.repository.exists():
            raise NotFoundError(
                f"{settings.repository}: no such model repository",
                hint="a folder with <name>/<version>/model.onnx, or a model file",
            )
        check_exposure(settings)
        gate, self._tls = Gate(settings), tls.load(settings.tls_cert, settings.tls_key)
        self._tracing = exporting(settings.otlp_endpoint)
        self.plane = DataPlane(settings)
        if self._tracing is not None:
            self.plane.listeners.add(self._tracing)
        self.plane.listeners.add(Log())
        listening = _listen(settings.host, settings.http_port)
        self._grpc = make_server(self.plane, gate)
        try:
            self.grpc_port = self._bind_grpc()
        except UsageError:
            listening.close()
            raise
        self.http_port: int = listening.getsockname()[1]
        config = uvicorn.Config(
            Observed(
                build_app(self.plane, gate, self._routers, self._mounts), self.plane.listeners
            ),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on" if self._mounts else "off",
            timeout_graceful_shutdown=5,
            ssl_certfile=self._tls.certificate if self._tls else None,
            ssl_keyfile=self._tls.key if self._tls else None,
        )
        self._http = _Uvicorn(config)
        self._serving = asyncio.create_task(self._http.serve(sockets=[listening]))
        await self._grpc.start()
        self._loading = asyncio.create_task(self.plane.fleet.start())

    @property
    def url(self) -> str:
        """Where the HTTP face answers, once started."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{_bracketed(self.settings.host)}:{self.http_port}"

    async def loaded(self) -> None:
        """Wait until every model has been loaded once, or refused."""
        await self._loading

    def stop(self) -> None:
        """Ask the server to drain and end; from the event loop's thread."""
        self._stop.set()

    async def wait(self) -> bool:
        """Serve until `stop`, then drain; whether every request in flight was answered.

        Raises NotFoundError where the repository is gone when its models are first looked for.
        """
        tending = asyncio.create_task(self._tend())
        stopping = asyncio.create_task(self._stop.wait())
        ends = {stopping, self._serving, tending}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        failed = tending.done()
        tending.cancel()
        answered = await self.close()
        if failed:
            tending.result()
        return answered

    async def close(self) -> bool:
        """Drain: no new requests, those in flight are answered, workers end."""
        self._loading.cancel()
        done = await self.plane.drain()
        if self._stop.is_set():  # who is on the way hears a clear no, not a broken connection
            await asyncio.sleep(_LINGER_S)
        self._http.should_exit = True
        await self._grpc.stop(grace=_ANSWER_S)
        await self._serving
        await self.plane.close()
        if self._tracing is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._tracing.close)
        return done

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def _bind_grpc(self) -> int:
        address = f"{_bracketed(self.settings.host)}:{self.settings.grpc_port}"
        try:
            if self._tls is None:
                port = self._grpc.add_insecure_port(address)
            else:
                port = self._grpc.add_secure_port(address, self._tls.grpc())
        except RuntimeError:
            port = 0
        if not port:
            raise _taken(self.settings.host, self.settings.grpc_port, "--grpc-port")
        return int(port)

    async def _tend(self) -> None:
        """Load the models, then look after the repository, if that is wanted, for ever."""
        await self.loaded()
        if self.settings.watch_s is None:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(self.settings.watch_s or 0)
            try:
                await self.plane.fleet.refresh()
            except Exception as error:  # a folder that vanished must not end the watching
                logger.warning("the repository could not be looked at: %s", error)


def run(
    settings: Settings,
    started: Callable[[Server], None],
    loaded: Callable[[Server], None],
    mounts: Sequence[Mount] = (),
) -> bool:
    """Serve until SIGTERM or Ctrl-C; whether every request in flight was answered.

    `started` is called once both ports are open, `loaded` once the models have been loaded.
    """
    heap.keep_freed()
    with asyncio.Runner(loop_factory=new_loop()) as runner:
        return runner.run(_run(Server(settings, mounts=mounts), started, loaded))


async def _run(
    server: Server, started: Callable[[Server], None], loaded: Callable[[Server], None]
) -> bool:
    await server.start()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt ends it
            loop.add_signal_handler(number, server.stop)
    started(server)
    announcing = asyncio.create_task(_announce(server, loaded))
    try:
        return await server.wait()
    finally:
        announcing.cancel()


async def _announce(server: Server, loaded: Callable[[Server], None]) -> None:
    with contextlib.suppress(NotFoundError):  # `wait` tells
        await server.loaded()
        loaded(server)


class _Uvicorn(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the drain comes first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop where it is installed: it is not on Windows."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Bound here, so that a taken port is one clear line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle off only where the protocol is named: it costs 40 ms a request.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if hasattr(socket, "SO_REUSEADDR"):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise _taken(host, port, "--http-port", error.strerror) from None
    found.listen(2048)
    found.setblocking(False)
    return found


def _taken(host: str, port: int, option: str, reason: str | None = None) -> UsageError:
    return UsageError(
        f"{host}:{port} cannot be listened on{f': {reason}' if reason else ''}",
        hint=f"stop what uses it, or choose another {option}",
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
