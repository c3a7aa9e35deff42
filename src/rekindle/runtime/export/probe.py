"""Input and output specifications of a PyTorch network, by probe runs where it does not tell.

Shapes come, in this order, from the caller, from the archive, or from trying: the first weight
says how many channels or features it wants, usual sizes are tried until one runs. Which axes are
dynamic is tried too, for TorchScript: an axis is dynamic if the network takes another size there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rekindle._errors import ModelError
from rekindle._types import DType, TensorSpec
from rekindle.runtime.export.archive import Archive, require_torch
from rekindle.runtime.export.traced_inputs import Sample

_SIZES = (224, 32, 28, 64, 128, 256, 299, 384, 512)
_GROWN = (1, 32)
"""What is added to an axis to see whether it is dynamic: any size, or sizes a stride fits."""


def specify(
    archive: Archive, given: Sequence[TensorSpec] | None = None
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], tuple[Sample, ...]]:
    """(inputs, outputs, samples): specifications, and sizes at which the network runs.

    ModelError where no shape can be found; it says how to give one.
    """
    samples = _from_caller(archive, given) or archive.samples or _by_trying(archive)
    base = run(archive, samples)
    names = output_names(len(base))
    dynamic = archive.dynamic
    if dynamic is None:
        dynamic = tuple(
            tuple(k for k in range(len(shape)) if _is_dynamic(archive, samples, i, k))
            for i, (_, shape) in enumerate(samples)
        )
    inputs, symbols = _input_specs(archive, samples, dynamic)
    outputs = _output_specs(archive, samples, base, names, symbols)
    return inputs, outputs, samples


def run(archive: Archive, samples: Sequence[Sample], seed: int = 0) -> tuple[Any, ...]:
    """The outputs, as torch tensors, for seeded inputs of the samples' shapes and dtypes."""
    torch = require_torch()
    with torch.no_grad():
        result = archive.module(*tensors(samples, seed))
    outputs = result if isinstance(result, (tuple, list)) else (result,)
    if not all(isinstance(t, torch.Tensor) for t in outputs):
        raise ModelError(
            f"the network returns a {type(result).__name__}; only tensors are supported",
            hint="wrap it so that it returns a tensor or a tuple of tensors",
        )
    return tuple(outputs)


def tensors(samples: Sequence[Sample], seed: int = 0) -> tuple[Any, ...]:
    """Seeded torch inputs: normal floats, zeros and ones otherwise."""
    torch = require_torch()
    generator = torch.Generator().manual_seed(seed)
    made = []
    for dtype, shape in samples:
        kind = getattr(torch, str(dtype))
        if dtype.is_float:
            made.append(torch.randn(shape, generator=generator).to(kind))
        else:
            made.append(torch.randint(0, 2, shape, generator=generator).to(kind))
    return tuple(made)


def output_names(count: int) -> tuple[str, ...]:
    """PyTorch does not name outputs: `output`, or `output_0`, `output_1`, …"""
    return ("output",) if count == 1 else tuple(f"output_{k}" for k in range(count))


def _from_caller(archive: Archive, given: Sequence[TensorSpec] | None) -> tuple[Sample, ...] | None:
    if not given:
        return None
    if len(given) != len(archive.input_names):
        raise ModelError(
            f"the network takes {len(archive.input_names)} inputs "
            f"({', '.join(archive.input_names)}), {len(given)} shapes were given"
        )
    return tuple((s.dtype, tuple(d if isinstance(d, int) else 1 for d in s.shape)) for s in given)


def _by_trying(archive: Archive) -> tuple[Sample, ...]:
    if len(archive.input_names) == 1:
        for shape in _candidates(archive):
            samples = ((DType.FLOAT32, shape),)
            if _runs(archive, samples):
                return samples
    raise ModelError(
        f"the archive does not tell the shapes of its inputs ({', '.join(archive.input_names)}) "
        "and none of the usual ones runs",
        hint="give them in a model card, or trace the model with torch.jit.trace",
    )


def _candidates(archive: Archive) -> Iterator[tuple[int, ...]]:
    """Shapes worth trying, from the first weight that looks like a layer's."""
    for parameter in archive.source.parameters():
        if parameter.dim() == 4:
            channels = dict.fromkeys((parameter.shape[1], 3, 1))
            for size in _SIZES:
                yield from ((1, c, size, size) for c in channels)
        elif parameter.dim() == 2:
            yield (1, parameter.shape[1])
        elif parameter.dim() == 3:
            yield from ((1, parameter.shape[1], size) for size in _SIZES)
        elif parameter.dim() == 5:
            yield from ((1, parameter.shape[1], 16, s, s) for s in (112, 32))
        if parameter.dim() > 1:
            return


def _runs(archive: Archive, samples: Sequence[Sample]) -> bool:
    try:
        run(archive, samples)
    except ModelError:
        raise
    except Exception:  # a wrong shape raises whatever the network's operators raise
        return False
    return True


def _grow(samples: Sequence[Sample], index: int, axis: int, by: int) -> tuple[Sample, ...]:
    grown = list(samples)
    dtype, shape = grown[index]
    grown[index] = (dtype, (*shape[:axis], shape[axis] + by, *shape[axis + 1 :]))
    return tuple(grown)


def _is_dynamic(archive: Archive, samples: Sequence[Sample], index: int, axis: int) -> bool:
    if axis == 0 and len(samples) > 1:
        # Batch axes belong together.
        grown = tuple((d, (s[0] + 1, *s[1:])) if s else (d, s) for d, s in samples)
        return _runs(archive, grown)
    return any(_runs(archive, _grow(samples, index, axis, by)) for by in _GROWN)


def _input_specs(
    archive: Archive, samples: Sequence[Sample], dynamic: Sequence[Sequence[int]]
) -> tuple[tuple[TensorSpec, ...], dict[tuple[int, int], str]]:
    symbols: dict[tuple[int, int], str] = {}
    specs = []
    for i, (name, (dtype, shape)) in enumerate(zip(archive.input_names, samples, strict=True)):
        for axis in dynamic[i]:
            symbols[i, axis] = "N" if axis == 0 else f"{name}_{axis}"
        dims = tuple(symbols.get((i, axis), size) for axis, size in enumerate(shape))
        specs.append(TensorSpec(name, dtype, dims))
    return tuple(specs), symbols


def _output_specs(
    archive: Archive,
    samples: Sequence[Sample],
    base: Sequence[Any],
    names: Sequence[str],
    symbols: dict[tuple[int, int], str],
) -> tuple[TensorSpec, ...]:
    """An output axis that changes with a dynamic input axis carries a name."""
    shapes: list[list[int | str]] = [list(t.shape) for t in base]
    batch_axes = [key for key in symbols if key[1] == 0]
    for key, symbol in symbols.items():
        together = batch_axes if key[1] == 0 else [key]
        for by in _GROWN:
            grown = tuple(samples)
            for index, axis in together:
                grown = _grow(grown, index, axis, by)
            if not _runs(archive, grown):
                continue
            _mark(shapes, base, run(archive, grown), names, symbol)
    return tuple(
        TensorSpec(name, DType(str(t.dtype).removeprefix("torch.")), tuple(shape))
        for name, t, shape in zip(names, base, shapes, strict=True)
    )


def _mark(
    shapes: list[list[int | str]],
    base: Sequence[Any],
    changed: Sequence[Any],
    names: Sequence[str],
    symbol: str,
) -> None:
    for k, (before, after) in enumerate(zip(base, changed, strict=True)):
        for axis, (old, new) in enumerate(zip(before.shape, after.shape, strict=True)):
            if old != new and isinstance(shapes[k][axis], int):
                shapes[k][axis] = symbol if symbol == "N" else f"{names[k]}_{axis}"
