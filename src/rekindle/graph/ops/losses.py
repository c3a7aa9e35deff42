"""NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: on the host, around training graphs.

Scores (N, C, *D), labels (N, *D); a label equal to `ignore_index` counts for nothing. A mean is
weighted by the labels' class weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Shape
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import text
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._shapes import known_rank, merge_dims, optional, required

NAMES = ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")


def _reduction(node: Node) -> str:
    return text(node, "reduction", "mean", choices=("none", "sum", "mean"))


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    scores, labels = required(node, inputs, 0), required(node, inputs, 1)
    known_rank(node, scores, at_least=2)
    shape: Shape | None = ()
    if _reduction(node) == "none":
        shape = labels.shape
    if scores.shape is not None and labels.shape is not None:
        if len(labels.shape) != len(scores.shape) - 1:
            raise ModelError(
                f"node {node}: labels {list(labels.shape)} do not fit scores {list(scores.shape)}"
            )
        for ours, theirs in zip(labels.shape, (scores.shape[0], *scores.shape[2:]), strict=True):
            merge_dims(node, ours, theirs)
    return (TensorType(scores.dtype, shape), TensorType(scores.dtype, scores.shape))


def _loss(node: Node, log_probability: Array, labels: Array, weights: Array | None) -> Array:
    """The loss of float64 log probabilities (N, C, *D)."""
    ignored = np.zeros(labels.shape, bool)
    if node.attr("ignore_index") is not None:
        ignored = labels == node.attr("ignore_index")
    classes = np.where(ignored, 0, labels)
    picked = np.take_along_axis(log_probability, np.expand_dims(classes, 1), axis=1).squeeze(1)
    weight = np.ones(labels.shape) if weights is None else wide(weights)[classes]
    weight = np.where(ignored, 0.0, weight)
    loss = np.where(ignored, 0.0, -picked * weight)
    match _reduction(node):
        case "none":
            return np.asarray(loss)
        case "sum":
            return np.asarray(loss.sum())
        case _:
            return np.asarray(loss.sum() / weight.sum())


def _likelihood(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, labels = required(node, inputs, 0), required(node, inputs, 1)
    return (rounded(_loss(node, wide(x), labels, optional(inputs, 2)), dtype_of(x)),)


def _cross_entropy(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    x, labels = required(node, inputs, 0), required(node, inputs, 1)
    shifted = wide(x) - wide(x).max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = _loss(node, logs, labels, optional(inputs, 2))
    return rounded(loss, dtype_of(x)), rounded(logs, dtype_of(x))


def _likelihood_infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    return _infer(node, inputs)[:1]


register(
    "NegativeLogLikelihoodLoss",
    Operator(since=12, infer=_likelihood_infer, reference=_likelihood),
)
register("SoftmaxCrossEntropyLoss", Operator(since=12, infer=_infer, reference=_cross_entropy))
