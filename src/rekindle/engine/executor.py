"""Runs a plan on an OpenCL device: one in-order queue, arguments set once, no sync per node.

A run is: upload the inputs, enqueue every launch, download the outputs; the last download waits.
Only a host step makes the queue wait in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyopencl as cl

from rekindle._errors import DeviceError, MemoryLimitError
from rekindle._log import debug
from rekindle.engine.compiler import compiler_for
from rekindle.engine.kernels import Argument, Launch, Packed, Workspace
from rekindle.engine.plan import DeviceStep, HostStep, Plan, raw_constant
from rekindle.engine.trace import Trace
from rekindle.graph import ops
from rekindle.graph.ir import Array, Graph, Value, numpy_dtype

_OUT_OF_MEMORY = ("MEM_OBJECT_ALLOCATION_FAILURE", "OUT_OF_RESOURCES", "OUT_OF_HOST_MEMORY")


class Weights:
    """Packed constants on one device, shared by the plans of one session (one per shape)."""

    def __init__(self, device: cl.Device) -> None:
        self.context = compiler_for(device).context
        self._buffers: dict[str, cl.Buffer] = {}

    def buffer(self, constant: Packed) -> cl.Buffer:
        if constant.key not in self._buffers:
            array = np.ascontiguousarray(constant.pack())
            assert array.nbytes == constant.nbytes, (constant.key, array.nbytes, constant.nbytes)
            flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
            # OpenCL has no empty buffers; a zero-size constant still needs an address.
            host = array if array.nbytes else np.zeros(1, np.uint8)
            self._buffers[constant.key] = cl.Buffer(self.context, flags, hostbuf=host)
        return self._buffers[constant.key]

    @property
    def nbytes(self) -> int:
        return sum(b.size for b in self._buffers.values())

    def release(self) -> None:
        for buffer in self._buffers.values():
            buffer.release()
        self._buffers.clear()


class Executor:
    """A plan on a device. Not thread-safe: the session that owns it takes turns.

    With a `trace`, every command and host step is timed; that costs an event each.
    """

    def __init__(
        self, plan: Plan, device: cl.Device, weights: Weights, trace: Trace | None = None
    ) -> None:
        self.plan = plan
        self._trace = trace
        compiler = compiler_for(device)
        timed = cl.command_queue_properties.PROFILING_ENABLE if trace else 0
        self._queue = cl.CommandQueue(compiler.context, device, timed)
        self._weights = weights
        self._buffers: dict[str, cl.Buffer] = {}
        try:
            compiler.prepare(plan.launches())
            self._allocate(compiler.context)
            self._steps = [self._compile(step, compiler.kernel) for step in plan.steps]
        except cl.Error as error:
            raise _translate(error, plan) from error

    @property
    def arena_bytes(self) -> int:
        return self.plan.memory.arena_bytes

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Feeds by input name, already of the planned shapes and dtypes; outputs by name."""
        host = {n: np.asarray(feeds[n], order="C") for n in self.plan.graph.inputs}
        try:
            for name, array in host.items():
                self._upload(name, array)
            for step in self._steps:
                step(host)
            return {name: self._output(name, host) for name in self.plan.graph.outputs}
        except cl.Error as error:
            raise _translate(error, self.plan) from error

    def release(self) -> None:
        self._queue.finish()
        self._steps = []
        for buffer in self._buffers.values():
            buffer.release()
        self._buffers.clear()

    def _allocate(self, context: cl.Context) -> None:
        memory = self.plan.memory
        flags = cl.mem_flags.READ_WRITE
        arenas = [cl.Buffer(context, flags, nbytes) for nbytes in memory.arenas]
        for name, nbytes in memory.sizes.items():
            arena, offset = memory.place(name)
            self._buffers[name] = arenas[arena].get_sub_region(offset, nbytes)

    def _compile(
        self, step: DeviceStep | HostStep, kernel_of: Callable[[Launch], cl.Kernel]
    ) -> Callable[[dict[str, Array]], None]:
        if isinstance(step, HostStep):
            return lambda host: self._run_on_host(step, host)
        prepared = []
        for launch in step.launches:
            kernel = kernel_of(launch)
            # PoCL does not keep a kernel's buffers alive: self._buffers and the weights do.
            kernel.set_args(*(self._argument(a) for a in launch.args))
            prepared.append((kernel, launch.global_size, launch.local_size))
            debug(4, "%s %s %s %s", step.node, launch.entry, launch.global_size, launch.local_size)
        queue, enqueue, trace = self._queue, cl.enqueue_nd_range_kernel, self._trace
        label = step.node.name or step.node.outputs[0]

        def enqueue_all(_host: dict[str, Array]) -> None:
            for kernel, global_size, local_size in prepared:
                enqueue(queue, kernel, global_size, local_size)

        def enqueue_timed(_host: dict[str, Array]) -> None:
            assert trace is not None
            for kernel, global_size, local_size in prepared:
                trace.command("kernel", label, enqueue(queue, kernel, global_size, local_size))

        return enqueue_timed if trace else enqueue_all

    def _argument(self, arg: Argument) -> Any:
        if isinstance(arg, Packed):
            return self._weights.buffer(arg)
        if isinstance(arg, Workspace):
            return self._buffers[arg.label]
        if isinstance(arg, Value):
            root = self.plan.root(arg.name)
            if root in self.plan.graph.initializers:
                return self._weights.buffer(raw_constant(self.plan.graph, root))
            return self._buffers[root]
        return arg

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


def _translate(error: cl.Error, plan: Plan) -> DeviceError | MemoryLimitError:
    if any(code in str(error) for code in _OUT_OF_MEMORY):
        return MemoryLimitError(
            f"{plan.target.name} could not give {plan.device_bytes:,} bytes "
            f"(weights {plan.constant_bytes:,}, activations {plan.memory.arena_bytes:,}); it "
            f"reports {plan.target.global_bytes:,}: {error}",
            hint="use a smaller batch or model, or close other programs that use the card",
        )
    return DeviceError(
        f"{plan.target.name} ({plan.target.driver}) refused a command: {error}",
        hint="run `rekindle doctor`",
    )
