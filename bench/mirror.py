"""Any incnet layer as the PyTorch module that computes the same, with the same weights.

    module = mirror(graph.subnetworks["S2"])

Modules are those that a PyTorch user would choose, activations in place. Tensors are (N, C, H, W), images in incnet are
(N, H, W, C).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from bench.peer import named_arrays
from incnet.backend import asnumpy
from incnet.layer import Layer
from incnet.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Subsample,
)

__all__ = ["mirror"]


class MirroredResidual(nn.Module):
    """``relu(body(x) + shortcut(x))``."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class MirroredSubsample(nn.Module):
    """Every ``stride``-th pixel, the channels filled up with zeros."""

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the shortcut's output."""
        picked = x[:, :, :: self.stride, :: self.stride]
        return F.pad(picked, (0, 0, 0, 0, 0, self.channels - x.shape[1]))


class MirroredPool(nn.Module):
    """Mean over the pixels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, C)."""
        return x.mean((2, 3))


class MirroredFlatten(nn.Module):
    """Rows in incnet's order: pixel after pixel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, H*W*C)."""
        return x.permute(0, 2, 3, 1).flatten(1)


def mirror(layer: Layer) -> nn.Module:
    """Return the PyTorch module of a layer, with a copy of its weights and statistics.

    Raises
    ------
    TypeError
        If no module is known for the layer.
    """
    match layer:
        case Sequential():
            return nn.Sequential(*map(mirror, layer.children().values()))
        case Residual():
            return MirroredResidual(mirror(layer.body), mirror(layer.shortcut))
        case Conv2d():
            c, k = layer.weight.data.shape[2:]
            module: nn.Module = nn.Conv2d(
                c, k, layer.kernel_size, layer.stride, layer.padding, bias=layer.bias is not None
            )
        case BatchNorm2d():
            module = nn.BatchNorm2d(layer.gamma.data.size, eps=layer.eps, momentum=1 - layer.decay)
        case Linear():
            module = nn.Linear(*layer.weight.data.shape)
        case MaxPool2d():
            return nn.MaxPool2d(layer.size, layer.stride)
        case AvgPool2d():
            return nn.AvgPool2d(layer.size, layer.stride)
        case LeakyReLU():
            return nn.LeakyReLU(layer.slope)
        case ReLU():
            return nn.ReLU(inplace=True)
        case Dropout():
            return nn.Dropout(layer.rate)
        case GlobalAvgPool2d():
            return MirroredPool()
        case Flatten():
            return MirroredFlatten()
        case Identity():
            return nn.Identity()
        case Subsample():
            return MirroredSubsample(layer.stride, layer.channels)
        case _:
            raise TypeError(f"no PyTorch module is known for {type(layer).__name__}")
    with torch.no_grad():
        for _, array, tensor in named_arrays(layer, module):
            tensor.copy_(torch.from_numpy(asnumpy(array)))
    return module
