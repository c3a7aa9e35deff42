"""Augmentation of whole batches, vectorised: no loop over images.

Every function takes images (N, C, H, W) and a `torch.Generator`, so that a resumed training draws
the same numbers. Crop and flip only move pixels: they work on uint8 and on float alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rekindle._errors import UsageError


def crop_and_flip(
    images: Tensor, generator: torch.Generator, *, pad: int = 4, flip: bool = True
) -> Tensor:
    """Shift each image by up to `pad` pixels both ways, mirrored at the edges; flip half of them.

    The usual "pad and random crop" (He et al. 2016, section 4.2), with reflection for zeros, as
    one gather. Returns the same shape and dtype.
    """
    n, channels, height, width = images.shape
    if not 0 <= pad < min(height, width):
        raise UsageError(f"pad={pad} for {height}x{width} images", hint="0 <= pad < image side")
    shift = torch.randint(-pad, pad + 1, (n, 2), generator=generator)
    rows = _mirrored(shift[:, :1] + torch.arange(height), height)
    columns = _mirrored(shift[:, 1:] + torch.arange(width), width)
    if flip:
        flipped = torch.randint(0, 2, (n, 1), generator=generator).bool()
        columns = torch.where(flipped, columns.flip(1), columns)
    at = (rows[:, :, None] * width + columns[:, None, :]).reshape(n, 1, height * width)
    flat = images.reshape(n, channels, height * width)
    return flat.gather(2, at.expand(n, channels, -1)).reshape(images.shape)


def _mirrored(positions: Tensor, size: int) -> Tensor:
    inside = positions.abs()
    return size - 1 - (size - 1 - inside).abs()


def cutout(
    images: Tensor, generator: torch.Generator, *, size: int = 8, probability: float = 0.5
) -> Tensor:
    """Set a `size` x `size` square, clipped at the border, to zero in a share of the images.

    DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout",
    2017. For float images that are already normalised, zero is the data set's mean colour.
    """
    n, _, height, width = images.shape
    top = torch.randint(0, height, (n, 1), generator=generator) - size // 2
    left = torch.randint(0, width, (n, 1), generator=generator) - size // 2
    chosen = torch.rand((n, 1), generator=generator) < probability
    rows, columns = torch.arange(height), torch.arange(width)
    in_rows = (rows >= top) & (rows < top + size) & chosen
    in_columns = (columns >= left) & (columns < left + size)
    return images.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0.0)


def jitter(images: Tensor, generator: torch.Generator, *, strength: float = 0.1) -> Tensor:
    """Scale each image by 1 +- strength and shift it by +- strength: contrast and brightness.

    For float images that are already normalised, the unit of the shift is one standard deviation.
    """
    n = images.shape[0]
    draw = (torch.rand((2, n, 1, 1, 1), generator=generator) * 2.0 - 1.0) * strength
    return images * (1.0 + draw[0]) + draw[1]
