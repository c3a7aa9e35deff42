"""How well `rekindle estimate` predicts: against this machine, and against what is published.

    python benchmarks/prediction.py [--runs 90] [--fit] [--folder FOLDER]

(a) On the OpenCL device here, a processor: every launch of every network is measured (the least of
its times), and estimated from the device's measured peaks. Each network is tried with coefficients
that were fitted on all the others, never on itself; --fit writes those of all networks together
into the package. (b) For cards of the Polaris family nobody here has: the
estimates for our kernels beside times that others published for theirs.

Writes benchmarks/results/prediction.json; needs about ten minutes of a quiet machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe
from prediction_published import published
from speed import FOLDER
from speed_models import NETWORKS, find

from rekindle.device import select_device
from rekindle.engine.kernels import Launch
from rekindle.engine.peaks import Peaks, peaks
from rekindle.engine.plan import HostStep
from rekindle.engine.prediction import processor
from rekindle.engine.prediction.processor import Coefficients, features
from rekindle.engine.prediction.rates import Rates, of_processor
from rekindle.engine.profile import profile
from rekindle.graph import onnx_io, passes
from rekindle.runtime.providers.opencl import plan_for

RESULT = Path(__file__).parent / "results" / "prediction.json"
_ROUNDS = 12
_TOLERANCE = 0.2
"""Launches that miss by more than this count less in the next round of the fit."""


@dataclass(frozen=True)
class Sample:
    """A launch as it was measured."""

    node: str
    launch: Launch
    seconds: float


def measure(model: str, folder: Path, runs: int) -> tuple[list[Sample], float]:
    """The launches with the least time of each, and the quickest whole run."""
    device = select_device()
    path, feeds = find(model, 1, folder)
    graph = passes.run(onnx_io.load(path), passes.PORTABLE)
    plan = plan_for(graph, device.target(), {name: a.shape for name, a in feeds.items()})
    found = profile(plan, device, feeds, runs)
    labels = [
        (step.node.name or step.node.outputs[0], launch)
        for step in plan.steps
        if not isinstance(step, HostStep)
        for launch in step.launches
    ]
    samples = [
        Sample(node, launch, time.seconds)
        for (node, launch), time in zip(labels, found.launches, strict=True)
    ]
    return samples, found.run_s


def fit(samples: Sequence[Sample], rates: Rates) -> dict[str, Coefficients]:
    """Coefficients by the stem of the kernel's source, none negative: least relative errors."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.launch.kernel, []).append(sample)
    made = {name: _fit_one(group, rates) for name, group in sorted(groups.items())}
    return made | {processor.OTHERS: _fit_one(samples, rates)}


def _fit_one(samples: Sequence[Sample], rates: Rates) -> Coefficients:
    x = np.array([(1e-6, *features(s.launch, rates)) for s in samples])
    y = np.array([s.seconds for s in samples])
    weights = 1 / y
    solved = np.zeros(x.shape[1])
    for _ in range(_ROUNDS):
        solved = nonnegative(x * weights[:, None], y * weights)
        error = np.abs(x @ solved - y) / y
        weights = 1 / y / np.sqrt(np.maximum(1.0, error / _TOLERANCE))
    start, *others = (float(f"{value:.4g}") for value in solved)
    return Coefficients(start * 1e-6, *others)


def nonnegative(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The least |a x - b| with x >= 0 for a few columns: the best of all subsets of them."""
    count = a.shape[1]
    best, least = np.zeros(count), float(b @ b)
    for subset in range(1, 1 << count):
        chosen = [k for k in range(count) if subset >> k & 1]
        x, *_ = np.linalg.lstsq(a[:, chosen], b, rcond=None)
        left = float(((a[:, chosen] @ x - b) ** 2).sum())
        if (x >= 0).all() and left < least:
            best, least = np.zeros(count), left
            best[chosen] = x
    return best


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's: the correlation of the ranks, equal values having the mean of theirs."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def judge(
    samples: Sequence[Sample], run_s: float, rates: Rates, known: Mapping[str, Coefficients]
) -> dict[str, Any]:
    """Estimates beside times, by launch and by layer."""
    estimated = [processor.cost(s.launch, rates, known).seconds for s in samples]
    measured = [s.seconds for s in samples]
    layers: dict[str, list[float]] = {}
    for sample, seconds in zip(samples, estimated, strict=True):
        both = layers.setdefault(sample.node, [0.0, 0.0])
        both[0] += sample.seconds
        both[1] += seconds
    pairs = np.array(list(layers.values()))
    whole = sum(estimated) + len(samples) * rates.launch_s
    return {
        "launches": len(samples),
        "layers": len(layers),
        "rank_of_launches": rank_correlation(measured, estimated),
        "rank_of_layers": rank_correlation(pairs[:, 0].tolist(), pairs[:, 1].tolist()),
        "kernels_s": sum(measured),
        "estimated_kernels_s": sum(estimated),
        "run_s": run_s,
        "estimated_run_s": whole,
        "error": sum(estimated) / sum(measured) - 1,
        "of_others": sorted({s.launch.kernel for s in samples} - known.keys()),
    }


def write(found: Mapping[str, Coefficients], roof: Peaks) -> None:
    """The package's coefficients, one kernel a line."""
    rows = {name: list(asdict(row).values()) for name, row in found.items()}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    head = {"machine": describe(), "peaks": asdict(roof), "fitted_on": NETWORKS}
    text = json.dumps(head, indent=1)[:-2] + f',\n "kernels": {{\n{lines}\n }}\n}}\n'
    processor.PATH.write_text(text, encoding="utf-8")
    processor.coefficients.cache_clear()


def rows(folder: Path, runs: int, keep: bool) -> Iterator[dict[str, Any]]:
    device = select_device()
    roof, cores = peaks(device, fresh=True), device.target().compute_units
    rates = of_processor(device.name, roof.flops_s, roof.bandwidth_bytes_s, roof.launch_s, cores)
    taken = {name: measure(name, folder, runs) for name in NETWORKS}
    if keep:
        write(fit([s for samples, _ in taken.values() for s in samples], rates), roof)
    for name, (samples, run_s) in taken.items():
        others = [s for other, (found, _) in taken.items() if other != name for s in found]
        row = {"model": name, **judge(samples, run_s, rates, fit(others, rates))}
        print(
            f"{name:20} ranks {row['rank_of_launches']:.3f} {row['rank_of_layers']:.3f}, kernels "
            f"{row['kernels_s'] * 1e3:8.2f} ms, estimate {row['error']:+.0%}"
        )
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=90)
    parser.add_argument("--fit", action="store_true", help="write the package's coefficients")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the exported networks")
    parser.add_argument("--published", action="store_true", help="only the published figures")
    options = parser.parse_args()
    record = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    if not options.published:
        device = select_device()
        record |= {
            "machine": describe(),
            "device": device.name,
            "processor": list(rows(options.folder, options.runs, options.fit)),
            "peaks": asdict(peaks(device)),
        }
    record["published"] = [asdict(row) for row in published(options.folder)]
    for row in record["published"]:
        print(f"{row['card']:18} {row['work']:24} published {row['published_s'] * 1e3:8.1f} ms, "
              f"our kernels {row['estimated_s'] * 1e3:8.2f} ms")  # fmt: skip
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
