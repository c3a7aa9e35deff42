"""The exported file computes what torch computes, for every batch size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from rekindle._errors import ModelError, UsageError  # noqa: E402
from rekindle.train.export import check_export, export_onnx, onnx_predictor  # noqa: E402
from rekindle.train.networks import SmallResNet  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A network whose normalisation is not the identity, and its file."""
    torch.manual_seed(5)
    model = SmallResNet((4, 8, 6), (1, 2, 1), classes=7)
    for _ in range(5):
        model(torch.randn(16, 3, 32, 32) * 2 + 1)
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_onnx(model, torch.randn(2, 3, 32, 32), path)
    assert model.training
    return model.eval(), path


@pytest.mark.parametrize("batch", [1, 2, 13])
def test_onnxruntime_agrees_with_torch(exported: tuple[nn.Module, Path], batch: int) -> None:
    model, path = exported
    images = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"image": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, model(images).numpy(), rtol=1e-4, atol=1e-5)


def test_the_file_is_plain(exported: tuple[nn.Module, Path]) -> None:
    content = onnx.load(exported[1])
    onnx.checker.check_model(content, full_check=True)
    assert {node.op_type for node in content.graph.node} == {
        "Conv",
        "Relu",
        "Add",
        "AveragePool",
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    }
    assert [entry.version for entry in content.opset_import] == [17]
    assert not any(node.doc_string for node in content.graph.node)
    dims = content.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["N", 3, 32, 32]


def test_the_check_passes_for_the_model_and_fails_for_another(
    exported: tuple[nn.Module, Path],
) -> None:
    model, path = exported
    predict, images = onnx_predictor(path), torch.randn(8, 3, 32, 32)
    assert check_export(model, predict, images) < 1e-5
    with pytest.raises(ModelError, match="differs from the trained one"):
        check_export(SmallResNet((4, 8, 6), (1, 2, 1), classes=7), predict, images)
    with pytest.raises(ModelError, match="nan"):
        check_export(model, predict, images * torch.nan)


def test_network_shapes_follow_its_arguments() -> None:
    model = SmallResNet((4, 8), (2, 1), classes=3)
    assert model(torch.zeros(5, 3, 16, 24)).shape == (5, 3)
    # Stem 3x4, four 4x4 and 4x8, 8x8 of 3x3; shortcut 4x8; two numbers for each norm; the head.
    weights = 9 * (3 * 4 + 4 * 4 * 4 + 4 * 8 + 8 * 8) + 4 * 8
    norms = 2 * (4 + 4 * 4 + 8 + 8 + 8)
    assert sum(p.numel() for p in model.parameters()) == weights + norms + 8 * 3 + 3


@pytest.mark.parametrize(("widths", "blocks"), [((4,), (1, 1)), ((), ()), ((4, 0), (1, 1))])
def test_impossible_networks_are_refused(widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="as many block counts as widths"):
        SmallResNet(widths, blocks)
