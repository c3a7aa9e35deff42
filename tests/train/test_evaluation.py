"""Accuracy intervals and the paired comparison, against published figures and SciPy."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
stats = pytest.importorskip("scipy.stats")

from rekindle._errors import UsageError  # noqa: E402
from rekindle.train.evaluation import accuracy, answers, compare_paired, measure  # noqa: E402

pytestmark = pytest.mark.torch


# Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (Wilson's score, no correction).
@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_interval_agrees_with_the_published_table(
    correct: int, count: int, low: float, high: float
) -> None:
    found = accuracy(correct, count)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert found.value == correct / count


@pytest.mark.parametrize(("correct", "count"), [(0, 1), (1, 1), (7, 13), (932, 932), (8806, 10000)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_interval_agrees_with_scipy(correct: int, count: int, confidence: float) -> None:
    theirs = stats.binomtest(correct, count).proportion_ci(confidence, method="wilson")
    found = accuracy(correct, count, confidence=confidence)
    assert found.low == pytest.approx(theirs.low, abs=1e-12)
    assert found.high == pytest.approx(theirs.high, abs=1e-12)


@pytest.mark.parametrize(
    ("correct", "count", "confidence"),
    [(-1, 5, 0.95), (6, 5, 0.95), (0, 0, 0.95), (1, 2, 0.0), (1, 2, 1.0)],
)
def test_impossible_counts_are_refused(correct: int, count: int, confidence: float) -> None:
    with pytest.raises(UsageError, match="count > 0"):
        accuracy(correct, count, confidence=confidence)


@pytest.mark.parametrize(
    ("b", "c", "both", "neither"), [(10, 2, 50, 3), (0, 0, 4, 1), (3, 3, 0, 0)]
)
def test_paired_comparison_is_the_exact_binomial_test(
    b: int, c: int, both: int, neither: int
) -> None:
    pairs = [(1, 0)] * b + [(0, 1)] * c + [(1, 1)] * both + [(0, 0)] * neither
    first, second = torch.tensor(pairs).bool().T
    found = compare_paired(first, second)
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert found.p_value == pytest.approx(expected)
    assert (found.only_first, found.only_second, found.count) == (b, c, len(pairs))
    assert found.difference == pytest.approx((first.sum() - second.sum()).item() / len(pairs))


def test_unequal_or_empty_answers_are_refused() -> None:
    yes = torch.ones(3).bool()
    for first, second in ((yes, yes[:2]), (yes[:0], yes[:0]), (yes[None], yes[None])):
        with pytest.raises(UsageError, match="equally long"):
            compare_paired(first, second)


def test_a_module_is_measured_in_eval_mode_and_put_back() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(0.99), torch.nn.Identity()).train()
    logits = torch.eye(4)
    right = answers(model, [(logits[:3], torch.tensor([0, 1, 1])), (logits[3:], torch.tensor([3]))])
    assert right.tolist() == [True, True, False, True]
    assert model.training


def test_a_function_is_measured_as_well() -> None:
    found = measure(lambda x: -x, [(torch.eye(2), torch.tensor([1, 1]))])
    assert (found.correct, found.count) == (1, 2)


def test_no_examples_is_an_error() -> None:
    with pytest.raises(UsageError, match="at least one example"):
        measure(torch.nn.Identity(), [])
