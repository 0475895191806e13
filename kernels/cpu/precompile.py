"""Compiling before the work begins, by several processes at once.

What some work needs is found by going through it without computing: the kernels that it calls are collected, not run.

numba compiles one function at a time in a process. So other processes compile too, and leave what they have made in
numba's cache on disk, where this one finds it. Should they not come to anything, it compiles all by itself.
"""

import importlib
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np
from numba import get_num_threads, types

from .calls import collecting_kernels
from .emit import Kernel, launch, on_disk

__all__ = ["compile_kernels", "needed", "prepare"]

INTERVAL = 0.1  # seconds between two looks at what the other processes have done

# Called with the number of kernels that are compiled, and how many there are to be.
Watcher = Callable[[int, int], None]


def prepare(work: Iterable[Callable[[], object]], watch: Watcher = lambda done, total: None) -> int:
    """Compile what ``work`` needs; it computes on arrays that nobody will read. Returns how many kernels that took.

    Parameters
    ----------
    work : iterable of callables
        Called one after the other. None of their kernels runs, so arrays hold whatever was there before: what they do
        must not depend on it.
    watch : callable, optional
        Called now and then, from this thread, if there is something to compile. What it raises ends the compilation.
    """
    return compile_kernels(needed(work), watch, get_num_threads())


def needed(work: Iterable[Callable[[], object]]) -> list[Kernel]:
    """Return the kernels that these callables call."""
    with collecting_kernels() as kernels, np.errstate(all="ignore"):
        for part in work:
            part()
    return list(kernels)


def compile_kernels(kernels: Iterable[Kernel], watch: Watcher, processes: int) -> int:
    """Compile those of the kernels that are not on disk, with so many processes; returns how many there were."""
    missing = [kernel for kernel in kernels if not kernel.load()]
    if missing:
        _Compilation(missing, processes).run(watch)
    launch.compile((types.int64, types.int64, types.int64))
    return len(missing)


class _Compilation:
    """Kernels that wait to be compiled, the longest first, and the processes that share them."""

    def __init__(self, kernels: list[Kernel], processes: int) -> None:
        self.kernels = kernels
        self.waiting = deque(sorted(kernels, key=lambda kernel: len(kernel.function.__code__.co_code), reverse=True))
        self.done = 0
        alone = not sys.executable or on_disk(kernels[0].function) is None
        helpers = 0 if alone else min(processes, len(kernels)) - 1
        self.threads = [threading.Thread(target=self._let_compile, daemon=True) for _ in range(helpers)]
        self.processes: list[subprocess.Popen] = []

    def run(self, watch: Watcher) -> None:
        """Compile all of them."""
        total = len(self.kernels)
        watch(0, total)
        for thread in self.threads:
            thread.start()
        try:
            while kernel := self._take():
                kernel.compile()
                self.done += 1
                watch(self.done, total)
            for thread in self.threads:
                while thread.is_alive():
                    thread.join(INTERVAL)
                    watch(self.done, total)
        finally:
            self.waiting.clear()
            for process in self.processes:
                process.kill()
        for kernel in self.kernels:
            if not kernel.load():  # of a process that has died, say
                kernel.compile()
        watch(total, total)

    def _let_compile(self) -> None:
        """Let a process of its own compile one kernel after the other, as long as some wait."""
        try:
            with subprocess.Popen(
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            ) as process:  # fmt: skip
                self.processes.append(process)
                while kernel := self._take():
                    print(kernel.__module__, kernel.__name__, file=process.stdin, flush=True)
                    if not process.stdout.readline():  # type: ignore[union-attr]
                        break
                    self.done += 1
                process.kill()  # rather than wait until it has cleared up
        except OSError:  # it could not be started, or has died
            return

    def _take(self) -> Kernel | None:
        try:
            return self.waiting.popleft()
        except IndexError:
            return None


def serve() -> None:
    """Compile the kernels whose modules and names come in, line by line; answer with a line for each."""
    for line in sys.stdin:
        module, name = line.split()
        getattr(importlib.import_module(module), name).compile()
        print(flush=True)


if __name__ == "__main__":
    serve()
