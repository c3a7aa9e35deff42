"""Augmentation of whole batches, vectorised: no loop over images.

Every function takes images (N, C, H, W) and a `torch.Generator`, so that a resumed training draws
the same numbers. Crop and flip only move pixels: they work on uint8 and on float alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

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


def zoom(images: Tensor, generator: torch.Generator, *, strength: float = 0.3) -> Tensor:
    """Scale each image about its centre by exp(+-strength), each axis a little differently.

    Objects in photographs fill more or less of the picture than in the data set, and are wider or
    narrower. Float images; bilinear, mirrored at the edges. Returns the same shape.
    """
    n = images.shape[0]
    draw = (torch.rand((n, 2), generator=generator) * 2.0 - 1.0) * strength
    both, stretch = draw[:, 0], draw[:, 1] / 3.0
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = torch.exp(both + stretch), torch.exp(both - stretch)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def recolour(
    images: Tensor,
    generator: torch.Generator,
    *,
    hue_radians: float = 0.8,
    saturation: float = 0.6,
    probability: float = 0.5,
) -> Tensor:
    """Turn the hue and scale the saturation of a share of RGB float images (N, 3, H, W).

    A rotation about the grey axis and a scaling away from it, as one 3x3 matrix per image
    (Haeberli, "Matrix Operations for Image Processing", 1993): a bird stays one in any colour.
    """
    n = images.shape[0]
    draw = torch.rand((3, n), generator=generator)
    chosen = draw[2] < probability
    angle = (draw[0] * 2.0 - 1.0) * hue_radians * chosen
    scale = 1.0 + (draw[1] * 2.0 - 1.0) * saturation * chosen
    grey = torch.full((3, 3), 1.0 / 3.0)
    # Rodrigues' rotation about (1, 1, 1) / sqrt(3), its part across the axis scaled.
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3.0)
    across = torch.eye(3) - grey
    turned = torch.cos(angle)[:, None, None] * across + torch.sin(angle)[:, None, None] * cross
    matrix = grey + scale[:, None, None] * turned
    return torch.einsum("nij,njhw->nihw", matrix, images).contiguous(
        memory_format=torch.channels_last
    )
