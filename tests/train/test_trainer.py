"""The trainer: it learns, it repeats itself, and a resumed training is the same bit for bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from rekindle._errors import RekindleError, UsageError  # noqa: E402
from rekindle.train.augment import crop_and_flip, cutout  # noqa: E402
from rekindle.train.datasets import Batch, ImageData, ImageSet  # noqa: E402
from rekindle.train.evaluation import measure  # noqa: E402
from rekindle.train.networks import SmallResNet  # noqa: E402
from rekindle.train.trainer import EpochRecord, TrainConfig, train  # noqa: E402

pytestmark = pytest.mark.torch

CONFIG = TrainConfig(
    epochs=4, batch_size=16, peak_lr=0.05, warmup=0.25, label_smoothing=0.1, ema_decay=0.9, seed=3
)


@dataclasses.dataclass(frozen=True)
class Points:
    """Points in the plane, labelled by the side of a line."""

    noisy_validation: bool = False

    def steps(self, batch_size: int) -> int:
        return 128 // batch_size

    def train_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        for _ in range(self.steps(batch_size)):
            x = torch.randn(batch_size, 2, generator=generator)
            yield x, (x[:, 0] + x[:, 1] > 0).long()

    def validation_batches(self, batch_size: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(99)
        x = torch.randn(200, 2, generator=generator)
        y = torch.randint(0, 2, (200,), generator=generator)
        yield x, y if self.noisy_validation else (x.sum(1) > 0).long()


def pictures() -> ImageData:
    """Noise in which the brightest channel tells the class."""
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(0, 128, (96, 3, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 3, (96,), generator=generator)
    images[torch.arange(96), labels] += 100
    norm = ((0.4, 0.4, 0.4), (0.2, 0.2, 0.2))
    parts = [ImageSet("made up", images[p], labels[p], *norm) for p in (slice(64), slice(64, 96))]
    return ImageData(*parts, move=lambda x, g: crop_and_flip(x, g, pad=1), distort=cutout)


def network() -> nn.Module:
    torch.manual_seed(11)
    return SmallResNet((4, 8), (1, 1), classes=3)


def with_dropout() -> nn.Module:
    torch.manual_seed(11)
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))


def assert_same_state(first: nn.Module, second: nn.Module) -> None:
    theirs = second.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(value, theirs[name]), name


def without_time(history: tuple[EpochRecord, ...]) -> list[EpochRecord]:
    return [dataclasses.replace(record, seconds=0.0) for record in history]


class BrokenOffError(Exception):
    """Breaks a training off from outside, as Ctrl-C does."""


@pytest.mark.parametrize("stop_after", [1, 3])
@pytest.mark.parametrize(
    ("make", "data", "change"),
    [
        (network, pictures(), {}),
        (network, pictures(), {"precision": "bf16", "ema_decay": 0.0}),
        (with_dropout, Points(), {}),
        (with_dropout, Points(), {"optimizer": "adamw", "schedule": "linear"}),
    ],
)
def test_resumed_training_is_bit_identical(
    tmp_path: Path, make: object, data: object, change: dict[str, object], stop_after: int
) -> None:
    config = dataclasses.replace(CONFIG, **change)
    whole = make()
    expected = train(whole, config, data)

    def stop(record: EpochRecord) -> None:
        if record.epoch == stop_after:
            raise BrokenOffError

    path = tmp_path / "checkpoint.pt"
    with pytest.raises(BrokenOffError):
        train(make(), config, data, checkpoint_path=path, on_epoch=stop)
    torch.manual_seed(12345)
    resumed = make()
    seen: list[int] = []
    result = train(
        resumed,
        config,
        data,
        checkpoint_path=path,
        resume=True,
        on_epoch=lambda record: seen.append(record.epoch),
    )
    assert seen == list(range(stop_after + 1, config.epochs + 1))
    assert_same_state(whole, resumed)
    assert without_time(result.history) == without_time(expected.history)
    assert (result.best_epoch, result.best_accuracy) == (
        expected.best_epoch,
        expected.best_accuracy,
    )


def test_a_finished_training_resumes_to_its_result(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    first, again = with_dropout(), with_dropout()
    result = train(first, CONFIG, Points(), checkpoint_path=path)
    assert train(again, CONFIG, Points(), checkpoint_path=path, resume=True) == result
    assert_same_state(first, again)


def test_it_learns() -> None:
    model, data = network(), pictures()
    before = measure(model, data.validation_batches(32)).value
    config = dataclasses.replace(CONFIG, epochs=10, peak_lr=0.2)
    result = train(model, config, data)
    assert before < 0.6
    assert result.best_accuracy >= 0.9
    assert result.history[-1].train_loss < 0.7 * result.history[0].train_loss


def test_the_model_ends_with_the_best_weights() -> None:
    model, data = with_dropout(), Points(noisy_validation=True)
    result = train(model, dataclasses.replace(CONFIG, epochs=8, peak_lr=0.3), data)
    accuracies = [record.validation_accuracy for record in result.history]
    assert result.best_accuracy == max(accuracies)
    assert result.best_epoch == accuracies.index(max(accuracies)) + 1
    assert measure(model, data.validation_batches(64)).value == result.best_accuracy
    assert not model.training


def test_patience_stops_when_validation_no_longer_improves() -> None:
    config = dataclasses.replace(CONFIG, epochs=60, patience=3, peak_lr=0.3)
    result = train(with_dropout(), config, Points())
    assert result.stopped_early
    assert len(result.history) == result.best_epoch + 3 < 60


def test_the_learning_rate_follows_the_schedule() -> None:
    config = dataclasses.replace(CONFIG, schedule="linear", warmup=0.5, peak_lr=0.4)
    history = train(with_dropout(), config, Points()).history
    # 4 epochs of 8 steps; the last step of epoch e is number 8 e - 1 of 32.
    expected = [0.4 * 7 / 16, 0.4 * 15 / 16, 0.4 * (1 - 7 / 16), 0.4 * (1 - 15 / 16)]
    assert [record.learning_rate for record in history] == pytest.approx(expected)


def test_one_sgd_step_against_the_written_out_rule() -> None:
    """Nesterov momentum with decay on the matrix only, and the moving average of the result."""

    class OneBatch(Points):
        def steps(self, batch_size: int) -> int:
            return 2

    config = dataclasses.replace(
        CONFIG, epochs=1, warmup=0.0, schedule="constant", weight_decay=0.01, label_smoothing=0.0
    )
    data, model = OneBatch(), nn.Linear(2, 2)
    weight, bias = (p.detach().double().numpy().copy() for p in model.parameters())
    average = [weight.copy(), bias.copy()]
    velocity = [weight * 0, bias * 0]
    for x, y in data.train_batches(16, torch.Generator().manual_seed(config.seed)):
        inputs = x.double().numpy()
        scores = inputs @ weight.T + bias
        share = torch.softmax(torch.from_numpy(scores), 1).numpy()
        share[range(16), y.numpy()] -= 1.0
        gradients = [share.T @ inputs / 16 + 0.01 * weight, share.mean(0)]
        for i, (parameter, gradient) in enumerate(zip((weight, bias), gradients, strict=True)):
            velocity[i] = 0.9 * velocity[i] + gradient
            parameter -= 0.05 * (gradient + 0.9 * velocity[i])
            average[i] = 0.9 * average[i] + 0.1 * parameter
    train(model, config, data)
    for ours, expected in zip(model.parameters(), average, strict=True):
        assert torch.allclose(ours.double(), torch.from_numpy(expected), atol=1e-6)


def test_a_loss_of_ones_own() -> None:
    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return (model(inputs) - nn.functional.one_hot(targets, 2)).square().mean()

    result = train(nn.Linear(2, 2), dataclasses.replace(CONFIG, epochs=12), Points(), loss=loss)
    assert result.best_accuracy > 0.9
    assert result.history[-1].train_loss < 0.2


def test_a_diverging_training_is_stopped() -> None:
    config = dataclasses.replace(CONFIG, peak_lr=1e30, epochs=3)
    with pytest.raises(RekindleError, match="lower peak_lr"):
        train(with_dropout(), config, Points())


def test_resume_needs_a_path() -> None:
    with pytest.raises(UsageError, match="checkpoint_path"):
        train(with_dropout(), CONFIG, Points(), resume=True)


def test_another_model_or_config_is_not_resumed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    train(with_dropout(), CONFIG, Points(), checkpoint_path=path)
    with pytest.raises(UsageError, match="does not fit this model"):
        train(nn.Linear(2, 2), CONFIG, Points(), checkpoint_path=path, resume=True)
    other = dataclasses.replace(CONFIG, peak_lr=0.1)
    with pytest.raises(UsageError, match=r"peak_lr: 0\.05 there, 0\.1 now"):
        train(with_dropout(), other, Points(), checkpoint_path=path, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"patience": -1},
        {"peak_lr": 0.0},
        {"ema_decay": 1.0},
        {"weight_decay": -1.0},
        {"optimizer": "adam"},
        {"precision": "fp16"},
        {"schedule": "cosinus"},
        {"warmup": 1.0},
        {"version": 2},
    ],
)
def test_an_impossible_config_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(CONFIG, **change)
