"""Networks that Rekindle trains itself: a small residual network for small pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rekindle._errors import UsageError


def _norm_conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):  # type: ignore[misc]  # mypy does not follow torch
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 2).

    Where the shape changes the shortcut is average pooling and a 1x1 convolution (He, T. et al.,
    "Bag of Tricks", 2019, ResNet-D): a strided 1x1 convolution would skip 3/4 of its input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _norm_conv(inputs, outputs, 3, stride)
        self.second = _norm_conv(outputs, outputs, 3)
        shortcut: list[nn.Module] = [nn.AvgPool2d(stride)] if stride > 1 else []
        if stride > 1 or inputs != outputs:
            shortcut.append(_norm_conv(inputs, outputs, 1))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu(self.first(x)))
        return torch.relu(y + self.shortcut(x))


class SmallResNet(nn.Module):  # type: ignore[misc]
    """Residual network for pictures of about 32 x 32: (N, 3, H, W) float -> logits (N, classes).

    One stage for each width, `blocks[i]` blocks in it; each stage but the first halves H and W.
    ResNet-20 of He et al. 2016 (section 4.2) has widths (16, 32, 64), blocks (3, 3, 3).
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int], *, classes: int = 10) -> None:
        super().__init__()
        if len(widths) != len(blocks) or not widths or min(*widths, *blocks, classes) < 1:
            raise UsageError(
                f"SmallResNet got widths={tuple(widths)}, blocks={tuple(blocks)}, "
                f"classes={classes}",
                hint="give as many block counts as widths, all at least 1",
            )
        self.stem = _norm_conv(3, widths[0], 3)
        layers: list[nn.Module] = []
        inputs = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                layers.append(BasicBlock(inputs, width, 2 if stage and not block else 1))
                inputs = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(torch.relu(self.stem(x)))
        logits: Tensor = self.head(functional.adaptive_avg_pool2d(y, 1).flatten(1))
        return logits
