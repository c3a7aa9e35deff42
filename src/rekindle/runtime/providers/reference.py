"""The NumPy reference: slow, and the oracle that the others are held against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rekindle.graph import onnx_io
from rekindle.graph.cost import parameter_count
from rekindle.graph.ir import Array, Graph
from rekindle.graph.reference import run
from rekindle.runtime._options import Options
from rekindle.runtime.placement import PlacedNode, Placement
from rekindle.runtime.providers import Provider, register


class ReferenceBackend:
    """Each node by its operator's NumPy reference; sums in float64."""

    peak_device_bytes: int | None = None
    device_bytes: int | None = None
    optimization = "none"

    def __init__(self, graph: Graph, reason: str) -> None:
        self._graph = graph
        self.inputs = graph.input_specs()
        self.outputs = graph.output_specs()
        self.parameters: int | None = parameter_count(graph)
        nodes = [PlacedNode(n.name or n.outputs[0], n.qualified, "host") for n in graph.nodes]
        self.placement = Placement("reference", "NumPy", reason, nodes)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return run(self._graph, feeds)

    def close(self) -> None:
        self._graph.initializers = {}


def _open(path: Path, options: Options, reason: str) -> ReferenceBackend:
    options.refuse("reference", "device", "memory_limit_bytes", "threads")
    options.refuse_precision("reference")
    return ReferenceBackend(onnx_io.load(path), reason)


register("reference", Provider(frameworks=("onnx",), open=_open))
