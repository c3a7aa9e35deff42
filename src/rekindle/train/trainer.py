"""The trainer: one loop for every network and every data set.

`train` can stop after any epoch and go on from its checkpoint: the weights are then the same, bit
for bit, as without the break.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from rekindle._errors import RekindleError, UsageError
from rekindle.train.checkpoint import load_checkpoint, save_checkpoint
from rekindle.train.datasets import TrainingData
from rekindle.train.evaluation import measure
from rekindle.train.schedules import factor

State = dict[str, Any]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(model, inputs, targets) -> scalar; may call the model more than once (distillation)."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome, together with model, data and torch version.

    `ema_decay` > 0 keeps an exponential moving average of weights and buffers, which is then what
    is validated and returned. `patience` stops after that many epochs without a better validation
    accuracy; 0 never stops early. `precision="bf16"` runs the forward pass under autocast; weights
    and evaluation stay fp32. Weight decay spares biases and normalisation weights (1-d parameters).
    """

    version: int = 1
    epochs: int = 10
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    peak_lr: float = 0.1
    schedule: str = "cosine"
    warmup: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    patience: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.version != 1:
            raise UsageError(f"TrainConfig version {self.version}", hint="this Rekindle knows 1")
        if min(self.epochs, self.batch_size) < 1 or self.patience < 0:
            raise UsageError(
                f"epochs={self.epochs}, batch_size={self.batch_size}, patience={self.patience}",
                hint="epochs and batch_size are at least 1, patience at least 0",
            )
        if self.peak_lr <= 0 or not 0 <= self.ema_decay < 1 or self.weight_decay < 0:
            raise UsageError(
                f"peak_lr={self.peak_lr}, ema_decay={self.ema_decay}, "
                f"weight_decay={self.weight_decay}",
                hint="peak_lr > 0, 0 <= ema_decay < 1, weight_decay >= 0",
            )
        if self.optimizer not in ("sgd", "adamw") or self.precision not in ("fp32", "bf16"):
            raise UsageError(
                f"optimizer={self.optimizer!r}, precision={self.precision!r}",
                hint="optimizer is sgd or adamw, precision is fp32 or bf16",
            )
        factor(self.schedule, 0.0, warmup=self.warmup)


@dataclass(frozen=True)
class EpochRecord:
    """One line of the log. `learning_rate` is that of the epoch's last step."""

    epoch: int
    train_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class TrainResult:
    """Log of a training; the model itself now holds the best weights."""

    best_epoch: int
    best_accuracy: float
    stopped_early: bool
    history: tuple[EpochRecord, ...]


@dataclass
class _Run:
    """What changes while training, and therefore what a checkpoint holds."""

    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    average: State | None
    best: State
    best_epoch: int = 0
    best_accuracy: float = -1.0
    history: list[EpochRecord] = field(default_factory=list)


def train(
    model: nn.Module,
    config: TrainConfig,
    data: TrainingData,
    *,
    loss: Loss | None = None,
    checkpoint_path: Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainResult:
    """Train `model` in place and leave the weights with the best validation accuracy in it.

    After each epoch the state is written to `checkpoint_path`; with `resume` a training goes on
    from there (a missing file starts at the beginning); UsageError if the checkpoint is of another
    config or model. Default loss: cross-entropy with the config's label smoothing. RekindleError
    if the loss stops being finite.

    Two generators, both seeded from the config and kept in the checkpoint: data draws from its
    own, dropout and the like from torch's global one. Trains on the CPU. The same thread count
    and torch version are part of "the same, bit for bit".
    """
    loss = loss or _cross_entropy(config.label_smoothing)
    if resume and checkpoint_path is None:
        raise UsageError("resume without a checkpoint", hint="give checkpoint_path")
    torch.manual_seed(config.seed)
    run = _Run(
        optimizer=_optimizer(model, config),
        generator=torch.Generator().manual_seed(config.seed),
        average=_copy(model.state_dict()) if config.ema_decay else None,
        best=_copy(model.state_dict()),
    )
    if resume and checkpoint_path is not None and checkpoint_path.exists():
        _restore(run, model, load_checkpoint(checkpoint_path, _settings(config)))
    while len(run.history) < config.epochs and not _is_stale(run, config):
        record = _epoch(run, model, config, data, loss)
        if checkpoint_path is not None:
            save_checkpoint(checkpoint_path, _settings(config), _state(run, model))
        if on_epoch is not None:
            on_epoch(record)
    model.load_state_dict(run.best)
    model.eval()
    early = len(run.history) < config.epochs
    return TrainResult(run.best_epoch, run.best_accuracy, early, tuple(run.history))


def _epoch(
    run: _Run, model: nn.Module, config: TrainConfig, data: TrainingData, loss: Loss
) -> EpochRecord:
    started = time.perf_counter()
    number = len(run.history) + 1
    steps = data.steps(config.batch_size)
    total, rate = 0.0, 0.0
    model.train()
    for step, (inputs, targets) in enumerate(data.train_batches(config.batch_size, run.generator)):
        progress = (number - 1 + step / steps) / config.epochs
        rate = config.peak_lr * factor(config.schedule, progress, warmup=config.warmup)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            value = loss(model, inputs, targets)
        _step(run, model, config, value, rate)
        total += value.item()
    if not math.isfinite(total):
        raise RekindleError(
            f"the loss is {total} in epoch {number}", hint="lower peak_lr or lengthen the warm-up"
        )
    accuracy = _validate(run, model, data, config.batch_size)
    seconds = time.perf_counter() - started
    record = EpochRecord(number, total / steps, accuracy, rate, seconds)
    run.history.append(record)
    return record


def _step(run: _Run, model: nn.Module, config: TrainConfig, value: Tensor, rate: float) -> None:
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.zero_grad(set_to_none=True)
    value.backward()
    run.optimizer.step()
    if run.average is not None:
        _blend(run.average, model.state_dict(), config.ema_decay)


def _blend(average: State, current: State, decay: float) -> None:
    """Move the average towards `current` by 1 - decay; whole numbers are copied."""
    for name, value in current.items():
        if value.is_floating_point():
            average[name].lerp_(value, 1.0 - decay)
        else:
            average[name].copy_(value)


def _validate(run: _Run, model: nn.Module, data: TrainingData, batch_size: int) -> float:
    """Accuracy on the held-out part; keeps the weights when it is the best so far."""
    live = _copy(model.state_dict())
    if run.average is not None:
        model.load_state_dict(run.average)
    accuracy = measure(model, data.validation_batches(batch_size)).value
    if accuracy > run.best_accuracy:
        run.best, run.best_accuracy = _copy(model.state_dict()), accuracy
        run.best_epoch = len(run.history) + 1
    model.load_state_dict(live)
    return accuracy


def _cross_entropy(label_smoothing: float) -> Loss:
    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = model(inputs).float()
        return functional.cross_entropy(logits, targets, label_smoothing=label_smoothing)

    return loss


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.peak_lr, betas=(config.momentum, 0.999))
    nesterov = config.momentum > 0
    return torch.optim.SGD(groups, lr=config.peak_lr, momentum=config.momentum, nesterov=nesterov)


def _is_stale(run: _Run, config: TrainConfig) -> bool:
    return 0 < config.patience <= len(run.history) - run.best_epoch


def _copy(state: State) -> State:
    return {name: value.detach().clone() for name, value in state.items()}


def _settings(config: TrainConfig) -> State:
    return dataclasses.asdict(config)


def _state(run: _Run, model: nn.Module) -> State:
    return {
        "model": model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "average": run.average,
        "best": run.best,
        "best_epoch": run.best_epoch,
        "best_accuracy": run.best_accuracy,
        "history": [dataclasses.asdict(record) for record in run.history],
        "data_generator": run.generator.get_state(),
        "torch_generator": torch.get_rng_state(),
    }


def _restore(run: _Run, model: nn.Module, state: State) -> None:
    try:
        model.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"the checkpoint does not fit this model: {error}",
            hint="resume with the model it was written for",
        ) from error
    run.average, run.best = state["average"], state["best"]
    run.best_epoch, run.best_accuracy = state["best_epoch"], state["best_accuracy"]
    run.history = [EpochRecord(**record) for record in state["history"]]
    run.generator.set_state(state["data_generator"])
    torch.set_rng_state(state["torch_generator"])
