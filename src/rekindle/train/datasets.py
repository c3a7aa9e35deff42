"""Data sets as arrays in memory, and what the trainer asks of any data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rekindle._errors import UsageError

Batch = tuple[Tensor, Tensor]
Augment = Callable[[Tensor, torch.Generator], Tensor]


class TrainingData(Protocol):
    """What the trainer needs of data; anything with these three methods will do."""

    def steps(self, batch_size: int) -> int:
        """Batches in one epoch."""

    def train_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """One epoch, shuffled and augmented with numbers from `generator` only."""

    def validation_batches(self, batch_size: int) -> Iterator[Batch]:
        """The held-out part, in a fixed order, not augmented."""


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, H, W) uint8, labels (N,) int64, and how to normalise the images.

    `name` says which set it is; reports repeat it. `mean` and `std` hold one value for each
    channel, of pixel / 255. UsageError when the parts do not fit together.
    """

    name: str
    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.uint8:
            raise UsageError(
                f"{self.name}: images are {self.images.dtype} {tuple(self.images.shape)}",
                hint="give uint8 of shape (N, C, H, W)",
            )
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            raise UsageError(
                f"{self.name}: {self.images.shape[0]} images, labels are {self.labels.dtype} "
                f"{tuple(self.labels.shape)}",
                hint="give one int64 label for each image",
            )
        channels = self.images.shape[1]
        if not len(self.mean) == len(self.std) == channels or min(self.std) <= 0:
            raise UsageError(
                f"{self.name}: {channels} channels, mean {self.mean}, std {self.std}",
                hint="give one mean and one positive std for each channel",
            )

    def __len__(self) -> int:
        return len(self.images)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) -> float32 (pixel / 255 - mean) / std, channels last in memory."""
        mean = torch.tensor(self.mean).view(1, -1, 1, 1)
        std = torch.tensor(self.std).view(1, -1, 1, 1)
        scaled = (images.float() / 255.0 - mean) / std
        return scaled.contiguous(memory_format=torch.channels_last)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Normalised images and labels, all of them, in order."""
        for start in range(0, len(self), batch_size):
            part = slice(start, start + batch_size)
            yield self.normalise(self.images[part]), self.labels[part]


@dataclass(frozen=True)
class ImageData:
    """Training images with a held-out part, for the trainer.

    `twin[i]` is the position in `twins` of another version of training image i, or -1; where
    there is one it is taken with `twin_probability` at each visit. `move` runs on uint8 images,
    `distort` on normalised ones. The last, incomplete batch of an epoch is left out: the order is
    drawn anew each time, so that no image is left out for good.
    """

    train: ImageSet
    validation: ImageSet
    twin: Tensor | None = None
    twins: Tensor | None = None
    twin_probability: float = 0.5
    move: Augment | None = None
    distort: Augment | None = None

    def __post_init__(self) -> None:
        if (self.twin is None) != (self.twins is None):
            raise UsageError("twin and twins belong together", hint="give both or neither")
        if self.twin is not None and self.twin.shape != self.train.labels.shape:
            raise UsageError(
                f"twin has shape {tuple(self.twin.shape)} for {len(self.train)} training images",
                hint="give one position, or -1, for each training image",
            )

    def steps(self, batch_size: int) -> int:
        """Whole batches in one epoch; UsageError when there is none."""
        count = len(self.train) // batch_size
        if not count:
            raise UsageError(
                f"batch size {batch_size} with {len(self.train)} training images",
                hint="take a smaller batch",
            )
        return count

    def train_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """One epoch in a new order; `generator` decides order, versions and augmentation."""
        order = torch.randperm(len(self.train), generator=generator)
        for step in range(self.steps(batch_size)):
            picked = order[step * batch_size : (step + 1) * batch_size]
            images = self._versions(picked, generator)
            if self.move is not None:
                images = self.move(images, generator)
            batch = self.train.normalise(images)
            if self.distort is not None:
                batch = self.distort(batch, generator)
            yield batch, self.train.labels[picked]

    def validation_batches(self, batch_size: int) -> Iterator[Batch]:
        """The held-out images in order."""
        return self.validation.batches(batch_size)

    def _versions(self, picked: Tensor, generator: torch.Generator) -> Tensor:
        images = self.train.images[picked]
        if self.twin is None or self.twins is None:
            return images
        at = self.twin[picked]
        use = torch.rand(len(picked), generator=generator) < self.twin_probability
        use &= at >= 0
        images[use] = self.twins[at[use]]
        return images
