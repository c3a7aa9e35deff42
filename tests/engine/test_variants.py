"""The declared space of every tunable kernel: what it promises, and that all of it computes alike.

Calls are taken from plans of small networks, so that specs see what they see in life.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernel_harness import CPU8
from tuning_cases import every_call

from rekindle.engine import kernels
from rekindle.engine.choices import Setting, choose, fingerprint, settings
from rekindle.engine.kernels import Context, Launch, Packed
from rekindle.graph.lowering import LogicalCall

CALLS = list(every_call())
IDS = [
    f"{i}-{context.target.family}{context.target.wavefront}-{call.name}"
    for i, (call, context) in enumerate(CALLS)
]


def shape(launches: list[Launch]) -> list[object]:
    """What the device sees of launches, but for the bytes in their buffers."""
    return [(x.kernel, x.entry, x.defines, x.global_size, x.local_size) for x in launches]


def launches(call: LogicalCall, context: Context, setting: Setting) -> list[Launch]:
    kernel = kernels.REGISTRY.get(setting.kernel)
    return list(kernel.launches(call, replace(context, variant=setting.variant)))


def test_every_family_has_something_to_tune() -> None:
    named = {s.kernel for call, context in CALLS for row in settings(call, context) for s in row}
    assert {"conv_tiled", "conv_stem", "conv_winograd", "depthwise_tiled", "matmul_tiled"} <= named
    assert {"conv_lanes", "matmul_lanes", "matmul_local", "matmul_rows", "depthwise_lanes"} <= named
    assert "depthwise_pointwise_lanes" in named


@pytest.mark.parametrize(("call", "context"), CALLS, ids=IDS)
def test_the_first_variant_is_what_the_heuristic_does(call: LogicalCall, context: Context) -> None:
    rows = settings(call, context)
    assert rows[0][0].kernel == choose(call, context).name
    for row in rows:
        alone = Setting(row[0].kernel, ())
        assert shape(launches(call, context, row[0])) == shape(launches(call, context, alone))


@pytest.mark.parametrize(("call", "context"), CALLS, ids=IDS)
def test_variants_stay_in_the_declared_space_and_differ(
    call: LogicalCall, context: Context
) -> None:
    for row in settings(call, context):
        declared = kernels.REGISTRY.get(row[0].kernel).tunables
        assert declared is not None
        for setting in row:
            assert {name for name, _ in setting.variant} == set(declared)
            assert all(value in declared[name] for name, value in setting.variant)
        found = [
            [*shape(made), counts(made)]
            for made in (launches(call, context, setting) for setting in row[:: len(row) // 12 + 1])
        ]
        assert len({str(f) for f in found}) == len(found), "two variants are one"


def counts(made: list[Launch]) -> list[int]:
    return [int(a) for launch in made for a in launch.args if isinstance(a, np.integer)]


@pytest.mark.parametrize(("call", "context"), CALLS, ids=IDS)
def test_constants_with_one_key_are_equal(call: LogicalCall, context: Context) -> None:
    """Tuned and untuned plans share packed weights by key, and compiled kernels by defines."""
    known: dict[str, Packed] = {}
    for row in settings(call, context):
        for setting in row[:6]:
            for launch in launches(call, context, setting):
                for packed in (a for a in launch.args if isinstance(a, Packed)):
                    first = known.setdefault(packed.key, packed)
                    assert first.nbytes == packed.nbytes
                    np.testing.assert_array_equal(first.pack(), packed.pack(), packed.key)


class Fixed:
    """Records that always say the same."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def best(self, call: LogicalCall, context: Context) -> Setting | None:
        return self.setting


@pytest.mark.parametrize(
    "setting",
    [
        Setting("no_such_kernel", ()),
        Setting("softmax", ()),
        Setting("conv_lanes", (("TM", 4),)),
        Setting("matmul_tiled", ()),
        Setting("matmul_tiled", (("P", 13), ("Q", 1), ("JOBS", 32))),
        Setting("matmul_tiled", (("P", 12), ("Q", 8), ("JOBS", 32))),
        Setting("matmul_tiled", (("P", 1), ("Q", 1), ("JOBS", 32)), "0" * 16),
    ],
    ids=str,
)
def test_a_record_that_does_not_fit_changes_nothing(setting: Setting) -> None:
    call, context = next((c, x) for c, x in CALLS if c.node == "constant" and x.target is CPU8)
    found = choose(call, context, Fixed(setting))
    assert (found.name, found.tuned, found.context.variant) == ("matmul_tiled", "", ())


def test_a_record_that_fits_decides() -> None:
    call, context = next((c, x) for c, x in CALLS if c.node == "constant" and x.target is CPU8)
    variant = (("P", 1), ("Q", 1), ("JOBS", 32))
    sources = fingerprint(launches(call, context, Setting("matmul_tiled", variant)))
    for text in ("", sources):
        found = choose(call, context, Fixed(Setting("matmul_tiled", variant, text)))
        assert (found.context.variant, found.tuned) == (variant, "matmul_tiled P=1 Q=1 JOBS=32")
