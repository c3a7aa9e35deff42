"""`make conformance`: how many of ONNX's node tests pass on each driver, and how many wholly there.

A driver is asked in a process of its own, since Rusticl reads its environment at the first OpenCL
call; and a driver that ends the process takes only its own counts along.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from exclusions import EXCLUDED
from official import Case, Outcome, counted, run

import rekindle
from rekindle.device import list_devices, select_device

DRIVERS = {"PoCL": "Portable Computing Language", "Rusticl": "rusticl"}
"""What CI has: the name in the report, and the platform's."""
_ENVIRONMENT = {"RUSTICL_ENABLE": "llvmpipe"}
_ABSENT = 77
_TIME_LIMIT_S = 1800


def collect(device: str) -> tuple[list[Case], dict[str, Outcome]]:
    """Every counted case, and what became of those that are not excluded."""
    cases = list(counted())
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return cases, {c.name: run(c, device) for c in cases if c.name not in EXCLUDED}


def summarize(cases: list[Case], outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """Counts, and every case that does not pass, in one order whatever the machine."""
    passed = {name for name, outcome in outcomes.items() if outcome.passed}
    floats = [c.name for c in cases if c.is_float]
    strict = [n for n in floats if n in passed and not outcomes[n].host]
    host: Counter[str] = Counter()
    for name in floats:
        if name in passed:
            host.update({h.partition(":")[0] for h in outcomes[name].host})
    names = {c.name for c in cases}
    return {
        "counted": len(cases),
        "passed": len(passed),
        "passed_percent": round(100 * len(passed) / len(cases), 2),
        "float_cases": len(floats),
        "wholly_on_device": len(strict),
        "wholly_on_device_percent": round(100 * len(strict) / len(floats), 2),
        "excluded": {n: reason for n, reason in sorted(EXCLUDED.items()) if n in names},
        "failed": {n: o.fault for n, o in sorted(outcomes.items()) if not o.passed},
        "on_host_in_float_cases": dict(sorted(host.items(), key=lambda i: (-i[1], i[0]))),
    }


def on_driver(name: str) -> dict[str, Any] | None:
    """The summary of a driver of `DRIVERS`, with its device; None where it is not installed.

    RuntimeError where its process ended with an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        done = subprocess.run(
            [sys.executable, __file__, "--driver", name, "--json", str(path)],
            env={
                **os.environ, **_ENVIRONMENT, "REKINDLE_DEVICE": DRIVERS[name],
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            capture_output=True, text=True, timeout=_TIME_LIMIT_S, check=False,
        )  # fmt: skip
        if done.returncode == _ABSENT:
            return None
        if done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


def _here(device: str) -> dict[str, Any]:
    """The summary of a device in this process."""
    chosen = select_device(int(device.partition(":")[2]) if ":" in device else None)
    where = {"device": chosen.name, "driver": chosen.target().driver} if device != "CPU" else {}
    return where | summarize(*collect(device))


def _show(name: str, found: dict[str, Any]) -> None:
    for case, fault in found["failed"].items():
        print(f"  failed {case}: {fault[:160]}")
    print(f"Rekindle {rekindle.__version__} on {name}, ONNX's node tests:")
    print(f"  passed   {found['passed']} of {found['counted']} ({found['passed_percent']} %)")
    print(f"  excluded {len(found['excluded'])}, failed {len(found['failed'])}")
    print(
        f"  wholly on the device: {found['wholly_on_device']} of {found['float_cases']} "
        f"float cases ({found['wholly_on_device_percent']} %)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", help="OPENCL, OPENCL:<n> or CPU, instead of every driver")
    parser.add_argument("--driver", choices=DRIVERS, help="this driver alone, in this process")
    parser.add_argument("--json", type=Path, help="where to write the counts")
    given = parser.parse_args()
    if given.driver and all(d.platform_name != DRIVERS[given.driver] for d in list_devices()):
        return _ABSENT
    if given.device or given.driver:
        document = _here(given.device or "OPENCL")
        _show(given.device or given.driver, document)
    else:
        found = {name: on_driver(name) for name in DRIVERS}
        document = {name: summary for name, summary in found.items() if summary}
        for name in DRIVERS:
            if name in document:
                _show(name, document[name])
            else:
                print(f"{name} is not installed")
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
