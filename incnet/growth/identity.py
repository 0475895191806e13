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

What max pooling changes, the classifier makes up for as well as it can: its weights are corrected by least squares.

It is the network's output in evaluation that stays. In training, batch norm goes by the statistics of the batch, which
differ from the sample's, and dropout drops; a residual block that keeps the shape is exact in training too.

Sources: Chen, Goodfellow and Shlens (2015), Net2Net, arXiv:1511.05641; for the residual block Goyal et al. (2017),
arXiv:1706.02677, section 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    Sequential,
    Subsample,
)

__all__ = ["carry", "carry_classifier", "check_carried", "read_by_classifier"]

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
        If x is negative somewhere, or a layer has too few channels, or is of a kind that is not known here.
    """
    if (lowest := float(asnumpy(x).min())) < 0:
        raise ValueError(f"only outputs of a ReLU can be carried, and these features go down to {lowest:g}")
    channels, pixels = x.shape[-1], 1
    layers = list(subnetwork.flattened())
    for i, layer in enumerate(layers):
        match layer:
            case Conv2d():
                window = layer.stride if layer.stride > 1 else _pool_size(layers[i + 1 :])
                _set_filters(layer, _mean_over(layer, window, x.shape), np.eye(x.shape[-1], channels))
            case BatchNorm2d():
                _undo_normalisation(layer, x, channels)
            case Residual():
                _complete_shortcut(layer, x, channels)
            case Flatten():
                pixels = x[0].size // x.shape[-1]
            case Linear():
                _set_columns(layer, np.tile(np.eye(x.shape[-1] // pixels, channels) / pixels, (pixels, 1)))
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
    below: tuple[str, Layer] | None = None
    for name, subnetwork in subnetworks.items():
        if below is not None:
            last = [layer for layer in below[1].flattened() if type(layer) not in UNSIGNED][-1]
            if type(last) not in (ReLU, Residual):
                raise ValueError(f"{below[0]} ends with {last!r}: only outputs of a ReLU can be carried through {name}")
            _check_layers(list(subnetwork.flattened()), shape[-1], name)
        shape, below = subnetwork.output_shape(shape), (name, subnetwork)


def _check_layers(layers: Sequence[Layer], channels: int, name: str) -> None:
    for i, layer in enumerate(layers):
        if type(layer) not in CARRYING:
            raise ValueError(f"how channels are carried through {layer!r}, in {name}, is not known")
        try:
            match layer:
                case Conv2d():
                    _must_fit(channels, layer, layer.weight.data.shape[3])
                    if layer.padding >= layer.kernel_size[0]:
                        raise ValueError("its border is as wide as its window")
                case Linear():
                    _must_fit(channels, layer, layer.weight.data.shape[1])
                case Flatten() if not any(isinstance(later, Linear) for later in layers[i + 1 :]):
                    raise ValueError("there is no dense layer behind it")
                case Residual():
                    _check_residual(layer, channels, name)
        except ValueError as error:
            raise ValueError(f"channels cannot be carried through {layer!r}, in {name}: {error}") from error


def _check_residual(residual: Residual, channels: int, name: str) -> None:
    body, shortcut = list(residual.body.flattened()), residual.shortcut
    if [type(layer) for layer in body] != [Conv2d, BatchNorm2d, ReLU, Conv2d, BatchNorm2d]:
        raise ValueError("its body is not two convolutions with batch norm, and a ReLU between")
    _check_layers(body[3:], channels, name)
    if type(shortcut) not in (Identity, Subsample):
        _check_layers(list(shortcut.flattened()), channels, name)


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
    old, new = _dense(old), _dense(new)
    weight, bias, before, after = (
        np.array(asnumpy(array), np.float64) for array in (old.weight.data, old.bias.data, before, after)
    )
    kept = np.zeros(new.weight.data.shape)
    kept[: len(weight)] = weight
    missing = before @ weight - after @ kept
    centred = after - after.mean(axis=0)
    products = centred @ centred.T
    ridge = RIDGE * np.trace(products) / len(after) * np.eye(len(after))
    correction = centred.T @ np.linalg.solve(products + ridge, missing - missing.mean(axis=0))
    intercept = missing.mean(axis=0) - after.mean(axis=0) @ correction
    new.weight.data[...] = asarray(kept + correction, new.weight.data.dtype)
    new.bias.data[...] = asarray(bias + intercept, new.bias.data.dtype)


def read_by_classifier(classifier: Layer, x: Array) -> Array:
    """What the classifier's dense layer reads where the uppermost sub-network makes x."""
    for layer in classifier.flattened():
        if not isinstance(layer, Linear):
            x = layer.forward(x)
    return x


def _dense(classifier: Layer) -> Linear:
    (dense,) = (layer for layer in classifier.flattened() if layer.trainable)
    assert isinstance(dense, Linear)
    return dense


# One kind of layer after the other.


def _set_filters(conv: Conv2d, taps: np.ndarray, mixture: np.ndarray) -> None:
    """Let filter k be ``taps`` (Kh, Kw) on the sum of the channels that column k of ``mixture`` weighs."""
    filters = mixture.shape[1]
    _must_fit(filters, conv, conv.weight.data.shape[3])
    weight = taps[:, :, None, None] * mixture
    conv.weight.data[..., :filters] = asarray(weight, conv.weight.data.dtype)
    if conv.bias is not None:
        conv.bias.data[:filters] = 0


def _set_columns(linear: Linear, matrix: np.ndarray) -> None:
    """Let ``matrix`` be the first columns of the weights."""
    columns = matrix.shape[1]
    _must_fit(columns, linear, linear.weight.data.shape[1])
    linear.weight.data[:, :columns] = asarray(matrix, linear.weight.data.dtype)
    linear.bias.data[:columns] = 0


def _must_fit(needed: int, layer: Layer, available: int) -> None:
    if available < needed:
        raise ValueError(f"{needed} channels cannot be carried through a {type(layer).__name__} with {available}")


def _copy(conv: Conv2d) -> np.ndarray:
    """Taps (Kh, Kw) that take the very pixel."""
    taps = np.zeros(conv.kernel_size)
    taps[conv.padding, conv.padding] = 1
    return taps


def _mean_over(conv: Conv2d, size: int, shape: tuple[int, ...]) -> np.ndarray:
    """Taps (Kh, Kw) that take the mean over size x size pixels, from the very one on; one pixel, if more do not fit.

    Scaled up for images (N, H, W, C) whose last windows reach over the edge, so that the mean over the image stays.
    """
    end = conv.padding + size
    if end > min(conv.kernel_size):
        return _copy(conv)
    rows, cols, _ = conv.output_shape(shape[1:])
    taps = np.zeros(conv.kernel_size)
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
        case body:
            raise ValueError(f"a residual body of {', '.join(type(layer).__name__ for layer in body)} is not known")
    _must_fit(channels, conv2, conv2.weight.data.shape[3])
    if isinstance(residual.shortcut, Sequential):
        carry(residual.shortcut, x)
    if conv1.stride == 1 or hidden < 2 * channels:
        norm2.gamma.data[:channels] = norm2.beta.data[:channels] = 0
        return
    each = np.eye(x.shape[-1], channels)
    lacking = _mean_over(conv1, conv1.stride, x.shape) - _copy(conv1)
    _set_filters(conv1, lacking, np.hstack([each, -each]))
    _set_filters(conv2, _copy(conv2), np.eye(hidden, channels) - np.eye(hidden, channels, -channels))
    y = conv1.forward(x)
    _undo_normalisation(norm1, y, 2 * channels)
    _undo_normalisation(norm2, conv2.forward(relu.forward(norm1.forward(y))), channels)
