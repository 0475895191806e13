"""A function that computes with the kernels, recorded once and then replayed: their calls, without the Python between.

Between two kernels of a training step Python finds memory, addresses and plans. That is little work, but a kernel has
just emptied the caches, and the other threads wait. From step to step the calls are the same, on the same memory if it
stays reserved.
"""

import math
from collections.abc import Callable

import numpy as np

from .blocks import Pool
from .calls import CallList
from .emit import LANES, copy, kernel, numbers
from .memory import address, aligned_empty
from .parallel import threads_for

__all__ = ["Recorded", "Recorder"]

FLOAT = 4  # bytes


class Recorder:
    """Record functions that work in the same memory: ``replayed = recorder(function)``.

    What they need while they run is allocated once, for the largest of them. They must take turns, on one thread, and
    none may rely on memory that another one's replay left behind; see :class:`Recorded`.
    """

    def __init__(self) -> None:
        self._pool = Pool()
        self._pool.slack = math.inf  # whatever was allocated once is still worked in

    def __call__(self, function: Callable[[], None]) -> "Recorded":
        return Recorded(function, self._pool)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an uninitialised array that recorded functions may read and write."""
        return aligned_empty(shape, dtype, self._pool)

    def fill(self, target: np.ndarray, source: np.ndarray) -> None:
        """Copy what the recorded functions read next, on all threads if it is large."""
        if source.dtype == target.dtype == np.float32 and source.shape == target.shape and source.flags.c_contiguous:
            copy_floats(address(source), address(target), source.size, threads=threads_for(source.size))
        else:
            target[...] = source

    @property
    def memory(self) -> int:
        """Bytes that the recorded calls work in."""
        return self._pool.peak_held


class Recorded:
    """``function()``, recorded on its first call and replayed from then on.

    Parameters
    ----------
    function : callable
        Takes nothing and returns nothing. It computes by this package's operations alone, on arrays that stay where
        they are between calls, and may use memory of its own in between. It must not decide anything by what changes:
        no Python code runs again, and what NumPy was asked to compute beside the operations is not replayed.
    pool : Pool
        Gives the memory; only functions of the same recorder may use it.

    Notes
    -----
    Arrays that the recorded call left behind, gradients for instance, are overwritten by each replay, and for as long
    as somebody holds them by nothing else.
    """

    def __init__(self, function: Callable[[], None], pool: Pool) -> None:
        self._function: Callable[[], None] | None = function
        self._calls = CallList(pool)

    def __call__(self) -> None:
        if self._function is None:
            self._calls.replay()
            return
        self._calls.clear()  # of what a call that failed has left
        with self._calls.recording():
            self._function()
        self._function = None


@kernel
def copy_floats(t, threads, arguments):
    """Copy so many floats, in whole vectors for all threads but the last."""
    source, target, count = numbers(arguments, 3)
    first = t * (count // LANES) // threads * LANES
    last = count if t == threads - 1 else (t + 1) * (count // LANES) // threads * LANES
    copy(source + FLOAT * first, target + FLOAT * first, last - first)
