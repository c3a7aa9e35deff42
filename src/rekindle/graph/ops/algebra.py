"""Det (on the host), Einsum and CumProd."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Dim
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag
from rekindle.graph.ops._cumulation import cumulate
from rekindle.graph.ops._cumulation import flops as cumulate_flops
from rekindle.graph.ops._einsum import lower_einsum
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import (
    known_rank,
    merge_dims,
    normalize_axis,
    required,
    same_dtype,
    same_type,
)

NAMES = ("CumProd", "Det", "Einsum")


def _det_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x = required(node, inputs, 0)
    known_rank(node, x, at_least=2)
    if x.shape is not None:
        merge_dims(node, x.shape[-1], x.shape[-2])
    return (TensorType(x.dtype, None if x.shape is None else x.shape[:-2]),)


def _det(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x = required(node, inputs, 0)
    return (rounded(np.linalg.det(wide(x)), dtype_of(x)),)


def _cum_prod(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    given, axis = required(node, inputs, 0), required(node, inputs, 1)
    along = normalize_axis(node, int(axis.reshape(-1)[0]), given.ndim)
    x = np.flip(wide(given), along) if flag(node, "reverse") else wide(given)
    if flag(node, "exclusive"):
        one = np.ones_like(x.take([0], axis=along))
        x = np.concatenate((one, x.take(range(x.shape[along] - 1), axis=along)), axis=along)
    product = np.cumprod(x, axis=along, dtype=x.dtype)
    y = np.flip(product, along) if flag(node, "reverse") else product
    return (rounded(y, dtype_of(given)),)


def _cum_prod_lower(lowering: Lowering) -> None:
    cumulate(lowering, "prod")


# --- Einsum ------------------------------------------------------------------------------------


def _equation(node: Node, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Letters of every operand and of the output; an ellipsis becomes digits, aligned right."""
    text = str(node.attr("equation")).replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks) or not all(c.isalpha() or c in ".,->" for c in text):
        raise ModelError(f"node {node}: equation {text!r} does not fit {len(ranks)} operands")
    hidden = [r - len(t.replace("...", "")) if "..." in t else 0
              for r, t in zip(ranks, terms, strict=True)]  # fmt: skip
    digits = "".join(map(str, range(max(hidden, default=0))))
    named = [
        t.replace("...", digits[len(digits) - h :]) for t, h in zip(terms, hidden, strict=True)
    ]
    if any(len(t) != r for t, r in zip(named, ranks, strict=True)) or max(hidden) > 10:
        raise ModelError(f"node {node}: equation {text!r} does not fit operands of ranks {ranks}")
    if not arrow:
        once = [c for c in sorted(set(left) - set(".,")) if left.count(c) == 1]
        return named, digits + "".join(once)
    return named, right.replace("...", digits)


def _einsum_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    operands = [required(node, inputs, i) for i in range(len(inputs))]
    kind, shapes = same_dtype(node, operands), [o.shape for o in operands]
    known = [s for s in shapes if s is not None]
    if len(known) < len(shapes):
        return (TensorType(kind, None),)
    terms, output = _equation(node, [len(s) for s in known])
    sizes: dict[str, Dim] = {}
    for term, shape in zip(terms, known, strict=True):
        for letter, dim in zip(term, shape, strict=True):
            met = sizes.get(letter, dim)
            if letter.isdigit() and 1 in (met, dim):
                sizes[letter] = dim if met == 1 else met
            else:
                sizes[letter] = merge_dims(node, met, dim)
    if not set(output) <= sizes.keys():
        raise ModelError(f"node {node}: the output {output!r} names axes that no operand has")
    return (TensorType(kind, tuple(sizes[c] for c in output)),)


def _einsum(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    arrays = [required(node, inputs, i) for i in range(len(inputs))]
    _equation(node, [a.ndim for a in arrays])
    equation = str(node.attr("equation")).replace(" ", "")
    return (rounded(np.einsum(equation, *map(wide, arrays)), dtype_of(arrays[0])),)


def _einsum_lower(lowering: Lowering) -> None:
    operands = [lowering.input(i) for i in range(len(lowering.node.inputs))]
    terms, output = _equation(lowering.node, [len(v.static_shape) for v in operands])
    lower_einsum(lowering, operands, terms, output)


def _einsum_flops(
    node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]
) -> int:
    """A product and a sum for every value of all letters, taken at once."""
    shapes = [required(node, inputs, i).shape or () for i in range(len(inputs))]
    terms, _ = _equation(node, [len(s) for s in shapes])
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, dim in zip(term, shape, strict=True):
            sizes[letter] = max(sizes.get(letter, 1), dim if isinstance(dim, int) else 1)
    return len(inputs) * math.prod(sizes.values())


register("Det", Operator(since=11, infer=_det_infer, reference=_det))
register(
    "CumProd",
    Operator(
        since=26, infer=same_type, reference=_cum_prod, lower=_cum_prod_lower, flops=cumulate_flops
    ),
)
register(
    "Einsum",
    Operator(
        since=12, infer=_einsum_infer, reference=_einsum, lower=_einsum_lower, flops=_einsum_flops
    ),
)
