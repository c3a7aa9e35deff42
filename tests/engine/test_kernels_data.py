"""The kernels that move data (copy, fill, gather, reorder) against NumPy, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_cases import case, on, run_together
from kernel_harness import CPU16, GCN, Array, Case, chosen, run_on_rusticl, value

from rekindle.engine import kernels
from rekindle.graph.ir import dtype_of
from rekindle.graph.lowering import LogicalCall

pytestmark = pytest.mark.opencl
TARGETS = pytest.mark.parametrize("target", [CPU16, GCN], ids=lambda t: t.family)
DTYPES = ("uint8", "float16", "int64")
Pair = tuple[Case, Array]


def numbers(shape: Sequence[int], dtype: str = "float32") -> Array:
    """Distinct where the dtype can hold them apart."""
    return np.arange(1, int(np.prod(shape)) + 1).reshape(shape).astype(dtype)


def check(pairs: Sequence[Pair], target: Any) -> None:
    found = run_together(on(target, [c for c, _ in pairs]))
    for (c, expected), y in zip(pairs, found, strict=True):
        np.testing.assert_array_equal(y, expected, err_msg=str(c.call))


def viewed(x: Array, view: Array) -> Pair:
    """Copy `view`, a NumPy view into x, to a tensor of its own."""
    start = view.__array_interface__["data"][0] - x.__array_interface__["data"][0]
    out = np.ascontiguousarray(view)
    made = case(
        "copy", {"x": x}, (dtype_of(x), out.shape), shape=view.shape,
        in_offset=start // x.itemsize, in_strides=[s // x.itemsize for s in view.strides],
        out_offset=0, out_strides=[s // x.itemsize for s in out.strides],
    )  # fmt: skip
    return made, out


@TARGETS
def test_transposes_of_every_rank(target: Any) -> None:
    shapes = [
        ((3, 5), (1, 0)), ((40, 33), (1, 0)), ((64, 72), (1, 0)), ((2, 9, 17, 3), (0, 2, 3, 1)),
        ((2, 17, 9, 3), (0, 3, 1, 2)), ((1, 197, 3, 16), (0, 2, 1, 3)), ((5, 4, 3), (2, 0, 1)),
        ((2, 3, 2, 3, 2, 3), (5, 3, 1, 4, 2, 0)), ((1, 13), (1, 0)), ((7,), (0,)), ((), ()),
        ((2, 3, 10, 12), (0, 1, 3, 2)), ((6, 1, 35, 1), (3, 2, 1, 0)),
    ]  # fmt: skip
    pairs = []
    for shape, order in shapes:
        x = numbers(shape)
        pairs.append(viewed(x, x.transpose(order)))
    check(pairs, target)


@TARGETS
def test_slices_and_expansions(target: Any) -> None:
    x, line = numbers((5, 12, 16)), numbers((6,))
    views = [
        x[1:4], x[:, ::2], x[:, :, ::-1], x[::-2, 3:9, 1::3], x[2:3, 4:5, 5:6], x[..., 4:8],
        x[:, 1:3, :], x[..., 3:], np.broadcast_to(x[:, :1], (5, 7, 16)),
        np.broadcast_to(x[..., :1], (5, 12, 13)), x[:, :0],
    ]  # fmt: skip
    pairs = [viewed(x, v) for v in views]
    pairs += [viewed(line, np.broadcast_to(line, (3, 6))), viewed(line, line[::-1])]
    check([p for p in pairs if p[1].size], target)


@TARGETS
def test_transpose_and_run_of_every_size(target: Any) -> None:
    arrays = [numbers((33, 40), name) for name in ("uint8", "float16", "int64")]
    check([pair for x in arrays for pair in (viewed(x, x.T), viewed(x, x[3:7]))], target)


@TARGETS
def test_parts_of_one_output(target: Any) -> None:
    """Pad and concatenate write parts; the rest of the output stays as it was (NaN bytes)."""
    x = numbers((2, 3, 4))
    expected = np.full((2, 5, 6), 0xFFFFFFFF, np.uint32)
    expected[:, 1:4, 1:5] = x.view(np.uint32)
    made = case(
        "copy", {"x": x}, (dtype_of(x), (2, 5, 6)), shape=x.shape, in_offset=0,
        in_strides=(12, 4, 1), out_offset=7, out_strides=(30, 6, 1),
    )  # fmt: skip
    (found,) = run_together(on(target, [made]))
    np.testing.assert_array_equal(found.view(np.uint32), expected)


def test_fill_every_dtype() -> None:
    pairs = []
    for name, number in [
        ("float32", np.nan), ("float32", -0.0), ("float16", 1.5), ("int64", -(2**40)),
        ("uint64", 2**63 + 5), ("int8", -3), ("bool", True), ("float64", 1 / 3), ("int32", -7),
    ]:  # fmt: skip
        expected = np.full((3, 43), number, name)
        made = case("fill", {}, (dtype_of(expected), expected.shape), value=number)
        pairs.append((made, expected))
    check(pairs, CPU16)


def taken(x: Array, indices: Array, axis: int) -> Pair:
    expected = np.take(x, indices, axis)
    made = case("gather", {"x": x, "i": indices}, (dtype_of(x), expected.shape), axis=axis)
    return made, expected


@TARGETS
def test_gather(target: Any) -> None:
    x = numbers((4, 5, 6))
    some = np.array([[0, -1], [3, 2], [-4, 1]])
    pairs = [taken(x, some, axis) for axis in (0, 1, 2)]
    pairs += [taken(x, np.array(-2, np.int32), 1), taken(x, some.astype(np.int32), 2)]
    pairs += [taken(numbers((9,)), np.array([8, 0, -9]), 0)]
    pairs += [taken(numbers((4, 3), name), np.array([1, 1, 0]), 0) for name in DTYPES]
    check(pairs, target)


def test_gather_takes_the_nearest_element_for_an_index_outside() -> None:
    x = numbers((3, 2))
    made = case("gather", {"x": x, "i": np.array([7, -9])}, (dtype_of(x), (2, 2)), axis=0)
    (found,) = run_together(on(CPU16, [made]))
    np.testing.assert_array_equal(found, x[[2, 0]])


def reordered(shape: Sequence[int], blocks: tuple[int, int], dtype: str = "float32") -> Pair:
    """The harness packs the input, unpacks the output and demands zeros past C."""
    x = numbers(shape, dtype)
    made = case("reorder", {"x": x}, (dtype_of(x), shape), blocks=blocks[:1], out_block=blocks[1])
    return made, x


@TARGETS
def test_reorder_there_and_back(target: Any) -> None:
    c = target.channel_block
    shapes = [
        (1, 3, 9, 7), (2, c, 5, 3), (2, 2 * c, 70), (3, c + 1, 4, 5), (2, 5 * c, 3, 2, 2), (2, c),
        (3, 7), (1, 1, 1, 1), (2, 4 * c - 1, 130),
    ]  # fmt: skip
    pairs = [reordered(s, b) for s in shapes for b in ((0, c), (c, 0))]
    pairs += [reordered((2, 5, 3), (0, c), name) for name in DTYPES]
    check(pairs, target)


@pytest.mark.parametrize("made", [
    viewed(numbers((4, 3)), numbers((4, 3))[:0])[0],
    case("fill", {}, (dtype_of(numbers(1)), (0, 2)), value=1),
    case("gather", {"x": numbers((3, 2)), "i": np.zeros((0,), np.int64)},
         (dtype_of(numbers(1)), (0, 2)), axis=0),
    reordered((2, 0, 3), (0, 16))[0],
], ids=lambda c: c.kernel)  # fmt: skip
def test_empty_outputs_need_no_launch(made: Case) -> None:
    spec, context = kernels.REGISTRY.get(made.kernel), kernels.Context(CPU16, {}.get)
    assert spec.score(made.call, context) > 0
    assert list(spec.launches(made.call, context)) == []


def test_refuses_what_it_cannot_do() -> None:
    def refused(name: str, inputs: Sequence[Any], out: Any, **params: Any) -> bool:
        call = LogicalCall(name, tuple(inputs), out, params, "n")
        return chosen(call, {}, CPU16) is None

    x = value("x", (3, 2))
    assert refused("gather", [x, value("i", numbers((2,), "float32"))], value("o", (2, 2)), axis=0)
    assert refused("reorder", [x], value("o", (3, 2)))
    assert refused("fill", [], value("o", (1, 3, 2), 16), value=1.0)
    assert refused("copy", [x], value("o", numbers((3, 2), "int32")), shape=(3, 2))
    empty = value("x", (0, 2))
    assert refused("gather", [empty, value("i", numbers((2,), "int64"))], value("o", (2, 2)),
                   axis=0)  # fmt: skip


def test_on_rusticl(tmp_path: Path) -> None:
    x = numbers((40, 33))
    pairs = [
        viewed(x, x.T), viewed(x, x[::-2, 3:]), taken(x, np.array([5, -1]), 0),
        reordered((2, 7, 5), (0, 4)), reordered((2, 8, 35), (4, 0)), reordered((2, 7, 5), (4, 0)),
    ]  # fmt: skip
    small = numbers((40, 33), "uint8")
    pairs.append(viewed(small, small))
    cases = [c for t in (GCN, CPU16) for c in on(t, [p[0] for p in pairs])]
    found = run_on_rusticl(cases, tmp_path)
    for (c, expected), y in zip(pairs * 2, found, strict=True):
        np.testing.assert_array_equal(y, expected, err_msg=str(c.call))
