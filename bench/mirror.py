"""Any incnet layer as the PyTorch module that computes the same, with the same weights.

    module = mirror(graph.subnetworks["S2"])

Modules are those that a PyTorch user would choose, activations in place. Tensors are (N, C, H, W), images in incnet are
(N, H, W, C).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from incnet.backend import Array, asnumpy
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

__all__ = ["mirror", "rmsprop", "to_torch"]

AXES = {4: (3, 2, 0, 1), 2: (1, 0)}  # of an array, in the order of a tensor


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
        for name, array in layer.state().items():
            tensor = getattr(module, {"gamma": "weight", "beta": "bias"}.get(name, name))
            # Filters (Kh, Kw, C, K) are (K, C, Kh, Kw) there, dense weights (in, out) are (out, in).
            tensor.copy_(torch.from_numpy(asnumpy(array).transpose(*AXES.get(array.ndim, (0,)))))
    return module


def to_torch(images: Array) -> torch.Tensor:
    """Images (N, H, W, C) as a tensor (N, C, H, W) on the same memory, in PyTorch's channels_last order."""
    return torch.from_numpy(asnumpy(images)).permute(0, 3, 1, 2)


def rmsprop(
    module: nn.Module, *, lr: float, rho: float, momentum: float, eps: float, weight_decay: float
) -> torch.optim.Optimizer:
    """RMSProp as :class:`incnet.optim.RMSProp`: weight decay on the weights of convolutions and dense layers alone."""
    decayed, others = ([p for p in module.parameters() if (p.ndim > 1) == weights] for weights in (True, False))
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.RMSprop(groups, lr=lr, alpha=rho, momentum=momentum, eps=eps)
