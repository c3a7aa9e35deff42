"""Calls on 16-bit floats that no kernel takes as they are: widened, computed, narrowed again.

The arithmetic is float32, as everywhere; constants are widened once, when the plan is made.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rekindle._types import DType
from rekindle.graph.expr import Arg, Cast
from rekindle.graph.ir import Graph, Value
from rekindle.graph.lowering import LogicalCall

_NARROW = (DType.FLOAT16, DType.BFLOAT16)
_CALLS = ("conv", "matmul", "pool")


def widened(call: LogicalCall, graph: Graph) -> list[LogicalCall] | None:
    """The call in float32 between casts; None where that is not what it lacks.

    Constants come into `graph` as further initializers.
    """
    values = [v for v in (*call.inputs, call.output) if v is not None]
    if call.name not in _CALLS or not any(v.dtype in _NARROW for v in values):
        return None
    before: list[LogicalCall] = []
    inputs = [v if v is None else _wide(v, call, graph, before) for v in call.inputs]
    output = call.output
    if output.dtype not in _NARROW:
        return [*before, replace(call, inputs=tuple(inputs))]
    result = replace(output, name=f"{output.name}#float32", dtype=DType.FLOAT32)
    narrow = Cast(output.dtype, Arg(0))
    return [
        *before,
        replace(call, inputs=tuple(inputs), output=result),
        LogicalCall("elementwise", (result,), output, {"expr": narrow}, call.node),
    ]


def _wide(value: Value, call: LogicalCall, graph: Graph, before: list[LogicalCall]) -> Value:
    """The value in float32: a constant of its own, or what a cast in `before` gives."""
    if value.dtype not in _NARROW:
        return value
    constant = graph.constant(value.name)
    if constant is not None:
        wide = replace(value, name=f"{value.name}#float32", dtype=DType.FLOAT32)
        graph.initializers.setdefault(wide.name, constant.astype(np.float32))
        graph.values[wide.name] = wide
        return wide
    wide = replace(value, name=f"{value.name}#for#{call.output.name}", dtype=DType.FLOAT32)
    if all(made.output.name != wide.name for made in before):
        cast = Cast(DType.FLOAT32, Arg(0))
        before.append(LogicalCall("elementwise", (value,), wide, {"expr": cast}, call.node))
    return wide
