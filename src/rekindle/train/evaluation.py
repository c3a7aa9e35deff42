"""Evaluation: accuracy with an honest interval, and the comparison of two models on one set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor, nn

from rekindle._errors import UsageError

Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers with the bounds of its interval; all in [0, 1]."""

    correct: int
    count: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.correct / self.count


@dataclass(frozen=True)
class PairedComparison:
    """Two models on the same examples.

    `difference` is accuracy(first) - accuracy(second); `p_value` is McNemar's exact two-sided
    test that they are equally good.
    """

    only_first: int
    only_second: int
    count: int
    difference: float
    p_value: float


def accuracy(correct: int, count: int, *, confidence: float = 0.95) -> Accuracy:
    """Wilson's score interval (E. B. Wilson, JASA 22, 1927): sound near 0 and 1 as well.

    UsageError unless 0 <= correct <= count, count > 0 and 0 < confidence < 1.
    """
    if not 0 <= correct <= count or count < 1 or not 0.0 < confidence < 1.0:
        raise UsageError(
            f"accuracy of {correct} right out of {count} at confidence {confidence}",
            hint="0 <= correct <= count, count > 0, 0 < confidence < 1",
        )
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    share, weight = correct / count, z * z / count
    centre = (share + weight / 2.0) / (1.0 + weight)
    half = z * math.sqrt(share * (1.0 - share) / count + weight / (4.0 * count)) / (1.0 + weight)
    return Accuracy(correct, count, max(0.0, centre - half), min(1.0, centre + half))


def compare_paired(first: Tensor, second: Tensor) -> PairedComparison:
    """Compare two models by their right answers (bool, (N,)) on the same N examples.

    Only examples on which they differ count (Q. McNemar, Psychometrika 12, 1947; exact binomial
    form): far more telling than two separate intervals.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise UsageError(
            f"paired comparison of {tuple(first.shape)} with {tuple(second.shape)} answers",
            hint="give two equally long, non-empty vectors of right (True) and wrong (False)",
        )
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    differing = only_first + only_second
    tail = sum(math.comb(differing, k) for k in range(min(only_first, only_second) + 1))
    p_value = min(1.0, 2.0 * tail / 2**differing)
    difference = (only_first - only_second) / len(first)
    return PairedComparison(only_first, only_second, len(first), difference, p_value)


def answers(predict: Predict, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Whether the highest logit is the label, for each example: bool (N,).

    `predict` maps a batch to logits (N, classes): a module, which is put into eval mode for the
    while, or any function (a session's `run`, say). UsageError without a single example.
    """
    training = isinstance(predict, nn.Module) and predict.training
    if isinstance(predict, nn.Module):
        predict.eval()
    with torch.no_grad():
        right = [predict(inputs).argmax(1) == targets for inputs, targets in batches]
    if isinstance(predict, nn.Module):
        predict.train(training)
    if not right:
        raise UsageError("evaluation without a single batch", hint="give at least one example")
    return torch.cat(right)


def measure(predict: Predict, batches: Iterable[tuple[Tensor, Tensor]]) -> Accuracy:
    """Accuracy with its 95 % interval; see `answers` and `accuracy`."""
    right = answers(predict, batches)
    return accuracy(int(right.sum()), len(right))
