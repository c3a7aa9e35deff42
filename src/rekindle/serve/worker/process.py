"""A worker in a process of its own: ending it gives all its memory back, and its crash is its own.

Messages go over a socket, tensors through two regions of shared memory: the server writes inputs
into one while nothing runs, the worker writes outputs into the other.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from rekindle import _config
from rekindle._errors import BusyError
from rekindle.graph.ir import Array
from rekindle.serve.worker.job import (
    Job,
    Opened,
    Ran,
    WorkerLostError,
    pack,
    rows_of,
    unpack_opened,
)
from rekindle.serve.worker.link import Decoder, encode, unpack_error
from rekindle.serve.worker.shared import Region, copied

_TICK_S = 1.0
_SUSPECT = 2
"""Ticks without a heartbeat after which a worker no longer counts as alive."""
_END_S = 5.0
"""A process that does not end by itself within this time is killed."""


class ProcessWorker:
    """The server's side of a worker process."""

    def __init__(
        self, *, hang_s: float, run_timeout_s: float, lost: Callable[[], None] = lambda: None
    ) -> None:
        """`lost` is called when the process dies, or is killed because it hangs, while idle."""
        self._hang_s = hang_s
        self._run_timeout_s = run_timeout_s
        self._lost = lost
        self._process: subprocess.Popen[bytes] | None = None
        self._link: _Link | None = None
        self._monitor: asyncio.TimerHandle | None = None
        self._regions: list[Region] = []
        self._beats = (-1, 0)
        self._open = False

    @property
    def alive(self) -> bool:
        return self._open and self._connected and self._beats[1] < _SUSPECT

    @property
    def _connected(self) -> bool:
        return self._link is not None and not self._link.ended

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process else None

    async def open(self, job: Job) -> Opened:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        self._regions = [Region(), Region()]
        self._inputs, self._outputs = self._regions
        try:
            # A few milliseconds of the loop; in a thread, a cancelled load would leave it behind.
            self._process = _spawn((theirs.fileno(), *(r.descriptor for r in self._regions)))
        finally:
            theirs.close()
        ours.setblocking(False)
        _, self._link = await loop.create_unix_connection(lambda: _Link(self._ended), sock=ours)
        try:
            answer = await self._ask({"do": "open", "job": pack(job)})
        except WorkerLostError:
            status = await loop.run_in_executor(None, _finish, self._process)
            raise WorkerLostError(
                f"the worker process died while it opened the model (status {status})",
                hint="a negative status is a signal: -9 is what the system sends out of memory",
            ) from None
        self._open = True
        self._tick()
        return unpack_opened(answer["opened"])

    async def run(self, parts: Sequence[Mapping[str, Array]], rows: int) -> Ran:
        if not self._connected:
            raise WorkerLostError("the model's worker is gone", hint="try again")
        places = self._inputs.gather(parts, rows, sum(map(rows_of, parts)))
        message = {"do": "run", "inputs": places, "size": self._inputs.size}
        timer = asyncio.get_running_loop().call_later(self._run_timeout_s, self._kill)
        try:
            answer = await self._ask(message)
        finally:
            timer.cancel()
        if answer["size"] != self._outputs.size:
            self._outputs.map(answer["size"])
        outputs = copied(self._outputs, answer["outputs"])
        return Ran(
            outputs, answer["input_s"], answer["run_s"], answer["output_s"], answer["nbytes"]
        )

    async def close(self) -> None:
        if self._monitor is not None:
            self._monitor.cancel()
        self._open = False
        link, self._link = self._link, None
        if link is not None:
            link.close()
        process, self._process = self._process, None
        if process is not None:
            await asyncio.get_running_loop().run_in_executor(None, _finish, process)
        while self._regions:
            self._regions.pop().close()

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._link is not None
        answer = await self._link.ask(encode(message))
        if "error" in answer:
            raise unpack_error(answer["error"])
        return answer

    def _ended(self, *, busy: bool) -> None:
        """The connection broke and we did not close it."""
        if self._monitor is not None:
            self._monitor.cancel()
        if self._open and not busy:
            self._lost()

    def _tick(self) -> None:
        """Once a second: has the heart beaten? Counted in ticks, since a machine that slept, or a
        server that was stopped itself, must not take its workers for dead.
        """
        count = int(self._outputs.counter()[0])
        last, missed = self._beats
        self._beats = (count, 0 if count != last else missed + 1)
        if self._beats[1] * _TICK_S >= self._hang_s:
            self._kill()
            return
        self._monitor = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _kill(self) -> None:
        """SIGKILL works on a stopped process, too; the broken connection does the rest."""
        if self._process is not None:
            self._process.kill()


class _Link(asyncio.Protocol):
    """The connection: one question at a time."""

    def __init__(self, ended: Callable[..., None]) -> None:
        self._decoder = Decoder()
        self._on_end = ended
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop has its own classes

    def data_received(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(message)

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True
        busy = self._answer is not None and not self._answer.done()
        if self._answer is not None and busy:
            self._answer.set_exception(
                WorkerLostError("the model's worker died while it ran this", hint="try again")
            )
        self._on_end(busy=busy)

    async def ask(self, data: bytes) -> dict[str, Any]:
        if self.ended or self._transport is None:
            raise WorkerLostError("the model's worker is gone", hint="try again")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._answer

    def close(self) -> None:
        self._on_end = lambda *, busy: None
        if self._transport is not None:
            self._transport.close()


def _spawn(descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Start the process. It finds Rekindle where we have it, installed or not."""
    environment = _config.environment() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "rekindle.serve.worker.child", *map(str, descriptors)]
    try:
        return subprocess.Popen(
            command, pass_fds=descriptors, stdin=subprocess.DEVNULL, env=environment
        )
    except OSError as error:
        raise BusyError(f"no worker process can be started: {error}") from None


def _finish(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end, or bring it about; the exit status."""
    try:
        return process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
