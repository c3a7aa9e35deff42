"""Every kernel on this device and driver against the references, each in a process of its own.

A driver may end the process, hang, or compute something else: the parent outlives all three, and
says which it was. The child is this file as a program; it tells how far it is in a file, since a
driver may write to stdout what it likes.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rekindle._errors import DeviceError, MemoryLimitError, RekindleError, UsageError
from rekindle._files import write_whole
from rekindle._types import Target
from rekindle.device import Device, select_device
from rekindle.engine import kernels
from rekindle.engine.plan import DeviceStep, Plan, plan
from rekindle.engine.selftest_cases import cases
from rekindle.engine.selftest_nodes import Case
from rekindle.graph import ops
from rekindle.graph.ir import Array
from rekindle.graph.reference import difference

Status = Literal["ok", "wrong", "aborted", "hung", "refused", "not used"]
_KILL_S = 10.0
"""How long a killed process may take to be gone; one that hangs in the driver may never be."""
_STDERR_KEPT = 300
_END = "end"


@dataclass(frozen=True)
class KernelReport:
    """What a kernel did. `ok`: right in every case; `refused`: the driver raised an error;
    `not used`: no case of its call goes to it on this device (another family's kernel).
    """

    kernel: str
    call: str
    status: Status
    cases: int = 0
    worst: float | None = None
    """The largest max|a-b| / max|b| of all cases; None where none was compared."""
    detail: str = ""
    switched_off: bool = False
    """By a quirk or by REKINDLE_DISABLE_KERNELS: tested all the same."""

    @property
    def failed(self) -> bool:
        return self.status not in ("ok", "not used")


def selftest(
    device: Device, names: Sequence[str] | None = None, time_limit_s: float = 120.0
) -> Iterator[KernelReport]:
    """Test the kernels `names` (None: all) on a device, one report each, in the order of names.

    A kernel whose process takes longer than `time_limit_s` (start and compilation included) is
    killed and reported as hung. UsageError for a limit that is not positive.
    """
    if not time_limit_s > 0:
        raise UsageError(f"time_limit_s={time_limit_s} is not a positive number of seconds")
    target = device.target()
    for name in kernels.REGISTRY.names() if names is None else names:
        call = kernels.REGISTRY.get(name).call
        report = KernelReport(name, call, "not used")
        if fitting := plans(name, target):
            report = _in_a_process(report, device, time_limit_s)
            report = replace(report, cases=len(fitting))
        yield replace(report, switched_off=name in target.disabled_kernels)


def plans(kernel: str, target: Target) -> list[tuple[Case, Plan]]:
    """The cases that `kernel` takes on `target`, planned so that it alone does its call."""
    call = kernels.REGISTRY.get(kernel).call
    others = (n for n in kernels.REGISTRY.names() if n != kernel)
    rivals = tuple(n for n in others if kernels.REGISTRY.get(n).call == call)
    forced = replace(target, disabled_kernels=rivals)
    made = [(case, plan(case.graph, forced)) for case in cases(call, target)]
    return [(case, planned) for case, planned in made if _uses(planned, kernel)]


def _uses(planned: Plan, kernel: str) -> bool:
    return any(isinstance(s, DeviceStep) and kernel in s.algorithms for s in planned.steps)


def examine(kernel: str, device: Device, tell: Callable[[dict[str, Any]], None]) -> None:
    """Run all cases of a kernel in this process; `tell` gets the state before each step."""
    from rekindle.engine.compiler import compiler_for
    from rekindle.engine.single_node import as_stored, run_alone, tolerance_of
    from rekindle.engine.weights import Weights

    state: dict[str, Any] = {"at": "compilation", "worst": None, "wrong": [], "problem": ""}
    tell(state)
    fitting = plans(kernel, device.target())
    handle = device.opencl()
    try:
        compiler_for(handle).prepare(launch for _, made in fitting for launch in made.launches())
        for case, made in fitting:
            state["at"] = case.name
            tell(state)
            found = run_alone(made, handle, Weights(handle), case.feeds)["y"]
            result = made.graph.values["y"]
            error = difference(found, as_stored(_expected(case), result.layout))
            state["worst"] = max(error, state["worst"] or 0.0)
            if not error <= tolerance_of(result.dtype, [kernel]):
                state["wrong"].append(f"{case.name}: {error:.1e}")
        state["at"] = _END
    except (DeviceError, MemoryLimitError) as error:
        state["problem"] = error.message
    tell(state)


def _expected(case: Case) -> Array:
    (node,) = case.graph.nodes
    operator = ops.find(node.qualified, case.graph.opset(node.domain))
    assert operator is not None, node
    known = {**case.graph.initializers, **case.feeds}
    return ops.compute(operator, node, [known[n] if n else None for n in node.inputs])[0]


def _in_a_process(report: KernelReport, device: Device, limit_s: float) -> KernelReport:
    with tempfile.TemporaryDirectory(prefix="rekindle-", ignore_cleanup_errors=True) as folder:
        told, said = Path(folder) / "state.json", Path(folder) / "stderr"
        start = time.monotonic()
        with said.open("wb") as stderr:
            process = subprocess.Popen(
                _command(report.kernel, device.index, told),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
            )  # fmt: skip
            try:
                code = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                _kill(process)
                where = _state(told).get("at", "start")
                taken_s = time.monotonic() - start
                detail = f"not done after {taken_s:.0f} s, at: {where}"
                return replace(report, status="hung", detail=detail)
            except BaseException:  # Ctrl-C must not leave the child behind
                _kill(process)
                raise
        return _judge(report, code, _state(told), said)


def _judge(report: KernelReport, code: int, state: dict[str, Any], stderr: Path) -> KernelReport:
    worst, where = state.get("worst"), state.get("at", "start")
    report = replace(report, worst=None if worst is None else float(worst))
    if not code and state.get("problem"):
        return replace(report, status="refused", detail=f"{where}: {state['problem']}")
    if code or where != _END:  # a driver may also end the process as if all were well
        text = stderr.read_text(encoding="utf-8", errors="replace").strip()
        last = text.splitlines()[-1][-_STDERR_KEPT:] if text else "it said nothing"
        detail = f"{_ending(code)}, at: {where}; {last}"
        return replace(report, status="aborted", detail=detail)
    if state["wrong"]:
        return replace(report, status="wrong", detail="; ".join(state["wrong"]))
    return replace(report, status="ok")


def _command(kernel: str, index: int, told: Path) -> list[str]:
    """-P: no file in the folder the user happens to be in may take a module's place."""
    return [sys.executable, "-P", "-m", "rekindle.engine.selftest", kernel, str(index), str(told)]


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    try:
        process.wait(_KILL_S)
    except subprocess.TimeoutExpired:
        return  # stuck inside the driver: it goes when the driver lets it


def _state(told: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it ended before it wrote, or while it did
        return {}
    return state


def _ending(code: int) -> str:
    if code < 0:
        try:
            return f"ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"ended by signal {-code}"
    return f"ended with code {code}"


def _main(kernel: str, index: str, told: str) -> int:
    def tell(state: dict[str, Any]) -> None:
        write_whole(Path(told), json.dumps(state).encode())

    try:
        examine(kernel, select_device(int(index)), tell)
    except RekindleError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
