"""Small files in the form of the two CIFAR-10 archives, made of flat colours."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

KNOWN = np.array([0, 3, 24, 30, 49, 50])
"""Positions of the training images whose bit-exact version is in the made-up archive."""


def _coded(shades: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = []
    for shade in shades:
        stream = io.BytesIO()
        Image.new("RGB", (32, 32), (int(shade),) * 3).save(stream, "JPEG", quality=75)
        parts.append(stream.getvalue())
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)])


@pytest.fixture
def cifar10_folder(tmp_path: Path) -> Callable[[int], Path]:
    """Makes the archives with `count` training images.

    Image i has the shade i % 200 in its JPEG version and the label i % 10; the k-th bit-exact
    image has the shade 200 + k.
    """

    def make(count: int) -> Path:
        numbers = np.arange(count)
        train, offsets = _coded(numbers % 200)
        test, test_offsets = _coded(numbers[:4])
        exact = np.empty((len(KNOWN), 32, 32, 3), np.uint8)
        exact[:] = (200 + np.arange(len(KNOWN)))[:, None, None, None]
        labels = (numbers % 10).astype(np.uint8)
        jpeg = {"train_blob": train, "train_offsets": offsets, "y_train": labels}
        jpeg |= {"test_blob": test, "test_offsets": test_offsets, "y_test": labels[:4]}
        known = {"x_train": exact, "y_train": labels[KNOWN], "index_train": KNOWN}
        known |= {"x_test": exact[:2], "y_test": labels[:2]}
        np.savez(tmp_path / "cifar10_jpeg.npz", **jpeg)
        np.savez(tmp_path / "cifar10_lossless.npz", **known)
        return tmp_path

    return make
