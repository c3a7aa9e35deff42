"""Random weights that make a network's answer depend on everything in it.

Libraries draw small weights, and set scales to one and shifts to zero: attention is then nearly
uniform, residual branches vanish, and a wrong kernel could hide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
)  # fmt: skip


def randomise(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Draw all weights anew, so that activations stay near 1; sets the module to eval mode.

    Convolutions follow He et al. 2015. Batch normalisations get the statistics of `inputs`, a
    little off, as every network's are.
    """
    module.eval()
    norms = [m for m in module.modules() if isinstance(m, _BATCH_NORMS)]
    with torch.no_grad():
        for part in module.modules():
            if not isinstance(part, nn.RNNBase):  # drawn well already
                _draw_all(part)
        if norms:
            for norm in norms:
                norm.train()
                norm.momentum = 1.0
            module(*inputs)
            for norm in norms:
                norm.running_mean.add_(0.1 * torch.randn_like(norm.running_mean))
                norm.running_var.mul_(1 + 0.2 * torch.rand_like(norm.running_var))
    module.eval()


def _draw_all(part: nn.Module) -> None:
    kind = type(part).__name__
    for name, parameter in part.named_parameters(recurse=False):
        parameter.copy_(_draw(part, kind, name, parameter))
    if "FrozenBatchNorm" in kind:
        for name, buffer in part.named_buffers(recurse=False):
            buffer.copy_(_of_norm(name, buffer))


def _draw(part: nn.Module, kind: str, name: str, like: Tensor) -> Tensor:
    normal = torch.randn_like(like)
    if "Norm" in kind:
        return _of_norm(name, like)
    if "bias" in name and like.ndim == 1:
        return 0.1 * normal
    if isinstance(part, _CONVOLUTIONS):
        return nn.init.kaiming_normal_(normal, nonlinearity="relu")
    if isinstance(part, nn.Embedding):
        return 0.7 * normal
    if kind == "Conv1D":  # GPT-2's Linear, with the inputs first
        return normal * like.shape[0] ** -0.5
    if isinstance(part, nn.Linear):
        return normal * like.shape[1] ** -0.5
    if like.ndim == 1 or "scale" in name:  # of a residual branch
        return 0.2 + 0.4 * torch.rand_like(like)
    return 0.5 * normal  # positions, tokens, tables of biases


def _of_norm(name: str, like: Tensor) -> Tensor:
    scales = any(word in name for word in ("weight", "scale", "var"))
    return 0.5 + 0.7 * torch.rand_like(like) if scales else 0.2 * torch.randn_like(like)
