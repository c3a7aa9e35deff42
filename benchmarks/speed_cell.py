"""One cell of the speed table: a model at a batch size on several engines, in this process.

    echo '{"model": …}' | python benchmarks/speed_cell.py

Reads its orders as JSON from stdin and writes the result to the file they name. The engines take
turns, A B A B …; a turn is a pause (worker threads of the engine before stop spinning), one run
that does not count, and a few that do. Each engine's outputs are compared with ONNX Runtime's
before it is timed. A round in which other processes took the processor is measured again; where
calm does not come, the calmest rounds are taken, and `disturbed` says what others took.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speed_peers import Array, Runner

PAUSE_S = 0.04
TURN_S = 0.15
"""How long a turn measures, at least one run."""
SLOW_S = 0.5
"""An engine that takes longer for one run needs no run to warm up in every turn."""
TOLERANCE = 1e-3
CALM = 0.06
"""Share of the machine's time that other processes may take in a round."""
_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POCL_MAX_PTHREAD_COUNT",
           "POCL_CPU_MAX_CU_COUNT")  # fmt: skip


def difference(found: list[Array], expected: list[Array]) -> float:
    """The largest max|a - b| / max|b| of the outputs; infinite where they do not correspond."""
    import numpy as np

    worst = 0.0
    if len(found) != len(expected):
        return float("inf")
    for a, b in zip(found, expected, strict=True):
        if a.size != b.size or not np.isfinite(a).all():
            return float("inf")
        gap = np.abs(a.reshape(-1).astype(np.float64) - b.reshape(-1).astype(np.float64))
        scale = np.abs(b).max(initial=0.0)
        worst = max(worst, float(gap.max(initial=0.0) / (scale or 1.0)))
    return worst


def turn(run: Runner, once_s: float) -> list[float]:
    """Seconds of each run of one turn."""
    time.sleep(PAUSE_S)
    if once_s < SLOW_S:
        run()
    spent: list[float] = []
    while sum(spent) < TURN_S and len(spent) < 200:
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return spent


def prepare(orders: dict[str, Any]) -> tuple[dict[str, Runner], dict[str, dict[str, Any]]]:
    """Runners of the engines that agree with the reference, and what is known of each engine."""
    from speed_models import find
    from speed_peers import EXACT, REFERENCE, open_peer

    folder = Path(orders["folder"])
    path, feeds = find(orders["model"], orders["batch"], folder)
    runners: dict[str, Runner] = {}
    known: dict[str, dict[str, Any]] = {}
    expected: list[Array] = []
    for engine in orders["engines"]:
        start = time.perf_counter()
        try:
            run = open_peer(engine, path, feeds, orders["threads"], folder)
            found = run()
        except Exception as error:  # whatever a peer raises is its result
            words = " ".join(str(error).split())
            known[engine] = {"failed": f"{type(error).__name__}: {words}"[:300]}
            continue
        known[engine] = {"setup_s": round(time.perf_counter() - start, 2)}
        expected = found if engine == REFERENCE else expected
        error_ = difference(found, expected)
        known[engine]["difference"] = float(f"{error_:.2g}")
        if engine in EXACT and not error_ <= TOLERANCE:
            how = "size" if error_ == float("inf") else f"values, by {error_:.1e}"
            known[engine] = {"failed": f"its result is not ONNX Runtime's: other {how}, or NaN"}
            continue
        runners[engine] = run
    return runners, known


@dataclass(frozen=True)
class Round:
    """One turn of every engine."""

    spent_s: dict[str, list[float]]
    disturbed: float
    """Share of all processors' time that other processes had meanwhile."""


def others_s() -> float:
    """Processor seconds that other processes have had since the start; 0 where none tells."""
    own = os.times()
    try:
        with Path("/proc/stat").open(encoding="utf-8") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
    except OSError:
        return 0.0
    busy = sum(ticks) - ticks[3] - ticks[4]  # all but idle and waiting for disks; steal counts
    return busy / os.sysconf("SC_CLK_TCK") - own.user - own.system


def one_round(runners: dict[str, Runner], once_s: dict[str, float]) -> Round:
    start, others = time.perf_counter(), others_s()
    spent = {engine: turn(run, once_s[engine]) for engine, run in runners.items()}
    wall_s = time.perf_counter() - start
    share = (others_s() - others) / (wall_s * (os.cpu_count() or 1))
    return Round(spent, round(max(share, 0.0), 3))


def measure(
    runners: dict[str, Runner], rounds: int, patience_s: float
) -> dict[str, dict[str, Any]]:
    """Times of each engine over `rounds` calm rounds, or the calmest once patience is spent."""
    once_s = {}
    for engine, run in runners.items():
        start = time.perf_counter()
        run()
        once_s[engine] = time.perf_counter() - start
    end = time.monotonic() + patience_s
    tried: list[Round] = []
    calm = 0
    while calm < rounds and (len(tried) < rounds or time.monotonic() < end):
        tried.append(one_round(runners, once_s))
        calm += tried[-1].disturbed <= CALM
    kept = sorted(tried, key=lambda r: r.disturbed)[:rounds]
    return {engine: _figures(engine, kept) for engine in runners}


def _figures(engine: str, rounds: list[Round]) -> dict[str, Any]:
    spent = [r.spent_s[engine] for r in rounds]
    return {
        "median_ms": round(statistics.median(chain.from_iterable(spent)) * 1e3, 4),
        "min_ms": round(min(map(min, spent)) * 1e3, 4),
        "runs": sum(map(len, spent)),
        "rounds_ms": [round(statistics.median(t) * 1e3, 4) for t in spent],
        "disturbed": round(statistics.mean(r.disturbed for r in rounds), 3),
    }


def main() -> None:
    orders = json.load(sys.stdin)
    # Before NumPy or OpenCL are loaded: they read these once.
    os.environ.update(dict.fromkeys(_LIMITS, str(orders["threads"])))
    runners, known = prepare(orders)
    if orders["rounds"]:
        for engine, figures in measure(runners, orders["rounds"], orders["patience_s"]).items():
            known[engine] |= figures
    Path(orders["out"]).write_text(json.dumps(known), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # some peers crash when the interpreter unloads them


if __name__ == "__main__":
    main()
