"""Runs a plan on an OpenCL device: one in-order queue, arguments set once, no sync per node.

A run is: upload the inputs, enqueue every launch, download the outputs; the last download waits.
Only a host step makes the queue wait in between. Weights that do not fit come on a second queue,
ordered by events (`uploads`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyopencl as cl

from rekindle._log import debug
from rekindle.engine.allocation import aligned_array, allocate, refusal
from rekindle.engine.commands import Command, Pace, work_of
from rekindle.engine.compiler import compiler_for
from rekindle.engine.kernels import Argument, Launch, Workspace
from rekindle.engine.plan import HostStep, Plan
from rekindle.engine.streaming import Residency
from rekindle.engine.trace import Trace
from rekindle.engine.uploads import Uploads
from rekindle.engine.walk import Walk, WalkProgram, legs, prepare
from rekindle.engine.weights import Weights
from rekindle.graph import ops
from rekindle.graph.ir import Array, Graph, Value, numpy_dtype


class Executor:
    """A plan on a device. Not thread-safe: the session that owns it takes turns.

    `kept` says which weights stay on the device; None: all of them. With a `trace`, every command
    and host step is timed; that costs an event each.

    A run that fails or is interrupted has nothing under way when the exception leaves it, and the
    next run starts anew.
    """

    def __init__(
        self,
        plan: Plan,
        device: cl.Device,
        weights: Weights,
        trace: Trace | None = None,
        kept: Residency | None = None,
    ) -> None:
        self.plan = plan
        self.residency = kept or Residency(frozenset(plan.constants), plan.constant_bytes)
        self._trace = trace
        self._device = device
        self._weights = weights
        self._walk: Walk | None = None
        self._pointed: frozenset[str] = frozenset()
        """Inputs and outputs that the walk may use where they lie on the host."""
        self._arenas: list[cl.Buffer] = []
        self._buffers: dict[str, cl.Buffer] = {}
        self._steps: list[HostStep | tuple[str, list[Command]]] = []
        compiler = compiler_for(device)
        timed = cl.command_queue_properties.PROFILING_ENABLE if trace else 0
        with self._told():
            self._queue = cl.CommandQueue(compiler.context, device, timed)
            self.uploads = Uploads(self.residency, plan.constants, device, weights, trace)
            try:
                weights.prepare(
                    c for key, c in plan.constants.items() if key in self.residency.resident
                )
                self._allocate(compiler.context)
                if trace or self.residency.stages or not (walked := prepare(compiler, plan)):
                    compiler.prepare(plan.launches())
                    self._prepare(compiler.kernel)
                else:
                    self._prepare_walk(compiler.kernel, walked)
            except BaseException:
                self._free()
                raise

    @property
    def device_bytes(self) -> int:
        """Activations and regions for streamed weights; the resident ones are shared."""
        arenas: int = sum(buffer.size for buffer in self._arenas)
        return arenas + self.uploads.nbytes

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Feeds by input name, already of the planned shapes and dtypes; outputs by name."""
        host = {n: np.asarray(feeds[n], order="C") for n in self.plan.graph.inputs}
        with self._told():
            try:
                return self._run(host)
            except BaseException:
                self._drain()
                raise

    def release(self) -> None:
        self._drain()
        self._free()

    def _run(self, host: dict[str, Array]) -> dict[str, Array]:
        self.uploads.start()
        written = self._targets()
        for name, array in host.items():
            if not self._points(name, array):
                self._upload(name, array)
        pace = Pace(self._queue)
        for step in self._steps:
            if isinstance(step, HostStep):
                self._run_on_host(step, host)
            else:
                self._enqueue(*step, pace)
        if written:
            self._queue.finish()
            host |= written
        outputs = {name: self._output(name, host) for name in self.plan.graph.outputs}
        self.uploads.finish()
        return outputs

    def _points(self, name: str, array: Array) -> bool:
        """Whether the walk takes a value from, or puts it into, an array where it lies."""
        return bool(self._walk and name in self._pointed and self._walk.point(name, array))

    def _targets(self) -> dict[str, Array]:
        """New arrays that the walk writes outputs into, without a copy."""
        graph, found = self.plan.graph, {}
        for name in self._pointed.difference(graph.inputs):
            value = graph.values[name]
            shape = value.layout.physical_shape(value.static_shape)
            array = aligned_array(shape, numpy_dtype(value.dtype))
            if self._points(name, array):
                found[name] = array
        return found

    def _drain(self) -> None:
        """Wait until nothing is under way: host arrays are read, and results written, till then."""
        for finish in (self._queue.finish, self.uploads.finish):
            with contextlib.suppress(cl.Error):  # the driver has said so already
                finish()

    def _free(self) -> None:
        self._steps = []
        if self._walk:
            self._walk.release()
            self._walk = None
        for buffer in (*self._buffers.values(), *self._arenas):
            buffer.release()
        self._buffers.clear()
        self._arenas.clear()
        self.uploads.release()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """OpenCL's errors as ours, which say what was asked for."""
        try:
            yield
        except cl.Error as error:
            weights, memory = self.residency.weight_bytes, self.plan.memory.arena_bytes
            asked = (
                f"the {weights + memory:,} bytes that the model needs (weights {weights:,}, "
                f"activations {memory:,})"
            )
            raise refusal(error, self._device, asked) from error

    def _allocate(self, context: cl.Context) -> None:
        memory = self.plan.memory
        for nbytes in memory.arenas:
            self._arenas.append(allocate(context, nbytes, "the activations"))
        for name, nbytes in memory.sizes.items():
            arena, offset = memory.place(name)
            self._buffers[name] = self._arenas[arena].get_sub_region(offset, nbytes)

    def _prepare(self, kernel_of: Callable[[Launch], cl.Kernel]) -> None:
        """Kernels with their arguments set, in the order of the plan."""
        needs = {stage.first: k for k, stage in enumerate(self.residency.stages)}
        frees = {stage.last: k for k, stage in enumerate(self.residency.stages)}
        number, current = 0, -1
        for step in self.plan.steps:
            if isinstance(step, HostStep):
                self._steps.append(step)
                continue
            commands = []
            for launch in step.launches:
                kernel, sizes = kernel_of(launch), (launch.global_size, launch.local_size)
                current = needs.get(number, current)
                # PoCL does not keep a kernel's buffers alive: this object does.
                kernel.set_args(*(self._argument(a, current) for a in launch.args))
                stages = needs.get(number), frees.get(number)
                commands.append(Command(kernel, *sizes, work_of(launch), *stages))
                number += 1
                debug(4, "%s %s %s %s", step.node, launch.entry, *sizes)
            self._steps.append((step.node.name or step.node.outputs[0], commands))

    def _prepare_walk(self, kernel_of: Callable[[Launch], cl.Kernel], walked: WalkProgram) -> None:
        """One command for many launches; untimed, and with all weights there."""
        parts = list(legs(self.plan, walked.knows))
        through = [p for p in parts if not isinstance(p, HostStep) and walked.knows(p[0])]
        self._walk = Walk(
            self.plan, walked, self._queue, through, partial(self._argument, stage=-1),
            self._arenas[0],
        )  # fmt: skip
        self._pointed = _only_walked(self.plan, walked)
        ready = iter(self._walk.commands)
        for part in parts:
            if isinstance(part, HostStep):
                self._steps.append(part)
            elif walked.knows(part[0]):
                self._steps.append(("", [next(ready)]))
            else:
                (launch,) = part
                kernel = kernel_of(launch)
                kernel.set_args(*(self._argument(a, -1) for a in launch.args))
                sizes = launch.global_size, launch.local_size
                self._steps.append(("", [Command(kernel, *sizes, work_of(launch), None, None)]))

    def _enqueue(self, label: str, commands: Sequence[Command], pace: Pace) -> None:
        queue, enqueue, trace, uploads = (
            self._queue,
            cl.enqueue_nd_range_kernel,
            self._trace,
            self.uploads,
        )
        for c in commands:
            if c.needs is None:
                event = enqueue(queue, c.kernel, c.global_size, c.local_size)
            else:
                arrived = uploads.arrived(c.needs)
                event = enqueue(queue, c.kernel, c.global_size, c.local_size, None, arrived)
            if c.frees is not None:
                queue.flush()  # another queue waits for it
                uploads.freed(c.frees, event)
            if trace:
                trace.command("kernel", label, event)
            pace.add(c.work, event)

    def _argument(self, arg: Argument, stage: int) -> Any:
        if constant := self.plan.constant_of(arg):
            if constant.key in self.residency.resident:
                return self._weights.buffer(constant)
            return self.uploads.buffer(stage, constant.key)
        if isinstance(arg, Workspace):
            return self._buffers[arg.label]
        return self._buffers[self.plan.root(arg.name)] if isinstance(arg, Value) else arg

    def _run_on_host(self, step: HostStep, host: dict[str, Array]) -> None:
        node, graph = step.node, self.plan.graph
        assert not any(graph.values[n].layout.block for n in node.inputs if n), node
        inputs: list[Array | None] = []
        for name in node.inputs:
            if name and name not in host:
                host[name] = self._fetch(name, host)  # for every other host step, too
            inputs.append(host[name] if name else None)
        if self._trace:
            with self._trace.host(node.name or node.outputs[0]):
                results = _compute(step, graph, inputs)
        else:
            results = _compute(step, graph, inputs)
        for name, array in zip(node.outputs, results, strict=False):
            if name:
                host[name] = np.asarray(array, order="C")
                self._upload(name, host[name])

    def _upload(self, name: str, array: Array) -> None:
        buffer = self._buffers.get(self.plan.root(name))
        if buffer is not None and array.nbytes:
            event = cl.enqueue_copy(self._queue, buffer, array, is_blocking=False)
            if self._trace:
                self._trace.command("upload", name, event)

    def _output(self, name: str, host: Mapping[str, Array]) -> Array:
        graph, root = self.plan.graph, self.plan.root(name)
        array = self._fetch(name, host)
        # An output that is an input or a constant must not hand out the array behind it.
        return array.copy() if root in graph.inputs or root in graph.initializers else array

    def _fetch(self, name: str, host: Mapping[str, Array]) -> Array:
        """A value as a host array: an input, a constant, or downloaded as it lies in memory.

        What whole models hand out lies row-major by plan; a node that runs alone may not.
        """
        if name in host:
            return host[name]
        value = self.plan.graph.values[name]
        root = self.plan.root(name)
        for known in (self.plan.graph.initializers.get(root), host.get(root)):
            if known is not None:
                return known.reshape(value.static_shape)
        physical = value.layout.physical_shape(value.static_shape)
        array = np.empty(physical, numpy_dtype(value.dtype))
        if array.nbytes:
            event = cl.enqueue_copy(self._queue, array, self._buffers[root], is_blocking=True)
            if self._trace:
                self._trace.command("download", name, event)
        return array


def _compute(step: HostStep, graph: Graph, inputs: Sequence[Array | None]) -> Sequence[Array]:
    if step.run:
        return step.run(inputs)
    operator = ops.find(step.node.qualified, graph.opset(step.node.domain))
    assert operator is not None, step.node
    return ops.compute(operator, step.node, inputs)


def _only_walked(plan: Plan, walked: WalkProgram) -> frozenset[str]:
    """Inputs, and outputs with memory of their own, that nothing but the walk touches."""
    graph = plan.graph
    shared = [plan.root(name) for name in plan.graph.outputs]
    names = {name for name in graph.inputs if name not in shared}
    names.update(n for n in shared if shared.count(n) == 1 and n in graph.outputs)
    names.difference_update(graph.initializers)
    for step in plan.steps:
        if isinstance(step, HostStep):
            touched = [n for n in (*step.node.inputs, *step.node.outputs) if n]
        else:
            others = (launch for launch in step.launches if not walked.knows(launch))
            touched = [a.name for launch in others for a in launch.args if isinstance(a, Value)]
        names.difference_update(map(plan.root, touched))
    known = (n for n in names if graph.values[n].is_static)
    return frozenset(n for n in known if graph.values[n].nbytes)
