"""`make conformance`: how many of ONNX's node tests pass, and how many wholly on the device."""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from exclusions import EXCLUDED
from official import Case, Outcome, counted, run

import rekindle


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="OPENCL", help="OPENCL, OPENCL:<n> or CPU")
    parser.add_argument("--json", type=Path, help="where to write the counts")
    given = parser.parse_args()
    found = summarize(*collect(given.device))
    for name, fault in found["failed"].items():
        print(f"  failed {name}: {fault[:160]}")
    print(f"Rekindle {rekindle.__version__} on {given.device}, ONNX's node tests:")
    print(f"  passed   {found['passed']} of {found['counted']} ({found['passed_percent']} %)")
    print(f"  excluded {len(found['excluded'])}, failed {len(found['failed'])}")
    print(
        f"  wholly on the device: {found['wholly_on_device']} of {found['float_cases']} "
        f"float cases ({found['wholly_on_device_percent']} %)"
    )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
