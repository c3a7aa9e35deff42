"""The one entry for inference: REST, gRPC, the web page and the cluster all call `infer`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict

from rekindle._errors import BusyError, DeadlineError, InputError, RekindleError
from rekindle.serve.batching.batcher import Answer, Batch
from rekindle.serve.events import Listener, Listeners
from rekindle.serve.fleet import Fleet, Slot, SlotGoneError
from rekindle.serve.instance import Instance
from rekindle.serve.messages import InferRequest, InferResponse
from rekindle.serve.observe import calls
from rekindle.serve.settings import Settings
from rekindle.serve.statistics import ModelStatistics


class DataPlane:
    """Models and requests, without any protocol. Made and used in one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.listeners = Listeners()
        self.statistics: defaultdict[tuple[str, str], ModelStatistics] = defaultdict(
            ModelStatistics
        )
        self.listeners.add(_Counting(self.statistics))
        self.fleet = Fleet(settings, self.listeners)
        self.draining = False
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here: started, all workers alive, not draining."""
        return self.fleet.healthy and not self.draining

    @property
    def in_flight(self) -> int:
        return self._in_flight

    async def infer(self, request: InferRequest) -> InferResponse:
        """Answer one request.

        Raises NotFoundError, InputError, BusyError (full, draining, worker lost), DeadlineError,
        MemoryLimitError, and what the run raises. Cancelled, the request leaves its queue.
        """
        start = time.perf_counter()
        response: InferResponse | None = None
        failure: BaseException | None = None
        self.admit()
        self._in_flight += 1
        self._quiet.clear()
        try:
            response = await self._infer(request)
        except BaseException as error:
            failure = error
            raise
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._quiet.set()
            self._tell(request, time.perf_counter() - start, response, failure)
        return response

    def admit(self, model: str = "", version: str = "") -> None:
        """BusyError while draining, or where the model's queue is full.

        Called early, before a body is read: under overload a refusal must be cheap.
        """
        if self.draining:
            raise BusyError("the server is shutting down", hint="try another server")
        if model and (slot := self.fleet.full(model, version)) is not None:
            error = BusyError(
                f"{self.settings.max_queue} requests wait already", hint="try again later"
            )
            refused = InferRequest(model, {}, version, served_by=slot.entry.version)
            self._tell(refused, 0.0, None, error)
            raise error

    def _tell(
        self,
        request: InferRequest,
        seconds: float,
        response: InferResponse | None,
        failure: BaseException | None,
    ) -> None:
        if (call := calls.current.get()) is not None:
            call.inferred(request, response, failure)
        self.listeners.request_done(request, seconds, response, failure)

    async def drain(self) -> bool:
        """Refuse new requests and wait for those in flight; whether all were done in time."""
        self.draining = True
        try:
            await asyncio.wait_for(self._quiet.wait(), self.settings.drain_s)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        await self.fleet.close()

    async def model(
        self, name: str, version: str = "", precision: str = ""
    ) -> tuple[Slot, Instance]:
        """A model's slot and its loaded instance, to look at; loads it where needed."""
        asked = InferRequest(name, {}, version, precision=precision)
        slot, instance = await self._pin(asked)
        self.fleet.release(slot)
        return slot, instance

    async def _pin(self, request: InferRequest) -> tuple[Slot, Instance]:
        """The model a request wants, pinned; the new one where it is replaced meanwhile."""
        while True:
            slot = self.fleet.find(request.model, request.version)
            request.served_by = slot.entry.version
            if request.precision:
                slot = self.fleet.variant(slot, request.precision)
            with contextlib.suppress(SlotGoneError):
                return slot, await self.fleet.acquire(slot)

    async def _infer(self, request: InferRequest) -> InferResponse:
        deadline = request.deadline or time.monotonic() + self.settings.timeout_s
        try:
            # The loop's own clock may have another origin than the monotonic clock.
            async with asyncio.timeout(max(deadline - time.monotonic(), 0.0)):
                slot, instance = await self._pin(request)
                try:
                    answer = await instance.infer(request, deadline)
                finally:
                    self.fleet.release(slot)
        except TimeoutError:
            raise DeadlineError("the answer was not ready within the deadline") from None
        return _response(request, slot, answer)


def _response(request: InferRequest, slot: Slot, answer: Answer) -> InferResponse:
    outputs = answer.outputs
    if request.outputs:
        if unknown := [name for name in request.outputs if name not in outputs]:
            raise InputError(
                f"unknown output {', '.join(unknown)}", hint=f"there are {', '.join(outputs)}"
            )
        outputs = {name: outputs[name] for name in request.outputs}
    entry, batch = slot.entry, answer.batch
    return InferResponse(
        entry.name,
        entry.version,
        outputs,
        request.id,
        batch_rows=batch.rows,
        queue_s=answer.queue_s,
        run_s=batch.run_s,
        compute_s=batch.compute_s,
        started=batch.started,
    )


class _Counting(Listener):
    """Keeps the statistics."""

    def __init__(self, table: defaultdict[tuple[str, str], ModelStatistics]) -> None:
        self._table = table

    def request_done(
        self,
        request: InferRequest,
        seconds: float,
        response: InferResponse | None,
        error: BaseException | None,
    ) -> None:
        if response is not None:
            self._table[response.model, response.version].answered(seconds, ok=True)
        elif isinstance(error, RekindleError) and request.served_by:
            self._table[request.model, request.served_by].answered(seconds, ok=False)

    def batch_ran(self, model: str, version: str, batch: Batch) -> None:
        self._table[model, version].ran(batch)
