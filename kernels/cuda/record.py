"""A row of launches, recorded once as a CUDA graph and then replayed by a single call."""

from __future__ import annotations

from collections.abc import Callable

import cupy as cp

__all__ = ["Recorded"]


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

    Notes
    -----
    While recording, memory comes from a pool that only this object uses: a replay works in the very same memory, which
    nobody else may get in between. Arrays that the function left behind in the first calls, gradients for instance, are
    overwritten by each replay.

    Replays run on the stream that is current when they are called, like any other launch.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._warm = False
        self._graph: cp.cuda.Graph | None = None
        self._pool = cp.cuda.MemoryPool()

    def __call__(self) -> None:
        if not self._warm:
            self._function()
            self._warm = True
            return
        if self._graph is None:
            self._graph = self._record()
        self._graph.launch()

    @property
    def memory(self) -> int:
        """Bytes that the recorded launches work in."""
        return self._pool.total_bytes()

    def _record(self) -> cp.cuda.Graph:
        # The default stream cannot be captured. The other one starts when the work before it is done.
        cp.cuda.get_current_stream().synchronize()
        stream = cp.cuda.Stream(non_blocking=True)
        with stream, cp.cuda.using_allocator(self._pool.malloc):
            # Relaxed, CuPy's default mode: the pool may allocate while recording.
            stream.begin_capture()
            try:
                self._function()
            except BaseException:
                stream.end_capture()
                raise
            return stream.end_capture()
