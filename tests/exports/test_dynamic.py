"""What a new length costs: no kernel is compiled that an earlier length has compiled."""

from __future__ import annotations

import pytest
import text_models
from export_case import TORCHSCRIPT, export
from small_models import CPU

from rekindle._types import Target
from rekindle.engine.program import Specialisation, specialisation
from rekindle.graph import onnx_io, passes
from rekindle.graph.ir import Graph
from rekindle.runtime.providers.opencl import plan_for
from tests.engine.graphs import POLARIS

pytestmark = pytest.mark.torch
CASES = {c.name: c for c in text_models.CASES}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    case = CASES["bert"]
    path = tmp_path_factory.mktemp("bert") / "bert.onnx"
    export(case, case.network(), TORCHSCRIPT, 17, path)
    return passes.run(onnx_io.load(path), passes.PORTABLE)


@pytest.mark.parametrize("target", [CPU, POLARIS], ids=["cpu", "gcn"])
def test_lengths_of_a_kind_share_their_kernels(bert: Graph, target: Target) -> None:
    """Kernels depend on how a length divides, on whether it is large, never on its number."""

    def kernels(length: int) -> frozenset[Specialisation]:
        made = plan_for(bert, target, dict.fromkeys(bert.inputs, (2, length)))
        return frozenset(map(specialisation, made.launches()))

    seen = frozenset().union(*map(kernels, (17, 18, 19, 20, 21)))
    assert len(seen) > 5
    for length in (23, 29, 31):
        assert not kernels(length) - seen, f"{length} compiles anew"


def test_a_plan_is_the_models_own_for_every_length(bert: Graph) -> None:
    """Nothing is left to the host, and shared constants hold the same."""
    plans = [plan_for(bert, CPU, dict.fromkeys(bert.inputs, (1, n))) for n in (1, 13, 40)]
    for plan in plans:
        assert all(value.is_static for value in plan.graph.values.values())
    for a, b in ((plans[0], plans[1]), (plans[1], plans[2])):
        shared = a.constants.keys() & b.constants.keys()
        assert any(key.endswith("word_embeddings.weight") for key in shared)
        for key in shared:
            assert (a.constants[key].pack() == b.constants[key].pack()).all(), key
