"""The intermediate representation: a graph of nodes over named values.

A `Graph` is what `onnx_io.load` makes of a file and what every pass takes and returns. Names tie
things together: a node lists the names of its inputs and outputs, `Graph.values` holds the type
of each name, `Graph.initializers` the constants. Nodes stand in topological order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from rekindle._types import ROW_MAJOR, DType, Layout, Shape, TensorSpec

Array = np.ndarray[Any, np.dtype[Any]]

OWN_DOMAIN = "rekindle"
"""Domain of the operators that our passes write (`rekindle::Conv` with an epilogue, …)."""


@dataclass(frozen=True)
class Value:
    """A tensor's name, dtype, logical shape and layout in device memory.

    `shape` is always the logical one, whatever the layout. None: the rank is unknown.
    """

    name: str
    dtype: DType
    shape: Shape | None
    layout: Layout = ROW_MAJOR

    @property
    def is_static(self) -> bool:
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)

    @cached_property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as integers; only valid on bound graphs."""
        shape = self.shape
        assert shape is not None, f"{self.name} has no shape"
        ints = tuple(d for d in shape if isinstance(d, int))
        assert len(ints) == len(shape), f"{self.name} has dynamic dimensions {shape}"
        return ints

    @property
    def nbytes(self) -> int:
        """Bytes on the device in this layout; only valid on bound graphs."""
        return self.layout.nbytes(self.static_shape, self.dtype)


@dataclass(frozen=True)
class Node:
    """One operator application. An absent optional input is the empty name."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    name: str = ""

    @property
    def qualified(self) -> str:
        """Registry name: `Conv`, or `rekindle::Conv` outside the default domain."""
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type

    def attr(self, key: str, default: Any = None) -> Any:
        return self.attrs.get(key, default)

    def __str__(self) -> str:
        label = f" {self.name!r}" if self.name else ""
        return f"{self.qualified}{label} -> {', '.join(self.outputs)}"


@dataclass
class Graph:
    """A network. Passes build new graphs (`copy`, then change the copy); arrays are shared."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: list[Node]
    values: dict[str, Value]
    initializers: dict[str, Array]
    opsets: dict[str, int]
    """Domain → opset version; the default domain is the empty string."""

    def copy(self) -> Graph:
        return replace(
            self,
            nodes=list(self.nodes),
            values=dict(self.values),
            initializers=dict(self.initializers),
            opsets=dict(self.opsets),
        )

    def opset(self, domain: str) -> int:
        return self.opsets.get(domain, 1)

    def constant(self, name: str) -> Array | None:
        """The constant of that name, or None where it is computed or absent."""
        return self.initializers.get(name)

    def producers(self) -> dict[str, Node]:
        return {out: node for node in self.nodes for out in node.outputs if out}

    def consumers(self) -> dict[str, list[Node]]:
        """Value name → nodes that read it (once each), in graph order."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name:
                    found.setdefault(name, []).append(node)
        return found

    def fresh(self, stem: str) -> str:
        """A value name not used yet."""
        name, k = stem, 1
        while name in self.values or name in self.initializers:
            name, k = f"{stem}.{k}", k + 1
        return name

    def add_initializer(self, stem: str, array: Array) -> str:
        """Add a constant under a fresh name made from `stem`; return the name."""
        name = self.fresh(stem)
        self.initializers[name] = array
        self.values[name] = Value(name, dtype_of(array), array.shape)
        return name

    def input_specs(self) -> tuple[TensorSpec, ...]:
        return tuple(self._spec(n) for n in self.inputs)

    def output_specs(self) -> tuple[TensorSpec, ...]:
        return tuple(self._spec(n) for n in self.outputs)

    def _spec(self, name: str) -> TensorSpec:
        value = self.values[name]
        return TensorSpec(name, value.dtype, value.shape or ())

    def names(self) -> Iterator[str]:
        """Every value name that nodes, inputs and initializers define."""
        yield from self.inputs
        yield from self.initializers
        for node in self.nodes:
            yield from (n for n in node.outputs if n)


def dtype_of(array: Array) -> DType:
    """DType of a NumPy array; ValueError for dtypes without one (complex, object, …)."""
    return _dtype(array.dtype)


@cache
def _dtype(dtype: np.dtype[Any]) -> DType:
    if dtype.kind in "USO":
        return DType.STRING
    return DType(dtype.name)


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """NumPy dtype of a DType; bfloat16 comes from ml_dtypes, strings are object arrays."""
    if dtype is DType.BFLOAT16:
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    if dtype is DType.STRING:
        return np.dtype(object)
    plain: np.dtype[Any] = np.dtype(dtype.value)
    return plain
