"""One step of each optimizer, in place: all parameters in one launch."""

from __future__ import annotations

import math

import numpy as np

from ..operands import OuterProduct
from .launch import contiguous
from .linear import linear_weight_grad
from .loader import load

__all__ = ["lerp_all", "rmsprop_step_all", "sgd_step_all"]

FILE = "optimise.cu"
TENSORS = 64  # in one launch: the arguments have to fit the 4 KiB that every device allows
PER_BLOCK = 2048  # elements that a block works on


def rmsprop_step_all(tensors, lr, rho, momentum, eps):
    """RMSProp with a heavy ball on the normalised step; changes data, square and velocity; see the reference."""
    _step("rmsprop", tensors, lr, rho, momentum, eps)


def sgd_step_all(tensors, lr, momentum):
    """Gradient descent with a heavy ball; changes data and velocity; see the reference."""
    # The kernels share one table; gradient descent has no second state array.
    _step("sgd", [(data, grad, velocity, velocity, decay) for data, grad, velocity, decay in tensors], lr, momentum)


def lerp_all(tensors, weight):
    """Move averages part of the way, in place: a list of (average, data); see the reference."""
    _step("lerp", [(average, data, average, average, 0.0) for average, data in tensors], weight)


def _step(name, tensors, *constants):
    """Launch a kernel for groups of tensors of one dtype."""
    for dtype in {data.dtype for data, *_ in tensors}:
        kernel = load(FILE, name, dtype)
        group = [tensor for tensor in tensors if tensor[0].dtype == dtype]
        for start in range(0, len(group), TENSORS):
            # The contiguous copies, if any, have to live until the launch is on the stream.
            arrays = [
                (contiguous(data, _stored(grad), *state), decay)
                for data, grad, *state, decay in group[start : start + TENSORS]
            ]
            table, blocks = _table(arrays, dtype)
            kernel((blocks,), (256,), table, *constants, PER_BLOCK)


def _stored(grad):
    """Return the gradient as an array."""
    return linear_weight_grad(*grad) if isinstance(grad, OuterProduct) else grad


def _table(tensors, dtype):
    """Return the C structure ``Tensors`` and the number of blocks that cover it."""
    table = np.zeros(1, _layout(dtype))
    (entry,) = table
    blocks = 0
    for i, (arrays, weight_decay) in enumerate(tensors):
        for field, array in zip(("data", "grad", "square", "velocity"), arrays, strict=True):
            if array.dtype != dtype or array.shape != arrays[0].shape:
                raise TypeError(f"{field} is {array.dtype} {array.shape}, the parameter {dtype} {arrays[0].shape}")
            entry[field][i] = array.data.ptr
        size = arrays[0].size
        entry["size"][i], entry["weight_decay"][i], entry["first_block"][i] = size, weight_decay, blocks
        blocks += max(1, math.ceil(size / PER_BLOCK))
    entry["count"] = len(tensors)
    return table, blocks


def _layout(dtype):
    """Structure ``Tensors`` of optimise.cu, aligned as C does."""
    pointers = [(field, np.uintp, TENSORS) for field in ("data", "grad", "square", "velocity")]
    numbers = [("size", np.int64, TENSORS), ("weight_decay", dtype, TENSORS), ("first_block", np.int32, TENSORS)]
    return np.dtype([*pointers, *numbers, ("count", np.int32)], align=True)
