"""Moving averages towards what they follow."""

__all__ = ["lerp_all"]


def lerp_all(tensors, weight):
    """Move averages part of the way, in place; a list of (average, data), arrays of one shape::

    average = average + weight * (data - average)
    """
    for average, data in tensors:
        average += average.dtype.type(weight) * (data - average)
