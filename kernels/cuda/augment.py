"""Gather, mirror, normalise and shift a batch of images that stay on the device."""

from __future__ import annotations

import cupy as cp
import numpy as np

from .launch import contiguous, elements
from .loader import load

__all__ = ["augment"]


def augment(images, rows, shifts, flips, mean, std, out=None):
    """Return the images of ``rows``, mirrored where ``flips`` says so, normalised, then moved by ``shifts``.

    Equal to the reference, bit for bit; all arrays are on the device: images uint8 (N, H, W, C), rows int64 (n,),
    shifts integer (n, 2), flips bool (n,), mean and std float32 (C,), out float32 (n, H, W, C).

    Notes
    -----
    A row outside the data set is no IndexError here, since finding out would wait for the device: the image is NaN.
    """
    n = len(rows)
    images, rows, shifts, flips, mean, std = contiguous(
        images, rows, shifts.astype(np.int64, copy=False), flips, mean, std
    )
    whole = out is not None and out.flags.c_contiguous
    target = out if whole else cp.empty((n, *images.shape[1:]), np.float32)
    load("augment.cu", "augment")(
        *elements(target.size), images, rows, shifts, flips, mean, std, target, *images.shape, target.size
    )
    if out is None or whole:
        return target
    out[...] = target
    return out
