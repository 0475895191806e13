"""VGG-16 (Simonyan and Zisserman, 2014, arXiv:1409.1556, configuration D)."""

from __future__ import annotations

import math

import numpy as np

from incnet.layer import Layer, Shape
from incnet.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from incnet.models.partition import Unit

__all__ = ["vgg16"]

# (filters, convolutions) of the five stages; each ends with 2x2 max pooling.
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
DENSE = (4096, 4096)


def vgg16(
    input_shape: Shape,
    *,
    rng: np.random.Generator,
    batch_norm: bool = False,
    dropout: float = 0.5,
    dense_std: float | None = None,
    dtype: np.dtype | type = np.float32,
) -> list[Unit]:
    """Units of VGG-16: thirteen convolutions and two dense layers, each with its activation and what follows it.

    Parameters
    ----------
    input_shape : tuple of int
        (H, W, C) of an image. An image that has shrunk to one pixel in either direction is pooled no further. What is
        left goes to the dense layers as a row: 512 features of a 32x32 image, 7x7x512 of one of 224x224, for which the
        network was made; its first dense layer then has 102.8 million weights.
    rng : numpy.random.Generator
        Draws all weights, from the input up.
    batch_norm : bool
        Normalise after each convolution, which then has no bias.
    dropout : float
        Rate after each dense layer.
    dense_std : float, optional
        Deviation of the dense layers' weights at the start; He's without it.
    dtype : numpy.dtype or type
        Of the parameters.
    """
    units: list[Unit] = []
    height, width, channels = input_shape
    for stage, (filters, convolutions) in enumerate(STAGES, start=1):
        for i in range(1, convolutions + 1):
            layers: dict[str, Layer] = {
                "conv": Conv2d(channels, filters, 3, padding=1, bias=not batch_norm, rng=rng, dtype=dtype)
            }
            if batch_norm:
                layers["norm"] = BatchNorm2d(filters, dtype=dtype)
            layers["relu"] = ReLU()
            if i == convolutions and min(height, width) > 1:
                layers["pool"] = MaxPool2d(2)
                height, width = height // 2, width // 2
            units.append(Unit(f"conv{stage}_{i}", f"stage {stage}", Sequential(layers)))
            channels = filters
    features = math.prod((height, width, channels))
    for i, nodes in enumerate(DENSE, start=1):
        flatten: dict[str, Layer] = {"flatten": Flatten()} if i == 1 else {}
        dense = {
            "linear": Linear(features, nodes, rng=rng, std=dense_std, dtype=dtype),
            "relu": ReLU(),
            "dropout": Dropout(dropout, rng=rng),
        }
        units.append(Unit(f"dense{i}", "dense", Sequential({**flatten, **dense})))
        features = nodes
    return units
