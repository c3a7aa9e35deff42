"""Many launches as one, on a CPU: each worker walks through the steps and takes jobs of each.

Between two dependent kernels PoCL puts its workers to sleep and wakes them up again: 8 to 30 us
(measured), much of a small network's run. Here one launch of a work-item for each worker reads
a table of steps (which function, how many jobs, its arguments), takes jobs of a step by atomic
counters, and goes on once all jobs of the step are done. Nothing can stand still for good: a
worker waits only for jobs that another has taken, and who has taken a job is running. So one
worker alone gets to the end, too.

That holds for PoCL on a CPU: its buffers have addresses that stay, which the table keeps as
numbers, and atomics of OpenCL 1.2 order all memory there. Kernels of several work-items a
work-group stay launches of their own.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyopencl as cl

from rekindle import _config
from rekindle._errors import KernelError
from rekindle._log import debug, warn_once
from rekindle.engine.allocation import ALIGNMENT, aligned_array, allocate
from rekindle.engine.commands import WINDOW, Command, work_of
from rekindle.engine.compiler import Compiler
from rekindle.engine.kernels import Argument, Launch
from rekindle.engine.kernels._tile import vector_width
from rekindle.engine.plan import HostStep, Plan
from rekindle.engine.walk_source import LINE, RECORD, Kind, kind_of, walk_source, word
from rekindle.graph.ir import Array, Value

_ENOUGH = 0.75
"""Share of a plan's launches that a program must know for no other to be built."""
_WORTH_POINTING = 1 << 20
"""Bytes of inputs and outputs: not to copy them pays for building a walk of a single launch."""

Leg = tuple[Launch, ...]
"""Launches that follow each other, with nothing on the host in between."""


@dataclass(frozen=True)
class WalkProgram:
    """A program, and the number of each kind of launch in it."""

    program: cl.Program
    kinds: dict[Kind, int]

    def knows(self, launch: Launch) -> bool:
        return _walks(launch) and kind_of(launch) in self.kinds


def program_for(compiler: Compiler, plan: Plan) -> WalkProgram | None:
    """The program that walks through the plan, built unless one that knows most of it is there.

    None where a launch by itself is as well, or the device is not one that can be walked on.
    KernelError where the driver does not compile it.
    """
    launches = [launch for launch in plan.launches() if _walks(launch)]
    ends = (plan.graph.values[n] for n in (*plan.graph.inputs, *plan.graph.outputs))
    moved = sum(value.nbytes for value in ends if value.is_static)
    if len(launches) < (1 if moved > _WORTH_POINTING else 2) or not _possible(
        compiler.device.platform.name, plan
    ):
        return None
    kinds = [kind_of(launch) for launch in launches]
    for known in compiler.walks:
        if sum(kind in known.kinds for kind in kinds) >= _ENOUGH * len(kinds):
            return known
    order = sorted(set(kinds))
    program = compiler.build(walk_source(order, vector_width(plan.target) == 16))
    made = WalkProgram(program, {kind: number for number, kind in enumerate(order)})
    compiler.walks.append(made)
    return made


def prepare(compiler: Compiler, plan: Plan) -> WalkProgram | None:
    """Build all that an executor of the plan runs; KernelError as `Compiler.prepare`.

    Returns the program that walks; launches that it does not know have kernels of their own.
    """
    try:
        program = program_for(compiler, plan)
    except KernelError as error:
        compiler.prepare(plan.launches())  # which says what kernel it is, if it is one
        warn_once(f"every kernel is launched by itself, which is slower: {error.message}")
        return None
    known = program.knows if program else lambda _: False
    compiler.prepare(launch for launch in plan.launches() if not known(launch))
    return program


def legs(plan: Plan, knows: Callable[[Launch], bool]) -> Iterator[HostStep | Leg]:
    """The plan's launches, as far as they can be walked through at once, and its host steps.

    Launches that the program does not know are legs of their own. A leg ends where the work of a
    window is full, so that a run can be interrupted.
    """
    leg: list[Launch] = []
    work = 0.0
    for step in plan.steps:
        if isinstance(step, HostStep):
            yield from _ended(leg)
            yield step
            continue
        for launch in step.launches:
            known = knows(launch)
            if not known or work + work_of(launch) > WINDOW:
                yield from _ended(leg)
                work = 0.0
            if known:
                leg.append(launch)
                work += work_of(launch)
            else:
                yield (launch,)
    yield from _ended(leg)


@dataclass
class _Place:
    """The address of a value's buffer, and which words of the table say it."""

    buffer: int
    words: list[int] = field(default_factory=list)
    any_address: bool = True
    """Whether every kernel takes it at any address of its elements."""


class Walk:
    """The table of all legs of one executor on its device, and their commands."""

    def __init__(
        self,
        plan: Plan,
        program: WalkProgram,
        queue: cl.CommandQueue,
        through: Sequence[Leg],
        buffer_of: Callable[[Argument], cl.Buffer],
        activations: cl.Buffer,
    ) -> None:
        steps = [launch for leg in through for launch in leg]
        workers = _workers(queue.device)
        counters = np.zeros((len(steps) + 1) * (workers + 1) * LINE, np.int32)
        buffers = [buffer_of(a) for launch in steps for a in launch.args if _is_memory(a)]
        self.commands: list[Command] = []
        self._plan = plan
        self._places: dict[str, _Place] = {}
        self._counters = allocate(queue.context, counters.nbytes, "the counters of jobs")
        cl.enqueue_copy(queue, self._counters, counters, is_blocking=True)
        self._words = self._write(program, steps, _addresses(program.program, queue, buffers))
        # The device reads these very words: what a run changes in them it need not send.
        flags = cl.mem_flags.READ_ONLY | cl.mem_flags.USE_HOST_PTR
        self._table = cl.Buffer(queue.context, flags, hostbuf=self._words)
        (found,) = _addresses(program.program, queue, [self._table])
        self._shared = found == self._words.ctypes.data
        first = 0
        for leg in through:
            kernel = cl.Kernel(program.program, "walk")
            kernel.set_args(
                self._table, self._counters, activations, np.int32(first),
                np.int32(first + len(leg)),
            )  # fmt: skip
            work = sum(map(work_of, leg))
            self.commands.append(Command(kernel, (workers,), (1,), work, None, None))
            first += len(leg)
            debug(4, "walk through %d launches", len(leg))

    def _write(
        self, program: WalkProgram, steps: Sequence[Launch], addresses: Sequence[int]
    ) -> Array:
        """The table: where each step's record begins, then the records."""
        following = iter(addresses)
        words = [0] * len(steps)
        for number, launch in enumerate(steps):
            words[number] = len(words)
            words += [program.kinds[kind_of(launch)], *(*launch.global_size, 1, 1)[: RECORD - 1]]
            for k, arg in enumerate(launch.args):
                if not _is_memory(arg):
                    words.append(word(arg))
                    continue
                address = next(following)
                if isinstance(arg, Value):
                    place = self._places.setdefault(self._plan.root(arg.name), _Place(address))
                    place.words.append(len(words))
                    place.any_address &= k in launch.unaligned
                words.append(address)
        table = aligned_array((len(words),), np.dtype(np.int64))
        table[:] = words
        return table

    def point(self, name: str, array: Array) -> bool:
        """Let kernels use an array of the host where the value `name` lies otherwise.

        False where it does not lie as they need it, or the table cannot be changed: then they use
        the value's buffer. Nothing may be under way, and the array must stay until the run ends.
        """
        place = self._places.get(name)
        if place is None or not self._shared:
            return False
        address = array.ctypes.data
        fits = place.any_address or address % ALIGNMENT == 0
        self._words[place.words] = address if fits else place.buffer
        return fits

    def release(self) -> None:
        self._table.release()
        self._counters.release()
        self.commands.clear()


def _possible(driver: str, plan: Plan) -> bool:
    pocl = driver == "Portable Computing Language"
    intel = platform.machine().lower() in ("x86_64", "amd64")  # where the order was tested
    return pocl and intel and plan.target.family == "cpu" and not _config.flag("REKINDLE_NO_WALK")


def _walks(launch: Launch) -> bool:
    return launch.local_size is not None and math.prod(launch.local_size) == 1


def _workers(device: cl.Device) -> int:
    """As many as PoCL has, and processors this process may use: who waits does so awake."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1 << 16
    return max(1, min(int(device.max_compute_units), allowed))


def _is_memory(arg: Argument) -> bool:
    return not isinstance(arg, np.generic)


def _ended(leg: list[Launch]) -> Iterator[Leg]:
    if leg:
        yield tuple(leg)
        leg.clear()


def _addresses(
    program: cl.Program, queue: cl.CommandQueue, buffers: Sequence[cl.Buffer]
) -> list[int]:
    """Where each buffer lies, as the device itself sees it."""
    places: dict[int, int] = {}
    unique: list[cl.Buffer] = []
    for buffer in buffers:
        if places.setdefault(buffer.int_ptr, len(unique)) == len(unique):
            unique.append(buffer)
    found = np.zeros(max(len(unique), 1), np.uint64)
    out = allocate(queue.context, found.nbytes, "the addresses of buffers")
    kernel = cl.Kernel(program, "address")
    for place, buffer in enumerate(unique):
        kernel.set_args(buffer, out, np.int32(place))
        cl.enqueue_nd_range_kernel(queue, kernel, (1,), (1,))
    cl.enqueue_copy(queue, found, out, is_blocking=True)
    out.release()
    return [int(found[places[buffer.int_ptr]]) for buffer in buffers]
