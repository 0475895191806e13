"""Function-preserving initialisation (Net2Net): an inserted sub-network leaves the network's output as it is.

The new sub-network *carries* the C channels that it reads: in its first C output channels the means over an image are
those of its input. The classifier goes on reading them with the weights that it has, and ignores the other channels at
first. These keep their He initialisation: they differ from one another, no ReLU has silenced them, and the classifier
learns to look at them from the first step on. How a channel gets through a layer:

=====================  ===============================================================================================
convolution            a filter that copies it: one at the tap that lies on the pixel, in the middle if the padding is
                       half of the filter, tap ``padding`` else
batch norm             ``gamma = sqrt(var + eps)`` and ``beta = mean``, with the statistics of a sample
residual block         the body adds nothing, for lack of gamma in its last batch norm. Where the block halves the
                       image, it adds to each pixel that the shortcut picks what the mean over 2 x 2 pixels is more
dense layer            a column of the identity matrix; the mean over the pixels, if an image was flattened
max pooling            the largest pixel of a window is not the mean. The convolution before it averages over windows,
                       which is exact for an image of one window, and the nearest form else
average pooling        the mean over the image stays if the windows touch and cover it, and nearly stays else
(leaky) ReLU, dropout  unchanged: carried channels are nowhere negative, and dropout does nothing in evaluation
=====================  ===============================================================================================

It is the network's output in evaluation that stays. In training, batch norm goes by the statistics of the batch, which
differ from the sample's, and dropout drops; a residual block that keeps the shape is exact in training too.

Sources: Chen, Goodfellow and Shlens (2015), Net2Net, arXiv:1511.05641; for the residual block Goyal et al. (2017),
arXiv:1706.02677, section 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from incnet.backend import Array, asarray, asnumpy, ops
from incnet.layer import Layer, Shape
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
    Subsample,
)

__all__ = ["carry", "carry_classifier", "check_carried"]

# Of the mean square length of a centred row of features: small beside what they tell, large beside rounding.
RIDGE = 1e-2


def carry(subnetwork: Layer, x: Array) -> Array:
    """Let ``subnetwork`` carry the channels of its input, and return its output for ``x``.

    Parameters
    ----------
    x : (N, H, W, C) or (N, C)
        What the sub-network reads for a sample of training images: outputs of a ReLU.

    Raises
    ------
    ValueError
        If x is negative somewhere, or a layer has too few channels or is of no kind above; then nothing is changed.
    """
    if (lowest := float(asnumpy(x).min())) < 0:
        raise ValueError(f"only outputs of a ReLU can be carried, and these features go down to {lowest:g}")
    channels, pixels = x.shape[-1], 1
    layers = list(subnetwork.flattened())
    _check_layers(layers, channels)
    for i, layer in enumerate(layers):
        match layer:
            case Conv2d():
                window = layer.stride if layer.stride > 1 else _pool_size(layers[i + 1 :])
                _set(layer, _mean_over(layer, window, x.shape) * np.eye(x.shape[-1], channels))
            case BatchNorm2d():
                _undo_normalisation(layer, x, channels)
            case Residual():
                _complete_shortcut(layer, x, channels)
            case Flatten():
                pixels = x[0].size // x.shape[-1]
            case Linear():
                _set(layer, np.tile(np.eye(x.shape[-1] // pixels, channels) / pixels, (pixels, 1)))
                pixels = 1
        x = layer.forward(x)
    return x


# Layers whose first channels, in the mean over an image, are those that they read, or can be made so; and those of them
# that leave the sign as it is, behind a ReLU.
UNSIGNED = (Dropout, Flatten, GlobalAvgPool2d, Identity, MaxPool2d, AvgPool2d)
CARRYING = (Conv2d, BatchNorm2d, Residual, Linear, ReLU, LeakyReLU, *UNSIGNED)


def check_carried(subnetworks: Mapping[str, Layer], shape: Shape) -> None:
    """Raise ValueError, naming what is in the way, unless :func:`carry` can carry all sub-networks but the first.

    Parameters
    ----------
    subnetworks : mapping of str to Layer
        In order, from the input up.
    shape : tuple of int
        (H, W, C) of an image.
    """
    for (below, lower), (name, upper) in pairwise(subnetworks.items()):
        shape, last = lower.output_shape(shape), [each for each in lower.flattened() if type(each) not in UNSIGNED][-1]
        if type(last) not in (ReLU, Residual):
            raise ValueError(f"{below} ends with {last!r}: only outputs of a ReLU can be carried through {name}")
        try:
            _check_layers(list(upper.flattened()), shape[-1])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def _check_layers(layers: Sequence[Layer], channels: int) -> None:
    for i, layer in enumerate(layers):
        if type(layer) not in CARRYING:
            raise ValueError(f"how channels are carried through {layer!r} is not known")
        wrong = f"{channels} channels cannot be carried through {layer!r}: "
        match layer:
            case Conv2d() | Linear() if layer.weight.data.shape[-1] < channels:
                raise ValueError(wrong + "it makes fewer")
            case Conv2d() if layer.padding >= layer.kernel_size[0]:
                raise ValueError(wrong + "its border is as wide as its window")
            case Flatten() if not any(isinstance(later, Linear) for later in layers[i + 1 :]):
                raise ValueError(wrong + "there is no dense layer behind it")
            case Residual(body=body, shortcut=shortcut):
                inside = list(body.flattened())
                if [type(part) for part in inside] != [Conv2d, BatchNorm2d, ReLU, Conv2d, BatchNorm2d]:
                    raise ValueError(wrong + "its body is not two convolutions with batch norm, and a ReLU between")
                _check_layers(inside[3:], channels)
                if type(shortcut) not in (Identity, Subsample):
                    _check_layers(list(shortcut.flattened()), channels)


def carry_classifier(old: Layer, new: Layer, before: Array, after: Array) -> None:
    """Let the classifier ``new`` make of ``after`` what ``old`` makes of ``before``, as nearly as it can.

    Parameters
    ----------
    old, new : Layer
        Whose one dense layer has weights (C, classes) and (K, classes), K >= C; they may be the same.
    before, after : (N, C) and (N, K)
        What the dense layers read for a sample of images.

    Notes
    -----
    The first C rows of the new weights are the old ones, the others zero. What is then missing, nothing but rounding
    where the channels were carried exactly, is predicted from all that the new layer reads, by ridge regression. With
    missing and after centred over the sample, and lambda = ``RIDGE`` times the mean square length of a row::

        correction = after^T (after after^T + lambda I)^-1 missing
    """
    dense, new_dense = (each for layer in (old, new) for each in layer.flattened() if isinstance(each, Linear))
    weight, bias, before, after = (
        np.array(asnumpy(array), np.float64) for array in (dense.weight.data, dense.bias.data, before, after)
    )
    kept = np.zeros(new_dense.weight.data.shape)
    kept[: len(weight)] = weight
    missing = before @ weight - after @ kept
    centred = after - after.mean(axis=0)
    products = centred @ centred.T
    ridge = RIDGE * np.trace(products) / len(after) * np.eye(len(after))
    correction = centred.T @ np.linalg.solve(products + ridge, missing - missing.mean(axis=0))
    intercept = missing.mean(axis=0) - after.mean(axis=0) @ correction
    new_dense.weight.data[...] = asarray(kept + correction, new_dense.weight.data.dtype)
    new_dense.bias.data[...] = asarray(bias + intercept, new_dense.bias.data.dtype)


# One kind of layer after the other.


def _set(layer: Conv2d | Linear, weight: np.ndarray) -> None:
    """Let ``weight``, (Kh, Kw, C, K) or (C, K), be what makes the first K output channels, without bias."""
    channels = weight.shape[-1]
    layer.weight.data[..., :channels] = asarray(weight, layer.weight.data.dtype)
    if layer.bias is not None:
        layer.bias.data[:channels] = 0


def _copy(conv: Conv2d) -> np.ndarray:
    """Taps (Kh, Kw, 1, 1) that take the very pixel."""
    taps = np.zeros((*conv.kernel_size, 1, 1))
    taps[conv.padding, conv.padding] = 1
    return taps


def _mean_over(conv: Conv2d, size: int, shape: tuple[int, ...]) -> np.ndarray:
    """Taps (Kh, Kw, 1, 1) that take the mean over size x size pixels, from the very one on; one, if more do not fit.

    Scaled up for images (N, H, W, C) whose last windows reach over the edge, so that the mean over the image stays.
    """
    end = conv.padding + size
    if end > min(conv.kernel_size):
        return _copy(conv)
    rows, cols, _ = conv.output_shape(shape[1:])
    taps = np.zeros((*conv.kernel_size, 1, 1))
    taps[conv.padding : end, conv.padding : end] = 1 / size**2
    return taps * max(1, conv.stride**2 * rows * cols / (shape[1] * shape[2]))


def _pool_size(layers: Sequence[Layer]) -> int:
    """Size of the windows of max pooling, if that is the first of ``layers`` beyond norm and ReLU; else 1."""
    behind = next((layer for layer in layers if not isinstance(layer, BatchNorm2d | ReLU | LeakyReLU)), None)
    return behind.size if isinstance(behind, MaxPool2d) else 1


def _undo_normalisation(norm: BatchNorm2d, x: Array, channels: int) -> None:
    """Take the running statistics from x, and undo what they do to the first channels."""
    mean, var = ops.batch_norm_stats(x)
    norm.running_mean[...], norm.running_var[...] = mean, var
    norm.gamma.data[:channels] = asarray(np.sqrt(asnumpy(var)[:channels] + norm.eps), x.dtype)
    norm.beta.data[:channels] = mean[:channels]


def _complete_shortcut(residual: Residual, x: Array, channels: int) -> None:
    """Let the body add what the shortcut lacks to the mean over windows of stride x stride pixels.

    That has either sign, so it passes the ReLU within the body as two channels, of what is above zero and below. Where
    there is no stride, or no room, the body adds nothing.
    """
    match list(residual.body.flattened()):
        case [Conv2d() as conv1, BatchNorm2d() as norm1, ReLU() as relu, Conv2d() as conv2, BatchNorm2d() as norm2]:
            hidden = conv1.weight.data.shape[3]
    if not isinstance(residual.shortcut, Identity | Subsample):
        carry(residual.shortcut, x)
    if conv1.stride == 1 or hidden < 2 * channels:
        norm2.gamma.data[:channels] = norm2.beta.data[:channels] = 0
        return
    each = np.eye(x.shape[-1], channels)
    lacking = _mean_over(conv1, conv1.stride, x.shape) - _copy(conv1)
    _set(conv1, lacking * np.hstack([each, -each]))
    _set(conv2, _copy(conv2) * (np.eye(hidden, channels) - np.eye(hidden, channels, -channels)))
    y = conv1.forward(x)
    _undo_normalisation(norm1, y, 2 * channels)
    _undo_normalisation(norm2, conv2.forward(relu.forward(norm1.forward(y))), channels)
