"""Moving averages towards what they follow, in one pass over memory."""

import numpy as np

from .. import reference
from .calls import not_replayable, replayable
from .emit import floats, kernel, numbers
from .memory import address
from .parallel import threads_for

__all__ = ["lerp_all"]


@replayable
def lerp_all(tensors, weight):
    """Move averages part of the way, in place: a list of (average, data); see the reference."""
    if any(array.dtype != np.float32 or not array.flags.c_contiguous for pair in tensors for array in pair):
        not_replayable()
        return reference.lerp_all(tensors, weight)
    part = np.array([weight], np.float32)
    for average, data in tensors:
        threads = threads_for(data.size)
        _lerp(data.size, address(average), address(data), address(part), threads=threads)


@kernel
def _lerp(t, threads, arguments):
    size, average, data, weight = numbers(arguments, 4)
    averages, values, w = floats(average), floats(data), floats(weight)[0]
    for i in range(t * size // threads, (t + 1) * size // threads):
        averages[i] += w * (values[i] - averages[i])
