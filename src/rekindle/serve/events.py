"""What happens in the server, told to whoever listens: metrics, logs, tests.

A listener is a subclass with the methods it cares for. It is called in the event loop and must
return at once.
"""

from __future__ import annotations

from rekindle._errors import RekindleError
from rekindle.serve.batching.batcher import Batch
from rekindle.serve.messages import InferRequest, InferResponse
from rekindle.serve.observe.calls import Call


class Listener:
    """Does nothing; override what is wanted."""

    def call_began(self, call: Call) -> None:
        """Somebody calls: of the answer nothing is known yet."""

    def call_done(self, call: Call) -> None:
        """A call has its answer, or its caller has left."""

    def request_done(
        self,
        request: InferRequest,
        seconds: float,
        response: InferResponse | None,
        error: BaseException | None,
    ) -> None:
        """A request was answered: with a response, or with an error."""

    def batch_ran(self, model: str, version: str, batch: Batch) -> None:
        """A model ran once, for one or more requests."""

    def model_loaded(self, model: str, version: str, nbytes: int, seconds: float) -> None:
        """A model is loaded and warm."""

    def model_gone(self, model: str, version: str, reason: str) -> None:
        """A loaded model was given up: `evicted`, `unloaded`, `replaced` or `shutdown`."""

    def load_failed(self, model: str, version: str, error: RekindleError) -> None:
        """A model could not be loaded."""

    def worker_lost(self, model: str, version: str, reason: str) -> None:
        """A worker process died or hung; it is started again."""


class Listeners(Listener):
    """Tells every listener in turn."""

    def __init__(self) -> None:
        self._all: list[Listener] = []

    def add(self, listener: Listener) -> None:
        self._all.append(listener)

    def call_began(self, call: Call) -> None:
        for listener in self._all:
            listener.call_began(call)

    def call_done(self, call: Call) -> None:
        for listener in self._all:
            listener.call_done(call)

    def request_done(
        self,
        request: InferRequest,
        seconds: float,
        response: InferResponse | None,
        error: BaseException | None,
    ) -> None:
        for listener in self._all:
            listener.request_done(request, seconds, response, error)

    def batch_ran(self, model: str, version: str, batch: Batch) -> None:
        for listener in self._all:
            listener.batch_ran(model, version, batch)

    def model_loaded(self, model: str, version: str, nbytes: int, seconds: float) -> None:
        for listener in self._all:
            listener.model_loaded(model, version, nbytes, seconds)

    def model_gone(self, model: str, version: str, reason: str) -> None:
        for listener in self._all:
            listener.model_gone(model, version, reason)

    def load_failed(self, model: str, version: str, error: RekindleError) -> None:
        for listener in self._all:
            listener.load_failed(model, version, error)

    def worker_lost(self, model: str, version: str, reason: str) -> None:
        for listener in self._all:
            listener.worker_lost(model, version, reason)
