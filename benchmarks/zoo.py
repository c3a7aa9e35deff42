"""Full-size networks with random weights, as ONNX files: for benchmarks, memory tables and tests.

    python benchmarks/zoo.py FOLDER [NAME ...]

Weights come from a seed, no download. Normalisations carry the statistics of random inputs and
random scales, so that folding them is a real test, and activations stay near 1. Every file has a
dynamic batch `N`, keeps its BatchNormalization nodes, and is opset 17. Needs PyTorch,
`transformers` and `diffusers` (the `test` dependency group).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")
SEED = 20160629  # the day of the RX 480
OPSET = 17
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Input:
    """One input: shape without the batch axis, and how it is drawn."""

    name: str
    shape: tuple[int, ...]
    below: int = 0
    """0: float32, normal. Otherwise int64 in [0, below)."""
    dynamic: tuple[tuple[int, str], ...] = ()
    """Axes besides the batch that may vary, with their names (axis 0 is the batch)."""


@dataclass(frozen=True)
class Entry:
    build: Callable[[], Any]
    inputs: tuple[Input, ...]


def _pictures(size: int, name: str = "image") -> tuple[Input, ...]:
    return (Input(name, (3, size, size)),)


def _resnet(depths: list[int], layer: str, widths: list[int]) -> Any:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(depths=depths, layer_type=layer, hidden_sizes=widths, num_labels=1000)
    return _first(ResNetForImageClassification(config))


def _mobilenet_v2() -> Any:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    config = MobileNetV2Config(num_labels=1000, tf_padding=False)
    return _first(MobileNetV2ForImageClassification(config))


def _efficientnet_b0() -> Any:
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    config = EfficientNetConfig(
        image_size=224, width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280,
        num_labels=1000,
    )  # fmt: skip
    return _first(EfficientNetForImageClassification(config))


def _vit_small() -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536,
        num_labels=1000,
    )  # fmt: skip
    return _first(ViTForImageClassification(config))


def _bert() -> Any:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
        attn_implementation="eager",
    )  # fmt: skip
    return _first(BertModel(config))


def _unet() -> Any:
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=32, block_out_channels=(64, 128, 256, 256), cross_attention_dim=256,
        attention_head_dim=8,
    )  # fmt: skip
    return _call(model, lambda m, *x: m(*x, return_dict=False)[0])


def _vae_decoder() -> Any:
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        block_out_channels=(64, 128, 256, 256), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    return _call(model, lambda m, latent: m.decode(latent, return_dict=False)[0])


def _own(name: str) -> Any:
    return getattr(_sibling("zoo_networks"), name)()


def _sibling(module: str) -> Any:
    """A file of this folder as a module, whoever imports this one and from where."""
    sys.path.insert(0, str(HERE))
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(str(HERE))


_TEXT = tuple(
    Input(name, (128,), below, ((1, "tokens"),))
    for name, below in (("input_ids", 30522), ("attention_mask", 2))
)
_LATENT = Input("latent", (4, 32, 32), dynamic=((2, "height"), (3, "width")))

_ZOO = {
    "resnet18": Entry(
        lambda: _resnet([2, 2, 2, 2], "basic", [64, 128, 256, 512]), _pictures(224)
    ),
    "resnet50": Entry(
        lambda: _resnet([3, 4, 6, 3], "bottleneck", [256, 512, 1024, 2048]), _pictures(224)
    ),
    "mobilenet_v2": Entry(_mobilenet_v2, _pictures(224)),
    "mobilenet_v3_small": Entry(lambda: _own("MobileNetV3Small"), _pictures(224)),
    "efficientnet_b0": Entry(_efficientnet_b0, _pictures(224)),
    "squeezenet": Entry(lambda: _own("SqueezeNet"), _pictures(224)),
    "densenet121": Entry(lambda: _own("DenseNet"), _pictures(224)),
    "yolo_nano": Entry(lambda: _own("Detector"), _pictures(640)),
    "vit_small": Entry(_vit_small, _pictures(224)),
    "bert_small": Entry(_bert, _TEXT),
    "sd_unet": Entry(
        _unet, (_LATENT, Input("step", (), 1000), Input("text", (77, 256))),
    ),
    "vae_decoder": Entry(_vae_decoder, (_LATENT,)),
    "resnet3d": Entry(lambda: _own("ResNet3d"), (Input("clip", (3, 16, 64, 64)),)),
    "lstm": Entry(lambda: _own("SpeechLSTM"), (Input("mel", (100, 80), 0, ((1, "frames"),)),)),
}  # fmt: skip
NAMES = tuple(_ZOO)


def export(name: str, folder: Path) -> Path:
    """The ONNX file of a network in a cache folder; made there if it is not yet.

    A subfolder is named by this recipe's digest, so that a changed recipe makes new files.
    KeyError for a name that is not in NAMES.
    """
    entry = _ZOO[name]
    path = Path(folder) / _digest() / f"{name}.onnx"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        partial = Path(scratch) / path.name
        _write(entry, partial)
        partial.replace(path)
    return path


def feeds(name: str, batch: int = 1, **dynamic: int) -> dict[str, np.ndarray]:
    """Inputs for a network: the same for the same arguments. `dynamic` sets axes by name."""
    rng = np.random.default_rng(SEED)
    drawn = {}
    for spec in _ZOO[name].inputs:
        shape = [batch, *spec.shape]
        for axis, symbol in spec.dynamic:
            shape[axis] = dynamic.get(symbol, shape[axis])
        drawn[spec.name] = _draw(rng, spec, tuple(shape))
    return drawn


def network(name: str) -> Any:
    """The network as a PyTorch module in eval mode; its inputs in the order of `feeds(name)`."""
    import torch

    entry = _ZOO[name]
    torch.manual_seed(SEED)
    module = entry.build()
    rng = np.random.default_rng(SEED + 1)
    calibrating = tuple(torch.from_numpy(_draw(rng, s, (2, *s.shape))) for s in entry.inputs)
    _sibling("zoo_weights").randomise(module, calibrating)
    return module.eval()


def _write(entry: Entry, path: Path) -> None:
    import torch

    name = next(n for n, e in _ZOO.items() if e is entry)
    example = tuple(torch.from_numpy(a) for a in feeds(name, 2).values())
    axes = {spec.name: {0: "N", **dict(spec.dynamic)} for spec in entry.inputs}
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            network(name),
            example,
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[spec.name for spec in entry.inputs],
            output_names=["output"],
            dynamic_axes={**axes, "output": {0: "N"}},
            # EVAL would fold the batch normalisations before we can.
            training=torch.onnx.TrainingMode.PRESERVE,
        )


def _draw(rng: np.random.Generator, spec: Input, shape: tuple[int, ...]) -> np.ndarray:
    if not spec.below:
        return rng.standard_normal(shape, np.float32)
    drawn = rng.integers(0, spec.below, shape)
    if spec.below == 2:  # a mask: true first, then false, as padded sentences have it
        drawn = np.sort(drawn, axis=-1)[..., ::-1].copy()
        drawn[..., 0] = 1
    return drawn


def _first(model: Any) -> Any:
    """The model with positional inputs and its first output alone."""
    names = ("input_ids", "attention_mask") if hasattr(model, "embeddings") else None

    def call(inner: Any, *inputs: Any) -> Any:
        if names is None:
            return inner(*inputs, return_dict=False)[0]
        return inner(**dict(zip(names, inputs, strict=True)), return_dict=False)[0]

    return _call(model, call)


def _call(model: Any, forward: Callable[..., Any]) -> Any:
    from torch import nn

    class Positional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *inputs: Any) -> Any:
            return forward(self.inner, *inputs)

    return Positional()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracer's warnings: the shapes it fixes are meant to be fixed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _digest() -> str:
    recipe = ("zoo.py", "zoo_networks.py", "zoo_weights.py")
    texts = [(HERE / name).read_bytes() for name in recipe]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:10]


def main() -> None:
    folder, *names = sys.argv[1:]
    for name in names or NAMES:
        path = export(name, Path(folder))
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
