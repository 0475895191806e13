"""The same networks in PyTorch: what parity tests compare with.

Written as a PyTorch user would write them, from the papers and not from incnet's layers; only the widths and the order
of the layers agree, so that weights can be copied from one to the other::

    twin = make_twin("resnet20", (32, 32, 3), num_classes=10)
    copy_weights(graph, twin)
    optimizer = rmsprop(twin, lr=1e-4, rho=0.9, momentum=0.9, eps=1e-7, weight_decay=1e-4)
    loss = F.cross_entropy(twin(to_torch(x)), torch.from_numpy(labels))

Images are NHWC in incnet and NCHW here, filters HWIO and OIHW, dense weights (in, out) and (out, in).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from incnet.backend import Array, asnumpy
from incnet.layer import Layer, Shape
from incnet.layers import BatchNorm2d, Conv2d, Linear

__all__ = [
    "VGG16",
    "ResNet",
    "copy_weights",
    "in_our_layout",
    "make_twin",
    "matching_layers",
    "named_arrays",
    "rmsprop",
    "sgd",
    "to_numpy",
    "to_torch",
    "twin_parameter",
]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut is the identity or, across a change of shape, option "A" or "B"."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride, self.new_channels = stride, out_channels - in_channels
        self.projection = None
        if option == "B" and (stride > 1 or self.new_channels):
            self.projection = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu(body(x) + shortcut(x))."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.projection is not None:
            return F.relu(y + self.projection(x))
        if self.stride > 1 or self.new_channels:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(y + x)


class ResNet(nn.Module):
    """ResNet-6n+2 for small images (He et al., 2015, arXiv:1512.03385, section 4.2), with pooling and a dense layer.

    Parameters
    ----------
    depth : int
        6n + 2.
    in_channels, num_classes : int
        Of the images, and of the logits.
    option : {"A", "B"}
        Shortcut where the shape changes.
    """

    def __init__(self, depth: int, in_channels: int, num_classes: int, option: str = "A") -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        blocks, channels = [], 16
        for filters in (16, 32, 64):
            for _ in range((depth - 2) // 6):
                blocks.append(BasicBlock(channels, filters, 2 if filters > channels else 1, option))
                channels = filters
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of images (N, C, H, W)."""
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        return self.linear(x.mean((2, 3)))


class VGG16(nn.Module):
    """VGG-16 (Simonyan and Zisserman, 2014, arXiv:1409.1556, configuration D).

    Parameters
    ----------
    image_size : (int, int)
        H and W; an image that has shrunk to one pixel in either direction is pooled no further.
    in_channels, num_classes : int
        Of the images, and of the logits.
    batch_norm : bool
        Normalise after each convolution, which then has no bias.
    dropout : float
        Rate after each dense layer but the last.
    """

    def __init__(
        self, image_size: tuple[int, int], in_channels: int, num_classes: int, *, batch_norm: bool, dropout: float = 0.5
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        (height, width), channels = image_size, in_channels
        for filters, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(convolutions):
                layers.append(nn.Conv2d(channels, filters, 3, padding=1, bias=not batch_norm))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(filters))
                layers.append(nn.ReLU())
                channels = filters
            if height > 1 and width > 1:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
        self.features = nn.Sequential(*layers)
        self.dense = nn.Sequential(
            nn.Linear(height * width * channels, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of images (N, C, H, W)."""
        x = self.features(x).permute(0, 2, 3, 1)  # flattened as incnet's images lie in memory
        return self.dense(x.flatten(1))


def make_twin(arch: str, input_shape: Shape, num_classes: int, *, dropout: float = 0.5, option: str = "A") -> nn.Module:
    """Return the PyTorch twin of an architecture of :data:`incnet.models.ARCHITECTURES`, with its classifier.

    Parameters
    ----------
    input_shape : tuple of int
        (H, W, C) of an image.
    dropout, option
        See :class:`VGG16` and :class:`ResNet`.

    Raises
    ------
    ValueError
        If there is no such architecture.
    """
    height, width, channels = input_shape
    if arch in ("vgg16", "vgg16-bn"):
        return VGG16((height, width), channels, num_classes, batch_norm=arch == "vgg16-bn", dropout=dropout)
    if arch.startswith("resnet"):
        return ResNet(int(arch[6:]), channels, num_classes, option)
    raise ValueError(f"no PyTorch twin of {arch!r}")


# From one to the other.


def to_torch(x: Array) -> torch.Tensor:
    """Images (N, H, W, C) as a tensor (N, C, H, W) on the same memory, in PyTorch's channels_last order."""
    return torch.from_numpy(asnumpy(x)).permute(0, 3, 1, 2)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return images (N, C, H, W), or anything of fewer dimensions, as an array in incnet's order (N, H, W, C)."""
    array = tensor.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def matching_layers(network: Layer, twin: nn.Module) -> list[tuple[str, Layer, nn.Module]]:
    """Return (name, layer, its twin) for every convolution, batch norm and dense layer, from the input up.

    Raises
    ------
    ValueError
        If the two networks do not have the same layers in the same order.
    """
    kinds: tuple[tuple[type[Layer], type[nn.Module]], ...] = (
        (Conv2d, nn.Conv2d),
        (BatchNorm2d, nn.BatchNorm2d),
        (Linear, nn.Linear),
    )
    ours = [(name, layer) for name, layer in _named_layers(network) if isinstance(layer, tuple(k for k, _ in kinds))]
    theirs = [module for module in twin.modules() if isinstance(module, tuple(k for _, k in kinds))]
    matches = [(name, layer, module) for (name, layer), module in zip(ours, theirs, strict=False)]
    for name, layer, module in matches:
        if not any(isinstance(layer, k) and isinstance(module, t) for k, t in kinds):
            raise ValueError(f"{name} is a {type(layer).__name__} here and a {type(module).__name__} in the twin")
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} layers here and {len(theirs)} in the twin")
    return matches


def _named_layers(layer: Layer, prefix: str = "") -> Iterator[tuple[str, Layer]]:
    for name, child in layer.children().items():
        yield prefix + name, child
        yield from _named_layers(child, f"{prefix}{name}.")


def named_arrays(layer: Layer, module: nn.Module) -> Iterator[tuple[str, Array, torch.Tensor]]:
    """Yield (name, array, its twin in incnet's layout) for every parameter and statistic of two matching layers.

    The tensors are views: writing to them, in place, writes to the module.
    """
    for name, array in layer.state().items():
        yield name, array, in_our_layout(twin_parameter(module, name), module)


def twin_parameter(module: nn.Module, name: str) -> torch.Tensor:
    """Return the parameter or buffer of a module for incnet's name of it."""
    return getattr(module, {"gamma": "weight", "beta": "bias"}.get(name, name))


def in_our_layout(tensor: torch.Tensor, module: nn.Module) -> torch.Tensor:
    """View a parameter, or its gradient, as incnet lays it out: filters (Kh, Kw, C, K), dense weights (in, out)."""
    if isinstance(module, nn.Conv2d) and tensor.ndim == 4:
        return tensor.permute(2, 3, 1, 0)
    return tensor.T if tensor.ndim == 2 else tensor


@torch.no_grad()
def copy_weights(network: Layer, twin: nn.Module) -> None:
    """Give ``twin`` the parameters and running statistics of ``network``."""
    for _, layer, module in matching_layers(network, twin):
        for _, array, tensor in named_arrays(layer, module):
            tensor.copy_(torch.from_numpy(asnumpy(array)))


# Optimizers, set as incnet's are.


def rmsprop(
    module: nn.Module, *, lr: float, rho: float, momentum: float, eps: float, weight_decay: float
) -> torch.optim.Optimizer:
    """RMSProp as :class:`incnet.optim.RMSProp`: weight decay on the weights of convolutions and dense layers alone."""
    groups = _decayed_and_not(module, weight_decay)
    return torch.optim.RMSprop(groups, lr=lr, alpha=rho, momentum=momentum, eps=eps)


def sgd(module: nn.Module, *, lr: float, momentum: float, weight_decay: float) -> torch.optim.Optimizer:
    """Gradient descent with a heavy ball, as :class:`incnet.optim.SGD`."""
    return torch.optim.SGD(_decayed_and_not(module, weight_decay), lr=lr, momentum=momentum)


def _decayed_and_not(module: nn.Module, weight_decay: float) -> list[dict]:
    weights = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim == 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
