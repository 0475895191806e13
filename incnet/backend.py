"""Which arrays, which kernels: the one place that knows one backend from another.

A backend is an array module and a set of kernels. Layers call ``ops.conv2d(...)``, and :data:`ops` hands the call to
the backend in use::

    use("cpu")              # NumPy arrays, numba kernels: the default
    use("reference")        # NumPy arrays, the kernels' plain definitions

Kernels are imported when the backend is first used, so that importing incnet stays quick.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["BACKENDS", "Array", "DeviceError", "asarray", "asnumpy", "current", "ops", "recording", "resolve", "use"]

# An array of the backend in use: np.ndarray or cupy.ndarray.
Array = Any

BACKENDS = {"reference": "incnet.kernels.reference", "cpu": "incnet.kernels.cpu"}


class DeviceError(Exception):
    """A device was asked for that this machine does not have."""


class Ops:
    """The kernels of the backend in use, as attributes."""

    def __init__(self) -> None:
        self.name = "cpu"
        self._kernels: ModuleType | None = None
        self._calls: Counter[str] | None = None

    def __getattr__(self, kernel: str) -> Callable[..., Any]:
        if self._kernels is None:
            self._kernels = importlib.import_module(BACKENDS[self.name])
        function = getattr(self._kernels, kernel)
        if self._calls is None:
            return function
        calls = self._calls

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls[kernel] += 1
            return function(*args, **kwargs)

        return counted


ops = Ops()


def use(name: str) -> None:
    """Make ``name`` the backend of every later call. Arrays made before stay where they are."""
    if name not in BACKENDS:
        raise DeviceError(f"unknown backend {name!r}: choose one of {', '.join(BACKENDS)}")
    ops.name, ops._kernels = name, None


def current() -> str:
    """Name of the backend in use."""
    return ops.name


def resolve(device: str) -> str:
    """Backend for ``--device`` ``auto``, ``cpu`` or ``gpu``; never a silent fallback from ``gpu``."""
    if device == "gpu":
        raise DeviceError("--device gpu: no CUDA device is usable by this version; choose --device cpu or auto")
    if device not in ("auto", "cpu"):
        raise DeviceError(f"--device {device}: choose auto, cpu or gpu")
    return "cpu"


def asarray(values: Any, dtype: Any = None) -> Array:
    """``values`` as an array of the backend in use."""
    return np.asarray(values, dtype)


def asnumpy(array: Array) -> np.ndarray:
    """``array`` in host memory."""
    return np.asarray(array)


@contextmanager
def recording() -> Iterator[Counter[str]]:
    """Count the kernel calls of a ``with`` block: ``{"conv2d": 21, ...}``. Blocks do not nest."""
    ops._calls = Counter()
    try:
        yield ops._calls
    finally:
        ops._calls = None
