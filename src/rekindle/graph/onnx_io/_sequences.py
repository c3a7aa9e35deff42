"""Sequences of tensors, written out: what exports make of `split`, `unbind`, `stack` and lists.

A graph holds tensors only. Which tensors a sequence holds is known from the nodes that make it,
so every node on sequences becomes nodes on these tensors: SequenceAt is the tensor itself,
ConcatFromSequence a Concat. A SplitToSequence needs no number of parts for that: the i-th one is
a Slice. What only a run could tell (a position computed there, a list that a Loop grows) is
refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rekindle._errors import ModelError, UnsupportedOperatorError
from rekindle.graph.ir import Array, Graph, Node

OPERATORS = (
    "ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase",
    "SequenceInsert", "SequenceLength", "SplitToSequence", "Optional",
)  # fmt: skip
_PASSED_ON = ("Identity", "Optional", "OptionalGetElement")


@dataclass(frozen=True)
class _Parts:
    """The parts of `x` along `axis`, `size` positions each; the last one may be shorter."""

    x: str
    axis: int
    size: int
    keepdims: bool


_Sequence = list[str] | _Parts


def without_sequences(graph: Graph) -> Graph:
    """The graph with tensors only; UnsupportedOperatorError where a sequence cannot be followed."""
    inner = [_inside(node) for node in graph.nodes]
    if any(a is not b for a, b in zip(inner, graph.nodes, strict=True)):
        graph = replace(graph.copy(), nodes=inner)
    if not any(n.op_type in OPERATORS and not n.domain for n in graph.nodes):
        return graph
    return _Writer(graph).run()


def _inside(node: Node) -> Node:
    """The node with its subgraphs written out; itself where nothing changed."""
    changed = {
        key: written
        for key, value in node.attrs.items()
        if isinstance(value, Graph) and (written := without_sequences(value)) is not value
    }
    return replace(node, attrs={**node.attrs, **changed}) if changed else node


@dataclass
class _Writer:
    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    sequences: dict[str, _Sequence] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    count: int = 0

    def run(self) -> Graph:
        self.constants = dict(self.graph.initializers)
        for node in self.graph.nodes:
            if node.op_type == "Constant" and isinstance(node.attr("value"), np.ndarray):
                self.constants[node.outputs[0]] = node.attr("value")
            self.visit(node)
        for name in self.graph.outputs:
            if name in self.sequences:
                raise _unknown(f"output {name!r} is a sequence; only tensors are supported")
        added = {n: a for n, a in self.constants.items() if n.startswith(_STEM)}
        return replace(
            self.graph.copy(),
            nodes=self.nodes,
            initializers={**self.graph.initializers, **added},
        )

    def visit(self, node: Node) -> None:
        handle = _HANDLERS.get(node.op_type) if not node.domain else None
        if handle is not None:
            handle(self, node)
            return
        if node.op_type in _PASSED_ON and not node.domain and node.inputs:
            if node.inputs[0] in self.sequences:
                self.sequences[node.outputs[0]] = self.sequences[node.inputs[0]]
            else:
                self.nodes.append(replace(node, op_type="Identity", attrs={}))
            return
        if read := [n for n in node.inputs if n in self.sequences]:
            raise _unknown(f"node {node} reads the sequence {read[0]!r}, which cannot be followed")
        self.nodes.append(node)

    # --- what handlers use -----------------------------------------------------------------------

    def sequence(self, node: Node) -> _Sequence:
        name = node.inputs[0]
        if name not in self.sequences:
            raise _unknown(
                f"node {node}: where the sequence {name!r} comes from cannot be followed"
            )
        return self.sequences[name]

    def listed(self, node: Node) -> list[str]:
        """The sequence as tensors one by one."""
        found = self.sequence(node)
        if isinstance(found, list):
            return found
        raise _unknown(f"node {node} needs the number of parts of {found.x!r}, known at run time")

    def position(self, node: Node, index: int, default: int) -> int:
        """A constant position; `default` where the input is absent."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return default
        given = self.constants.get(node.inputs[index])
        if given is None or given.size != 1:
            raise _unknown(f"node {node}: its position is computed at run time")
        return int(given.reshape(-1)[0])

    def integers(self, *values: int) -> str:
        self.count += 1
        name = f"{_STEM}{self.count}"
        self.constants[name] = np.array(values, np.int64)
        return name

    def temporary(self, node: Node) -> str:
        self.count += 1
        return f"{node.outputs[0]}/part{self.count}"

    def add(self, op_type: str, inputs: Sequence[str], output: str, **attrs: Any) -> str:
        self.nodes.append(Node(op_type, tuple(inputs), (output,), attrs, name=output))
        return output

    def squeezed(self, x: str, axis: int, output: str) -> None:
        if self.graph.opset("") < 13:
            self.add("Squeeze", (x,), output, axes=(axis,))
        else:
            self.add("Squeeze", (x, self.integers(axis)), output)

    def unsqueezed(self, x: str, axis: int, output: str) -> str:
        if self.graph.opset("") < 13:
            return self.add("Unsqueeze", (x,), output, axes=(axis,))
        return self.add("Unsqueeze", (x, self.integers(axis)), output)


_STEM = "sequence.constant"


def _unknown(message: str) -> UnsupportedOperatorError:
    return UnsupportedOperatorError(message, hint="run it with provider='onnxruntime'")


def _construct(writer: _Writer, node: Node) -> None:
    writer.sequences[node.outputs[0]] = list(node.inputs)


def _empty(writer: _Writer, node: Node) -> None:
    writer.sequences[node.outputs[0]] = []


def _insert(writer: _Writer, node: Node) -> None:
    kept = list(writer.listed(node))
    at = writer.position(node, 2, len(kept))
    kept.insert(at, node.inputs[1])
    writer.sequences[node.outputs[0]] = kept


def _erase(writer: _Writer, node: Node) -> None:
    kept = list(writer.listed(node))
    at = writer.position(node, 1, len(kept) - 1)
    if not -len(kept) <= at < len(kept):
        raise ModelError(f"node {node}: position {at} of a sequence of {len(kept)}")
    del kept[at]
    writer.sequences[node.outputs[0]] = kept


def _at(writer: _Writer, node: Node) -> None:
    found, at = writer.sequence(node), writer.position(node, 1, 0)
    if isinstance(found, list):
        if not -len(found) <= at < len(found):
            raise ModelError(f"node {node}: position {at} of a sequence of {len(found)}")
        writer.add("Identity", (found[at],), node.outputs[0])
    elif at < 0 and found.size > 1:
        raise _unknown(f"node {node} counts from the end of parts whose number a run tells")
    else:
        _take(writer, found, at, node.outputs[0])


def _take(writer: _Writer, parts: _Parts, at: int, output: str) -> None:
    """The part at a position, as a Slice."""
    first = at * parts.size
    last = first + parts.size or np.iinfo(np.int64).max
    sliced = output if parts.keepdims else f"{output}/kept"
    bounds = (writer.integers(n) for n in (first, int(last), parts.axis))
    writer.add("Slice", (parts.x, *bounds), sliced)
    if not parts.keepdims:
        writer.squeezed(sliced, parts.axis, output)


def _length(writer: _Writer, node: Node) -> None:
    count = np.array(len(writer.listed(node)), np.int64)
    writer.add("Constant", (), node.outputs[0], value=count)
    writer.constants[node.outputs[0]] = count


def _concat(writer: _Writer, node: Node) -> None:
    axis, parts = int(node.attr("axis", 0)), writer.sequence(node)
    if isinstance(parts, _Parts):
        same = parts.keepdims and not node.attr("new_axis", 0) and parts.axis == axis
        again = not parts.keepdims and node.attr("new_axis", 0) and parts.axis == axis
        if not (same or again):
            parts = writer.listed(node)
        else:
            writer.add("Identity", (parts.x,), node.outputs[0])
            return
    if not parts:
        raise ModelError(f"node {node} joins an empty sequence")
    if node.attr("new_axis", 0):
        parts = [writer.unsqueezed(p, axis, writer.temporary(node)) for p in parts]
    writer.add("Concat", parts, node.outputs[0], axis=axis)


def _split(writer: _Writer, node: Node) -> None:
    """Parts of one size are taken when they are asked for; parts of several are a Split."""
    axis = int(node.attr("axis", 0))
    if len(node.inputs) < 2 or not node.inputs[1]:
        parts = _Parts(node.inputs[0], axis, 1, bool(node.attr("keepdims", 1)))
        writer.sequences[node.outputs[0]] = _counted(writer, node, parts)
        return
    sizes = writer.constants.get(node.inputs[1])
    if sizes is None:
        raise _unknown(f"node {node}: its sizes are computed at run time")
    if sizes.ndim == 0:
        parts = _Parts(node.inputs[0], axis, int(sizes), keepdims=True)
        writer.sequences[node.outputs[0]] = _counted(writer, node, parts)
        return
    names = [writer.temporary(node) for _ in sizes]
    if writer.graph.opset("") < 13:
        made = Node(
            "Split", node.inputs[:1], tuple(names), {"axis": axis, "split": tuple(sizes.tolist())}
        )
    else:
        inputs = (node.inputs[0], writer.integers(*map(int, sizes)))
        made = Node("Split", inputs, tuple(names), {"axis": axis})
    writer.nodes.append(made)
    writer.sequences[node.outputs[0]] = names


def _counted(writer: _Writer, node: Node, parts: _Parts) -> _Sequence:
    """The parts one by one where the file declares the size of the axis."""
    value = writer.graph.values.get(parts.x)
    shape = value.shape if value is not None else None
    if shape is None or not -len(shape) <= parts.axis < len(shape):
        return parts
    total = shape[parts.axis]
    if not isinstance(total, int) or parts.size < 1:
        return parts
    names = [writer.temporary(node) for _ in range(-(-total // parts.size))]
    for index, name in enumerate(names):
        _take(writer, parts, index, name)
    return names


_HANDLERS: dict[str, Callable[[_Writer, Node], None]] = {
    "ConcatFromSequence": _concat,
    "SequenceAt": _at,
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceErase": _erase,
    "SequenceInsert": _insert,
    "SequenceLength": _length,
    "SplitToSequence": _split,
}
