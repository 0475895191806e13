"""Moving averages towards what they follow."""

__all__ = ["lerp_all"]


def lerp_all(tensors, weight):
    """Move averages part of the way to what they follow.

    Of each pair (average, data) in ``tensors``, arrays of one shape, it changes the average::

        average = average + weight * (data - average)
    """
    for average, data in tensors:
        average += average.dtype.type(weight) * (data - average)
