"""Preparation against a resampler written from the definition, and against plain arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from rekindle._errors import ImageError, InputError
from rekindle.images import prepare


@dataclass(frozen=True)
class Rules:
    color: str = "RGB"
    resize: str = "stretch"
    size: tuple[int, int] = (8, 8)
    crop: tuple[int, int] = (8, 8)
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


RNG = np.random.default_rng(11)


def picture(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def pixels(prepared: np.ndarray) -> np.ndarray:
    """(1, 3, H, W) with mean 0 and std 1, back to (H, W, 3) in 0..255."""
    return prepared[0].transpose(1, 2, 0) * 255


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys (1981), a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


KERNELS: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {
    "area": (0.5, lambda x: ((x > -0.5) & (x <= 0.5)).astype(float)),
    "bilinear": (1, lambda x: np.clip(1 - np.abs(x), 0, None)),
    "bicubic": (2, cubic),
}


def weights(old: int, new: int, kind: str) -> np.ndarray:
    """(new, old): the filter, stretched over what one new pixel covers, normalised."""
    support, kernel = KERNELS[kind]
    scale = old / new
    stretch = max(scale, 1.0)
    centers = (np.arange(new) + 0.5) * scale
    table = np.zeros((new, old))
    for row, center in enumerate(centers):
        first = max(int(center - support * stretch + 0.5), 0)
        last = min(int(center + support * stretch + 0.5), old)
        columns = np.arange(first, last)
        table[row, first:last] = kernel((columns + 0.5 - center) / stretch)
    return table / table.sum(1, keepdims=True)


def resampled(image: np.ndarray, height: int, width: int, kind: str) -> np.ndarray:
    across = np.einsum("vw,hwc->hvc", weights(image.shape[1], width, kind), image.astype(float))
    across = np.clip(np.floor(across + 0.5), 0, 255)
    down = np.einsum("uh,hvc->uvc", weights(image.shape[0], height, kind), across)
    return np.clip(np.floor(down + 0.5), 0, 255)


@pytest.mark.parametrize("kind", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(8, 8), (13, 127), (127, 13), (3, 2), (64, 48), (5, 300)])
def test_stretch_matches_the_definition(kind: str, shape: tuple[int, int]) -> None:
    image = picture(*shape)
    prepared = prepare(image, Rules(interpolation=kind))
    assert prepared.shape == (1, 3, 8, 8)
    assert prepared.dtype == np.float32
    assert prepared.flags["C_CONTIGUOUS"]
    # Pillow rounds its weights to 22 bits, so that a tie may fall to the other side.
    assert np.abs(pixels(prepared) - resampled(image, 8, 8, kind)).max() <= 1.001


def test_shrinking_averages_over_everything() -> None:
    checkers = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    image = np.repeat(checkers[:, :, None].astype(np.uint8), 3, 2)
    for kind in KERNELS:
        shrunk = pixels(prepare(image, Rules(interpolation=kind)))
        assert np.abs(shrunk - 127.5).max() < 3


@pytest.mark.parametrize(
    ("shape", "covering"),
    [((48, 64), (30, 40)), ((64, 48), (40, 30)), ((37, 100), (30, 81)), ((30, 30), (30, 30))],
)
def test_shortest_scales_and_cuts_the_centre(
    shape: tuple[int, int], covering: tuple[int, int]
) -> None:
    image = picture(*shape)
    prepared = prepare(image, Rules(resize="shortest", size=(30, 30), crop=(24, 24)))
    whole = np.asarray(
        Image.fromarray(image).resize((covering[1], covering[0]), Image.Resampling.BILINEAR)
    )
    top, left = round((covering[0] - 24) / 2), round((covering[1] - 24) / 2)
    np.testing.assert_allclose(pixels(prepared), whole[top : top + 24, left : left + 24], atol=1e-3)


def test_shortest_with_a_size_that_is_not_square() -> None:
    image = picture(50, 50)
    prepared = prepare(image, Rules(resize="shortest", size=(10, 20), crop=(10, 20)))
    whole = np.asarray(Image.fromarray(image).resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(pixels(prepared), whole[5:15], atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "box"),
    [((48, 64), (4, 0, 24, 32)), ((64, 48), (0, 4, 32, 24)), ((1000, 2), (0, 15, 32, 1))],
)
def test_pad_centres_the_picture_on_black(
    shape: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    image = np.maximum(picture(*shape), 1)
    prepared = pixels(prepare(image, Rules(resize="pad", size=(32, 32), crop=(32, 32))))
    top, left, height, width = box
    inner = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(prepared[top : top + height, left : left + width], inner, atol=1e-3)
    prepared[top : top + height, left : left + width] = 0
    assert prepared.max() == 0


def test_range_rule_and_colour_order() -> None:
    image = picture(8, 8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    prepared = prepare(image, Rules(mean=mean, std=std))
    bgr = prepare(image, Rules(color="BGR", mean=mean, std=std))
    for channel in range(3):
        plain = (image[:, :, channel] / 255 - mean[channel]) / std[channel]
        np.testing.assert_allclose(prepared[0, channel], plain, atol=2e-6)
        turned = (image[:, :, 2 - channel] / 255 - mean[channel]) / std[channel]
        np.testing.assert_allclose(bgr[0, channel], turned, atol=2e-6)


def test_channels_last() -> None:
    image = picture(12, 9)
    first, last = prepare(image, Rules()), prepare(image, Rules(), layout="NHWC")
    assert last.shape == (1, 8, 8, 3)
    assert last.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), first)


def test_the_picture_itself_is_left_alone() -> None:
    image = picture(8, 8)
    before = image.copy()
    prepare(image, Rules(mean=(0.5, 0.5, 0.5)))
    np.testing.assert_array_equal(image, before)


def test_a_thread_of_a_picture_is_refused_before_it_is_scaled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REKINDLE_MAX_PIXELS", "100000")
    with pytest.raises(ImageError, match=r"3x2000 is too long and thin.* 30x20000"):
        prepare(picture(2000, 3), Rules(resize="shortest", size=(30, 30)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resize": "squeeze"}, "resize = 'squeeze' is not known .*shortest, stretch, pad"),
        ({"interpolation": "lanczos"}, "interpolation = 'lanczos'"),
        ({"color": "HSV"}, "color = 'HSV'"),
        ({"crop": (9, 9)}, r"crop = \(9, 9\) is larger"),
    ],
)
def test_unknown_rules(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(picture(8, 8), replace(Rules(), **change))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)],
)
def test_only_rgb_bytes_are_taken(wrong: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"must be \(H, W, 3\) uint8"):
        prepare(wrong, Rules())


def test_unknown_layout() -> None:
    with pytest.raises(InputError, match="layout = 'CHWN'"):
        prepare(picture(8, 8), Rules(), layout="CHWN")
