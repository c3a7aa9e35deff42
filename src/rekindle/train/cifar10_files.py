"""CIFAR-10 from the files `cifar10_jpeg.npz` and `cifar10_lossless.npz`.

Two versions are kept apart: all images as JPEG of quality 75, and the bit-exact pixels of 7,728
training and 932 test images. Figures from the two test sets are never mixed. Source: A. Krizhevsky,
"Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import io
import itertools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rekindle._errors import NotFoundError, UsageError
from rekindle.train.datasets import Augment, ImageData, ImageSet

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
"""Mean and standard deviation of the training pixels / 255, for red, green and blue."""

VALIDATION_EVERY = 25
"""Every 25th training image (positions 24, 49, …) is held out: 2,000 of 50,000. The official
order is random, so that this is a random sample, and it is the same one in both versions."""

Arrays = dict[str, np.ndarray[Any, Any]]


def load_cifar10(
    folder: Path, *, move: Augment | None = None, distort: Augment | None = None
) -> ImageData:
    """CIFAR-10's training images: JPEG, with the bit-exact version as twin where it is known.

    The held-out part is every 25th JPEG image, then the known bit-exact versions of those; neither
    version of a held-out image is trained on. NotFoundError when a file is missing, UsageError
    when it is not the file it should be.
    """
    jpeg = _arrays(folder / "cifar10_jpeg.npz", "train_blob", "train_offsets", "y_train")
    exact = _arrays(folder / "cifar10_lossless.npz", "x_train", "y_train", "index_train")
    images, labels = _decoded(jpeg["train_blob"], jpeg["train_offsets"]), _int64(jpeg["y_train"])
    twins, position = _nchw(exact["x_train"]), _int64(exact["index_train"])
    if not torch.equal(labels[position], _int64(exact["y_train"])):
        raise UsageError(
            f"the two CIFAR-10 files in {folder} disagree about labels",
            hint="give both files from the same source",
        )
    twin = torch.full((len(labels),), -1, dtype=torch.int64)
    twin[position] = torch.arange(len(position))
    held = torch.arange(len(labels)) % VALIDATION_EVERY == VALIDATION_EVERY - 1
    held_exact = held[position]
    validation = _named(
        "CIFAR-10 train, every 25th image, JPEG q75 and bit-exact",
        torch.cat([images[held], twins[held_exact]]),
        torch.cat([labels[held], labels[position[held_exact]]]),
    )
    train = _named("CIFAR-10 train, JPEG q75", images[~held], labels[~held])
    return ImageData(train, validation, twin[~held], twins, move=move, distort=distort)


def load_cifar10_tests(folder: Path) -> tuple[ImageSet, ImageSet]:
    """The two test sets, apart: 10,000 JPEG images, and the first 932 bit-exact ones.

    Errors as for `load_cifar10`.
    """
    jpeg = _arrays(folder / "cifar10_jpeg.npz", "test_blob", "test_offsets", "y_test")
    exact = _arrays(folder / "cifar10_lossless.npz", "x_test", "y_test")
    coded = _decoded(jpeg["test_blob"], jpeg["test_offsets"])
    return (
        _named(f"CIFAR-10 test, JPEG q75, {len(coded):,} images", coded, _int64(jpeg["y_test"])),
        _named(
            f"CIFAR-10 test, bit-exact, first {len(exact['x_test']):,} images",
            _nchw(exact["x_test"]),
            _int64(exact["y_test"]),
        ),
    )


def _named(name: str, images: Tensor, labels: Tensor) -> ImageSet:
    return ImageSet(name, images, labels, MEAN, STD)


def _int64(values: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))


def _nchw(images: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _arrays(path: Path, *names: str) -> Arrays:
    if not path.is_file():
        raise NotFoundError(
            f"{path} does not exist",
            hint="give the folder that holds cifar10_jpeg.npz and cifar10_lossless.npz",
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (KeyError, ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is not the expected archive: {error}") from error


def _decoded(blob: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> Tensor:
    coded = blob.tobytes()
    images = np.empty((len(offsets) - 1, 32, 32, 3), np.uint8)
    for i, (start, end) in enumerate(itertools.pairwise(offsets)):
        with Image.open(io.BytesIO(coded[start:end])) as picture:
            images[i] = np.asarray(picture.convert("RGB"))
    return _nchw(images)
