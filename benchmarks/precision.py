"""Accuracy, bytes and time of every storage type, on real pictures: results/precision.json.

    REKINDLE_TEST_DATA=folder python benchmarks/precision.py

The bundled CIFAR-10 network sees the bit-exact test images; the MobileNets see random crops of the
photographs. Everything is compared with precision="fp32" of the same engine on the same device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from rekindle import hub
from rekindle._config import read
from rekindle.images.decode import decode
from rekindle.images.prepare import prepare
from rekindle.runtime import Session, open_session
from rekindle.runtime.fidelity import fidelity

PRECISIONS = ("fp32", "fp16", "bf16w", "int8w", "int4w")
MOBILENETS = (
    "mobilenet_v1_0.25_128_f32", "mobilenet_v1_0.5_160_f32", "mobilenet_v1_0.75_192_f32",
    "mobilenet_v2_1.0_224_f32",
)  # fmt: skip
_CENTRE = np.float32(128)
BATCH, WARM = 4, 3
Array = np.ndarray[Any, np.dtype[Any]]


def crops(folder: Path, side: int, each: int) -> Array:
    """(count, 3, side, side): squares of 60 to 100 % of every photograph, prepared."""
    rng, found = np.random.default_rng(7), []
    plain = _Stretched(side)
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".png", ".jpg")):
        pixels = decode(path)
        for _ in range(each):
            size = int(min(pixels.shape[:2]) * rng.uniform(0.6, 1.0))
            top, left = (int(rng.integers(0, n - size + 1)) for n in pixels.shape[:2])
            found.append(prepare(pixels[top : top + size, left : left + size], plain))
    return np.concatenate(found)


class _Stretched:
    """(pixel - 128) / 128 of a square picture."""

    def __init__(self, side: int) -> None:
        self.color, self.resize, self.interpolation = "RGB", "stretch", "area"
        self.size = self.crop = (side, side)
        self.mean = self.std = (float(_CENTRE / 255),) * 3


def cifar(data: Path, count: int) -> tuple[Path, Array]:
    resolved = hub.resolve("cifar10-resnet")
    assert resolved.card is not None
    with np.load(data / "cifar10_lossless.npz") as arrays:
        images = arrays["x_test"][:count]
    made = [prepare(image, resolved.card.preprocess) for image in images]
    return resolved.path, np.concatenate(made)


def cases(data: Path, count: int, each: int) -> Iterator[tuple[str, Path, Array, str]]:
    path, images = cifar(data, count)
    yield "cifar10-resnet", path, images, "CIFAR-10 test images, bit-exact"
    for name in MOBILENETS:
        side = int(name.split("_")[3])
        path = data / "onnx" / f"{name}.onnx"
        yield name, path, crops(data / "photos", side, each), "crops of photographs"


def measured(path: Path, images: Array, repeats: int) -> dict[str, dict[str, Any]]:
    """Facts by precision."""
    outputs: dict[str, Array] = {}
    for precision in PRECISIONS:
        with open_session(path, provider="opencl", precision=precision, strict=True) as session:
            outputs[precision] = scores(session, images)
    facts = timed(path, images[:1], repeats)
    for precision, own in facts.items():
        found = fidelity(outputs[precision], outputs["fp32"])
        own["snr_db"] = found.snr_db if np.isfinite(found.snr_db) else None
        own |= {"agreement": found.agreement, "images": len(images)}
    return facts


def scores(session: Session, images: Array) -> Array:
    name = session.inputs[0].name
    parts = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    return np.concatenate([next(iter(session.run({name: part}).values())) for part in parts])


def timed(path: Path, image: Array, repeats: int) -> dict[str, dict[str, Any]]:
    """One image at a time, one run of each precision in turn; what each session holds then."""
    with ExitStack() as stack:
        sessions = {
            precision: stack.enter_context(
                open_session(path, provider="opencl", precision=precision)
            )
            for precision in PRECISIONS
        }
        spent: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
        for turn in range(repeats + WARM):
            for precision, session in sessions.items():
                start = time.perf_counter()
                session.run({session.inputs[0].name: image})
                if turn >= WARM:
                    spent[precision].append(time.perf_counter() - start)
        return {
            precision: {
                "ms": statistics.median(spent[precision]) * 1e3,
                "ratio": statistics.median(
                    own / whole for own, whole in zip(spent[precision], spent["fp32"], strict=True)
                ),
                "device_bytes": session.device_bytes,
            }
            for precision, session in sessions.items()
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=932, help="of CIFAR-10")
    parser.add_argument("--crops", type=int, default=36, help="of each photograph")
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    folder = read("REKINDLE_TEST_DATA")
    if not folder:
        parser.error("REKINDLE_TEST_DATA names no folder")
    models = {}
    for name, path, images, what in cases(Path(folder), chosen.images, chosen.crops):
        models[name] = {"inputs": what, "precisions": measured(path, images, chosen.repeats)}
        for precision, facts in models[name]["precisions"].items():
            print(name, precision, facts, flush=True)
    target = chosen.output / "precision.json"
    target.write_text(json.dumps({"machine": describe(), "models": models}, indent=1) + "\n")


if __name__ == "__main__":
    main()
