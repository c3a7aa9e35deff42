"""A stream of inputs through one model, several at a time, results in order.

Every input has a lane of its own while it is under way: an executor with its own queue and its own
activations (weights are shared), driven by its own thread. So the upload of one input, the kernels
of another, the download of a third and the parts on the CPU of a fourth run at the same time, as
far as the device and the processor can.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType

from rekindle._errors import RekindleError, UsageError
from rekindle.graph.ir import Array

Feeds = Mapping[str, Array]
Outputs = dict[str, Array]
Lane = Callable[[Feeds], Outputs]
"""Runs one input; not more than one at a time."""


class Stream(Iterator[Outputs]):
    """Results in the order of the inputs; what `Session.stream` returns.

    An input that is wrong, or fails, raises at its place in the order; the next call of `next`
    goes on behind it. The same holds for an error of the iterable itself, behind which nothing
    comes. `close` (also: leaving a `with` block, or letting go of the object) waits for what is
    under way and starts nothing more. For one consumer at a time.
    """

    def __init__(
        self, items: Iterable[Feeds], check: Callable[[Feeds], Feeds], lanes: Sequence[Lane],
        depth: int,
    ) -> None:  # fmt: skip
        self._closed = True  # until there is something to close
        self._why: RekindleError | None = None
        self._items = iter(items)
        self._check = check
        self._depth = depth
        self._under_way: deque[Future[Outputs]] = deque()
        self._free: SimpleQueue[Lane] = SimpleQueue()
        for lane in lanes:
            self._free.put(lane)
        self._workers = ThreadPoolExecutor(len(lanes), "rekindle-lane")
        self._lock = threading.Lock()
        self._ended = self._closed = False

    def __next__(self) -> Outputs:
        if self._closed:
            raise self._why or StopIteration
        try:
            self._fill()
            if not self._under_way:
                self.close()
                raise StopIteration
            first = self._under_way.popleft()
            first.exception()  # waits
            self._fill()  # others are under way while the consumer works on this one
        except BaseException:  # Ctrl-C, say: nothing is left behind
            self.close()
            raise
        return first.result()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self, why: RekindleError | None = None) -> None:
        """Wait for what is under way, drop what is not; closing twice is fine.

        `why` is what a later `next` raises; None: it finds the stream at its end.
        """
        if self._closed:
            return
        with self._lock:
            self._closed, self._why = True, why
            self._workers.shutdown(wait=True, cancel_futures=True)
            self._under_way.clear()

    def _fill(self) -> None:
        while len(self._under_way) < self._depth and not self._ended:
            future: Future[Outputs] = Future()
            try:
                feeds = self._check(next(self._items))
            except StopIteration:
                self._ended = True
                return
            except RekindleError as error:
                future.set_exception(error)
            except Exception as error:
                self._ended = True
                future.set_exception(error)
            else:
                future = self._workers.submit(_run, self._free, feeds)
            self._under_way.append(future)


def _run(free: SimpleQueue[Lane], feeds: Feeds) -> Outputs:
    """In a worker, which knows nothing of the stream: that one may be let go of meanwhile."""
    lane = free.get()
    try:
        return lane(feeds)
    finally:
        free.put(lane)


def check_depth(depth: int) -> int:
    """UsageError for a depth that is no whole number above 0."""
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise UsageError(
            f"depth={depth!r}: a stream has at least one input under way",
            hint="2 overlaps transfers with computing; each one more takes its own activations",
        )
    return depth
