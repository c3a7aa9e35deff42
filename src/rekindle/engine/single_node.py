"""One node by itself on a device: how kernels are held against the operators' references.

Values are fed and fetched as they lie in memory, so that no other kernel (a Reorder, say) stands
between a node and what is said of it, and the padding of blocked values is looked at, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyopencl as cl

from rekindle._types import DType, Layout
from rekindle.engine.executor import Executor
from rekindle.engine.plan import Plan
from rekindle.engine.weights import Weights
from rekindle.graph.ir import Array, Graph, Node

_TOLERANCE = 1e-4
_TOLERANCES = {DType.FLOAT16: 2e-3, DType.BFLOAT16: 2e-2}
"""Two units in the last place of the type a result is stored in."""
_WINOGRAD = 1e-3
_NARROW_WINOGRAD = 1e-2
"""Its transforms cancel: an order of magnitude of accuracy is their known price, and with filters
stored as half another one."""


def tolerance_of(dtype: DType, algorithms: Iterable[str] = ()) -> float:
    """How far a result of `dtype` may lie from the reference, as `difference` counts it."""
    stored = _TOLERANCES.get(dtype, 0.0)
    if any("winograd" in name for name in algorithms):
        return max(stored, _NARROW_WINOGRAD) if stored else _WINOGRAD
    return max(stored, _TOLERANCE)


def isolate(graph: Graph, node: Node) -> Graph:
    """The graph that consists of `node`: its computed inputs are fed, its constants kept.

    `graph` must be bound to concrete shapes. Values keep their layout, also where they enter and
    leave.
    """
    read = dict.fromkeys(name for name in node.inputs if name)
    made = tuple(dict.fromkeys(name for name in node.outputs if name))
    return Graph(
        node.name or made[0],
        tuple(name for name in read if name not in graph.initializers),
        made,
        [node],
        {name: graph.values[name] for name in (*read, *made)},
        {name: graph.initializers[name] for name in read if name in graph.initializers},
        dict(graph.opsets),
    )


def run_alone(
    plan: Plan, device: cl.Device, weights: Weights, arrays: Mapping[str, Array]
) -> dict[str, Array]:
    """Outputs of a planned graph on row-major `arrays`, each as it lies in device memory.

    Raises what `Executor` raises: KernelError, DeviceError, MemoryLimitError.
    """
    values = plan.graph.values
    executor = Executor(plan, device, weights)
    try:
        return executor.run(
            {name: as_stored(arrays[name], values[name].layout) for name in plan.graph.inputs}
        )
    finally:
        executor.release()


def as_stored(array: Array, layout: Layout) -> Array:
    """A row-major (N, C, *S) array as `layout` has it in memory; channels past C are zero."""
    if not layout.block:
        return np.ascontiguousarray(array)
    n, c, *spatial = array.shape
    blocks = -(-c // layout.block)
    full = np.zeros((n, blocks * layout.block, *spatial), array.dtype)
    full[:, :c] = array
    split = full.reshape(n, blocks, layout.block, *spatial)
    return np.ascontiguousarray(np.moveaxis(split, 2, -1))
