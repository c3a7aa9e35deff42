"""From bytes to a checked ModelProto: what the file is, its versions, its local functions."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import FunctionProto, ModelProto, NodeProto

from rekindle._errors import ModelError
from rekindle.graph.onnx_io._tensors import text

OLDEST_OPSET = 7
_OLDEST_IR = 3
_MAX_INLINED_NODES = 200_000

_MAGIC = (
    (0, b"PK\x03\x04", "a zip archive, as TorchScript and torch.export files are"),
    (0, b"\x1f\x8b", "gzip-compressed"),
    (0, b"\x80\x02", "a Python pickle"),
    (0, b"\x89HDF", "an HDF5 file, as Keras models are"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (4, b"ORTM", "an ONNX Runtime .ort file"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"version https://git-lfs", "a Git LFS pointer: the model itself was not downloaded"),
    (0, b"<", "a web page or XML"),
)


def parse(data: bytes) -> ModelProto:
    """The model in `data`, versions checked and local functions inlined; else ModelError."""
    model = _decode(data)
    _check_versions(model)
    if model.functions:
        model = _inline(model)
    return model


def _decode(data: bytes) -> ModelProto:
    if not data:
        raise ModelError("the model file is empty")
    for offset, magic, what in _MAGIC:
        if data[offset : offset + len(magic)] == magic:
            raise ModelError(f"this is not an ONNX model but {what}")
    try:
        model: ModelProto = ModelProto.FromString(data)
    except DecodeError:
        raise ModelError(
            f"these {len(data)} bytes are not an ONNX model, or it is truncated",
            hint="download or export the file again",
        ) from None
    if not model.HasField("graph") or not model.HasField("ir_version"):
        raise ModelError(
            f"these {len(data)} bytes hold no ONNX graph", hint="expected an ONNX ModelProto"
        )
    return model


def _check_versions(model: ModelProto) -> None:
    if not _OLDEST_IR <= model.ir_version <= onnx.IR_VERSION:
        raise ModelError(
            f"ONNX IR version {model.ir_version} is not supported; "
            f"{_OLDEST_IR} to {int(onnx.IR_VERSION)} are",
            hint=_update_hint(model.ir_version > onnx.IR_VERSION),
        )
    version = opsets(model).get("")
    newest = onnx.defs.onnx_opset_version()
    if version is not None and not OLDEST_OPSET <= version <= newest:
        raise ModelError(
            f"ONNX opset {version} is not supported; {OLDEST_OPSET} to {newest} are",
            hint=_update_hint(version > newest),
        )


def _update_hint(newer: bool) -> str:
    if newer:
        return f"onnx {onnx.__version__} is installed; try pip install --upgrade onnx"
    return "convert it with onnx.version_converter, or export it again"


def opsets(model: ModelProto) -> dict[str, int]:
    """Domain → version; the default domain, which has two spellings, is the empty string."""
    found: dict[str, int] = {}
    for entry in model.opset_import:
        domain = plain_domain(text(entry.domain, "an operator domain"))
        if not 0 < entry.version < 2**31:
            raise ModelError(
                f"the model imports operator domain {domain or 'ai.onnx'!r} in the impossible "
                f"version {entry.version}"
            )
        if found.setdefault(domain, entry.version) != entry.version:
            raise ModelError(
                f"the model imports operator domain {domain or 'ai.onnx'!r} in versions "
                f"{found[domain]} and {entry.version}"
            )
    return found


def plain_domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _inline(model: ModelProto) -> ModelProto:
    """Replace calls of local functions by their bodies, after measuring what that makes."""
    _measure(model)
    try:
        inlined: ModelProto = onnx.inliner.inline_local_functions(model)
    except Exception as error:  # the inliner raises whatever its C++ side threw
        raise ModelError(f"the model's local functions cannot be inlined: {error}") from error
    return inlined


def _measure(model: ModelProto) -> None:
    """Refuse functions that call themselves, or that expand without bound."""
    functions = {_function_key(f): f for f in model.functions}
    sizes: dict[tuple[str, str, str], int] = {}

    def size_of(key: tuple[str, str, str], above: tuple[tuple[str, str, str], ...]) -> int:
        if key in above:
            raise ModelError(f"local function {key[0]}::{key[1]} calls itself")
        if key not in sizes:
            sizes[key] = total(functions[key].node, (*above, key))
        return sizes[key]

    def total(nodes: Iterable[NodeProto], above: tuple[tuple[str, str, str], ...]) -> int:
        count = 0
        for node in _with_subgraphs(nodes):
            key = (plain_domain(node.domain), node.op_type, node.overload)
            count += size_of(key, above) if key in functions else 1
        if count > _MAX_INLINED_NODES:
            raise ModelError(
                f"the model's local functions expand to more than {_MAX_INLINED_NODES} nodes"
            )
        return count

    total(model.graph.node, ())


def _function_key(function: FunctionProto) -> tuple[str, str, str]:
    return plain_domain(function.domain), function.name, function.overload


def _with_subgraphs(nodes: Iterable[NodeProto]) -> Iterable[NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _with_subgraphs(graph.node)
