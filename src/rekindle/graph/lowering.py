"""From operators to logical calls: the small vocabulary that engines implement.

An operator's `lower` describes itself to a `Lowering` in logical calls, by name and plain data,
on concrete shapes. The calls, all on row-major values unless said otherwise (`*` = layout of the
values decides; x, w, … are values):

====================  ==============================================================================
`elementwise` *       out = expr(inputs), broadcast as NumPy does. params: expr
`conv` *              inputs x (N,C,*S), w (M,C/group,*K), bias (M,) or None, then operands of the
                      epilogue. params: strides, pads (begins then ends), dilations, group,
                      exact (sums of whole numbers: no transform that rounds), decode: Decode of
                      integer weights (graph.decode) or None, epilogue: Expr or None, in which
                      Arg(0) is the sum with bias and Arg(i) the i-th operand (same shape as the
                      output, or one element). Floats may be of different types
`matmul`              inputs a (..., M, K), b (..., K, N), then operands of the epilogue, each
                      broadcast to the output as NumPy does. params: transpose_a, transpose_b (of
                      the last two axes), epilogue and decode as in `conv`
`pool` *              x (N,C,*S). params: kind "max" | "average", kernel, strides, pads, dilations,
                      count_include_pad. A window may reach past the padded end (ceil mode): what
                      lies there counts for neither the maximum nor the average's divisor
`reduce` *            params: kind "sum" | "mean" | "max" | "min" | "prod" | "sum_square", axes
                      (sorted, non-negative); out has those axes as 1 or without them. Blocked
                      values: axes are exactly all spatial ones
`arg_reduce`          params: kind "max" | "min", axis, last (the last of equals); out int64
`softmax`             params: axis, log (bool)
`normalize`           inputs x, scale or None, bias or None. Rows of x, `length` elements that lie
                      together, to zero mean and unit variance: (x - mean) / sqrt(variance +
                      epsilon) * scale + bias; with `rms` without mean. `affine` (period, step,
                      inner): element i of row r has scale [r % period * step + i / inner].
                      params: length, rms (bool), epsilon, affine
`attention`           softmax(scale q k' + mask) v of inputs q, k, v, mask or None. params: scale,
                      sizes (batch, heads, queries, keys, floats in a key, in a value), and for each
                      of q, k, v, y and mask `<name>_strides`, in elements: steps along batch,
                      heads, rows and the last axis
`copy`                out[out_offset + sum i*out_strides] = x[in_offset + sum i*in_strides] for i in
                      `shape`, in elements: transpose, slice, expand, concat, tile, pad are copies
`fill`                no inputs. params: value
`gather`              inputs x, indices (int32/int64; negative counts from the end). params: axis
`gather_elements`     inputs x, indices: of out's shape; each replaces its place along an axis.
                      params: axis
`gather_nd`           inputs x, indices (..., q): each row is a place on q axes of x after its first
                      `batch` ones, which both share. params: batch
`scatter_elements`    inputs x, indices, updates (of one shape). params: axis, reduction "none" |
                      "add" | "mul" | "max" | "min". Of several writes to a place the last stays
`scatter_nd`          inputs x, indices (..., q), updates. params: reduction
`top_k`               params: axis, k, largest; out int64: places, best first, equal ones by the
                      lower index, NaN above all numbers
`cumulate`            params: axis, kind "sum" | "prod", exclusive, reverse
`matmul_integer`      inputs a, b of int8 or uint8 (as for matmul), their zero points or None: one
                      element, or one a row of a, one a column of b; out int32
`conv_integer`        inputs x, w of int8 or uint8, their zero points or None: one element, for w
                      also one a filter. params as for conv without epilogue; out int32
`chain` *             `LogicalCall.parts` at once: each part's first input is the output of the one
                      before, which nobody else reads. inputs: what else the parts read, in order
`view`                out is x under another shape: no work, no memory
`reorder`             out is x in another layout (the values say which)
====================  ==============================================================================

Several calls may write parts of one output (`fill` then `copy`, or copies side by side).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rekindle._errors import UnsupportedOperatorError
from rekindle._types import ROW_MAJOR, DType, Layout
from rekindle.graph.ir import Array, Graph, Node, Value, dtype_of

CALLS = (
    "elementwise", "conv", "matmul", "pool", "reduce", "arg_reduce", "softmax", "copy", "fill",
    "gather", "gather_elements", "gather_nd", "scatter_elements", "scatter_nd", "top_k",
    "cumulate", "matmul_integer", "conv_integer", "view", "reorder", "attention",
    "normalize", "chain",
)  # fmt: skip


class NotLowered(UnsupportedOperatorError):  # noqa: N818 - it says where a node runs, not a fault
    """Why a case of an operator runs on the host; placement repeats the message."""


@dataclass(frozen=True)
class LogicalCall:
    """One call: values in, one value out, parameters as plain data."""

    name: str
    inputs: tuple[Value | None, ...]
    output: Value
    params: Mapping[str, Any] = field(default_factory=dict)
    node: str = ""
    """The node it came from, for profiles and placement."""
    parts: tuple[LogicalCall, ...] = ()
    """Of a `chain`: the calls that do the same one after the other."""


class Lowering:
    """What an operator's `lower` sees: its node on concrete shapes, and where calls go."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.node = node
        self.calls: list[LogicalCall] = []
        self.literals: dict[str, Array] = {}
        """Constants that the lowering brings along; engines treat them as initializers."""
        self.graph = graph
        self._temporaries = 0
        self._stem = next(filter(None, node.outputs), node.op_type)

    @property
    def inputs(self) -> tuple[Value | None, ...]:
        return tuple(self.graph.values[n] if n else None for n in self.node.inputs)

    def input(self, index: int) -> Value:
        """A required input."""
        return self.graph.values[self.node.inputs[index]]

    def has_input(self, index: int) -> bool:
        return index < len(self.node.inputs) and bool(self.node.inputs[index])

    def constant(self, index: int) -> Array | None:
        """The constant behind an input; None where it is absent or computed at run time."""
        return self.graph.constant(self.node.inputs[index]) if self.has_input(index) else None

    @property
    def output(self) -> Value:
        if not self.node.outputs[0]:
            raise NotLowered("its first output is not asked for")
        return self.graph.values[self.node.outputs[0]]

    def outputs(self) -> tuple[Value | None, ...]:
        return tuple(self.graph.values[n] if n else None for n in self.node.outputs)

    def temporary(
        self, shape: Sequence[int], dtype: DType = DType.FLOAT32, layout: Layout = ROW_MAJOR
    ) -> Value:
        """A value that lives only between the calls of this node."""
        self._temporaries += 1
        name = f"{self._stem}#{self._temporaries}"
        return Value(name, dtype, tuple(shape), layout)

    def literal(self, array: Array) -> Value:
        """A constant that the node does not have as an input (positions, …)."""
        name = f"{self._stem}#literal{len(self.literals)}"
        self.literals[name] = array
        return Value(name, dtype_of(array), array.shape)

    def call(
        self, name: str, inputs: Sequence[Value | None], output: Value, /, **params: Any
    ) -> Value:
        """Append a logical call, unless it writes nothing; returns its output for chaining."""
        assert name in CALLS, f"unknown logical call {name}"
        if 0 in output.static_shape or 0 in params.get("shape", ()):
            return output
        label = self.node.name or self._stem
        self.calls.append(LogicalCall(name, tuple(inputs), output, params, label))
        return output

    def view(self, value: Value, shape: Sequence[int]) -> Value:
        """`value` under another shape (row-major)."""
        return self.call("view", (value,), self.temporary(shape, value.dtype))
