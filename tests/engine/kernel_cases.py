"""What the tests of the simple kernels share: many cases in one program, and comparisons.

One case compiled by itself costs PoCL a third of a second; forty in one program cost two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from kernel_harness import Array, Case, chosen, pocl_device, run_case, value

from rekindle._types import DType, Layout
from rekindle.engine import kernels
from rekindle.engine.compiler import compiler_for
from rekindle.engine.kernels import Context
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall


def case(
    call: str,
    inputs: Mapping[str, Array],
    out: tuple[DType, Sequence[int]],
    *,
    blocks: tuple[int, ...] = (),
    out_block: int = 0,
    **params: Any,
) -> Case:
    """A case of the kernel named like the call; `blocks[i]` is the channel block of input i."""
    padded = (*blocks, *[0] * (len(inputs) - len(blocks)))
    values = tuple(value(n, a, b) for (n, a), b in zip(inputs.items(), padded, strict=True))
    output = Value("out", out[0], tuple(out[1]), Layout(out_block))
    return Case(call, LogicalCall(call, values, output, params, "node"), dict(inputs))


def on(target: Any, cases: Sequence[Case]) -> list[Case]:
    return [replace(c, target=target) for c in cases]


def run_together(cases: Sequence[Case]) -> list[Array]:
    """Each case's output on PoCL; all their programs are built as one."""
    device = pocl_device()
    launches = []
    for c in cases:
        assert chosen(c.call, c.constants, c.target) is not None, f"no kernel takes {c.call}"
        spec = kernels.REGISTRY.get(c.kernel)
        launches += spec.launches(c.call, Context(c.target, c.constants.get))
    compiler_for(device).prepare(launches)
    return [run_case(c, device) for c in cases]


def assert_close(found: Array, expected: Array, what: object, rtol: float = 2e-6) -> None:
    """Equal dtype, shape, NaN and infinity; numbers within `rtol`, or 1e-37 of each other."""
    assert found.dtype == expected.dtype, what
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-37, err_msg=str(what))


def special_values(count: int, seed: int = 0) -> Array:
    """`count` floats: NaN, infinities, zeros of both signs, denormals, huge, and ordinary ones."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(count) * 10.0 ** rng.integers(-3, 4, count)
    odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, -1e-42, 3e38, -3e38, 0.5, 1.5, 2.5, -0.5]
    x[: len(odd)] = odd[:count]
    return rng.permutation(x).astype(np.float32)
