"""`reduce` over any axes, row-major or over the spatial axes of a blocked value.

Floats (16-bit ones too) are accumulated in float32, in runs that join as a tree; integers wrap as
NumPy's do; a mean of integers truncates towards zero. A reduction with few outputs is cut into
parts that a second launch joins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rekindle._types import DType, Target
from rekindle.engine.kernels import DECODES, Context, Kernel, Launch, Workspace, register
from rekindle.engine.kernels._nest import (
    GPU_GROUP,
    Nest,
    Share,
    index_code,
    parameters,
    row_major_strides,
    share,
)
from rekindle.engine.kernels._render import SINGLE, compute_type, float_literal, storage_type
from rekindle.graph.ir import Value
from rekindle.graph.lowering import LogicalCall

_ACCUMULATED_IN = {
    DType.FLOAT16: DType.FLOAT32, DType.BFLOAT16: DType.FLOAT32, DType.INT8: DType.INT32,
    DType.UINT8: DType.INT32, DType.INT16: DType.INT32, DType.UINT16: DType.INT32,
    DType.BOOL: DType.INT32,
}  # fmt: skip
_PART_ELEMENTS = {"cpu": 16384}
"""Elements below which another part costs more than it brings; on GPUs 1024."""


@dataclass(frozen=True)
class _Job:
    """One launch of the kernel: what is walked, what is done, how wide."""

    x: Value | Workspace
    y: Value | Workspace
    x_dtype: DType
    y_dtype: DType
    kept: Nest
    """Loops over the outputs, which lie in memory in this order; strides in x."""
    reduced: Nest
    kind: str
    mean_of: int | None = None
    channels: int = 0
    """C of a blocked x whose last block is not full; else 0."""
    row_major_out: bool = False
    acc: DType = DType.FLOAT32
    """The dtype in which elements are joined."""

    @property
    def columns(self) -> bool:
        """Whether x's innermost loop is kept."""
        return bool(self.kept.sizes) and self.kept.strides[0][-1] == 1

    @property
    def elements(self) -> int:
        return self.kept.count * self.reduced.count


@dataclass(frozen=True)
class _Width:
    """How one launch is spread over vectors and work-items."""

    lanes: int
    wide: int
    coop: int
    steps: int
    """Independent steps: rows, or vectors of a row times rows."""


def _score(call: LogicalCall, context: Context) -> float:
    (x,) = call.inputs
    assert x is not None
    y, axes = call.output, tuple(call.params["axes"])
    if x.dtype is not y.dtype or x.dtype is DType.STRING:
        return 0.0
    if x.dtype is DType.FLOAT64 and not context.target.fp64:
        return 0.0
    if math.prod(x.layout.physical_shape(x.static_shape)) >= 2**31:
        return 0.0
    if not x.layout.block:
        return float(not y.layout.block)
    spatial = axes == tuple(range(2, len(x.static_shape))) and len(axes) > 0
    return float(spatial and y.layout.block in (0, x.layout.block))


def _launches(call: LogicalCall, context: Context) -> Sequence[Launch]:
    (x,) = call.inputs
    assert x is not None
    y, kind, block = call.output, call.params["kind"], x.layout.block
    if 0 in y.static_shape:
        return []
    shape = x.layout.physical_shape(x.static_shape)
    over = [d for d in range(len(shape)) if d in call.params["axes"]]
    channels = x.static_shape[1] if block and x.static_shape[1] % block else 0
    kept = _loops(shape, [d for d in range(len(shape)) if d not in over])
    reduced = _loops(shape, over).merged()
    job = _Job(
        x, y, x.dtype, y.dtype,
        kept.merged(fixed=(len(kept.sizes) - 1,) if channels else ()), reduced,
        "sum" if kind == "mean" else kind, reduced.count if kind == "mean" else None,
        channels, not y.layout.block, _joined_in(x.dtype, kind),
    )  # fmt: skip
    return _cut(job, context.target)


def _joined_in(dtype: DType, kind: str) -> DType:
    """A mean of integers is exact: their sum has 64 bits."""
    if kind == "mean" and not dtype.is_float and dtype.itemsize < 8:
        return DType.INT64
    return _ACCUMULATED_IN.get(dtype, dtype)


def _loops(shape: Sequence[int], dims: Sequence[int]) -> Nest:
    strides = row_major_strides(shape)
    return Nest(tuple(shape[d] for d in dims), (tuple(strides[d] for d in dims),))


def _cut(job: _Job, target: Target) -> Sequence[Launch]:
    """One launch, or one over parts and one that joins them."""
    width = _width(job, target)
    wanted = -(-2 * target.compute_units // width.steps)
    parts = min(wanted, 64, job.elements // _PART_ELEMENTS.get(target.family, 1024) // width.steps)
    r_count = job.reduced.count if job.columns else job.reduced.split()[0].count
    longest = max(r_count, 1 if job.columns else job.reduced.split()[1])
    parts = min(parts, longest // 2)
    if parts <= 1:
        return [_launch(job, target, width, 1)]
    dtype, count = job.acc, job.kept.count
    assert isinstance(job.y, Value)
    partial = Workspace(f"{job.y.name}:parts", parts * count * dtype.itemsize)
    first = replace(job, y=partial, y_dtype=dtype, mean_of=None, channels=0)
    inner = job.kept.sizes[-1] if job.channels else count
    second = replace(
        job,
        x=partial,
        x_dtype=dtype,
        kept=Nest((count // inner, inner), ((inner, 1),)).merged(fixed=(1,)),
        reduced=Nest((parts,), ((count,),)),
        kind="sum" if job.kind == "sum_square" else job.kind,
    )
    return [
        _launch(first, target, width, parts),
        _launch(second, target, _width(second, target), 1),
    ]


def _width(job: _Job, target: Target) -> _Width:
    plain, cpu = job.x_dtype in SINGLE, target.family == "cpu"
    length = job.reduced.count
    if not job.columns:
        lanes = 16 if cpu and plain and job.reduced.split()[1] >= 16 else 1
        coop = GPU_GROUP if not cpu and length >= GPU_GROUP else 1
        return _Width(lanes, 1, coop, job.kept.count)
    inner = job.kept.sizes[-1]
    lanes = target.channel_block if plain and inner >= target.channel_block else 1
    # On a CPU, 64 columns at a time: four registers, or what LLVM makes of 16 scalars.
    wide = (4 if lanes > 1 else 16) if cpu else 1
    wide = wide if inner >= wide * lanes else 1
    steps = job.kept.count // inner * -(-inner // (lanes * wide))
    few = steps < GPU_GROUP * target.compute_units and length >= GPU_GROUP
    return _Width(lanes, wide, GPU_GROUP if few and not cpu else 1, steps)


def _launch(job: _Job, target: Target, width: _Width, parts: int) -> Launch:
    if job.columns:
        rows, each = job.kept.count // job.kept.sizes[-1], job.reduced.count
        work = share(target, rows, width.steps // rows, each // parts * width.lanes * width.wide)
    else:
        work = share(target, width.steps, 1, job.reduced.count // parts)
    if width.coop > 1:
        work = Share(1, 1, width.steps * width.coop, width.coop)
    code, integers = _walk(job, width, work, parts)
    return Launch(
        kernel="reduce",
        entry="reduce",
        defines=(*_types(job, width), *code, ("GROUP", str(work.group))),
        args=(job.x, *integers, job.y),
        global_size=(*work.global_size, parts),
        local_size=(*work.local_size, 1),
        flops=job.elements,
        bytes_moved=job.elements * job.x_dtype.itemsize + job.y.nbytes,
    )


def _walk(
    job: _Job, width: _Width, work: Share, parts: int
) -> tuple[tuple[tuple[str, str], ...], list[np.int32]]:
    """Index code of the kept and reduced loops, and the kernel's integers."""
    if job.columns:
        kept, inner, _ = job.kept.split()
        reduced, i_count = job.reduced, 1
    else:
        kept, inner = job.kept, 1
        reduced, i_count, _ = job.reduced.split()
    r_count = reduced.count
    outputs = index_code(kept, "row", ("o",), tag="k")
    inputs = index_code(reduced, "r", ("q",), tag="r")
    by_r = r_count >= parts
    r_step = -(-r_count // parts) if by_r and parts > 1 else 0
    i_step = -(-i_count // parts) if not by_r else 0
    integers = [r_step, r_step or r_count, r_count]
    divisor = job.mean_of if job.mean_of is not None else 1
    if job.columns:
        rows = kept.count
        integers += [divisor, inner, job.channels, rows, width.steps // rows]
        integers += [work.chunk, work.per_item]
    else:
        integers += [i_step, i_step or i_count, i_count, divisor, kept.count, work.per_item]
    defines = (
        ("PARAMS", parameters([*outputs.params, *inputs.params])),
        ("KEPT", outputs.code),
        ("REDUCED", inputs.code),
    )
    return defines, [*outputs.args, *inputs.args, *map(np.int32, integers)]


def _types(job: _Job, width: _Width) -> tuple[tuple[str, str], ...]:
    """Defines that say what is done, and in which types."""
    dtype = job.acc
    acc, lanes = compute_type(dtype), width.lanes
    step, join = _steps(job.kind, dtype, lanes)
    step_1, join_1 = _steps(job.kind, dtype, 1)
    initial = _initial(job.kind, job.x_dtype)
    finish = "a"
    if job.mean_of is not None:
        exact = f"rk1_div_{acc}(a, ({acc})divisor)"
        finish = f"(a / ({acc})divisor)" if dtype.is_float else exact
    ragged = 0 if not job.channels else 2 if job.row_major_out else 1
    return (
        ("FORM", str(int(job.columns))),
        ("T", storage_type(job.x_dtype)),
        ("OUT", storage_type(job.y_dtype)),
        ("ACC", acc),
        ("LANES", str(lanes)),
        ("WIDE", str(width.wide)),
        ("COOP", str(width.coop)),
        ("INIT", f"((V)({initial}))"),
        ("INIT_1", f"(({acc})({initial}))"),
        ("STEP(a, v)", step),
        ("STEP_1(a, v)", step_1),
        ("JOIN(a, b)", join),
        ("JOIN_1(a, b)", join_1),
        ("FINISH(a)", finish),
        ("RAGGED", str(ragged)),
    )


def _steps(kind: str, dtype: DType, lanes: int) -> tuple[str, str]:
    """C of (taking v into a, joining a and b)."""
    if kind in ("max", "min"):
        name = kind
        if dtype is DType.FLOAT64:
            name = f"rk1_double_{kind}"
        elif dtype.is_float:
            name = f"rk{lanes}_{kind}"
        return f"{name}(a, v)", f"{name}(a, b)"
    if kind == "sum_square":
        return "((a) + (v) * (v))", "((a) + (b))"
    symbol = "*" if kind == "prod" else "+"
    return f"((a) {symbol} (v))", f"((a) {symbol} (b))"


def _initial(kind: str, dtype: DType) -> str:
    """C of the value that changes nothing: what a reduction over no elements gives."""
    if kind in ("sum", "sum_square"):
        return "0"
    if kind == "prod":
        return "1"
    if dtype.is_float:
        return float_literal(-math.inf if kind == "max" else math.inf)
    if dtype is DType.BOOL:
        return str(int(kind == "min"))
    limits = np.iinfo(dtype.value)
    if kind == "min":
        return f"{limits.max}UL" if dtype is DType.UINT64 else f"{limits.max}L"
    return f"({limits.min + 1}L - 1)" if limits.min else "0"


register(
    "reduce",
    Kernel(call="reduce", score=_score, launches=_launches, isa=DECODES),
)
