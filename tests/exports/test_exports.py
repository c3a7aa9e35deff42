"""Exports of real model classes, with random weights, run on the device as PyTorch ran them.

Sizes are dynamic: each file runs at several, the first ones twice. What may stay on the host is
said in the table (`on_host`); every other session is strict.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import signal_models
import text_models
import torch
import vision_models
from export_case import Case, answer, export

from rekindle import open_session
from rekindle.engine.compiler import Compiler
from rekindle.runtime import Session
from rekindle.runtime.providers import opencl

CASES = {c.name: c for m in (vision_models, text_models, signal_models) for c in m.CASES}
pytestmark = [pytest.mark.opencl, pytest.mark.torch]


def _parameters() -> list[Any]:
    return [
        pytest.param(
            case.name, exporter, opset, id=f"{case.name}-{exporter}-{opset}",
            marks=case.marks(exporter, opset),
        )
        for case in CASES.values()
        for exporter, opset in case.exports
    ]  # fmt: skip


@functools.lru_cache(maxsize=1)
def network(name: str) -> torch.nn.Module:
    return CASES[name].network()


class Work:
    """How often the engine planned and compiled."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.plans = self.builds = 0
        plan_for, build = opencl.plan_for, Compiler.build

        def planning(*args: Any, **options: Any) -> Any:
            self.plans += 1
            return plan_for(*args, **options)

        def building(*args: Any) -> Any:
            self.builds += 1
            return build(*args)

        patch.setattr(opencl, "plan_for", planning)
        patch.setattr(Compiler, "build", building)

    @property
    def done(self) -> tuple[int, int]:
        return self.plans, self.builds


@pytest.mark.parametrize(("name", "exporter", "opset"), _parameters())
def test_an_export_answers_as_torch_does(
    name: str, exporter: str, opset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    path = export(case, network(name), exporter, opset, tmp_path / f"{name}.onnx")
    work = Work(monkeypatch)
    with open_session(path, provider="opencl", strict=not case.on_host) as session:
        for sizes in case.sizes:
            agree(case, session, sizes)
            host = {n.op_type for n in session.placement.nodes if n.where == "host"}
            assert host <= case.on_host.keys()
        before = work.done
        agree(case, session, case.sizes[0])
        assert work.done == before, "an earlier shape was planned or compiled again"


def agree(case: Case, session: Session, sizes: Any) -> None:
    feeds = case.feeds(sizes)
    wanted = answer(network(case.name), feeds)
    # An exporter leaves out inputs that nothing reads.
    got = session.run({spec.name: feeds[spec.name] for spec in session.inputs})
    assert len(got) == len(wanted)
    for (name, found), expected in zip(got.items(), wanted, strict=True):
        assert found.shape == expected.shape, name
        assert np.ptp(expected) > 0, f"{name} tells nothing: it is {expected.flat[0]} throughout"
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error <= case.tolerance, f"{name} at {dict(sizes)}: {error:.2e}"
