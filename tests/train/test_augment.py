"""Augmentation against a loop over images in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rekindle._errors import UsageError  # noqa: E402
from rekindle.train.augment import crop_and_flip, cutout, jitter, recolour, zoom  # noqa: E402

pytestmark = pytest.mark.torch


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every_view(image: np.ndarray, pad: int) -> set[bytes]:
    """All crops of the mirrored-edge padded image (C, H, W), and their mirror images."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    views = set()
    for top in range(2 * pad + 1):
        for left in range(2 * pad + 1):
            crop = padded[:, top : top + height, left : left + width]
            views |= {crop.tobytes(), crop[:, :, ::-1].tobytes()}
    return views


@pytest.mark.parametrize("shape", [(40, 3, 7, 5), (40, 1, 4, 9)])
def test_each_result_is_a_shifted_and_perhaps_mirrored_input(shape: tuple[int, ...]) -> None:
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(1))
    moved = crop_and_flip(images, generator(2), pad=2)
    assert moved.shape == images.shape
    assert moved.dtype == torch.uint8
    for image, result in zip(images.numpy(), moved.numpy(), strict=True):
        assert result.tobytes() in every_view(image, 2)


def test_all_shifts_and_both_sides_occur() -> None:
    image = torch.arange(36, dtype=torch.uint8).reshape(1, 1, 6, 6)
    moved = crop_and_flip(image.expand(2000, -1, -1, -1), generator(), pad=1)
    assert {m.tobytes() for m in moved.numpy()} == every_view(image[0].numpy(), 1)


def test_without_pad_and_flip_nothing_moves() -> None:
    images = torch.rand(5, 3, 8, 8, generator=generator())
    assert torch.equal(crop_and_flip(images, generator(), pad=0, flip=False), images)


def test_flip_alone_mirrors_about_half() -> None:
    images = torch.rand(1, 2, 4, 4, generator=generator()).expand(400, -1, -1, -1)
    moved = crop_and_flip(images, generator(3), pad=0)
    mirrored = (moved == images.flip(3)).flatten(1).all(1)
    assert torch.equal(moved[~mirrored], images[~mirrored])
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("pad", [-1, 4])
def test_a_pad_that_does_not_fit_is_refused(pad: int) -> None:
    with pytest.raises(UsageError, match="pad"):
        crop_and_flip(torch.zeros(1, 3, 4, 8), generator(), pad=pad)


def test_cutout_makes_one_square_hole_in_its_share_of_images() -> None:
    images = torch.ones(500, 3, 12, 10)
    holed = cutout(images, generator(4), size=4, probability=0.3).numpy()
    touched = 0
    for image in holed:
        hole = image == 0.0
        assert (hole == hole[0]).all()
        if hole.any():
            touched += 1
            rows, columns = np.flatnonzero(hole[0].any(1)), np.flatnonzero(hole[0].any(0))
            assert hole[0][np.ix_(rows, columns)].all()
            assert len(rows) == np.ptp(rows) + 1 <= 4
            assert len(columns) == np.ptp(columns) + 1 <= 4
            assert len(rows) == 4 or rows[0] == 0 or rows[-1] == 11
            assert len(columns) == 4 or columns[0] == 0 or columns[-1] == 9
    assert 110 < touched < 190
    assert (images == 1.0).all()


def test_jitter_is_one_affine_map_for_each_image() -> None:
    images = torch.randn(50, 3, 6, 6, generator=generator(5))
    changed = jitter(images, generator(6), strength=0.2)
    factors = []
    for before, after in zip(images.flatten(1).numpy(), changed.flatten(1).numpy(), strict=True):
        slope, offset = np.polyfit(before, after, 1)
        np.testing.assert_allclose(slope * before + offset, after, atol=1e-5)
        assert 0.8 <= slope <= 1.2
        assert -0.2 <= offset <= 0.2
        factors.append(slope)
    assert np.ptp(factors) > 0.2


def test_zoom_is_a_scaling_about_the_centre() -> None:
    # A linear ramp scaled about the centre is a ramp of another slope, zero in the middle.
    ramp = torch.linspace(-1.0, 1.0, 33)
    images = torch.stack([ramp.expand(33, 33), ramp[:, None].expand(33, 33)]).repeat(20, 1, 1, 1)
    zoomed = zoom(images, generator(3), strength=0.4)
    slopes = []
    for image in zoomed.numpy():
        inner = image[:, 14:19, 14:19]
        across, down = np.polyfit(ramp[14:19], inner[0].T, 1), np.polyfit(ramp[14:19], inner[1], 1)
        np.testing.assert_allclose(across[1], 0.0, atol=1e-5)
        np.testing.assert_allclose(down[1], 0.0, atol=1e-5)
        slopes.append((across[0][0], down[0][0]))
        assert np.exp(-0.4 * 4 / 3) <= slopes[-1][0] <= np.exp(0.4 * 4 / 3)
    widths, heights = np.array(slopes).T
    assert np.ptp(np.log(widths)) > 0.3
    assert 0.01 < np.abs(np.log(widths / heights)).max() <= 2 / 3 * 0.4 + 1e-5


def test_recolour_keeps_grey_and_turns_the_rest_about_it() -> None:
    images = torch.randn(60, 3, 4, 4, generator=generator(1))
    changed = recolour(images, generator(2), hue_radians=1.0, saturation=0.5, probability=0.5)
    torch.testing.assert_close(changed.mean(1), images.mean(1))

    def chroma(x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x - x.mean(1, keepdims=True), axis=1).reshape(len(x), -1)

    ratio = chroma(changed.numpy()) / chroma(images.numpy())
    np.testing.assert_allclose(ratio, ratio[:, :1].repeat(16, 1), rtol=1e-3)
    assert 0.5 - 1e-4 <= ratio.min() < 0.8
    assert 1.2 < ratio.max() <= 1.5 + 1e-4
    same = np.array([torch.allclose(a, b, atol=1e-6) for a, b in zip(changed, images, strict=True)])
    assert 0.3 < same.mean() < 0.7
    grey = torch.full((2, 3, 4, 4), 0.7)
    torch.testing.assert_close(recolour(grey, generator(3), probability=1.0), grey)


def test_a_third_of_a_turn_exchanges_the_channels() -> None:
    images = torch.randn(1, 3, 2, 2, generator=generator(4))
    third = 2 * np.pi / 3
    # With one draw d in [0, 1) the angle is (2 d - 1) * hue: solve for a third of a turn.
    draw = float(torch.rand((3, 1), generator=generator(9))[0])
    hue = third / (2 * draw - 1)
    turned = recolour(images, generator(9), hue_radians=hue, saturation=0.0, probability=1.0)
    torch.testing.assert_close(turned, images[:, [2, 0, 1]], atol=1e-5, rtol=1e-4)


def test_the_generator_alone_decides() -> None:
    images = torch.rand(9, 3, 8, 8, generator=generator())
    for change in (crop_and_flip, cutout, jitter, zoom, recolour):
        torch.manual_seed(1)
        first = change(images, generator(7))
        torch.manual_seed(2)
        assert torch.equal(first, change(images, generator(7)))
        assert not torch.equal(first, change(images, generator(8)))
