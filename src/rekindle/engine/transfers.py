"""What a plan moves between the host and the device in every run, weights aside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rekindle.engine.plan import HostStep, Plan

Direction = Literal["upload", "download"]


@dataclass(frozen=True)
class Transfer:
    """A value on its way; `nbytes` as it lies in device memory."""

    value: str
    direction: Direction
    nbytes: int


def transfers(plan: Plan) -> tuple[Transfer, ...]:
    """In the order of a run: each value once each way, as `Executor` does it."""
    known = {*plan.graph.inputs, *plan.graph.initializers}
    moved: list[Transfer] = []

    def upload(names: Iterable[str]) -> None:
        for name in names:
            if plan.root(name) in plan.memory.sizes:
                moved.append(Transfer(name, "upload", plan.graph.values[name].nbytes))

    def download(names: Iterable[str]) -> None:
        for name in names:
            if name and name not in known and plan.root(name) not in known:
                known.add(name)
                moved.append(Transfer(name, "download", plan.graph.values[name].nbytes))

    upload(plan.graph.inputs)
    for step in plan.steps:
        if isinstance(step, HostStep):
            download(step.node.inputs)
            made = [name for name in step.node.outputs if name]
            known.update(made)
            upload(made)
    download(plan.graph.outputs)
    return tuple(moved)
