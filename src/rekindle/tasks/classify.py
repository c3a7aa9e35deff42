"""Photographs to labels: decode, prepare as the model's card says, run, name the best classes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from rekindle import hub, images
from rekindle._errors import (
    CardError,
    ImageError,
    ModelError,
    NotFoundError,
    RekindleError,
    UsageError,
)
from rekindle._types import DType, TensorSpec
from rekindle.hub.card import ModelCard, Preprocess
from rekindle.runtime import SessionArguments, open_session
from rekindle.tasks._photos import Photos, find_photos

if TYPE_CHECKING:
    from rekindle.runtime import Session

__all__ = ["Classification", "Classifier", "Label", "classify", "find_photos", "open_classifier"]

DEFAULT_MODEL = "cifar10-resnet"
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Label:
    """A class: its name, its index in the model's output, its probability (0 to 1)."""

    name: str
    index: int
    score: float


@dataclass(frozen=True)
class Classification:
    """What became of one photo: labels, best first, or the error that stopped it."""

    path: Path
    labels: tuple[Label, ...] = ()
    error: RekindleError | None = None
    prepare_s: float = 0.0
    """Seconds to decode and prepare this photo."""
    run_s: float = 0.0
    """Seconds in the model: this photo's share of its batch."""


@dataclass(frozen=True)
class _Loaded:
    """A photo on its way: its prepared input (1, C, H, W), or the error."""

    path: Path
    seconds: float
    tensor: Array | None = None
    error: RekindleError | None = None


def classify(
    photos: Photos,
    *,
    model: str | Path = DEFAULT_MODEL,
    card: ModelCard | str | Path | None = None,
    batch: int = 1,
    top: int = 5,
    **session: Unpack[SessionArguments],
) -> tuple[Classification, ...]:
    """Classify one photo, several, or the pictures of a folder; one result per photo, in order.

    A photo that cannot be read has its error in its result and stops nothing. `card` is a model
    card, or the file of one, for a model that has none beside it. `batch` photos run at once
    where the model's first dimension is dynamic; else as many as the model takes. `session` are
    arguments of `open_session`: provider, device, memory_limit and so on. To see results as they
    come, use `open_classifier(...).stream(...)`.

    Raises CardError for a model without a card or one that does not fit, UsageError for `batch`
    or `top` below 1, and what `hub.resolve` and `open_session` raise.
    """
    paths = find_photos(photos)
    with open_classifier(model, card=card, **session) as classifier:
        return tuple(classifier.stream(paths, batch=batch, top=top))


def open_classifier(
    model: str | Path = DEFAULT_MODEL,
    *,
    card: ModelCard | str | Path | None = None,
    **session: Unpack[SessionArguments],
) -> Classifier:
    """A classifier to use many times; see `classify` for the arguments. Close it after use."""
    resolved = hub.resolve(model)
    if card is not None and not isinstance(card, ModelCard):
        card = hub.load_card(card)
    card = card or resolved.card
    if card is None:
        raise CardError(
            f"{resolved.path} has no model card, so nobody knows how to prepare a photo for it "
            "or what its outputs mean",
            hint=f"write {resolved.path.stem}.card.toml beside it, or name one with --card FILE",
        )
    check_card(card)
    opened = open_session(resolved.path, **session)
    try:
        return Classifier(opened, card)
    except RekindleError:
        opened.close()
        raise


def check_card(card: ModelCard) -> None:
    """Raise CardError unless the card says all that classifying needs."""
    if card.task != "classify":
        raise CardError(
            f"the card of {card.name} says task = {card.task!r}", hint='expected "classify"'
        )
    present = {"labels": card.labels, "[preprocess]": card.preprocess, "[decode]": card.decode}
    if missing := [key for key, value in present.items() if not value]:
        raise CardError(
            f"the card of {card.name} has no {', no '.join(missing)}", hint="add it to the card"
        )


class PhotoReader:
    """What a classifier's card means: a photo's tensor, and the labels of an output.

    It runs nothing, so a model may be anywhere (in the server, in a worker's process).
    """

    def __init__(
        self, card: ModelCard, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        """Raises CardError where the card does not fit the model's inputs and outputs."""
        check_card(card)
        self.card = card
        self.input = _tensor("input", [t.spec.name for t in card.inputs], inputs)
        self.output = _tensor("output", [t.spec.name for t in card.outputs], outputs)
        self._layout = _check_input(self.input, card)
        _check_width(self.output.shape[1] if len(self.output.shape) > 1 else None, card)

    def prepare(self, photo: Path | str | bytes) -> Array:
        """The model's input (1, C, H, W) from a picture."""
        assert self.card.preprocess is not None
        decoded = images.decode(photo)
        tensor = images.prepare(decoded, self.card.preprocess, layout=self._layout)
        return tensor.astype(str(self.input.dtype), copy=False)

    def scores(self, output: Array, rows: int) -> Array:
        """(rows, classes) float32 probabilities from the model's output."""
        scores = output.reshape(rows, -1).astype(np.float32)
        _check_width(scores.shape[1], self.card)
        return _softmax(scores) if self.card.decode == "logits" else scores

    def labels(self, row: Array, top: int) -> tuple[Label, ...]:
        """The best classes of one row of `scores`; ModelError where they are no numbers."""
        if not np.isfinite(row).all():
            raise ModelError(
                "the model gave scores that are no numbers (NaN or infinite)",
                hint="compare with --provider onnxruntime; if they agree, the model is broken",
            )
        best = np.argsort(-row, kind="stable")[:top]
        return tuple(Label(self.card.labels[i], int(i), float(row[i])) for i in best)


class Classifier(PhotoReader):
    """A session and its card: photos in, labels out. Use it as a context manager."""

    def __init__(self, session: Session, card: ModelCard) -> None:
        """Raises CardError where the card does not fit the session's inputs and outputs."""
        super().__init__(card, session.inputs, session.outputs)
        self.session = session
        first = self.input.shape[0]
        self._fixed_batch = first if isinstance(first, int) else None
        self._full_ran = False

    def stream(
        self, photos: Sequence[Path], *, batch: int = 1, top: int = 5
    ) -> Iterator[Classification]:
        """One Classification per photo, in order, each as soon as its batch is done."""
        for name, value in (("batch", batch), ("top", top)):
            if value < 1:
                raise UsageError(f"{name} = {value} makes no sense", hint=f"{name} is 1 or more")
        size = self._fixed_batch or batch
        for start in range(0, len(photos), size):
            yield from self._group([self._load(p) for p in photos[start : start + size]], size, top)

    def probabilities(self, tensors: Array) -> Array:
        """(N, classes) float32 from prepared photos (N, C, H, W): one run of the model."""
        feeds = {self.input.name: tensors.astype(str(self.input.dtype), copy=False)}
        return self.scores(self.session.run(feeds)[self.output.name], len(tensors))

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _load(self, path: Path) -> _Loaded:
        start = time.perf_counter()
        try:
            tensor = self.prepare(path)
        except (ImageError, NotFoundError) as error:
            return _Loaded(path, time.perf_counter() - start, error=error)
        return _Loaded(path, time.perf_counter() - start, tensor)

    def _group(self, loaded: Sequence[_Loaded], size: int, top: int) -> Iterator[Classification]:
        tensors = [item.tensor for item in loaded if item.tensor is not None]
        start = time.perf_counter()
        rows = iter(self._run(tensors, size) if tensors else ())
        share_s = (time.perf_counter() - start) / max(len(tensors), 1)
        for item in loaded:
            if item.tensor is None:
                yield Classification(item.path, error=item.error, prepare_s=item.seconds)
            else:
                yield self._named(item, next(rows), share_s, top)

    def _run(self, tensors: Sequence[Array], size: int) -> Array:
        """Probabilities of a group. A group that is not full is filled up with zeros where the
        model wants a fixed batch, or has run a full one: a new size may mean a new plan.
        """
        group = np.concatenate(tensors)
        missing = size - len(tensors)
        self._full_ran |= not missing
        if missing and (self._fixed_batch or self._full_ran):
            group = np.concatenate([group, np.zeros((missing, *group.shape[1:]), group.dtype)])
        return self.probabilities(group)[: len(tensors)]

    def _named(self, item: _Loaded, row: Array, run_s: float, top: int) -> Classification:
        try:
            labels = self.labels(row, top)
        except ModelError as error:
            return Classification(item.path, (), error, item.seconds, run_s)
        return Classification(item.path, labels, None, item.seconds, run_s)


def _tensor(kind: str, named: Sequence[str], specs: Sequence[TensorSpec]) -> TensorSpec:
    """The session's tensor that the card's first one names; without one, the only one."""
    if named:
        for spec in specs:
            if spec.name == named[0]:
                return spec
    elif len(specs) == 1:
        return specs[0]
    known = ", ".join(str(spec) for spec in specs)
    given = f"names the {kind} {named[0]!r}" if named else f"names no {kind}"
    raise CardError(
        f"the card {given}; the model has {known}", hint=f"name one of them in [[{kind}s]]"
    )


def _check_input(spec: TensorSpec, card: ModelCard) -> str:
    """The input's layout; CardError where prepared photos would not fit into it."""
    preprocess, shape = card.preprocess, spec.shape
    assert isinstance(preprocess, Preprocess)
    layout = card.inputs[0].layout if card.inputs else None
    if layout is None:
        layout = "NHWC" if len(shape) == 4 and shape[3] == 3 and shape[1] != 3 else "NCHW"
    made = (3, *preprocess.crop) if layout == "NCHW" else (*preprocess.crop, 3)
    fits = len(shape) == 4 and all(
        not isinstance(want, int) or want == have
        for want, have in zip(shape[1:], made, strict=True)
    )
    if not fits or spec.dtype not in (DType.FLOAT32, DType.FLOAT16):
        raise CardError(
            f"the card prepares photos as float32[N, {', '.join(map(str, made))}] ({layout}), "
            f"but the model's input is {spec}",
            hint="correct preprocess.size, preprocess.crop or the input's layout in the card",
        )
    return layout


def _check_width(width: int | str | None, card: ModelCard) -> None:
    if isinstance(width, int) and width != len(card.labels):
        raise CardError(
            f"the card has {len(card.labels)} labels, but the model's output has {width} classes",
            hint="give one label per class, in the order of the output",
        )


def _softmax(scores: Array) -> Array:
    """Row-wise, shifted by the largest so that nothing overflows; NaN and +inf give NaN."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result
