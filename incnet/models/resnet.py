"""ResNet for small images: 6n + 2 layers (He et al., 2015, arXiv:1512.03385, section 4.2)."""

from __future__ import annotations

import numpy as np

from incnet.layer import Layer, Shape
from incnet.layers import BatchNorm2d, Conv2d, ReLU, Sequential, residual_block
from incnet.models.partition import Unit
from incnet.names import DEEPEST

__all__ = ["resnet"]


def resnet(
    depth: int,
    input_shape: Shape,
    *,
    rng: np.random.Generator,
    shortcut: str = "A",
    dtype: np.dtype | type = np.float32,
) -> list[Unit]:
    """Units of ResNet-``depth``: 3n residual blocks, the first one together with the stem.

    Parameters
    ----------
    depth : int
        6n + 2: 20, 32, 44, 56, ..., at most 1202.
    input_shape : tuple of int
        (H, W, C) of an image.
    rng : numpy.random.Generator
        Draws all weights, from the input up.
    shortcut : {"A", "B"}
        Where the shape changes, see :func:`incnet.layers.residual_block`.
    dtype : numpy.dtype or type
        Of the parameters.

    Raises
    ------
    ValueError
        If ``depth`` is no 6n + 2, or larger.
    """
    blocks, rest = divmod(depth - 2, 6)
    if blocks < 1 or rest or depth > DEEPEST:
        raise ValueError(f"ResNet of depth {depth}: choose 6n + 2 layers, such as 20, 32, 44, 56, at most {DEEPEST}")
    units: list[Unit] = []
    channels = 16
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(1, blocks + 1):
            layers: dict[str, Layer] = {}
            if not units:
                layers["stem"] = Sequential(
                    {
                        "conv": Conv2d(input_shape[2], 16, 3, padding=1, bias=False, rng=rng, dtype=dtype),
                        "norm": BatchNorm2d(16, dtype=dtype),
                        "relu": ReLU(),
                    }
                )
            stride = 2 if filters != channels else 1
            body = residual_block(channels, filters, stride=stride, shortcut=shortcut, rng=rng, dtype=dtype)
            name = f"block{stage}_{block}"
            layer = Sequential({**layers, "block": body}) if layers else body
            units.append(Unit(name, f"{filters} filters", layer))
            channels = filters
    return units
