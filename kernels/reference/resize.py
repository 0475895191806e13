"""Images of another size.

Legend: n images, H x W pixels before and Ho x Wo after, C channels.
"""

import numpy as np

__all__ = ["neighbours", "resize_bilinear"]


def resize_bilinear(x, size, out=None):
    """Interpolate x (n, H, W, C) between its pixels to y (n, Ho, Wo, C).

    Parameters
    ----------
    size : (int, int)
        Ho and Wo.
    out : (n, Ho, Wo, C), optional
        Where to write.

    Returns
    -------
    y : (n, Ho, Wo, C)

    Notes
    -----
    Pixels are squares, and an image covers the same square before and after: pixel p of y has its centre at
    ``(p + 1/2) H / Ho - 1/2`` in units of x, and takes what a straight line between the two pixels around it has there.
    Beyond the centres of the outer pixels their values go on. Where an image becomes smaller, pixels of x are left out.
    """
    top, bottom, down = neighbours(x.shape[1], size[0])
    left, right, across = neighbours(x.shape[2], size[1])
    down, across = down.astype(x.dtype)[:, None, None], across.astype(x.dtype)[:, None]
    rows = x[:, top] + (x[:, bottom] - x[:, top]) * down
    y = rows[:, :, left] + (rows[:, :, right] - rows[:, :, left]) * across
    if out is None:
        return y
    out[...] = y
    return out


def neighbours(before, after):
    """Find the two of ``before`` pixels along an axis around each of ``after``, and the weight of the upper one.

    Returns
    -------
    low, high : int64 (after,)
    weight : float64 (after,)
        In [0, 1).
    """
    position = np.clip((np.arange(after) + 0.5) * (before / after) - 0.5, 0, before - 1)
    low = position.astype(np.int64)
    return low, np.minimum(low + 1, before - 1), position - low
