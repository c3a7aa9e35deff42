"""The model card: what a model is, what it takes, what its numbers mean.

`card.toml` lies in a model's folder, `<stem>.card.toml` beside a loose file. This module owns the
schema (version 1): the dataclasses below are it, field by field.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rekindle._errors import CardError, NotFoundError
from rekindle._types import DType, Shape, TensorSpec
from rekindle.hub import _toml
from rekindle.hub._labels import read_labels
from rekindle.hub._table import Table

SCHEMA_VERSION = 1
RESIZE_RULES = ("shortest", "stretch", "pad")
INTERPOLATIONS = ("area", "bilinear", "bicubic")


@dataclass(frozen=True)
class CardFile:
    """A file of the model: path relative to the card's folder, SHA-256 in hex, size in bytes."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class CardTensor:
    """An input or output: its specification, and for pictures the order of its dimensions."""

    spec: TensorSpec
    layout: str | None = None
    """`NCHW` or `NHWC`; None: it is no picture."""


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes the input: value = (pixel/255 - mean)/std, per channel of `color`."""

    color: str
    """`RGB` or `BGR`."""
    resize: str
    """`shortest`, `stretch` or `pad`; see `rekindle.images.prepare`."""
    size: tuple[int, int]
    """Height, width in pixels that the resize rule aims at; in a card also one number."""
    crop: tuple[int, int]
    """Height, width cut out of the centre afterwards; absent in a card: `size`."""
    interpolation: str
    """`area`, `bilinear` or `bicubic`."""
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Measured:
    """A measured figure, with its 95 % interval where one was computed."""

    metric: str
    dataset: str
    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class ModelCard:
    """A model card, schema version 1. `labels` are there whichever way the card gave them."""

    name: str
    version: str
    task: str
    licence: str
    source: str
    labels: tuple[str, ...] = ()
    labels_file: str | None = None
    files: tuple[CardFile, ...] = ()
    inputs: tuple[CardTensor, ...] = ()
    outputs: tuple[CardTensor, ...] = ()
    preprocess: Preprocess | None = None
    decode: str | None = None
    """`[decode] kind`: what the first output holds, `logits` or `probabilities`."""
    measured: tuple[Measured, ...] = ()


def load_card(path: str | Path) -> ModelCard:
    """The card in a file; its labels file, if it names one, is read as well.

    Raises NotFoundError, or CardError naming file, key, what was given and what was expected.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such model card", hint="check the path") from None
    except (OSError, ValueError) as error:
        raise CardError(
            f"{path} cannot be read as a model card: {error}", hint="a card is a UTF-8 TOML file"
        ) from None
    return parse_card(text, folder=path.parent, where=path.name)


def parse_card(text: str, *, folder: Path, where: str = "card.toml") -> ModelCard:
    """The card in a TOML text; `folder` is where a labels file is looked for."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CardError(f"{where} is not TOML: {error}", hint="see the model card page") from None
    top = Table(values, where)
    if (version := top.whole("schema_version")) != SCHEMA_VERSION:
        raise top.fail("schema_version", f"{SCHEMA_VERSION} in this version of Rekindle", version)
    labels, labels_file = _labels(top, folder)
    card = ModelCard(
        name=_name(top, "name"),
        version=_name(top, "version"),
        task=top.text("task"),
        licence=top.text("licence"),
        source=top.text("source"),
        labels=labels,
        labels_file=labels_file,
        files=tuple(_file(t) for t in top.tables("files")),
        inputs=tuple(_tensor(t) for t in top.tables("inputs")),
        outputs=tuple(_tensor(t) for t in top.tables("outputs")),
        preprocess=_preprocess(top.table("preprocess")),
        decode=_decode(top.table("decode")),
        measured=tuple(_measured(t) for t in top.tables("measured")),
    )
    top.finish()
    _check_agreement(card, where)
    return card


def dumps(card: ModelCard) -> str:
    """The card as TOML; `parse_card` reads the same card back."""
    top: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    for key in ("name", "version", "task", "licence", "source"):
        top[key] = getattr(card, key)
    if card.labels_file:
        top["labels_file"] = card.labels_file
    elif card.labels:
        top["labels"] = list(card.labels)
    top["files"] = [vars(f) for f in card.files]
    top["inputs"] = [_tensor_table(t) for t in card.inputs]
    top["outputs"] = [_tensor_table(t) for t in card.outputs]
    if card.preprocess:
        top["preprocess"] = {k: _listed(v) for k, v in vars(card.preprocess).items()}
    if card.decode:
        top["decode"] = {"kind": card.decode}
    top["measured"] = [
        {k: _listed(v) for k, v in vars(m).items() if v is not None} for m in card.measured
    ]
    return _toml.document(top)


def _tensor_table(tensor: CardTensor) -> dict[str, Any]:
    spec = tensor.spec
    table = {"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.shape)}
    return table | ({"layout": tensor.layout} if tensor.layout else {})


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _name(table: Table, key: str) -> str:
    """A name or version: it becomes a folder's name, so it must be a plain one."""
    value = table.text(key)
    if value.startswith(".") or any(c in value for c in '/\\:@*?"<>| '):
        raise table.fail(key, "letters, digits, dots, dashes, underscores", value)
    return value


def inside(path: str) -> bool:
    """Whether a card's relative path stays in the card's folder."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not (
        path.startswith("/") or "\\" in path or ":" in path or "\0" in path or ".." in parts
    )


def _path(table: Table, key: str) -> str:
    value = table.text(key)
    if not inside(value):
        raise table.fail(key, "a path with / inside the card's folder", value)
    return value


def _labels(top: Table, folder: Path) -> tuple[tuple[str, ...], str | None]:
    if top.has("labels") and top.has("labels_file"):
        raise CardError("a card has labels or labels_file, not both", hint="remove one of them")
    if top.has("labels"):
        return top.texts("labels"), None
    if top.has("labels_file"):
        path = _path(top, "labels_file")
        return read_labels(folder / path), path
    return (), None


def _file(table: Table) -> CardFile:
    digest = table.text("sha256")
    if len(digest) != 64 or any(c not in "0123456789abcdef" for c in digest):
        raise table.fail("sha256", "64 lower-case hexadecimal digits", digest)
    found = CardFile(_path(table, "path"), digest, table.whole("bytes"))
    table.finish()
    return found


def _tensor(table: Table) -> CardTensor:
    name = table.text("name")
    dtype = DType(table.choice("dtype", [d.value for d in DType]))
    shape: list[Any] = table.sequence("shape", 'sizes and names, as in ["N", 3, 32, 32]')
    for dim in shape:
        good = dim > 0 if type(dim) is int else isinstance(dim, str) and dim.isidentifier()
        if not good:
            raise table.fail("shape", 'sizes above 0 and names, as in ["N", 3, 32, 32]', shape)
    layout = table.choice("layout", ("NCHW", "NHWC")) if table.has("layout") else None
    if layout and len(shape) != 4:
        raise table.fail("layout", "no layout where the shape has not 4 dimensions", layout)
    table.finish()
    return CardTensor(TensorSpec(name, dtype, _shape(shape)), layout)


def _shape(dims: list[Any]) -> Shape:
    return tuple(dims)


def _preprocess(table: Table | None) -> Preprocess | None:
    if table is None:
        return None
    size = _size(table, "size")
    crop = _size(table, "crop") if table.has("crop") else size
    if crop[0] > size[0] or crop[1] > size[1]:
        raise table.fail("crop", f"at most size, {size}", crop)
    std = table.numbers("std", 3, "three numbers above 0")
    if min(std) <= 0:
        raise table.fail("std", "three numbers above 0", std)
    found = Preprocess(
        color=table.choice("color", ("RGB", "BGR"), "RGB"),
        resize=table.choice("resize", RESIZE_RULES),
        size=size,
        crop=crop,
        interpolation=table.choice("interpolation", INTERPOLATIONS, "bilinear"),
        mean=table.numbers("mean", 3, "three numbers"),
        std=std,
    )
    table.finish()
    return found


def _size(table: Table, key: str) -> tuple[int, int]:
    expected = "pixels above 0: one number, or [height, width]"
    given = table.value(key, expected)
    pair = given if isinstance(given, list) else [given, given]
    if len(pair) != 2 or any(type(side) is not int or side < 1 for side in pair):
        raise table.fail(key, expected, given)
    return pair[0], pair[1]


def _decode(table: Table | None) -> str | None:
    if table is None:
        return None
    kind = table.choice("kind", ("logits", "probabilities"))
    table.finish()
    return kind


def _measured(table: Table) -> Measured:
    value = table.number("value")
    interval = None
    if table.has("interval"):
        expected = "[low, high] around value"
        low, high = table.numbers("interval", 2, expected)
        if not low <= value <= high:
            raise table.fail("interval", expected, [low, high])
        interval = (low, high)
    found = Measured(table.text("metric"), table.text("dataset"), value, interval)
    table.finish()
    return found


def _check_agreement(card: ModelCard, where: str) -> None:
    """What one part of a card says about another must be true."""
    if card.preprocess and card.inputs and card.inputs[0].layout:
        tensor = card.inputs[0]
        first = 2 if tensor.layout == "NCHW" else 1
        sides = tensor.spec.shape[first : first + 2]
        pairs = zip(sides, card.preprocess.crop, strict=True)
        if any(isinstance(side, int) and side != made for side, made in pairs):
            raise CardError(
                f"{where}: preprocess makes pictures of {card.preprocess.crop}, "
                f"but the input is {tensor.spec}",
                hint="make preprocess.size (or crop) the input's height and width",
            )
    if card.labels and card.outputs:
        width = card.outputs[0].spec.shape[-1:]
        if width and isinstance(width[0], int) and width[0] != len(card.labels):
            raise CardError(
                f"{where}: {len(card.labels)} labels, but the output is {card.outputs[0].spec}",
                hint="give one label per class, in the order of the output",
            )
