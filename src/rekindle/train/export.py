"""torch -> ONNX for networks that Rekindle trained, and the check that both compute the same."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from rekindle._errors import ModelError
from rekindle.runtime import open_session
from rekindle.train.evaluation import Predict

OPSET = 17
INPUT, OUTPUT = "image", "logits"
MAX_RELATIVE_DIFFERENCE = 1e-4


def export_onnx(model: nn.Module, example: Tensor, path: Path) -> None:
    """Write `model` in eval mode: input `image`, output `logits`, first dimension `N`.

    Batch normalisation is folded into the convolutions. Uses torch's TorchScript exporter: for a
    plain feed-forward network it gives the shortest graph, and needs no extra package.
    """
    was_training = model.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model.eval(),
            (example,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "N"}, OUTPUT: {0: "N"}},
        )
    model.train(was_training)


def onnx_predictor(path: Path) -> Predict:
    """The exported file as a function from a batch to logits, run by ONNX Runtime on the CPU."""
    session = open_session(path, provider="onnxruntime")

    def predict(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run({INPUT: images.contiguous().numpy()})[OUTPUT])

    return predict


def check_export(model: nn.Module, predict: Predict, images: Tensor) -> float:
    """max|onnx - torch| / max|torch| on `images`; ModelError when it is 1e-4 or more."""
    with torch.no_grad():
        expected = model.eval()(images)
    difference = float((predict(images) - expected).abs().max() / expected.abs().max())
    if not difference < MAX_RELATIVE_DIFFERENCE:
        raise ModelError(
            f"the exported model differs from the trained one by {difference:.2e} of the largest "
            f"logit; at most {MAX_RELATIVE_DIFFERENCE:.0e} is expected",
            hint="report this with the torch version; do not ship the file",
        )
    return difference
