"""Images of another size.

Legend: n images, H x W pixels before and Ho x Wo after, C channels.
"""

import numpy as np

__all__ = ["resize_area", "resize_bilinear"]


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


def resize_area(x, size, out=None):
    """Average x (n, H, W, C) over the area of each pixel of y (n, Ho, Wo, C).

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
    Pixels are squares, and an image covers the same square before and after. A pixel of y is the mean of x over what it
    covers: of whole pixels of x, and of parts of those that its edges cut, by ``shares``.
    """
    n, height, width, channels = x.shape
    down, across = (shares(*sizes).astype(x.dtype) for sizes in ((height, size[0]), (width, size[1])))
    rows = down @ x.reshape(n, height, width * channels)
    y = across @ rows.reshape(n, size[0], width, channels)
    if out is None:
        return y
    out[...] = y
    return out


def shares(before, after):
    """Which part of each of ``after`` pixels along an axis comes from each of the ``before`` pixels.

    Returns
    -------
    float64 (after, before)
        Rows have the sum 1.
    """
    # Counted in units of which all pixels together have before * after, every edge is a whole number.
    new, old = np.arange(after)[:, None] * before, np.arange(before) * after
    common = np.minimum(new + before, old + after) - np.maximum(new, old)
    return np.maximum(common, 0) / before


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
