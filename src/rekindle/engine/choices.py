"""Which kernel does a call, and in which variant: what was measured fastest, or the heuristic's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

from rekindle._log import debug
from rekindle.engine import kernels
from rekindle.engine.kernels import Context, Kernel, Launch, Variant
from rekindle.graph.lowering import LogicalCall


@dataclass(frozen=True)
class Setting:
    """A kernel and its variant for a call, by name."""

    kernel: str
    variant: Variant
    sources: str = ""
    """`fingerprint` of the launches that were measured; "": whatever the templates say."""

    def __str__(self) -> str:
        return " ".join((self.kernel, *(f"{name}={value}" for name, value in self.variant)))


class Records(Protocol):
    """What a planner asks of tuning records."""

    def best(self, call: LogicalCall, context: Context) -> Setting | None:
        """What was measured faster than the heuristic's choice; None: nothing."""
        ...


@dataclass(frozen=True)
class Choice:
    """A kernel for a call, and the context in which it makes its launches."""

    name: str
    kernel: Kernel
    context: Context
    tuned: str = ""
    """The record's setting, for people; "": the heuristic chose."""


def choose(call: LogicalCall, context: Context, records: Records | None = None) -> Choice:
    """What `records` say, where that is possible for this call, or the kernel of highest score.

    UnsupportedOperatorError where no kernel takes the call.
    """
    if records and (setting := records.best(call, context)):
        if found := _tuned(call, context, setting):
            return found
        debug(1, "%s: the tuning record %s does not fit any more", call.node, setting)
    return Choice(*kernels.require(call, context), context)


def settings(call: LogicalCall, context: Context) -> list[list[Setting]]:
    """The declared space of a call: for each kernel that can be tuned its variants, best first.

    The first variant of the first kernel is the heuristic's choice; no lists where that one
    cannot be tuned.
    """
    found = kernels.candidates(call, context)
    if not found or found[0][1].tunables is None:
        return []
    return [
        [Setting(name, variant) for variant in kernel.variants(call, context)]
        for name, kernel in found
        if kernel.tunables is not None
    ]


def fingerprint(launches: Iterable[Launch]) -> str:
    """Short hash of the templates that launches are made of: other text, other speed."""
    stems = sorted({launch.kernel for launch in launches})
    return hashlib.sha256("\0".join(map(_template, stems)).encode()).hexdigest()[:16]


_template = cache(kernels.source_text)


def _tuned(call: LogicalCall, context: Context, setting: Setting) -> Choice | None:
    kernel = dict(kernels.candidates(call, context)).get(setting.kernel)
    if kernel is None or kernel.tunables is None:
        return None
    if setting.variant not in kernel.variants(call, context):
        return None
    own = replace(context, variant=setting.variant)
    try:
        made = kernel.launches(call, own)
    except OverflowError:  # an int32 argument that is none: the heuristic's choice will say so
        return None
    if setting.sources not in ("", fingerprint(made)):
        return None
    return Choice(setting.kernel, kernel, own, str(setting))
