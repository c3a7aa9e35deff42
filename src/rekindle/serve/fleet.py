"""All models of a server: which are served, which are loaded, and the way from one to the other.

A model that was evicted stays ready: the next request loads it again. A model being replaced
keeps answering until the new one has been loaded and warmed up, and then until its last request
is done.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from rekindle._errors import BusyError, InputError, MemoryLimitError, NotFoundError, RekindleError
from rekindle._log import logger
from rekindle.serve.budget import Budget
from rekindle.serve.events import Listener
from rekindle.serve.instance import Instance
from rekindle.serve.repository import Entry, Index, ModelConfig, scan, version_order
from rekindle.serve.settings import Settings


class SlotGoneError(BusyError):
    """The version was replaced or unloaded while a request waited for it: look for it again."""


class Key(NamedTuple):
    """Names a holding in the budget: one load of one version, since two may overlap."""

    model: str
    version: str
    load: int

    def __str__(self) -> str:
        return f"{self.model} version {self.version}"


@dataclass(eq=False)
class Slot:
    """One served version of a model. Its holding in the budget is named by `key`."""

    entry: Entry
    instance: Instance | None = None
    key: Key = field(default_factory=lambda: Key("", "", 0))
    loading: asyncio.Task[None] | None = None
    waiters: list[asyncio.Future[Instance]] = field(default_factory=list)
    verified: bool = False
    """Whether it has been loaded once: its files, its signature and a dummy run were good."""
    error: RekindleError | None = None
    """Why it could not be loaded when it was first tried."""
    variants: dict[str, Slot] = field(default_factory=dict)
    """The same version in other precisions that somebody asked for."""
    gone: bool = False
    """Replaced or unloaded: nobody finds it any more."""

    @property
    def ready(self) -> bool:
        if self.instance is not None:
            return self.instance.healthy
        return self.verified and self.error is None

    @property
    def state(self) -> tuple[str, str]:
        """State and reason, in the words of the model repository extension."""
        if self.error is not None:
            return "UNAVAILABLE", str(self.error)
        if self.instance is not None:
            if self.instance.healthy:
                return "READY", ""
            return "UNAVAILABLE", str(self.instance.failure or "its worker is being started again")
        if self.loading is not None and not self.verified:
            return "LOADING", ""
        return ("READY", "not in memory; the next request loads it") if self.verified else (
            "UNAVAILABLE", "not loaded yet")  # fmt: skip


class Fleet:
    """Models by name and version."""

    def __init__(self, settings: Settings, listener: Listener) -> None:
        self._settings = settings
        self._listener = listener
        self.budget: Budget[Key] = Budget(settings.memory_budget)
        self._slots: dict[str, dict[str, Slot]] = {}
        self._loaded: dict[Key, Slot] = {}
        self._unloaded: dict[str, str] = {}
        self._problems: dict[tuple[str, str], RekindleError] = {}
        self._overrides: dict[str, ModelConfig] = {}
        self._known_bytes: dict[tuple[object, ...], int] = {}
        self._numbers = itertools.count(1)
        self._room = asyncio.Lock()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        # A lock for as long as somebody holds or awaits it: names come from callers.
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.started = False

    # What there is

    def find(self, name: str, version: str = "") -> Slot:
        """A served version, the newest where none is named; NotFoundError with what there is."""
        versions = self._slots.get(name)
        if not versions:
            raise self._unknown(name)
        if not version:
            return next(reversed(versions.values()))
        if version not in versions:
            raise NotFoundError(
                f"model {name!r} has no version {version!r}", hint=f"served: {', '.join(versions)}"
            )
        return versions[version]

    def full(self, name: str, version: str = "") -> Slot | None:
        """The slot a request would go to, where its queue is full; None otherwise."""
        versions = self._slots.get(name)
        if not versions:
            return None
        slot = versions.get(version) if version else next(reversed(versions.values()))
        return slot if slot and slot.instance and slot.instance.full else None

    def variant(self, slot: Slot, precision: str) -> Slot:
        """The same version in another precision: loaded when asked for, evicted as others are.

        InputError where the server does not offer it.
        """
        own, offered = self._settings.precision, self._settings.precisions
        if precision == own:
            return slot
        if precision not in offered:
            raise InputError(
                f"this server does not offer the precision {precision[:20]!r}",
                hint=f"it has {', '.join((own, *offered))}",
            )
        found = slot.variants.get(precision)
        if found is None or found.error is not None:
            found = Slot(replace(slot.entry, precision=precision))
            slot.variants[precision] = found
        return found

    def versions(self, name: str) -> list[Slot]:
        """Every served version of a model, oldest first."""
        return list(self._slots.get(name, {}).values())

    def slots(self) -> list[Slot]:
        """Every served version of every model."""
        return [slot for versions in self._slots.values() for slot in versions.values()]

    def unavailable(self) -> list[tuple[str, str, str]]:
        """Model, version, reason: what is in the repository and cannot be served."""
        gone = [(name, "", reason) for name, reason in self._unloaded.items()]
        return gone + [(name, v, str(error)) for (name, v), error in self._problems.items()]

    @property
    def healthy(self) -> bool:
        """Started, and every loaded model's worker is alive."""
        return self.started and all(
            s.instance is None or s.instance.healthy for s in self._with_variants()
        )

    def _with_variants(self) -> list[Slot]:
        return [each for slot in self.slots() for each in (slot, *slot.variants.values())]

    # Using one

    async def acquire(self, slot: Slot) -> Instance:
        """The slot's loaded model, pinned: `release` it after use. Loads it where needed.

        SlotGoneError: `find` the model again.
        """
        if slot.instance is not None:
            self.budget.pin(slot.key)
            return slot.instance
        if slot.error is not None:
            raise BusyError(f"model {slot.entry.name!r} is not available: {slot.error}")
        future: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        slot.waiters.append(future)
        self._begin(slot)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(slot)  # pinned for us at the very moment we gave up
            raise

    def release(self, slot: Slot) -> None:
        """The request is done."""
        if slot.key not in self.budget:
            return  # given up with the server, which does not wait for ever
        self.budget.unpin(slot.key)
        if not self.budget.holding(slot.key).pins:
            self._changed.set()

    # Changing what there is

    async def start(self) -> None:
        """Find the models and load each once; one that fails is reported and stops no other."""
        index = await self._scan()
        self._problems = dict(index.problems)
        for name in index.models:
            self._slots[name] = {e.version: Slot(e) for e in index.wanted(name)}
        for slot in self.slots():
            try:
                self.release_after(slot, await self.acquire(slot))
            except RekindleError as error:
                logger.warning("%s: %s", slot.entry.name, error)
        self.started = True

    def release_after(self, slot: Slot, instance: Instance) -> None:
        """Give back a pin that was only taken to have the model loaded."""
        assert slot.instance is instance
        self.release(slot)

    async def load(self, name: str, config: ModelConfig | None = None) -> None:
        """Load a model, or the versions of it that are new or changed; the rest of it goes.

        Raises what loading raises; the versions that ran before then go on.
        """
        async with self._changes(name):
            await self._load_model(name, config)

    async def _load_model(self, name: str, config: ModelConfig | None) -> None:
        if config is not None:
            self._overrides[name] = config
        index = await self._scan()
        wanted = index.wanted(name)
        if not wanted:
            problem = next((e for (n, _), e in index.problems.items() if n == name), None)
            raise problem or NotFoundError(
                f"model {name!r} is not in the repository",
                hint=f"there are {', '.join(sorted(index.models)) or 'no models'}",
            )
        old = self._slots.get(name, {})
        new: dict[str, Slot] = {}
        for entry in wanted:
            kept = old.get(entry.version)
            if kept is None or kept.entry != entry or kept.error is not None:
                kept = Slot(entry)
            new[entry.version] = kept
        try:
            for slot in new.values():
                if not slot.verified:
                    self.release_after(slot, await self.acquire(slot))
        except BaseException:
            for slot in new.values():
                if slot not in old.values():
                    self._in_background(self._retire(slot, "unloaded"))
            raise
        self._unloaded.pop(name, None)
        for key in [key for key in self._problems if key[0] == name]:
            del self._problems[key]
        self._slots[name] = dict(sorted(new.items(), key=lambda pair: version_order(pair[0])))
        for slot in [slot for slot in old.values() if slot not in new.values()]:
            # At once: an old version that was evicted and is asked for would evict the new one.
            self._abandon(slot)
            self._in_background(self._retire(slot, "replaced"))

    async def unload(self, name: str) -> None:
        """Stop serving a model; returns when its requests are done and its memory is back."""
        async with self._changes(name):
            if name not in self._slots:
                raise self._unknown(name)
            slots = self._slots.pop(name)
            self._unloaded[name] = "unloaded"
            self._overrides.pop(name, None)
            for slot in slots.values():
                await self._retire(slot, "unloaded")

    async def refresh(self) -> None:
        """Take up what has changed in the repository."""
        index = await self._scan()
        for name in index.models:
            served = {v: s.entry for v, s in self._slots.get(name, {}).items()}
            wanted = {e.version: e for e in index.wanted(name)}
            if name not in self._unloaded and served != wanted:
                try:
                    await self.load(name)
                except RekindleError as error:
                    logger.warning("%s was not taken up: %s", name, error)
        for name in [n for n in self._slots if n not in index.models]:
            for slot in self._slots.pop(name).values():
                await self._retire(slot, "unloaded")

    async def close(self) -> None:
        """Give up every model at once."""
        loading = [slot.loading for slot in self._with_variants() if slot.loading]
        self._slots.clear()
        for task in [*self._tasks, *loading]:
            task.cancel()
        await asyncio.gather(*self._tasks, *loading, return_exceptions=True)
        for slot in list(self._loaded.values()):
            self._close(slot, "shutdown")
        await asyncio.gather(*self._closing, return_exceptions=True)

    # Loading

    def _begin(self, slot: Slot) -> None:
        if slot.loading is None:
            slot.loading = asyncio.get_running_loop().create_task(self._load_for_waiters(slot))

    async def _load_for_waiters(self, slot: Slot) -> None:
        try:
            instance = await self._load(slot)
        except asyncio.CancelledError:
            why = "the model was replaced" if slot.gone else "the server is shutting down"
            self._answer(slot, (SlotGoneError if slot.gone else BusyError)(why))
            raise
        except Exception as error:  # every waiter must hear of it
            known = error if isinstance(error, RekindleError) else RekindleError(repr(error))
            if not slot.verified:
                slot.error = known
            self._listener.load_failed(slot.entry.name, slot.entry.version, known)
            self._answer(slot, known)
        else:
            slot.instance, slot.verified = instance, True
            self._loaded[slot.key] = slot
            self._answer(slot, instance)
        finally:
            slot.loading = None

    def _answer(self, slot: Slot, result: Instance | RekindleError) -> None:
        waiters, slot.waiters = slot.waiters, []
        for future in waiters:
            if future.done():
                continue
            if isinstance(result, Instance):
                # Pinned before the waiter runs: nobody can evict it in between.
                self.budget.pin(slot.key)
                future.set_result(result)
            else:
                future.set_exception(result)

    async def _load(self, slot: Slot) -> Instance:
        entry, start = slot.entry, time.perf_counter()
        known = (entry.path, entry.fingerprint, entry.precision)
        while True:
            key = Key(entry.name, entry.version, next(self._numbers))
            await self._make_room(key, self._known_bytes.get(known, entry.file_bytes))
            instance = Instance(entry, self._settings, self._listener)
            try:
                opened = await instance.open()
                self._known_bytes[known] = opened.nbytes
                settled = await self._settle(key, opened.nbytes)
            except BaseException:
                await instance.close()
                self._free(key)
                raise
            if settled:
                slot.key = key
                instance.resized = functools.partial(self._resized, key)
                seconds = time.perf_counter() - start
                self._listener.model_loaded(entry.name, entry.version, opened.nbytes, seconds)
                return instance
            # It took more than planned, and the others are in use: again, with the true figure.
            await instance.close()
            self._free(key)

    async def _settle(self, key: Key, nbytes: int) -> bool:
        """Account what a loaded model takes; False where it must go until others are idle."""
        while not self.budget.settle(key, nbytes):
            victims = self.budget.victims(0, keep=key)
            if victims is None:
                return False
            await self._free_some(victims)
        return True

    def _resized(self, key: Key, nbytes: int) -> None:
        """A loaded model takes more than before (or less): idle ones may have to go for it."""
        if key not in self._loaded:
            return
        try:
            fits = self.budget.settle(key, nbytes)
        except MemoryLimitError as error:
            logger.warning("%s", error)  # its requests go on; nobody else can stay
            fits = False
        if not fits and (victims := self.budget.victims(0, keep=key) or self._idle(key)):
            for victim in victims:
                self._close(self._loaded[victim], "evicted")

    def _idle(self, keep: Key) -> list[Key]:
        """Every other model that nobody uses."""
        return [k for k in self._loaded if k != keep and not self.budget.holding(k).pins]

    async def _make_room(self, key: Key, nbytes: int) -> None:
        """Reserve, and evict for it; BusyError where those in use do not become idle in time."""
        wait_s = self._settings.room_s
        try:
            # In turn: a small model must not overtake a large one for ever.
            async with asyncio.timeout(wait_s), self._room:
                while not self.budget.reserve(key, nbytes):
                    await self._free_some(self.budget.victims(nbytes))
        except TimeoutError:
            used, capacity = self.budget.used, self.budget.capacity or 0
            busy = sorted({str(k) for k in self._loaded if self.budget.holding(k).pins})
            raise BusyError(
                f"{key} needs {nbytes:,} bytes; {max(capacity - used, 0):,} of the budget's "
                f"{capacity:,} are free, and what is in use stayed so for {wait_s:g} s: "
                f"{', '.join(busy) or 'models that are being loaded'}",
                hint="try again later, unload a model, or raise --memory-budget",
            ) from None

    async def _free_some(self, victims: list[Key] | None) -> None:
        """Evict; where there is nobody to evict, wait until somebody is idle or has left."""
        if victims:
            closing = [self._close(self._loaded[key], "evicted") for key in victims]
            # Whoever gives up waiting for room does not stop what is being given back.
            await asyncio.shield(asyncio.gather(*closing))
        else:
            self._changed.clear()
            await self._changed.wait()

    async def _retire(self, slot: Slot, reason: str) -> None:
        """Give a slot up once nobody uses it; it is no longer found, so nobody new comes."""
        for variant in slot.variants.values():
            await self._retire(variant, reason)
        self._abandon(slot)
        if slot.loading is not None:
            await asyncio.wait({slot.loading})
        while slot.instance is not None and self.budget.holding(slot.key).pins:
            self._changed.clear()
            await self._changed.wait()
        if slot.instance is not None:
            await asyncio.shield(self._close(slot, reason))

    def _abandon(self, slot: Slot) -> None:
        """Nobody finds this slot any more: who waits for it looks again, its load ends."""
        for variant in slot.variants.values():
            self._abandon(variant)
        if not slot.gone and slot.loading is not None:
            slot.loading.cancel()
        slot.gone = True

    def _close(self, slot: Slot, reason: str) -> asyncio.Task[None]:
        """Take the instance out at once, before anybody can pin it; done when it is given back."""
        instance, slot.instance = slot.instance, None
        assert instance is not None
        del self._loaded[slot.key]
        self.budget.leave(slot.key)
        giving = self._give_back(slot.key, instance, reason)
        task = asyncio.get_running_loop().create_task(giving)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _give_back(self, key: Key, instance: Instance, reason: str) -> None:
        try:
            await instance.close()
        finally:
            self._free(key)
            self._listener.model_gone(key.model, key.version, reason)

    def _free(self, key: Key) -> None:
        self.budget.release(key)
        self._changed.set()

    async def _scan(self) -> Index:
        work = functools.partial(scan, self._settings.repository, dict(self._overrides))
        return await asyncio.get_running_loop().run_in_executor(None, work)

    def _changes(self, name: str) -> asyncio.Lock:
        """Held while a model's versions change: two loads of one model load it once."""
        return self._changing.setdefault(name, asyncio.Lock())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unknown(self, name: str) -> RekindleError:
        if name in self._unloaded:
            return NotFoundError(f"model {name!r} is unloaded", hint="load it first")
        for (model, _), error in self._problems.items():
            if model == name:
                return BusyError(f"model {name!r} is not available: {error}")
        return NotFoundError(
            f"there is no model {name!r}",
            hint=f"served: {', '.join(self._slots) or 'none'}",
        )
