"""Einsum on the device: sums, transpositions and matrix products, two operands at a time.

A term is a value and a letter for each of its axes. Letters that only one operand has, and the
result does not, are summed first; then each pair of operands is one matrix product, whose batch
axes are the letters that both have and that are still needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rekindle.graph.expr import Arg
from rekindle.graph.ir import Value
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops._copies import Walk, copy, row_major


@dataclass(frozen=True)
class _Term:
    value: Value
    letters: str

    @property
    def sizes(self) -> dict[str, int]:
        return dict(zip(self.letters, self.value.static_shape, strict=True))


def lower_einsum(
    lowering: Lowering, operands: Sequence[Value], terms: Sequence[str], output: str
) -> None:
    """The calls of an Einsum; `terms` and `output` have one letter (or digit) an axis."""
    out = lowering.output
    if not out.dtype.is_float:
        raise NotLowered(f"Einsum of {out.dtype}")
    left = [
        _squeezed(lowering, _diagonal(lowering, _Term(v, t)))
        for v, t in zip(operands, terms, strict=True)
    ]
    done = _summed(lowering, left[0], _needed(left[1:], output))
    for index, term in enumerate(left[1:], 1):
        later = _needed(left[index + 1 :], output)
        own = _summed(lowering, term, later | set(done.letters))
        done = _joined(lowering, _summed(lowering, done, later | set(own.letters)), own, later)
    _written(lowering, _summed(lowering, done, set(output)), output)


def _needed(terms: Sequence[_Term], output: str) -> set[str]:
    return set(output).union(*(t.letters for t in terms))


def _moved(lowering: Lowering, term: _Term, strides: dict[str, int], letters: str) -> _Term:
    """The term with its axes as in `letters`, by a copy where that moves anything."""
    sizes = term.sizes
    shape = tuple(sizes[c] for c in letters)
    walk = tuple(strides[c] for c in letters)
    if letters == term.letters and walk == row_major(term.value.static_shape):
        return term
    made = lowering.temporary(shape, term.value.dtype)
    copy(lowering, term.value, made, shape, Walk(walk), Walk(row_major(shape)))
    return _Term(made, letters)


def _diagonal(lowering: Lowering, term: _Term) -> _Term:
    """Letters that stand twice walk both axes at once."""
    strides: dict[str, int] = {}
    steps = row_major(term.value.static_shape)
    for letter, step in zip(term.letters, steps, strict=True):
        strides[letter] = strides.get(letter, 0) + step
    letters = "".join(dict.fromkeys(term.letters))
    return _moved(lowering, term, strides, letters)


def _squeezed(lowering: Lowering, term: _Term) -> _Term:
    """Without broadcast axes of size 1, which say nothing."""
    kept = "".join(c for c in term.letters if not (c.isdigit() and term.sizes[c] == 1))
    if kept == term.letters:
        return term
    shape = tuple(term.sizes[c] for c in kept)
    return _Term(lowering.view(term.value, shape), kept)


def _ordered(lowering: Lowering, term: _Term, letters: str) -> _Term:
    steps = row_major(term.value.static_shape)
    return _moved(lowering, term, dict(zip(term.letters, steps, strict=True)), letters)


def _summed(lowering: Lowering, term: _Term, kept: set[str]) -> _Term:
    """Without the letters that nothing else needs."""
    axes = tuple(i for i, c in enumerate(term.letters) if c not in kept)
    if not axes:
        return term
    letters = "".join(c for c in term.letters if c in kept)
    made = lowering.temporary(tuple(term.sizes[c] for c in letters), term.value.dtype)
    lowering.call("reduce", (term.value,), made, kind="sum", axes=axes)
    return _Term(made, letters)


def _joined(lowering: Lowering, a: _Term, b: _Term, later: set[str]) -> _Term:
    """The product of two terms, summed over the letters that both have and nobody needs later."""
    both = set(a.letters) & set(b.letters)
    batch = "".join(c for c in a.letters if c in both and c in later)
    inner = "".join(c for c in a.letters if c in both and c not in later)
    rows = "".join(c for c in a.letters if c not in both)
    columns = "".join(c for c in b.letters if c not in both)
    sizes = {**a.sizes, **b.sizes}

    def total(letters: str) -> int:
        return math.prod(sizes[c] for c in letters)

    if not inner:
        return _outer(lowering, a, b)
    left = _ordered(lowering, a, batch + rows + inner).value
    right = _ordered(lowering, b, batch + inner + columns).value
    left = lowering.view(left, (total(batch), total(rows), total(inner)))
    right = lowering.view(right, (total(batch), total(inner), total(columns)))
    shape = (total(batch), total(rows), total(columns))
    made = lowering.call(
        "matmul", (left, right), lowering.temporary(shape, a.value.dtype),
        transpose_a=False, transpose_b=False, epilogue=None,
    )  # fmt: skip
    letters = batch + rows + columns
    return _Term(lowering.view(made, tuple(sizes[c] for c in letters)), letters)


def _outer(lowering: Lowering, a: _Term, b: _Term) -> _Term:
    """Nothing to sum: a product with broadcasting."""
    sizes = {**a.sizes, **b.sizes}
    letters = a.letters + "".join(c for c in b.letters if c not in a.letters)
    aligned = []
    for term in (a, b):
        own = "".join(c for c in letters if c in term.letters)
        moved = _ordered(lowering, term, own).value
        shape = tuple(sizes[c] if c in own else 1 for c in letters)
        aligned.append(lowering.view(moved, shape))
    made = lowering.temporary(tuple(sizes[c] for c in letters), a.value.dtype)
    lowering.call("elementwise", aligned, made, expr=Arg(0) * Arg(1))
    return _Term(made, letters)


def _written(lowering: Lowering, term: _Term, output: str) -> None:
    """The last term as the output; an axis that it has not (of size 1) is there by its shape."""
    out = lowering.output
    own = "".join(c for c in output if c in term.letters)
    steps = dict(zip(term.letters, row_major(term.value.static_shape), strict=True))
    shape = tuple(term.sizes[c] for c in own)
    walk = tuple(steps[c] for c in own)
    copy(lowering, term.value, out, shape, Walk(walk), Walk(row_major(shape)))
