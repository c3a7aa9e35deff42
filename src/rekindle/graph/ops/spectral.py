"""DFT, STFT, MelWeightMatrix and the Hann, Hamming and Blackman windows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim, DType, Shape
from rekindle.graph.ir import Array, Node, Value, dtype_of
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import dtype, flag, integer
from rekindle.graph.ops._copies import Walk, copy, row_major
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import normalize_axis, numel, optional, required, unknown_dim

NAMES = ("BlackmanWindow", "DFT", "HammingWindow", "HannWindow", "MelWeightMatrix", "STFT")


_LONGEST = 4096
"""A longer transform is better fast, on the host, than as a product."""


def _constant(operand: Operand | None) -> int | None:
    """The whole number behind an input; None where it is absent or computed."""
    if operand is None or operand.constant is None or not operand.constant.size:
        return None
    return int(operand.constant.reshape(-1)[0])


def _whole(given: Array | None) -> int | None:
    return int(given.reshape(-1)[0]) if given is not None and given.size else None


def _complex(x: Array) -> Array:
    """The last axis holds a real number, or a real and an imaginary part."""
    values = wide(x)
    return values[..., 0] if x.shape[-1] == 1 else values[..., 0] + 1j * values[..., 1]


def _parts(z: Array) -> Array:
    return np.stack((z.real, z.imag), axis=-1)


# --- DFT ---------------------------------------------------------------------------------------


def _dft_axis(node: Node, given: int | None, rank: int, *, by_input: bool) -> int:
    chosen = -2 if given is None else given
    axis = normalize_axis(node, chosen if by_input else integer(node, "axis", 1), rank)
    if axis == rank - 1:
        raise ModelError(f"node {node}: axis {axis} holds the parts of the numbers")
    return axis


def _dft(by_input: bool, since: int) -> Operator:
    """Until opset 19 the axis is an attribute, then an input."""

    def infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
        x, length, given = required(node, inputs, 0), optional(inputs, 1), optional(inputs, 2)
        if x.shape is None or (given is not None and given.constant is None):
            return (TensorType(x.dtype, None),)
        axis = _dft_axis(node, _constant(given), len(x.shape), by_input=by_input)
        halved, back = flag(node, "onesided"), flag(node, "inverse")
        size: Dim = (
            x.shape[axis] if length is None else _constant(length) or unknown_dim(node, axis)
        )
        if halved and back and length is None and isinstance(size, int):
            size = 2 * (size - 1)
        if halved and not back:
            size = size // 2 + 1 if isinstance(size, int) else unknown_dim(node, axis)
        last = 1 if halved and back else 2
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 : -1], last)
        return (TensorType(x.dtype, shape),)

    def reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x, length = required(node, inputs, 0), _whole(optional(inputs, 1))
        axis = _dft_axis(node, _whole(optional(inputs, 2)), x.ndim, by_input=by_input)
        return (rounded(_transformed(node, x, length, axis), dtype_of(x)),)

    def lower(lowering: Lowering) -> None:
        node, rank = lowering.node, len(lowering.input(0).static_shape)
        length, given = lowering.constant(1), lowering.constant(2)
        if any(lowering.has_input(i) and lowering.constant(i) is None for i in (1, 2)):
            raise NotLowered("its length or axis is computed at run time")
        axis = _dft_axis(node, _whole(given), rank, by_input=by_input)
        _lower_transform(lowering, axis, _whole(length))

    return Operator(since=since, infer=infer, reference=reference, lower=lower, flops=_dft_flops)


def _transformed(node: Node, x: Array, length: int | None, axis: int) -> Array:
    """The transform in float64, its parts along the last axis."""
    z = _complex(x)
    if flag(node, "inverse") and flag(node, "onesided"):
        return np.fft.irfft(z, n=length, axis=axis)[..., None]
    if flag(node, "inverse"):
        return _parts(np.fft.ifft(z, n=length, axis=axis))
    found = np.fft.fft(z, n=length, axis=axis)
    if flag(node, "onesided"):
        found = found.take(range(found.shape[axis] // 2 + 1), axis=axis)
    return _parts(found)


def _dft_flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    """Of a fast transform, about five for each element and halving of the length."""
    count = numel(outputs[0].shape)
    longest = max((d for d in outputs[0].shape or () if isinstance(d, int)), default=1)
    return 5 * count * max(longest.bit_length() - 1, 1)


def _lower_transform(lowering: Lowering, axis: int, length: int | None) -> None:
    """A product with the transform of every unit vector, parts and positions as one axis."""
    x, out = lowering.input(0), lowering.output
    if x.dtype is DType.FLOAT64:
        raise NotLowered(f"{lowering.node.op_type} of {x.dtype}")
    size, parts = x.static_shape[axis], x.static_shape[-1]
    made, given = out.static_shape[axis], out.static_shape[-1]
    if max(size * parts, made * given) > _LONGEST:
        raise NotLowered(f"{lowering.node.op_type} over {size} positions")
    units = np.eye(size * parts).reshape(-1, size, parts)
    matrix = _transformed(lowering.node, units, length, 1).reshape(size * parts, -1)
    outer, inner = math.prod(x.static_shape[:axis]), math.prod(x.static_shape[axis + 1 : -1])
    rows = lowering.temporary((outer * inner, size * parts), x.dtype)
    _swap(lowering, x, rows, (outer, size, inner, parts))
    found = lowering.call(
        "matmul",
        (rows, lowering.literal(matrix.astype(np.float32))),
        lowering.temporary((outer * inner, made * given), x.dtype),
        transpose_a=False,
        transpose_b=False,
        epilogue=None,
    )
    _swap(lowering, found, out, (outer, inner, made, given))


def _swap(lowering: Lowering, x: Value, out: Value, shape: tuple[int, int, int, int]) -> None:
    """(a, b, c, d) into the memory of `out` as (a, c, b, d)."""
    a, b, c, d = shape
    steps = row_major(shape)
    source = Walk((steps[0], steps[2], steps[1], steps[3]))
    copy(lowering, x, out, (a, c, b, d), source, Walk(row_major((a, c, b, d))))


# --- STFT --------------------------------------------------------------------------------------


def _stft_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    signal, step = required(node, inputs, 0), _constant(required(node, inputs, 1))
    window, length = optional(inputs, 2), _constant(optional(inputs, 3))
    if signal.shape is None:
        return (TensorType(signal.dtype, None),)
    if length is None and window is not None and window.shape:
        size = window.shape[0]
        length = size if isinstance(size, int) else None
    frames: Dim = unknown_dim(node, 1)
    bins: Dim = unknown_dim(node, 2)
    if length is not None:
        bins = length // 2 + 1 if flag(node, "onesided", True) else length
        if step and isinstance(signal.shape[1], int):
            frames = (signal.shape[1] - length) // step + 1
    return (TensorType(signal.dtype, (signal.shape[0], frames, bins, 2)),)


def _stft(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Signal (batch, length, 1 or 2), frames that lie wholly inside."""
    signal, window = required(node, inputs, 0), optional(inputs, 2)
    step, length = _whole(required(node, inputs, 1)) or 1, _whole(optional(inputs, 3))
    if length is None:
        length = signal.shape[1] if window is None else window.shape[0]
    z = _complex(signal)
    starts = range(0, z.shape[1] - length + 1, step)
    weights = np.ones(length) if window is None else wide(window)
    frames = np.stack([z[:, s : s + length] * weights for s in starts], axis=1)
    found = np.fft.fft(frames, axis=-1)
    if flag(node, "onesided", True):
        found = found[..., : length // 2 + 1]
    return (rounded(_parts(found), dtype_of(signal)),)


# --- MelWeightMatrix ---------------------------------------------------------------------------


def _mel_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    bands, length = (_constant(required(node, inputs, i)) for i in (0, 1))
    rows: Dim = unknown_dim(node, 0) if length is None else length // 2 + 1
    columns: Dim = unknown_dim(node, 1) if bands is None else bands
    return (TensorType(dtype(node, "output_datatype", DType.FLOAT32), (rows, columns)),)


def _mel(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Triangles over the bins of a spectrum, evenly spaced in mel (2595 log10(1 + f/700))."""
    bands, length, rate = (int(required(node, inputs, i).reshape(-1)[0]) for i in range(3))
    edges = [float(required(node, inputs, i).reshape(-1)[0]) for i in (3, 4)]
    low, high = (2595 * np.log10(1 + edge / 700) for edge in edges)
    mel = low + np.arange(bands + 2) * (high - low) / (bands + 2)
    points = np.floor((length + 1) * 700 * (10 ** (mel / 2595) - 1) / rate).astype(int)
    weights = np.zeros((length // 2 + 1, bands))
    for band in range(bands):
        left, middle, right = points[band : band + 3]
        if left == middle:
            weights[middle, band] = 1
        else:
            rise = np.arange(left, middle + 1)
            weights[rise, band] = (rise - left) / (middle - left)
        fall = np.arange(middle, right)
        weights[fall, band] = (right - fall) / max(right - middle, 1)
    return (rounded(weights, dtype(node, "output_datatype", DType.FLOAT32)),)


# --- windows -----------------------------------------------------------------------------------


def _window(*terms: float) -> Operator:
    """A sum of cosines: terms[k] cos(2 pi k n / N), where N is one less if not periodic."""

    def infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
        size = _constant(required(node, inputs, 0))
        shape: Shape = (unknown_dim(node, 0) if size is None else size,)
        return (TensorType(dtype(node, "output_datatype", DType.FLOAT32), shape),)

    def reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        size = int(required(node, inputs, 0).reshape(-1)[0])
        period = size if flag(node, "periodic", True) else max(size - 1, 1)
        turn = 2 * np.pi * np.arange(size) / period
        values = np.sum([a * np.cos(k * turn) for k, a in enumerate(terms)], axis=0)
        return (rounded(values, dtype(node, "output_datatype", DType.FLOAT32)),)

    return Operator(since=17, infer=infer, reference=reference)


register("HannWindow", _window(0.5, -0.5))
register("HammingWindow", _window(25 / 46, -21 / 46))
register("BlackmanWindow", _window(0.42, -0.5, 0.08))
register("DFT", _dft(by_input=False, since=17), _dft(by_input=True, since=20))
register("STFT", Operator(since=17, infer=_stft_infer, reference=_stft))
register("MelWeightMatrix", Operator(since=17, infer=_mel_infer, reference=_mel))
