"""The same networks as PyTorch archives: exported within the session, equal to PyTorch's run."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import vision_models
from export_case import DYNAMO, TORCHSCRIPT, answer

from rekindle import open_session

pytestmark = [pytest.mark.opencl, pytest.mark.torch, pytest.mark.slow]
CASES = {c.name: c for c in vision_models.CASES}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("resnet-basic", DYNAMO),
        ("vit", TORCHSCRIPT),
        pytest.param("resnet-basic", TORCHSCRIPT, marks=pytest.mark.matrix),
        pytest.param("vit", DYNAMO, marks=pytest.mark.matrix),
    ],
)
def test_an_archive_answers_as_torch_does(name: str, kind: str, tmp_path: Path) -> None:
    case = CASES[name]
    module = case.network()
    feeds = case.feeds(case.sizes[0])
    example = tuple(map(torch.from_numpy, feeds.values()))
    path = tmp_path / f"{name}.pt"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if kind == TORCHSCRIPT:
            torch.jit.save(torch.jit.trace(module, example, check_trace=False), path)
        else:
            batch = ({0: torch.export.Dim("N")},)
            torch.export.save(torch.export.export(module, example, dynamic_shapes=(batch,)), path)
    with open_session(path, provider="opencl", strict=True) as session:
        for count in (2, 1):
            part = {key: array[:count] for key, array in feeds.items()}
            [expected] = answer(module, part)
            given = {s.name: a for s, a in zip(session.inputs, part.values(), strict=True)}
            [found] = session.run(given).values()
            error = np.abs(found - expected).max() / np.abs(expected).max()
            assert error <= case.tolerance
