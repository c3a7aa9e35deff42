"""A trained classifier as a model folder: `model.onnx`, `card.toml`, `training.json`."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rekindle.train.evaluation import Accuracy

MODEL, CARD, LOG = "model.onnx", "card.toml", "training.json"


@dataclass(frozen=True)
class CardFacts:
    """What the card of an image classifier says beyond what the file itself tells."""

    name: str
    version: str
    licence: str
    source: str
    labels: tuple[str, ...]
    side: int
    """Height and width of the input in pixels."""
    mean: tuple[float, ...]
    std: tuple[float, ...]


def write_card(folder: Path, facts: CardFacts, measured: Mapping[str, Accuracy]) -> None:
    """Write `card.toml` for the `model.onnx` in `folder`; `measured` is by data set."""
    content = (folder / MODEL).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    side, count = facts.side, len(facts.labels)
    sections = [
        _section(
            "",
            schema_version=1,
            name=facts.name,
            version=facts.version,
            task="classify",
            licence=facts.licence,
            source=facts.source,
            labels=facts.labels,
        ),
        _section("[[files]]", path=MODEL, sha256=digest, bytes=len(content)),
        _tensor("[[inputs]]", "image", ("N", 3, side, side), layout="NCHW"),
        _tensor("[[outputs]]", "logits", ("N", count)),
        _section(
            "[preprocess]",
            color="RGB",
            # The whole picture: at this size a centre crop cuts the heads off tall subjects.
            resize="pad",
            size=side,
            interpolation="bilinear",  # antialiased: as soft as the training pictures
            mean=facts.mean,
            std=facts.std,
        ),
        _section("[decode]", kind="logits"),
    ]
    for dataset, found in measured.items():
        value, interval = round(found.value, 6), (round(found.low, 6), round(found.high, 6))
        sections.append(
            _section(
                "[[measured]]",
                metric="top-1 accuracy",
                dataset=dataset,
                value=value,
                interval=interval,
            )
        )
    (folder / CARD).write_text("\n".join(sections), encoding="utf-8")


def _tensor(header: str, name: str, shape: Sequence[int | str], **more: str) -> str:
    return _section(header, name=name, dtype="float32", shape=shape, **more)


def _section(header: str, **values: object) -> str:
    """One TOML table; JSON's strings, numbers and flat arrays are TOML's as well."""
    lines = [header] if header else []
    lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def write_log(folder: Path, log: Mapping[str, Any]) -> None:
    """Write `training.json`: everything needed to judge and to repeat the training."""
    text = json.dumps(log, indent=1, ensure_ascii=False)
    (folder / LOG).write_text(text + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What the training ran on: processor, threads, operating system, versions."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
