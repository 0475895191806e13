"""The layer library: textbook units, each with its formulas and a hand-written backward pass."""

from incnet.layers.activation import LeakyReLU, ReLU
from incnet.layers.conv import Conv2d
from incnet.layers.dropout import Dropout
from incnet.layers.interleaved import Interleaved
from incnet.layers.linear import Flatten, Linear
from incnet.layers.norm import BatchNorm2d
from incnet.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from incnet.layers.residual import Identity, Residual, Subsample, residual_block
from incnet.layers.sequential import Sequential

__all__ = [
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Identity",
    "Interleaved",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Residual",
    "Sequential",
    "Subsample",
    "residual_block",
]
