"""`--input` and `--shape` of `rekindle run`: from what is typed to a session's feeds."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rekindle._errors import InputError, NotFoundError, UsageError

if TYPE_CHECKING:
    from rekindle._types import TensorSpec
    from rekindle.runtime import Session

Array = np.ndarray[Any, np.dtype[Any]]
RANDOM = "random"


def parse_sizes(texts: Sequence[str]) -> dict[str, int]:
    """`["N=4", "H=32"]` → sizes of dynamic dimensions."""
    sizes = {}
    for text in texts:
        name, _, number = text.partition("=")
        if not name or not number.isdecimal() or int(number) < 1:
            raise UsageError(
                f"--shape {text} cannot be used", hint="write NAME=SIZE, as in --shape N=4"
            )
        sizes[name] = int(number)
    return sizes


def check_sizes(specs: Sequence[TensorSpec], sizes: Mapping[str, int], *, all_needed: bool) -> None:
    """UsageError for a size that no dynamic dimension has the name of; with `all_needed` also for
    a dimension without a size, unless it is an input's first: that is the batch, and is 1.
    """
    named = {dim for spec in specs for dim in spec.shape if isinstance(dim, str)}
    if unknown := sorted(sizes.keys() - named):
        raise UsageError(
            f"the model has no dynamic dimension {', '.join(unknown)}",
            hint=f"it has {', '.join(sorted(named)) or 'none'}",
        )
    batch = {spec.shape[0] for spec in specs if spec.shape}
    if all_needed and (open_ := sorted(named - batch - sizes.keys())):
        raise UsageError(
            f"the model leaves the size of {', '.join(open_)} open: {'; '.join(map(str, specs))}",
            hint="say it: " + " ".join(f"--shape {dim}=SIZE" for dim in open_),
        )


def with_batch(
    specs: Sequence[TensorSpec], sizes: Mapping[str, int], batch: int | None
) -> dict[str, int]:
    """Sizes of dynamic dimensions with the inputs' first one as `batch`; None leaves them so.

    UsageError where every first dimension is fixed, or `sizes` says otherwise.
    """
    if batch is None:
        return dict(sizes)
    named = {spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], str)}
    if not named:
        raise UsageError(
            f"--batch {batch}: the model's first dimension is fixed: {'; '.join(map(str, specs))}",
            hint="leave --batch out",
        )
    for name in sorted(named & sizes.keys()):
        if sizes[name] != batch:
            raise UsageError(
                f"--batch {batch} and --shape {name}={sizes[name]} contradict each other",
                hint="give one of them",
            )
    return {**sizes, **{name: batch for name in named if isinstance(name, str)}}


def read_feeds(
    session: Session, given: Sequence[str], sizes: Mapping[str, int]
) -> dict[str, Array]:
    """Feeds of a session; see `read_arrays`."""
    return read_arrays(session.inputs, given, sizes)


def read_arrays(
    inputs: Sequence[TensorSpec], given: Sequence[str], sizes: Mapping[str, int]
) -> dict[str, Array]:
    """Inputs from `x.npy`, `name=x.npy`, `all.npz`, `random`, `name=random`.

    Inputs that are not named are random only where `random` alone was given.
    """
    from rekindle.runtime.benchmark import feeds_for

    names = [spec.name for spec in inputs]
    wanted: dict[str, str | Array] = {}
    for text in given:
        name, path = _split(text, names)
        if name is None and path.endswith(".npz"):
            wanted |= dict(_load_archive(Path(path)))
        elif name is None and path == RANDOM:
            wanted |= {n: RANDOM for n in names if n not in wanted}
        else:
            wanted[name or _only(names, path)] = path
    check_sizes(inputs, sizes, all_needed=False)
    any_random = any(isinstance(v, str) and v == RANDOM for v in wanted.values())
    drawn = {}
    if any_random:
        check_sizes(inputs, sizes, all_needed=True)
        drawn = feeds_for(inputs, sizes)
    if missing := [spec for spec in inputs if spec.name not in wanted]:
        raise InputError(
            f"no --input for {'; '.join(map(str, missing))}",
            hint=f"give --input {missing[0].name}=FILE.npy, or --input random",
        )
    return {name: _feed(name, value, drawn) for name, value in wanted.items()}


def _feed(name: str, value: str | Array, drawn: Mapping[str, Array]) -> Array:
    if not isinstance(value, str):
        return value
    if value != RANDOM:
        return _load(Path(value))
    if name not in drawn:
        raise InputError(f"the model has no input {name}", hint=f"it has {', '.join(drawn)}")
    return drawn[name]


def _split(text: str, names: Sequence[str]) -> tuple[str | None, str]:
    """`name=path`; a path may hold `=` itself, so the name must be an input's, or no file be so
    called.
    """
    name, equals, path = text.partition("=")
    if equals and (name in names or not Path(text).exists()):
        return name, path
    return None, text


def _only(names: Sequence[str], path: str) -> str:
    if len(names) != 1:
        raise UsageError(
            f"--input {path}: the model has {len(names)} inputs: {', '.join(names)}",
            hint=f"say which: --input {names[0] if names else 'NAME'}={path}",
        )
    return names[0]


def _load(path: Path) -> Array:
    loaded = _opened(path)
    if isinstance(loaded, Mapping):
        raise InputError(
            f"{path} holds several arrays: {', '.join(loaded)}",
            hint=f"give it as --input {path}, with the inputs' names in it",
        )
    return loaded


def _load_archive(path: Path) -> Mapping[str, Array]:
    loaded = _opened(path)
    if not isinstance(loaded, Mapping):
        raise InputError(f"{path} is no .npz archive", hint="save it with numpy.savez")
    return loaded


def _opened(path: Path) -> Array | Mapping[str, Array]:
    """An array or an archive of arrays; never a pickle, which could run code."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file", hint="check the path") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} cannot be read as a NumPy array: {error}",
            hint="save it with numpy.save(path, array); pickled objects are refused",
        ) from None


def save_outputs(path: Path, outputs: Mapping[str, Array]) -> None:
    """Write all outputs into one .npz; a failure leaves no half-written file behind."""
    if path.suffix != ".npz":
        raise UsageError(
            f"--output {path} must end in .npz", hint=f"use {path.with_suffix('.npz')}"
        )
    partial = path.with_name(f".{path.name}.partial.npz")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, **dict(outputs))  # type: ignore[arg-type]
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", hint="choose another --output"
        ) from None


def describe(spec: TensorSpec, array: Array) -> dict[str, Any]:
    """An output in a few figures; those of its finite values."""
    facts: dict[str, Any] = {"name": spec.name, "dtype": array.dtype.name, "shape": array.shape}
    if array.dtype.kind not in "biuf":
        return facts
    finite = array[np.isfinite(array)].astype(np.float64)
    return facts | {
        "min": float(finite.min()) if finite.size else None,
        "max": float(finite.max()) if finite.size else None,
        "mean": float(finite.mean()) if finite.size else None,
        "not_finite": int(array.size - finite.size),
    }
