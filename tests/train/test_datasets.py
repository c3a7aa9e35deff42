"""Array data sets, and reading CIFAR-10's two files: small files of the same form, made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rekindle._errors import NotFoundError, UsageError  # noqa: E402
from rekindle.train.cifar10_files import MEAN, STD, load_cifar10, load_cifar10_tests  # noqa: E402
from rekindle.train.datasets import ImageData, ImageSet  # noqa: E402

pytestmark = pytest.mark.torch

COUNT, KNOWN = 60, np.array([0, 3, 24, 30, 49, 50])


@pytest.fixture
def folder(cifar10_folder: Callable[[int], Path]) -> Path:
    return cifar10_folder(COUNT)


def test_every_25th_image_is_held_out_in_both_versions(folder: Path) -> None:
    data = load_cifar10(folder)
    shades = data.validation.images[:, 0, 0, 0].tolist()
    assert shades == [24, 49, 202, 204]
    assert data.validation.labels.tolist() == [4, 9, 4, 9]
    trained = data.train.images[:, 1, 5, 7].tolist()
    assert trained == [i for i in range(COUNT) if i not in (24, 49)]
    assert data.train.labels.tolist() == [i % 10 for i in trained]


def test_twins_are_drawn_only_where_known_and_never_held_out(folder: Path) -> None:
    data = load_cifar10(folder)
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(20):
        for batch, labels in data.train_batches(29, generator):
            shades = (batch[:, 0, 0, 0] * STD[0] + MEAN[0]) * 255
            seen |= {(round(s), y) for s, y in zip(shades.tolist(), labels.tolist(), strict=True)}
    coded_shades = {(i, i % 10) for i in range(COUNT) if i not in (24, 49)}
    twins = {(200 + k, int(i) % 10) for k, i in enumerate(KNOWN) if i not in (24, 49)}
    assert seen == coded_shades | twins


def test_the_two_test_sets_stay_apart(folder: Path) -> None:
    first, second = load_cifar10_tests(folder)
    assert first.name == "CIFAR-10 test, JPEG q75, 4 images"
    assert second.name == "CIFAR-10 test, bit-exact, first 2 images"
    assert first.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert second.images[:, 0, 0, 0].tolist() == [200, 201]


@pytest.mark.parametrize("name", ["cifar10_jpeg.npz", "cifar10_lossless.npz"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(NotFoundError, match=name):
        load_cifar10(folder)


@pytest.mark.parametrize("content", [b"", b"random", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_refused(folder: Path, content: bytes) -> None:
    (folder / "cifar10_jpeg.npz").write_bytes(content)
    with pytest.raises(UsageError, match="not the expected archive"):
        load_cifar10(folder)


def test_another_archive_is_refused(folder: Path) -> None:
    np.savez(folder / "cifar10_lossless.npz", x=np.zeros(3))
    with pytest.raises(UsageError, match="not the expected archive"):
        load_cifar10_tests(folder)


def test_files_that_disagree_are_refused(folder: Path) -> None:
    path = folder / "cifar10_lossless.npz"
    content = dict(np.load(path))
    content["y_train"] = (content["y_train"] + 1) % 10
    np.savez(path, **content)
    with pytest.raises(UsageError, match="disagree about labels"):
        load_cifar10(folder)


def image_set(count: int, channels: int = 2) -> ImageSet:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, channels, 5, 4), dtype=torch.uint8, generator=generator)
    return ImageSet("made up", images, torch.arange(count), (0.1, 0.6), (0.5, 0.2))


def test_normalise_against_numpy() -> None:
    part = image_set(3)
    mean, std = np.array(part.mean).reshape(2, 1, 1), np.array(part.std).reshape(2, 1, 1)
    expected = (part.images.numpy() / 255 - mean) / std
    np.testing.assert_allclose(part.normalise(part.images).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_an_epoch_visits_images_at_most_once_and_leaves_the_rest() -> None:
    data = ImageData(image_set(23), image_set(5))
    labels = [y for _, y in data.train_batches(4, torch.Generator().manual_seed(1))]
    visited = torch.cat(labels).tolist()
    assert data.steps(4) == len(labels) == 5
    assert len(set(visited)) == 20
    assert visited != sorted(visited)
    held_out = torch.cat([y for _, y in data.validation_batches(2)])
    assert held_out.tolist() == [0, 1, 2, 3, 4]


def test_a_batch_larger_than_the_set_is_refused() -> None:
    with pytest.raises(UsageError, match="smaller batch"):
        ImageData(image_set(3), image_set(3)).steps(4)


def test_parts_that_do_not_fit_are_refused() -> None:
    images, labels = torch.zeros(3, 2, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)
    mean, std = (0.0, 0.0), (1.0, 1.0)
    for wrong in (
        (images.float(), labels, mean, std),
        (images[0], labels, mean, std),
        (images, labels[:2], mean, std),
        (images, labels.int(), mean, std),
        (images, labels, mean[:1], std),
        (images, labels, mean, (1.0, 0.0)),
    ):
        with pytest.raises(UsageError, match="made up"):
            ImageSet("made up", *wrong)
    with pytest.raises(UsageError, match="belong together"):
        ImageData(image_set(3), image_set(3), twin=labels)
    with pytest.raises(UsageError, match="one position"):
        ImageData(image_set(3), image_set(3), twin=labels[:2], twins=images)
