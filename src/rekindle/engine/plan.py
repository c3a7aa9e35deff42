"""From a bound graph to a plan: launches in order, memory, constants. Needs no OpenCL.

Data flow: graph → chains of nodes done at once → per node its logical calls → per call the best
kernel → launches → lifetimes → memory plan. A node that has no lowering, or a call no kernel takes,
becomes a host step: its NumPy reference runs between the launches, and the reason is kept for the
placement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from rekindle._errors import UnsupportedOperatorError
from rekindle._types import Target
from rekindle.engine import index_range, kernels
from rekindle.engine.chains import join
from rekindle.engine.choices import Choice, Records, choose
from rekindle.engine.constants import ConstantNames
from rekindle.engine.kernels import Context, Launch, Packed, Workspace
from rekindle.engine.memory import Lifetime, MemoryPlan, pack
from rekindle.graph import ops
from rekindle.graph.ir import Array, Graph, Node, Value
from rekindle.graph.lowering import LogicalCall, Lowering, NotLowered

HostFunction = Callable[[Sequence[Array | None]], Sequence[Array]]
"""From a node's inputs (None: absent) to its outputs, all row-major on the host."""


@dataclass(frozen=True)
class DeviceStep:
    """A node on the device: the launches of its logical calls, in order."""

    node: Node
    launches: tuple[Launch, ...]
    algorithms: tuple[str, ...]
    """Name of the kernel spec chosen for each call that is not a view."""
    reason: str = ""
    """Why other kernels than the best ones were chosen; else empty."""
    tuned: tuple[str, ...] = ()
    """Kernel and variant of each call that a tuning record decided."""


@dataclass(frozen=True)
class HostStep:
    """A node that runs on the host, and why: by its NumPy reference, or by `run`."""

    node: Node
    reason: str
    run: HostFunction | None = None
    """What computes it instead of the reference: another engine, on a part of the graph."""
    part: Graph | None = None
    """The nodes of the model that `run` stands for; None: it is `node` itself."""
    reasons: tuple[str, ...] = ()
    """Why each node of `part` is there."""

    @property
    def nodes(self) -> tuple[tuple[Node, str], ...]:
        """The model's own nodes in this step, each with the reason."""
        if self.part is None:
            return ((self.node, self.reason),)
        return tuple(zip(self.part.nodes, self.reasons, strict=True))


Step = DeviceStep | HostStep


@dataclass(frozen=True)
class Plan:
    """Everything an executor needs. Byte counts are exact, known without a device."""

    graph: Graph
    target: Target
    steps: tuple[Step, ...]
    memory: MemoryPlan
    roots: Mapping[str, str]
    """View name → the value whose memory it shares. Values not listed are their own root."""
    constants: Mapping[str, Packed]
    """Every constant the launches read, by key."""
    lifetimes: tuple[Lifetime, ...] = ()
    """When what lies in the arenas is alive, in launches and host steps counted from 1."""

    @property
    def constant_bytes(self) -> int:
        return sum(c.nbytes for c in self.constants.values())

    @property
    def device_bytes(self) -> int:
        """Weights in their packed form plus the activation arena."""
        return self.constant_bytes + self.memory.arena_bytes

    def root(self, name: str) -> str:
        while name in self.roots:
            name = self.roots[name]
        return name

    def constant_of(self, arg: object) -> Packed | None:
        """The constant behind a launch's argument; None for anything else."""
        if isinstance(arg, Packed):
            return arg
        if isinstance(arg, Value) and (root := self.root(arg.name)) in self.graph.initializers:
            return raw_constant(self.graph, root)
        return None

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Names of the kernels in use, once each."""
        used = (name for s in self.steps if isinstance(s, DeviceStep) for name in s.algorithms)
        return tuple(dict.fromkeys(used))

    def launches(self) -> Iterable[Launch]:
        return (launch for s in self.steps if isinstance(s, DeviceStep) for launch in s.launches)


def plan(
    graph: Graph,
    target: Target,
    model: Mapping[str, Array] | None = None,
    records: Records | None = None,
) -> Plan:
    """Plan `graph` (bound to concrete shapes, passes done) on `target`.

    `model` holds the constants that all plans with the same weights have, under these names and
    as these arrays; None: there is only this plan. `records` decide where they know better than
    the heuristics. UsageError where `target.disabled_kernels` names what is no kernel.
    """
    kernels.check_disabled(target)
    planner = _Planner(join(graph, Context(target, graph.constant)), target, model, records)
    for node in planner.graph.nodes:
        planner.add(node)
    return planner.finish()


def plan_call(call: LogicalCall, context: Context, records: Records | None = None) -> Plan:
    """Plan one logical call by itself: its computed inputs are fed, its output is fetched.

    Values keep their layouts. UnsupportedOperatorError where no kernel takes the call.
    """
    values = {v.name: v for v in (*call.inputs, call.output) if v is not None}
    names = tuple(dict.fromkeys(v.name for v in call.inputs if v is not None))
    constants = {name: array for name in names if (array := context.constant(name)) is not None}
    fed = tuple(name for name in names if name not in constants)
    node = Node(call.name, names, (call.output.name,), name=call.node)
    graph = Graph(call.node, fed, (call.output.name,), [node], values, constants, {})
    planner = _Planner(graph, context.target, None, records)
    choice = choose(call, planner.context, records)
    launches = tuple(planner.launches(call, choice))
    tuned = (choice.tuned,) if choice.tuned else ()
    planner.steps.append(DeviceStep(node, launches, (choice.name,), tuned=tuned))
    return planner.finish()


@dataclass
class _Planner:
    graph: Graph
    target: Target
    model: Mapping[str, Array] | None
    records: Records | None
    steps: list[Step] = field(default_factory=list)
    roots: dict[str, str] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.graph = self.graph.copy()  # constants may be added
        self.values = dict(self.graph.values)
        self.context = Context(self.target, self.graph.constant)
        self.names = ConstantNames(self.graph, self.model) if self.model is not None else None

    def add(self, node: Node) -> None:
        try:
            self.steps.append(self._on_device(node))
        except (NotLowered, UnsupportedOperatorError) as reason:
            self.steps.append(HostStep(node, str(reason)))

    def _on_device(self, node: Node) -> DeviceStep:
        operator = ops.find(node.qualified, self.graph.opset(node.domain))
        if operator is None:
            raise NotLowered(f"unknown operator {node.qualified}")
        for name in (*node.inputs, *node.outputs):
            if name and not self.graph.values[name].is_static:
                raise NotLowered(f"the shape of {name} depends on data")
        lowering = Lowering(self.graph, node)
        ops.lower(operator, lowering)
        self.graph.initializers |= lowering.literals
        # Choose a kernel for every call before anything is recorded: a call without one sends
        # the whole node to the host.
        calls = [self.names.settle(c) if self.names else c for c in lowering.calls]
        chosen = [(call, self._choose(call)) for call in calls]
        launches: list[Launch] = []
        algorithms: list[str] = []
        for call, choice in chosen:
            self.values.setdefault(call.output.name, call.output)
            if choice is None:
                self._alias(call)
            else:
                algorithms.append(choice.name)
                launches += self.launches(call, choice)
        off = dict.fromkeys(
            kernels.displaced(call, self.context) for call, choice in chosen if choice
        )
        reason = "; ".join(filter(None, off))
        tuned = tuple(choice.tuned for _, choice in chosen if choice and choice.tuned)
        return DeviceStep(node, tuple(launches), tuple(algorithms), reason, tuned)

    def _choose(self, call: LogicalCall) -> Choice | None:
        """The call's kernel; None for a view, which needs none."""
        if call.name == "view":
            return None
        if what := index_range.excess(call):
            raise _out_of_range(what)
        return choose(call, self.context, self.records)

    def launches(self, call: LogicalCall, choice: Choice) -> Sequence[Launch]:
        try:
            made = choice.kernel.launches(call, choice.context)
        except OverflowError as error:  # an int32 argument that is none
            raise _out_of_range(str(error)) from error
        if what := index_range.first_excess(made):
            raise _out_of_range(what)
        return [replace(launch, chosen=choice.name, tuned=choice.tuned) for launch in made]

    def _alias(self, call: LogicalCall) -> None:
        source = call.inputs[0]
        assert source is not None
        self.roots[call.output.name] = source.name

    def finish(self) -> Plan:
        constants: dict[str, Packed] = {}
        lifetimes = _Lifetimes(self)
        for step in self.steps:
            lifetimes.visit(step, constants)
        alive = tuple(lifetimes.finish())
        return Plan(
            self.graph,
            self.target,
            tuple(self.steps),
            pack(alive, self.target.alignment_bytes, self.target.max_alloc_bytes),
            self.roots,
            constants,
            alive,
        )


def _out_of_range(what: str) -> NotLowered:
    return NotLowered(f"{what}: kernels count to {index_range.MOST:,}")


class _Lifetimes:
    """First and last step of each root value on the device; one tick per launch."""

    def __init__(self, planner: _Planner) -> None:
        self.planner = planner
        self.tick = 0
        self.span: dict[str, tuple[int, int]] = {}
        self.nbytes: dict[str, int] = {}
        self.on_device: set[str] = set()
        for name in planner.graph.inputs:
            self._touch(name)

    def visit(self, step: Step, constants: dict[str, Packed]) -> None:
        if isinstance(step, HostStep):
            self.tick += 1
            for name in (*step.node.inputs, *step.node.outputs):
                if name and self._root(name) not in self.planner.graph.initializers:
                    self._touch(name)
            return
        for launch in step.launches:
            self.tick += 1
            for arg in launch.args:
                self._argument(arg, constants)

    def _argument(self, arg: object, constants: dict[str, Packed]) -> None:
        if isinstance(arg, Packed):
            constants.setdefault(arg.key, arg)
        elif isinstance(arg, Workspace):
            first = self.span.get(arg.label, (self.tick, self.tick))[0]
            self.span[arg.label] = (first, self.tick)
            self.nbytes[arg.label] = max(self.nbytes.get(arg.label, 0), arg.nbytes)
            self.on_device.add(arg.label)
        elif isinstance(arg, Value):
            root = self._root(arg.name)
            if root in self.planner.graph.initializers:
                raw = raw_constant(self.planner.graph, root)
                constants.setdefault(raw.key, raw)
            else:
                self._touch(arg.name)
                self.on_device.add(root)

    def finish(self) -> list[Lifetime]:
        end = self.tick + 1
        for name in self.planner.graph.outputs:
            root = self._root(name)
            if root in self.span:
                self.span[root] = (self.span[root][0], end)
        return [
            Lifetime(name, self.nbytes[name], first, last)
            for name, (first, last) in self.span.items()
            if name in self.on_device
        ]

    def _root(self, name: str) -> str:
        while name in self.planner.roots:
            name = self.planner.roots[name]
        return name

    def _touch(self, name: str) -> None:
        root = self._root(name)
        first = self.span.get(root, (self.tick, self.tick))[0]
        self.span[root] = (first, self.tick)
        if root not in self.nbytes:
            value = self.planner.values[root]
            # A host step's data-dependent output has no planned size; it never meets the device.
            self.nbytes[root] = value.nbytes if value.is_static else 0


def raw_constant(graph: Graph, name: str) -> Packed:
    """An initializer as it is, for kernels that read it unpacked."""
    array = graph.initializers[name]
    return Packed(f"raw:{name}", array.nbytes, partial(_contiguous, graph, name))


def _contiguous(graph: Graph, name: str) -> Array:
    import numpy as np

    return np.ascontiguousarray(graph.initializers[name])
