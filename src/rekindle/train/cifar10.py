"""Train the bundled classifier: `python -m rekindle.train.cifar10 --data DIR --out DIR`.

Trains on JPEG images mixed with their bit-exact versions in two phases: the first learns the data
set, the second goes on with zoomed and recoloured images, as photographs need it. Chooses the
epoch by held-out training images, writes the ONNX file, and only then reads the test images, once.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rekindle import __version__
from rekindle._errors import RekindleError
from rekindle.train import bundle
from rekindle.train.augment import crop_and_flip, cutout, jitter, recolour, zoom
from rekindle.train.cifar10_files import CLASSES, MEAN, STD, load_cifar10, load_cifar10_tests
from rekindle.train.datasets import ImageData, ImageSet
from rekindle.train.evaluation import Accuracy, measure
from rekindle.train.export import check_export, export_onnx, onnx_predictor
from rekindle.train.networks import SmallResNet
from rekindle.train.trainer import EpochRecord, TrainConfig, TrainResult, train

# Widths that are multiples of 16: others run at half the speed under oneDNN's bf16 convolutions.
WIDTHS, BLOCKS = (16, 48, 80), (2, 3, 2)
CONFIG = TrainConfig(
    epochs=60,
    batch_size=256,
    peak_lr=0.3,
    schedule="cosine",
    warmup=0.12,
    weight_decay=5e-4,
    label_smoothing=0.05,
    ema_decay=0.998,
    precision="bf16",
    seed=1,
)
PHOTOGRAPHS = dataclasses.replace(CONFIG, epochs=12, peak_lr=0.06, warmup=0.1, seed=2)
ZOOM, HUE_RADIANS, SATURATION, RECOLOURED = 0.3, 0.8, 0.6, 0.5
SHIFT, JITTER, HOLE, HOLE_SHARE = 4, 0.1, 8, 0.5
FACTS = bundle.CardFacts(
    name="cifar10-resnet",
    version="1",
    licence="MIT",
    source="Trained by the Rekindle developers with rekindle.train.cifar10 on CIFAR-10 "
    "(A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009)",
    labels=CLASSES,
    side=32,
    mean=MEAN,
    std=STD,
)


@dataclass(frozen=True)
class Shipped:
    """What was measured on the exported file: accuracy by test set, distance from torch."""

    measured: Mapping[str, Accuracy]
    difference: float


@dataclass(frozen=True)
class Phase:
    """One run of the trainer: how it was set and what came of it."""

    config: TrainConfig
    result: TrainResult

    def log(self) -> dict[str, Any]:
        return {
            "config": dataclasses.asdict(self.config),
            "best_epoch": self.result.best_epoch,
            "best_validation_accuracy": self.result.best_accuracy,
            "wall_seconds": round(sum(r.seconds for r in self.result.history), 1),
            "epochs": [dataclasses.asdict(record) for record in self.result.history],
        }


def build_network(seed: int) -> nn.Module:
    """The network with its initial weights, channels last in memory."""
    torch.manual_seed(seed)
    return SmallResNet(WIDTHS, BLOCKS).to(memory_format=torch.channels_last)


def move(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift by up to 4 pixels, flip half of the images."""
    return crop_and_flip(images, generator, pad=SHIFT)


def distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mild contrast and brightness changes, and an 8 x 8 hole in half of the images."""
    changed = jitter(images, generator, strength=JITTER)
    return cutout(changed, generator, size=HOLE, probability=HOLE_SHARE)


def photograph(images: Tensor, generator: torch.Generator) -> Tensor:
    """Other sizes and colours: what distinguishes photographs from the data set."""
    return recolour(
        zoom(images, generator, strength=ZOOM),
        generator,
        hue_radians=HUE_RADIANS,
        saturation=SATURATION,
        probability=RECOLOURED,
    )


def distort_photograph(images: Tensor, generator: torch.Generator) -> Tensor:
    """`photograph`, then what the first phase does as well."""
    return distort(photograph(images, generator), generator)


def with_photographs(part: ImageSet, seed: int) -> ImageSet:
    """The images of `part`, and once more each of them as `photograph` draws it."""
    drawn = photograph(part.normalise(part.images), torch.Generator().manual_seed(seed))
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (part.mean, part.std))
    pixels = ((drawn * std + mean) * 255.0).round().clamp(0, 255).to(torch.uint8)
    return dataclasses.replace(
        part,
        name=f"{part.name}, as they are and zoomed and recoloured",
        images=torch.cat([part.images, pixels]),
        labels=torch.cat([part.labels, part.labels]),
    )


def ship(model: nn.Module, data: ImageData, tests: Sequence[ImageSet], out: Path) -> Shipped:
    """Export to `out`, compare with torch on held-out images, measure the file, write the card."""
    out.mkdir(parents=True, exist_ok=True)
    images = data.validation.normalise(data.validation.images[:256])
    export_onnx(model, images[:2], out / bundle.MODEL)
    predict = onnx_predictor(out / bundle.MODEL)
    difference = check_export(model, predict, images)
    measured = {part.name: measure(predict, part.batches(CONFIG.batch_size)) for part in tests}
    bundle.write_card(out, FACTS, measured)
    return Shipped(measured, difference)


def describe(
    model: nn.Module, data: ImageData, phases: Sequence[Phase], shipped: Shipped
) -> dict[str, Any]:
    """The content of `training.json`."""
    return {
        "rekindle": __version__,
        "module": "rekindle.train.cifar10",
        "network": {
            "widths": WIDTHS,
            "blocks": BLOCKS,
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        "phases": [phase.log() for phase in phases],
        "augmentation": {
            "shift_pixels": SHIFT,
            "flip": True,
            "jitter": JITTER,
            "hole_pixels": HOLE,
            "hole_share": HOLE_SHARE,
            "bit_exact_share_where_known": data.twin_probability,
            "second phase": {
                "zoom": ZOOM,
                "hue_radians": HUE_RADIANS,
                "saturation": SATURATION,
                "recoloured_share": RECOLOURED,
            },
        },
        "data": {
            "train": data.train.name,
            "train_images": len(data.train),
            "train_images_known_bit_exact": 0 if data.twin is None else int((data.twin >= 0).sum()),
            "validation": data.validation.name,
            "validation_images": len(data.validation),
            "validation, second phase": "the same, once more zoomed and recoloured",
        },
        "machine": bundle.machine(),
        "test": [
            {
                "dataset": name,
                "images": found.count,
                "correct": found.correct,
                "top1_accuracy": found.value,
                "interval_95": [found.low, found.high],
            }
            for name, found in shipped.measured.items()
        ],
        "export_max_relative_difference": shipped.difference,
    }


def _line(record: EpochRecord, epochs: int) -> str:
    left_minutes = (epochs - record.epoch) * record.seconds / 60
    return (
        f"{record.epoch:3d}/{epochs}  loss {record.train_loss:.4f}  held-out accuracy "
        f"{record.validation_accuracy:.4f}  {record.seconds:.0f} s, {left_minutes:.0f} min left"
    )


def run(
    data_folder: Path, out: Path, configs: tuple[TrainConfig, TrainConfig], *, resume: bool = False
) -> None:
    """Both phases; `out` also holds their checkpoints, which `resume` goes on from."""
    first, second = configs
    model = build_network(first.seed)
    data = load_cifar10(data_folder, move=move, distort=distort)
    photographs = dataclasses.replace(
        data,
        distort=distort_photograph,
        validation=with_photographs(data.validation, second.seed),
    )
    phases = [
        _phase(model, first, data, out / "checkpoint.pt", resume),
        _phase(model, second, photographs, out / "photographs.pt", resume),
    ]
    shipped = ship(model, data, load_cifar10_tests(data_folder), out)
    bundle.write_log(out, describe(model, data, phases, shipped))
    for name, found in shipped.measured.items():
        print(f"{name}: {found.value:.4f} (95 %: {found.low:.4f} to {found.high:.4f})")


def _phase(
    model: nn.Module, config: TrainConfig, data: ImageData, checkpoint: Path, resume: bool
) -> Phase:
    result = train(
        model,
        config,
        data,
        checkpoint_path=checkpoint,
        resume=resume,
        on_epoch=lambda record: print(_line(record, config.epochs), flush=True),
    )
    return Phase(config, result)


def _chosen(config: TrainConfig, options: argparse.Namespace, phase: int) -> TrainConfig:
    epochs = config.epochs if options.epochs is None else options.epochs
    seed = config.seed if options.seed is None else options.seed + phase
    return dataclasses.replace(config, epochs=epochs, seed=seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit code is 0 only when the model folder is complete."""
    parser = argparse.ArgumentParser(
        prog="python -m rekindle.train.cifar10", description="Train the bundled classifier."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the two npz files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--epochs", type=int, help="of each phase, instead of its own number")
    parser.add_argument("--seed", type=int, help="of the first phase; the second takes the next")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in OUT")
    options = parser.parse_args(arguments)
    try:
        configs = _chosen(CONFIG, options, 0), _chosen(PHOTOGRAPHS, options, 1)
        run(options.data, options.out, configs, resume=options.resume)
    except RekindleError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
