"""A row of launches, recorded once as a CUDA graph and then replayed by a single call."""

from __future__ import annotations

from collections.abc import Callable

import cupy as cp

__all__ = ["Recorded", "Recorder"]


class Recorder:
    """Record functions that work in the same memory: ``replayed = recorder(function)``.

    What they need while they run is allocated once, for the largest of them. They must take turns, on one stream, and
    none may rely on memory that another one's replay left behind; see :class:`Recorded`.
    """

    def __init__(self) -> None:
        self._pool = cp.cuda.MemoryPool()
        # The default stream cannot be captured. One for all, since a pool keeps the memory of each stream apart.
        self._stream = cp.cuda.Stream(non_blocking=True)

    def __call__(self, function: Callable[[], None]) -> Recorded:
        return Recorded(function, self)

    def empty(self, shape: tuple[int, ...], dtype: cp.dtype) -> cp.ndarray:
        """Return an uninitialised array that recorded functions may read and write."""
        return cp.empty(shape, dtype)

    def fill(self, target: cp.ndarray, source: cp.ndarray) -> None:
        """Copy what the recorded functions read next."""
        target[...] = source

    @property
    def memory(self) -> int:
        """Bytes that the recorded launches work in."""
        return self._pool.total_bytes()

    def record(self, function: Callable[[], None]) -> cp.cuda.Graph:
        """Return the launches of ``function``, which are not run."""
        # The stream does not wait for work on others, so that has to be done before memory changes hands. What is then
        # free in the common pool is mostly what the function used when it ran unrecorded, and will not need again.
        cp.cuda.get_current_stream().synchronize()
        cp.get_default_memory_pool().free_all_blocks()
        with self._stream, cp.cuda.using_allocator(self._pool.malloc):
            # Relaxed, CuPy's default mode: the pool may allocate while recording.
            self._stream.begin_capture()
            try:
                function()
            except BaseException:
                self._stream.end_capture()
                raise
            return self._stream.end_capture()


class Recorded:
    """``function()``, recorded on its second call and replayed from then on.

    The first call runs the function as it is: kernels are compiled and loaded, and what is made on first use, such
    as an optimizer's, comes into being. The second call records the launches without running them, then replays them;
    every later call replays. So each call has the function's effect exactly once.

    Parameters
    ----------
    function : callable
        Takes nothing and returns nothing. It reads and writes arrays that stay where they are between calls, and may
        use memory of its own in between. It must not look at an array's values, copy between host and device, or
        decide anything by what changes on the host: a replay repeats the recorded launches, and no Python code runs.
    recorder : Recorder
        Gives the memory.

    Notes
    -----
    While recording, memory comes from the recorder's pool: a replay works in the very same memory, which only functions
    of the same recorder may get in between. Arrays that the recorded call left behind, gradients for instance, are
    overwritten by each replay, and for as long as somebody holds them by nothing else.

    Replays run on the stream that is current when they are called, like any other launch.
    """

    def __init__(self, function: Callable[[], None], recorder: Recorder) -> None:
        self._function, self._recorder = function, recorder
        self._warm = False
        self._graph: cp.cuda.Graph | None = None

    def __call__(self) -> None:
        if not self._warm:
            self._function()
            self._warm = True
            return
        if self._graph is None:
            self._graph = self._recorder.record(self._function)
        self._graph.launch()

    @property
    def memory(self) -> int:
        """Bytes that the recorder's launches work in."""
        return self._recorder.memory
