"""A picture to a model's input, as the `[preprocess]` table of its card says."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from PIL import Image

from rekindle import _config
from rekindle._errors import ImageError, InputError

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Tensor = np.ndarray[Any, np.dtype[np.float32]]
Size = tuple[int, int]
"""Height, width in pixels."""

_FILTERS = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
"""Pillow's filters are antialiased: shrinking averages over all that is shrunk."""


class Preparation(Protocol):
    """What `prepare` must know; a card's `[preprocess]` table is one."""

    @property
    def color(self) -> str:
        """`RGB` or `BGR`."""

    @property
    def resize(self) -> str:
        """`shortest`, `stretch` or `pad`."""

    @property
    def size(self) -> Size:
        """What the resize rule aims at."""

    @property
    def crop(self) -> Size:
        """What is cut out of the centre afterwards; `size` where nothing is."""

    @property
    def interpolation(self) -> str:
        """`area`, `bilinear` or `bicubic`."""

    @property
    def mean(self) -> tuple[float, ...]:
        """One number per channel, in the order of `color`."""

    @property
    def std(self) -> tuple[float, ...]:
        """One number per channel, in the order of `color`."""


def prepare(image: Pixels, preprocess: Preparation, *, layout: str = "NCHW") -> Tensor:
    """A model's input from an RGB picture (H, W, 3) uint8: float32 (1, 3, h, w), C-contiguous.

    value = (pixel/255 - mean)/std. With layout `NHWC` the result is (1, h, w, 3).

    shortest: scale, keeping proportions, until the picture just covers `size` (the longer side
    rounded down), then cut `crop` out of the centre: torchvision's Resize and CenterCrop.
    stretch: scale both sides to `size`. pad: scale, keeping proportions, until it just fits into
    `size`, centred on black. Raises InputError for another shape, dtype or rule, ImageError for
    a picture too long and thin to scale.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise InputError(
            f"a picture must be (H, W, 3) uint8; got {image.shape} {image.dtype}",
            hint="use rekindle.images.decode",
        )
    pixels = _center(_resized(image, preprocess), preprocess.crop)
    if _choice("color", preprocess.color, ("RGB", "BGR")) == "BGR":
        pixels = pixels[:, :, ::-1]
    values = pixels.astype(np.float32) / np.float32(255)
    values -= np.asarray(preprocess.mean, np.float32)
    values /= np.asarray(preprocess.std, np.float32)
    if _choice("layout", layout, ("NCHW", "NHWC")) == "NCHW":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[None])


def _choice(key: str, given: str, known: tuple[str, ...]) -> str:
    if given not in known:
        raise InputError(f"{key} = {given!r} is not known", hint=f"use {', '.join(known)}")
    return given


def _resized(image: Pixels, preprocess: Preparation) -> Pixels:
    rule = _choice("resize", preprocess.resize, ("shortest", "stretch", "pad"))
    target = preprocess.size
    if rule == "stretch":
        return _scaled(image, target, preprocess.interpolation)
    if rule == "shortest":
        return _scaled(image, _covering(image.shape, target), preprocess.interpolation)
    inner = _scaled(image, _fitting(image.shape, target), preprocess.interpolation)
    top, left = (target[0] - inner.shape[0]) // 2, (target[1] - inner.shape[1]) // 2
    padded = np.zeros((*target, 3), np.uint8)
    padded[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return padded


def _covering(shape: tuple[int, ...], target: Size) -> Size:
    """The smallest size with the picture's proportions that covers the target."""
    (height, width), (h, w) = shape[:2], target
    size = (h, h * width // height) if h * width >= w * height else (w * height // width, w)
    if size[0] * size[1] > _config.max_pixels():
        raise ImageError(
            f"a picture of {width}x{height} is too long and thin: scaled until its shorter side "
            f"fills the model's input it would be {size[1]}x{size[0]}",
            hint="cut out the part that matters",
        )
    return size


def _fitting(shape: tuple[int, ...], target: Size) -> Size:
    """The largest size with the picture's proportions that fits into the target."""
    (height, width), (h, w) = shape[:2], target
    if h * width <= w * height:
        return h, max(1, round(h * width / height))
    return max(1, round(w * height / width)), w


def _scaled(image: Pixels, size: Size, interpolation: str) -> Pixels:
    name = _choice("interpolation", interpolation, tuple(_FILTERS))
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), _FILTERS[name]))


def _center(image: Pixels, size: Size) -> Pixels:
    height, width = image.shape[:2]
    if size[0] > height or size[1] > width:
        raise InputError(
            f"crop = {size} is larger than what it is cut from, {(height, width)}",
            hint="crop must be at most size",
        )
    top, left = round((height - size[0]) / 2), round((width - size[1]) / 2)
    return image[top : top + size[0], left : left + size[1]]
