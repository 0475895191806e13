"""Which arrays, which kernels: the one place that knows one backend from another.

A backend is an array module and a set of kernels. Layers call ``ops.conv2d(...)``, and :data:`ops` hands the call to
the backend in use::

    use("cpu")              # NumPy arrays, numba kernels: the default
    use("reference")        # NumPy arrays, the kernels' plain definitions
    use("cuda")             # CuPy arrays, CUDA C kernels; "cuda:1" for the second device

With ``use("cpu", convolution="im2col")`` convolutions are computed by :mod:`incnet.kernels.im2col`, on any of them.

Kernels are imported when the backend is first used, so that importing incnet stays quick.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from incnet.extras import install, why_not
from incnet.kernels.im2col import Im2col
from incnet.kernels.shapes import Checked, checked

__all__ = [
    "BACKENDS",
    "CONVOLUTIONS",
    "Array",
    "DeviceError",
    "Selection",
    "asarray",
    "asnumpy",
    "device_count",
    "dry_run_kernels",
    "empty",
    "free_memory",
    "host_kernels",
    "issue",
    "limit_memory",
    "ops",
    "prepare",
    "recorder",
    "resolve",
    "selected",
    "substituted",
    "synchronize",
    "use",
]

# An array of the backend in use: np.ndarray or cupy.ndarray.
Array = Any

CONVOLUTIONS = ("auto", "im2col")
BACKENDS = {"reference": "incnet.kernels.reference", "cpu": "incnet.kernels.cpu", "cuda": "incnet.kernels.cuda"}
# Seconds that a device's kernels take to be found where they were compiled before, at most.
FOUND = 2.0


class DeviceError(Exception):
    """A device was asked for that this machine does not have."""


class Ops:
    """The kernels of the backend in use, as attributes; with arrays that do not fit together they raise ValueError.

    ``name``, ``convolution`` and ``tf32`` are what was last chosen by :func:`use`.
    """

    def __init__(self) -> None:
        self.name, self.convolution, self.tf32 = "cpu", "auto", False
        self._kernels: ModuleType | None = None
        self._im2col: Im2col | None = None

    @property
    def kernels(self) -> ModuleType:
        """The package of kernels, imported on first use."""
        if self._kernels is None:
            self._kernels = importlib.import_module(BACKENDS[self.backend])
        return self._kernels

    @property
    def operations(self) -> Any:
        """The kernels, with convolutions as they were chosen."""
        if self.convolution == "auto":
            return self.kernels
        if self._im2col is None or self._im2col.backend is not self.kernels:
            self._im2col = Im2col(self.kernels)
        return self._im2col

    @property
    def backend(self) -> str:
        """Name of the backend, without the number of a device."""
        return self.name.partition(":")[0]

    @property
    def on_device(self) -> bool:
        """Whether arrays lie in the memory of a CUDA device."""
        return self.backend == "cuda"

    if not TYPE_CHECKING:  # for mypy they are the methods of Operations: a name that no backend has is an error

        def __getattr__(self, kernel: str) -> Callable[..., Any]:
            return checked(kernel, getattr(self.operations, kernel))


if TYPE_CHECKING:
    from incnet.kernels.operations import Operations

    class TypedOps(Operations, Ops):
        """The same, with the type of each operation."""


ops = cast("TypedOps", Ops())


def host_kernels() -> Checked:
    """Return the kernels for arrays in host memory: the CPU's, or their definitions where those are in use.

    Unlike calls of :data:`ops`, those of a loader's thread are never substituted.
    """
    return Checked(importlib.import_module(BACKENDS["reference" if ops.backend == "reference" else "cpu"]))


def dry_run_kernels() -> ModuleType:
    """Return the CPU's kernels without their arithmetic, which only count the memory that those would take."""
    return importlib.import_module("incnet.kernels.cpu.dry_run")


def use(name: str, convolution: str = "auto", tf32: bool = False) -> None:
    """Make ``name`` the backend of every later call. Arrays made before stay where they are.

    Parameters
    ----------
    convolution : {"auto", "im2col"}
        How convolutions are computed: as the backend does it fastest, fused with what surrounds them; or by im2col and
        one product, which is the same algorithm on all backends and is not fused. Networks are to be fused afterwards.
    tf32 : bool
        Let the tensor cores of a CUDA device compute float32 products, from factors rounded to TF32 (10 bits).

    Raises
    ------
    DeviceError
        There is no such backend, no such device on this machine, or no TF32 there.
    """
    if convolution not in CONVOLUTIONS:
        raise ValueError(f"unknown convolution {convolution!r}: choose one of {', '.join(CONVOLUTIONS)}")
    backend, _, index = name.partition(":")
    if backend not in BACKENDS or (index and not (backend == "cuda" and index.isdecimal())):
        raise DeviceError(f"unknown backend {name!r}: choose one of {', '.join(BACKENDS)}, or cuda:1 and so on")
    if backend == "cuda":
        _check_device(f"backend {name}", int(index or 0))
        _cupy().cuda.Device(int(index or 0)).use()
    elif tf32:
        raise DeviceError(f"--tf32: the {name} backend has no tensor cores; leave it out, or choose --device gpu")
    ops.name, ops.convolution, ops.tf32, ops._kernels = name, convolution, False, None
    if backend == "cuda":
        try:
            ops.kernels.use_tf32(tf32)
        except ValueError as error:
            raise DeviceError(f"--tf32: {error}; leave it out") from error
        ops.tf32 = tf32


class Selection(NamedTuple):
    """Arguments of :func:`use`."""

    name: str
    convolution: str
    tf32: bool


def selected() -> Selection:
    """Return what was last chosen by :func:`use`."""
    return Selection(ops.name, ops.convolution, ops.tf32)


def resolve(device: str) -> str:
    """Backend for ``--device`` ``auto``, ``cpu``, ``gpu``, ``gpu:1`` or ``reference``; no silent fallback from a GPU.

    Raises
    ------
    DeviceError
        No such device, on this machine or at all.
    """
    kind, _, index = device.partition(":")
    if kind == "gpu" and (index.isdecimal() or device == "gpu"):
        _check_device(f"--device {device}", int(index or 0))
        return f"cuda:{index}" if index else "cuda"
    if device == "auto":
        return "cuda" if device_count() else "cpu"
    if device in ("cpu", "reference"):
        return device
    raise DeviceError(f"--device {device}: choose auto, cpu, gpu, gpu:1 for the second GPU, or reference")


def device_count() -> int:
    """Number of CUDA devices that CuPy can use; 0 without CuPy. CuPy imports on machines that have no device."""
    try:
        cupy = _cupy()
    except Exception:  # it is missing or broken: who asks for a GPU is told so
        return 0
    try:
        return cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:  # no driver, or one that is too old
        return 0


def _check_device(asked: str, index: int) -> None:
    count = device_count()
    if index < count:
        return
    if count:
        raise DeviceError(f"{asked}: this machine has {count} CUDA device{'s' if count > 1 else ''}, counted from 0")
    try:
        _cupy()
    except Exception as error:
        missing = f"CuPy is not installed; {install('cuda13')} (or cuda12)"
        raise DeviceError(f"{asked}: {why_not('CuPy', error, missing)}, or choose --device cpu") from None
    raise DeviceError(f"{asked}: no usable CUDA device on this machine; choose --device cpu or auto")


def _cupy() -> ModuleType:
    return importlib.import_module("cupy")


# Arrays.


def asarray(values: Any, dtype: Any = None) -> Array:
    """``values`` as an array of the backend in use; copied to the device where it lies on the host.

    With ``dtype`` it is of that type, else of the one that it has.
    """
    return _cupy().asarray(values, dtype) if ops.on_device else np.asarray(values, dtype)


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an uninitialised array of the backend in use."""
    return _cupy().empty(shape, dtype) if ops.on_device else np.empty(shape, dtype)


def asnumpy(array: Array) -> np.ndarray:
    """``array`` in host memory. Copying it from a device waits until all work on it is done."""
    return array.get() if hasattr(array, "get") else np.asarray(array)


def synchronize() -> None:
    """Wait until the device has done all that was asked of it; the host's kernels are done when they return."""
    if ops.on_device:
        _cupy().cuda.get_current_stream().synchronize()


def free_memory() -> None:
    """Give the system, or the device, the memory that the backend keeps for arrays and copies to come."""
    if ops.on_device:
        _cupy().get_default_memory_pool().free_all_blocks()
        _cupy().get_default_pinned_memory_pool().free_all_blocks()
    elif ops.backend == "cpu":
        memory = importlib.import_module("incnet.kernels.cpu.memory")
        memory.WORKSPACE.free()
        memory.SECOND_WORKSPACE.free()
        memory.POOL.free()


def limit_memory(size: int | None) -> None:
    """Let the CPU's kernels hold so many bytes for arrays in use and to come; more only where those in use take more.

    None lets them hold up to twice what was ever in use. On a device nothing changes.
    """
    if ops.backend == "cpu":
        importlib.import_module("incnet.kernels.cpu.memory").POOL.limit_to(size)


def prepare(
    work: Callable[[], Iterable[Callable[[], object]]], watch: Callable[[int, int], None] = lambda done, total: None
) -> int:
    """Compile the kernels that pieces of work need, so that none of them is compiled while they are done.

    What they compute is of no use, and on the CPU nothing is computed, so they work on arrays of their own: their
    sizes and types matter, not what is in them.

    Parameters
    ----------
    work : callable
        Returns the pieces, each to be done before the next one is asked for.
    watch : callable, optional
        Called now and then, if something has to be compiled, with what is done, and how much it is in all: kernels on
        the CPU, pieces of work on a device. What it raises ends the preparation.

    Returns
    -------
    int
        How many kernels were compiled, rather than found on disk; 0 on a device, where nobody counts.
    """
    if ops.backend == "cpu":
        return importlib.import_module("incnet.kernels.cpu.precompile").prepare(work(), watch)
    if ops.on_device:
        start, total = time.monotonic(), sum(1 for _ in work())
        for done, piece in enumerate(work(), start=1):
            piece()
            if time.monotonic() - start > FOUND:
                watch(done, total)
        synchronize()
    return 0


def issue(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, now and whenever what is being recorded is replayed: for work on arrays outside the kernels.

    It gets the same arguments each time, and should leave its results in them.
    """
    if ops.backend == "cpu":
        return importlib.import_module("incnet.kernels.cpu.calls").issue(function, *arguments)
    return function(*arguments)  # on a device its launches are recorded, wherever they come from


def recorder() -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Return what turns functions into a form that costs little to call again and again.

    That is an ``incnet.kernels.cuda.Recorder``, on the CPU an ``incnet.kernels.cpu.Recorder``, with its
    conditions: its functions share their memory and so must take turns. For the reference a function stays what it is.
    """
    return ops.kernels.Recorder() if hasattr(ops.kernels, "Recorder") else lambda function: function


@contextmanager
def substituted(kernels: Any) -> Iterator[None]:
    """Take the kernels from ``kernels``, a module or what looks like one, in a ``with`` block."""
    before, ops._kernels = ops._kernels, kernels
    try:
        yield
    finally:
        ops._kernels = before
