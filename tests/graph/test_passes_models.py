"""Networks as people have them: what the passes leave of real files and of PyTorch's exports."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_models import CPU, agree, counts, normal, optimized

from rekindle.graph.infer import bind
from rekindle.graph.onnx_io import load
from rekindle.graph.passes import DEVICE, PORTABLE, run

REAL = {
    "mobilenet_v1_0.25_128_f32": {"Conv": 28, "GlobalAveragePool": 1, "Reorder": 1, "Flatten": 1},
    "mobilenet_v2_1.0_224_f32": {"Conv": 53, "GlobalAveragePool": 1, "Reorder": 1, "Flatten": 1},
    "resnet20_cifar10_f32": {
        "Conv": 19, "Slice": 4, "Pad": 2, "Reorder": 4, "GlobalAveragePool": 1, "Flatten": 1,
        "MatMul": 1,
    },
    "resnet56_cifar10_f32": {
        "Conv": 55, "Slice": 4, "Pad": 2, "Reorder": 4, "GlobalAveragePool": 1, "Flatten": 1,
        "MatMul": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_real_networks_become_few_nodes(test_data: Path, name: str) -> None:
    graph = load(test_data / "onnx" / f"{name}.onnx")
    (x,) = graph.input_specs()
    graph = bind(run(graph, PORTABLE, check=True), {x.name: (1, *x.shape[1:])})
    graph = run(graph, DEVICE, CPU, check=True)
    found: dict[str, int] = {}
    for operator, count in counts(graph).items():
        plain = operator.removeprefix("rekindle::")
        found[plain] = found.get(plain, 0) + count
    assert found == REAL[name]


@pytest.mark.parametrize("name", ["resnet20_cifar10_f32", "mobilenet_v1_0.25_128_f32"])
def test_real_networks_say_the_same(test_data: Path, name: str) -> None:
    proto = onnx.load(test_data / "onnx" / f"{name}.onnx")
    side = proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    agree(proto, {"input": normal(2, 3, side, side)}, tolerance=1e-4)


def exported(module, *inputs) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A module as PyTorch writes it, weights and statistics made plausible, and its inputs."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module.eval()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
            torch.nn.init.normal_(layer.running_mean)
    names = [f"x{i}" for i in range(len(inputs))]
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, inputs, buffer, input_names=names, dynamo=False, opset_version=17,
            do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE,
            dynamic_axes={n: {0: "N"} for n in names},
        )  # fmt: skip
    proto = onnx.load_from_string(buffer.getvalue())
    return proto, {n: t.numpy() for n, t in zip(names, inputs, strict=True)}


@pytest.mark.torch
def test_a_mobile_network_is_convolutions_and_gates() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Gate(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.down = nn.Conv2d(channels, 4, 1)
            self.up = nn.Conv2d(4, channels, 1)

        def forward(self, x):
            small = torch.relu(self.down(nn.functional.adaptive_avg_pool2d(x, 1)))
            return x * nn.functional.hardsigmoid(self.up(small))

    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(channels, 32, 1, bias=False), nn.BatchNorm2d(32), nn.Hardswish(),
                nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False), nn.BatchNorm2d(32),
                nn.SiLU(), Gate(32), nn.Conv2d(32, channels, 1), nn.BatchNorm2d(channels),
            )  # fmt: skip

        def forward(self, x):
            return x + self.body(x)

    module = nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 16, 3, 2, bias=False), nn.BatchNorm2d(16),
        nn.GELU(), Block(16), Block(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(),
        nn.Linear(16, 10),
    )  # fmt: skip
    proto, feeds = exported(module, torch.randn(2, 3, 16, 16))
    graph = agree(proto, feeds, tolerance=1e-4)
    assert counts(graph) == {
        "rekindle::Conv": 11, "GlobalAveragePool": 3, "Mul": 2, "Flatten": 1, "rekindle::MatMul": 1,
    }  # fmt: skip


@pytest.mark.torch
def test_a_residual_network_is_convolutions() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, ins: int, outs: int, stride: int) -> None:
            super().__init__()
            self.a = nn.Sequential(
                nn.Conv2d(ins, outs, 3, stride, 1, bias=False), nn.BatchNorm2d(outs), nn.ReLU(),
                nn.Conv2d(outs, outs, 3, 1, 1, bias=False), nn.BatchNorm2d(outs),
            )  # fmt: skip
            self.b = nn.Sequential()
            if stride > 1:
                self.b = nn.Sequential(
                    nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs)
                )

        def forward(self, x):
            return torch.relu(self.a(x) + self.b(x))

    module = nn.Sequential(
        nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.MaxPool2d(3, 2, 1), Block(16, 16, 1), Block(16, 32, 2), Block(32, 32, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    proto, feeds = exported(module, torch.randn(2, 3, 32, 32))
    graph = agree(proto, feeds, tolerance=1e-4)
    found = counts(graph)
    assert found.pop("Conv", 0) + found.pop("rekindle::Conv") == 8
    assert found == {"MaxPool": 1, "GlobalAveragePool": 1, "Flatten": 1, "rekindle::MatMul": 1}


@pytest.mark.torch
def test_a_transformers_products_take_bias_activation_and_residual() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(24)
            self.qkv, self.out = nn.Linear(24, 72), nn.Linear(24, 24)
            self.up, self.down = nn.Linear(24, 48), nn.Linear(48, 24)

        def forward(self, x):
            n, t, _ = x.shape
            q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, 4, 6).permute(2, 0, 3, 1, 4)
            scores = (q @ k.transpose(-2, -1)) * 6**-0.5
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, 24)
            x = x + self.out(mixed)
            return x + self.down(nn.functional.gelu(self.up(x)))

    proto, feeds = exported(nn.Sequential(Layer(), Layer()), torch.randn(2, 5, 24))
    graph = agree(proto, feeds, tolerance=1e-4)
    found = counts(graph)
    assert (found["rekindle::MatMul"], found["rekindle::Attention"]) == (8, 2)
    assert not {"Add", "Mul", "Div", "Erf", "Pow", "Constant", "Shape"} & set(found)


def test_portable_passes_write_plain_onnx_only() -> None:
    from small_models import model

    proto = model(
        "(float[N,3,8,8] x) => (float[N,4] y)"
        "{ c = Conv(x, w)  r = Relu(c)  m = ReduceMean<axes=[2,3], keepdims=0>(r)"
        "  y = Gemm(m, k) }",
        w=normal(4, 3, 3, 3), k=normal(4, 4),
    )  # fmt: skip
    graph = run(optimized(proto, {"x": normal(1, 3, 8, 8)}, []), PORTABLE)
    assert all(not n.domain for n in graph.nodes)
