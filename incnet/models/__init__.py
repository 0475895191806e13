"""Architectures, as rows of units that are partitioned into sub-networks."""

from __future__ import annotations

import numpy as np

from incnet.layer import Shape
from incnet.layers import GlobalAvgPool2d, Interleaved, Linear, Sequential
from incnet.models.partition import Unit, partition
from incnet.models.resnet import resnet
from incnet.models.vgg import vgg16
from incnet.names import ARCHITECTURES

__all__ = ["ARCHITECTURES", "Unit", "build", "make_classifier", "partition", "resnet", "vgg16"]


def build(
    arch: str,
    input_shape: Shape,
    *,
    rng: np.random.Generator,
    split: str | int = "filters",
    shortcut: str = "A",
    dense_std: float | None = None,
    dtype: np.dtype | type = np.float32,
) -> dict[str, Sequential | Interleaved]:
    """Sub-networks S1 .. SK of an architecture, by name.

    Parameters
    ----------
    arch : str
        One of :data:`ARCHITECTURES`, or ``resnetN`` for any other N = 6n + 2.
    input_shape : tuple of int
        (H, W, C) of an image.
    rng : numpy.random.Generator
        Draws the weights (He).
    split : "filters", "blocks", "depth", "depth:K" or int
        See :func:`incnet.models.partition.partition`.
    shortcut : {"A", "B"}
        Of a ResNet, see :func:`incnet.layers.residual_block`.
    dense_std : float, optional
        Deviation of the weights of VGG-16's dense layers at the start; He's without it.
    dtype : numpy.dtype or type
        Of the parameters.

    Raises
    ------
    ValueError
        If there is no such architecture or partition.
    """
    if arch in ("vgg16", "vgg16-bn"):
        units = vgg16(input_shape, rng=rng, batch_norm=arch == "vgg16-bn", dense_std=dense_std, dtype=dtype)
    elif arch.startswith("resnet") and arch[6:].isdecimal():
        units = resnet(int(arch[6:]), input_shape, rng=rng, shortcut=shortcut, dtype=dtype)
    else:
        raise ValueError(f"unknown architecture {arch!r}: choose one of {', '.join(ARCHITECTURES)}")
    return partition(units, split)


def make_classifier(
    shape: Shape,
    num_classes: int,
    *,
    rng: np.random.Generator,
    dense_std: float | None = None,
    dtype: np.dtype | type = np.float32,
) -> Sequential:
    """Global average pooling, where the input is spatial, and one dense layer to the classes.

    Parameters
    ----------
    shape : tuple of int
        Of the features of an image, (H, W, C) or (features,).
    num_classes : int
        Number of logits.
    rng : numpy.random.Generator
        Draws the weights (He); the bias starts at zero.
    dense_std : float, optional
        Deviation of the weights at the start where they read dense layers: features as a row.
    dtype : numpy.dtype or type
        Of the parameters.
    """
    if len(shape) == 3:
        return Sequential({"pool": GlobalAvgPool2d(), "linear": Linear(shape[-1], num_classes, rng=rng, dtype=dtype)})
    return Sequential({"linear": Linear(shape[-1], num_classes, rng=rng, std=dense_std, dtype=dtype)})
