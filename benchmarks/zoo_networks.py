"""PyTorch networks of the zoo that neither `transformers` nor `diffusers` has, written afresh.

Each follows its paper; what is left out or smaller is said in the docstring. All take float32
(N, channels, height, width) unless stated, and return logits unless stated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _round_to_8(channels: float) -> int:
    return max(8, int(channels + 4) // 8 * 8)


class _ConvNorm(nn.Sequential):
    """Convolution with "same" padding for odd kernels, batch normalisation, activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            activation(),
        )


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = _round_to_8(channels / 4)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class _InvertedResidual(nn.Module):
    def __init__(
        self,
        inputs: int,
        kernel: int,
        expanded: int,
        outputs: int,
        gated: bool,
        hard: bool,
        stride: int,
    ) -> None:
        super().__init__()
        activation = nn.Hardswish if hard else nn.ReLU
        first = [_ConvNorm(inputs, expanded, activation=activation)] if expanded != inputs else []
        self.body = nn.Sequential(
            *first,
            _ConvNorm(expanded, expanded, kernel, stride, expanded, activation),
            _SqueezeExcite(expanded) if gated else nn.Identity(),
            _ConvNorm(expanded, outputs, activation=nn.Identity),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class MobileNetV3Small(nn.Sequential):
    """MobileNetV3-Small (Howard et al. 2019, table 2): images of 224 x 224."""

    # kernel, expanded channels, outputs, squeeze-and-excite, hard-swish, stride
    ROWS = (
        (3, 16, 16, True, False, 2),
        (3, 72, 24, False, False, 2),
        (3, 88, 24, False, False, 1),
        (5, 96, 40, True, True, 2),
        (5, 240, 40, True, True, 1),
        (5, 240, 40, True, True, 1),
        (5, 120, 48, True, True, 1),
        (5, 144, 48, True, True, 1),
        (5, 288, 96, True, True, 2),
        (5, 576, 96, True, True, 1),
        (5, 576, 96, True, True, 1),
    )

    def __init__(self, classes: int = 1000) -> None:
        inputs = (16, *(row[2] for row in self.ROWS))
        super().__init__(
            _ConvNorm(3, 16, 3, 2, activation=nn.Hardswish),
            *(_InvertedResidual(n, *row) for n, row in zip(inputs, self.ROWS, strict=False)),
            _ConvNorm(96, 576, activation=nn.Hardswish),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(576, 1024),
            nn.Hardswish(),
            nn.Linear(1024, classes),
        )


class _Fire(nn.Module):
    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.one = nn.Conv2d(squeezed, expanded, 1)
        self.three = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.one(x).relu(), self.three(x).relu()], 1)


class SqueezeNet(nn.Sequential):
    """SqueezeNet 1.1 (Iandola et al. 2016): images of 224 x 224, no batch normalisation."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__(
            nn.Conv2d(3, 64, 3, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            _Fire(64, 16, 64),
            _Fire(128, 16, 64),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            _Fire(128, 32, 128),
            _Fire(256, 32, 128),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            _Fire(256, 48, 192),
            _Fire(384, 48, 192),
            _Fire(384, 64, 256),
            _Fire(512, 64, 256),
            nn.Conv2d(512, classes, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


class _DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


class DenseNet(nn.Sequential):
    """DenseNet-121 (Huang et al. 2017): images of 224 x 224; concatenation upon concatenation."""

    def __init__(
        self, blocks: tuple[int, ...] = (6, 12, 24, 16), growth: int = 32, classes: int = 1000
    ) -> None:
        width = 2 * growth
        parts: list[nn.Module] = [_ConvNorm(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)]
        for index, layers in enumerate(blocks):
            if index:
                parts += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width // 2, 1)]
                parts += [nn.AvgPool2d(2)]
                width //= 2
            parts += [_DenseLayer(width + i * growth, growth) for i in range(layers)]
            width += layers * growth
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
        super().__init__(*parts, nn.BatchNorm2d(width), nn.ReLU(), *head)


class _Split(nn.Module):
    """Cross-stage block: half the channels pass by a chain whose every link is kept."""

    def __init__(self, inputs: int, outputs: int, links: int, residual: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.enter = _ConvNorm(inputs, outputs, activation=nn.SiLU)
        self.links = nn.ModuleList(
            nn.Sequential(
                _ConvNorm(half, half, 3, activation=nn.SiLU),
                _ConvNorm(half, half, 3, activation=nn.SiLU),
            )
            for _ in range(links)
        )
        self.leave = _ConvNorm((2 + links) * half, outputs, activation=nn.SiLU)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        for link in self.links:
            made = link(parts[-1])
            parts.append(parts[-1] + made if self.residual else made)
        return self.leave(torch.cat(parts, 1))


class _PoolPyramid(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = _ConvNorm(width, width // 2, activation=nn.SiLU)
        self.leave = _ConvNorm(2 * width, width, activation=nn.SiLU)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class _BoxHead(nn.Module):
    """Class scores and box edges of one scale; an edge is the mean of a distribution (bins)."""

    BINS = 16

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        boxes, scores = 4 * self.BINS, max(width, classes)
        self.boxes = nn.Sequential(
            _ConvNorm(width, boxes, 3, activation=nn.SiLU),
            _ConvNorm(boxes, boxes, 3, activation=nn.SiLU),
            nn.Conv2d(boxes, boxes, 1),
        )
        self.scores = nn.Sequential(
            _ConvNorm(width, scores, 3, activation=nn.SiLU),
            _ConvNorm(scores, scores, 3, activation=nn.SiLU),
            nn.Conv2d(scores, classes, 1),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        bins = self.boxes(x).flatten(2).unflatten(1, (4, self.BINS)).softmax(2)
        places = torch.arange(self.BINS, dtype=x.dtype, device=x.device)
        edges = (bins * places[:, None]).sum(2)
        return edges, self.scores(x).flatten(2).sigmoid()


class Detector(nn.Module):
    """A YOLO-like detector, shaped as the nano models: (N, 3, 640, 640) to (N, 84, 8400).

    84 = box centre and size in pixels, then 80 class scores, decoded within the network.
    """

    def __init__(self, size: int = 640, classes: int = 80) -> None:
        super().__init__()
        silu = nn.SiLU
        self.early = nn.Sequential(
            _ConvNorm(3, 16, 3, 2, activation=silu),
            _ConvNorm(16, 32, 3, 2, activation=silu),
            _Split(32, 32, 1, True),
            _ConvNorm(32, 64, 3, 2, activation=silu),
            _Split(64, 64, 2, True),
        )
        self.middle = nn.Sequential(
            _ConvNorm(64, 128, 3, 2, activation=silu), _Split(128, 128, 2, True)
        )
        self.late = nn.Sequential(
            _ConvNorm(128, 256, 3, 2, activation=silu), _Split(256, 256, 1, True), _PoolPyramid(256)
        )
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.merge = nn.ModuleList(
            _Split(n, m, 1, False) for n, m in ((384, 128), (192, 64), (192, 128), (384, 256))
        )
        self.down = nn.ModuleList(_ConvNorm(n, n, 3, 2, activation=silu) for n in (64, 128))
        self.heads = nn.ModuleList(_BoxHead(n, classes) for n in (64, 128, 256))
        grids, strides = [], []
        for stride in (8, 16, 32):
            axis = torch.arange(size // stride) + 0.5
            y, x = torch.meshgrid(axis, axis, indexing="ij")
            grids.append(torch.stack([x.flatten(), y.flatten()]))
            strides.append(torch.full((1, x.numel()), float(stride)))
        self.register_buffer("grid", torch.cat(grids, 1))
        self.register_buffer("stride", torch.cat(strides, 1))

    def forward(self, image: Tensor) -> Tensor:
        fine = self.early(image)
        middle = self.middle(fine)
        coarse = self.late(middle)
        top = self.merge[0](torch.cat([self.up(coarse), middle], 1))
        small = self.merge[1](torch.cat([self.up(top), fine], 1))
        medium = self.merge[2](torch.cat([self.down[0](small), top], 1))
        large = self.merge[3](torch.cat([self.down[1](medium), coarse], 1))
        scales = (small, medium, large)
        found = [head(x) for head, x in zip(self.heads, scales, strict=True)]
        edges = torch.cat([e for e, _ in found], 2)
        low, high = self.grid - edges[:, :2], self.grid + edges[:, 2:]
        boxes = torch.cat([(low + high) / 2, high - low], 1) * self.stride
        return torch.cat([boxes, torch.cat([s for _, s in found], 2)], 1)


class _Residual3d(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
            nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm3d(outputs),
        )
        self.short = (
            nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs)
            )
            if stride != 1 or inputs != outputs
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + self.short(x)).relu()


class ResNet3d(nn.Sequential):
    """R3D-10 at half width (after Hara et al. 2018): clips (N, 3, 16, 64, 64) to 400 actions."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 256), classes: int = 400) -> None:
        inputs = (widths[0], *widths)
        super().__init__(
            nn.Conv3d(3, widths[0], (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
            nn.BatchNorm3d(widths[0]),
            nn.ReLU(),
            *(
                _Residual3d(n, m, 1 if i == 0 else 2)
                for i, (n, m) in enumerate(zip(inputs, widths, strict=False))
            ),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], classes),
        )


class SpeechLSTM(nn.Module):
    """Two bidirectional LSTM layers: 80 mel bands (N, frames, 80) to 40 phone logits a frame."""

    def __init__(self, bands: int = 80, hidden: int = 256, phones: int = 40) -> None:
        super().__init__()
        self.lstm = nn.LSTM(bands, hidden, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, phones)

    def forward(self, mel: Tensor) -> Tensor:
        return self.head(self.lstm(mel)[0])
