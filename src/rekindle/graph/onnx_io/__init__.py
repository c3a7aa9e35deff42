"""ONNX files in and out: the only place in `graph` that knows the `onnx` package."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rekindle._errors import ModelError, NotFoundError, RekindleError, UnsupportedOperatorError
from rekindle.graph import ops
from rekindle.graph.infer import infer
from rekindle.graph.ir import Graph
from rekindle.graph.onnx_io._complete import complete
from rekindle.graph.onnx_io._convert import convert
from rekindle.graph.onnx_io._export import save
from rekindle.graph.onnx_io._parse import parse
from rekindle.graph.onnx_io._sequences import without_sequences
from rekindle.graph.verify import verify

__all__ = ["load", "load_bytes", "save"]


def load(path: Path, *, allow_unknown: bool = False) -> Graph:
    """The ONNX model in a file, verified, every value typed as far as its shapes are known.

    `allow_unknown` keeps operators that cannot run, for inspection; their outputs may then be
    missing in `Graph.values`. NotFoundError: no such file. ModelError: not a sound ONNX model
    (the message begins with the file's name). UnsupportedOperatorError names every operator that
    is not known.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"no such model file: {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise ModelError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
    try:
        return load_bytes(data, folder=path.parent, allow_unknown=allow_unknown)
    except RekindleError as error:
        raise type(error)(f"{path.name}: {error.message}", hint=error.hint) from error


def load_bytes(data: bytes, *, folder: Path | None = None, allow_unknown: bool = False) -> Graph:
    """As `load`, from memory; `folder` is where external data may lie (None: nowhere)."""
    model = parse(data)
    graph = convert(model, folder)
    if not allow_unknown:
        graph = without_sequences(graph)
    if not allow_unknown:
        _refuse_unknown(graph)
    graph = infer(graph)
    if more := complete(graph, model):
        graph.values |= more
        graph = infer(graph)
    if not allow_unknown:
        verify(graph)
    return graph


def _refuse_unknown(graph: Graph) -> None:
    counts = Counter(
        n.qualified
        for n in graph.nodes
        if n.domain == "rekindle" or ops.find(n.qualified, graph.opset(n.domain)) is None
    )
    if counts:
        if any(name.startswith("com.microsoft.nchwc::") for name in counts):
            raise UnsupportedOperatorError(
                "ONNX Runtime has laid this model's weights out for one kind of processor",
                hint="save it at the level ORT_ENABLE_EXTENDED, or give the original model",
            )
        listed = ", ".join(f"{name} ({count}x)" for name, count in counts.most_common())
        raise UnsupportedOperatorError(
            f"the model has operators that are not supported: {listed}",
            hint="run it with provider='onnxruntime'",
        )
