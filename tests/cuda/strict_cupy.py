"""A double of CuPy for machines without a GPU: arrays that refuse what would be an error or a silent copy on one.

An array lives in host memory, but nothing turns it into a NumPy array by itself, nothing mixes the two, whatever waits
for the device is counted, and new memory holds NaN, as a pool's recycled memory might. RawModule compiles CUDA C with
g++ and runs it as emulator.py does. A stream can be captured: launches are then kept, and run when the graph is.

It is not a subclass of numpy.ndarray, so that no operation works by accident. A name that is missing here is missing on
purpose: add it when CuPy has it and the product needs it.
"""

from __future__ import annotations

import operator
import sys
import types
import weakref
from bisect import bisect_right
from collections import Counter
from contextlib import contextmanager

import numpy as np

from .emulator import Module

ALIGNMENT = 512  # bytes; CuPy's memory pool aligns to as many
SCALARS = (bool, int, float, np.generic)


class Device:
    """What happened since the last reset, and how kernels are run.

    Attributes
    ----------
    counts : Counter
        ``launches`` of own kernels, ``operations`` of CuPy's, ``to_device`` and ``to_host`` copies.
    kernels : Counter
        Launches by name.
    checked : bool
        Whether modules compiled from now on look at every access.
    schedule : int
        The order in which threads run; see runtime.cpp.
    runs : bool
        Whether own kernels are run at all, or only counted.
    sources : set of (str, tuple of str)
        Source text and options of every module.
    """

    def __init__(self) -> None:
        self.checked, self.schedule, self.runs = False, 0, True
        self.sources: set[tuple[str, tuple[str, ...]]] = set()
        self.allocations: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
        self.graph: Graph | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all counts."""
        self.counts: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()

    def run(self, what: str, action) -> None:
        """Count and carry out an operation, or keep it while a graph is recorded."""
        if self.graph is not None:
            self.graph.actions.append((what, action))
            return
        self.counts[what] += 1
        action()

    def transfer(self, what: str) -> None:
        """Count a copy between host and device."""
        if self.graph is not None:
            raise RuntimeError(f"a copy {what} while a graph is recorded")
        self.counts[what] += 1


device = Device()


class Memory(np.ndarray):
    """The bytes of an allocation; every array in it keeps it alive, and a pointer is looked up to find it again."""

    extent: slice


def _allocate(shape, dtype) -> np.ndarray:
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = Memory(size + ALIGNMENT, np.uint8)
    memory[...] = 0xFF  # NaN in every float type
    start = -memory.ctypes.data % ALIGNMENT
    # Exactly as large as asked for, so that the checker notices a read of one element too many.
    pointer = memory.ctypes.data + start
    device.allocations[pointer] = memory
    memory.extent = slice(start, start + size)
    return memory.view(np.ndarray)[memory.extent].view(dtype).reshape(shape)


def _unwrap(value):
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, SCALARS):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def _whole_numbers(index) -> np.ndarray:
    """Rows that lie on the device; a mask would have to be waited for."""
    if index.dtype.kind != "i":
        raise TypeError(f"an index of {index.dtype}, for which the device would have to be waited for")
    return index._host


class ndarray:
    """A device array."""

    __array_priority__ = 100
    __hash__ = None

    def __init__(self, host: np.ndarray) -> None:
        self._host = host

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    data = property(lambda self: types.SimpleNamespace(ptr=self._host.ctypes.data))
    T = property(lambda self: ndarray(self._host.T))

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        raise TypeError("a loop over a device array is one launch or one copy for each element")

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, *args, **kwargs):
        raise TypeError("a NumPy function was called on a device array")

    __array_function__ = __array_ufunc__

    def get(self):
        device.transfer("to_host")
        return self._host.copy()

    def _look(self):
        device.transfer("to_host")
        return self._host.item()

    item = _look

    def __float__(self):
        return float(self._look())

    def __int__(self):
        return int(self._look())

    def __bool__(self):
        return bool(self._look())

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        if any(isinstance(i, ndarray | np.ndarray | list) for i in index):
            raise TypeError("an index that would have to be copied, or waited for")
        # With an ellipsis NumPy returns a view even of a single element, as CuPy does.
        return ndarray(self._host[index if Ellipsis in index else (*index, ...)])

    def take(self, rows, axis):
        return _compute(lambda host, rows: host.take(rows, axis), self, _whole_numbers(rows))

    def __setitem__(self, index, value):
        host, value = self._host, _unwrap(value)
        index = _whole_numbers(index) if isinstance(index, ndarray) else index
        device.run("operations", lambda: operator.setitem(host, index, value))

    def reshape(self, *shape):
        view = self._host.reshape(*shape)
        return ndarray(view) if np.shares_memory(view, self._host) or not view.size else _compute(np.copy, view)

    def copy(self):
        return _compute(np.copy, self)

    def astype(self, dtype, copy=True):
        if self.dtype == dtype and not copy:
            return self
        return _compute(lambda host: host.astype(dtype), self)

    def sum(self):
        return _compute(np.sum, self)

    def fill(self, value):
        self[...] = value


def _compute(function, *operands):
    """Result of an operation on device arrays, scalars, or views of device memory, in new device memory."""
    hosts = [operand if isinstance(operand, np.ndarray) else _unwrap(operand) for operand in operands]
    # The first result gives shape and type; while a graph is recorded its values mean nothing.
    with np.errstate(all="ignore"):
        first = np.asarray(function(*hosts))
    result = _allocate(first.shape, first.dtype)

    def action():
        result[...] = function(*hosts)

    device.run("operations", action)
    return ndarray(result)


def _operator(function):
    def method(self, other):
        return _compute(function, self, other)

    def reflected(self, other):
        return _compute(function, other, self)

    return method, reflected


def _in_place(function):
    def method(self, other):
        host, other = self._host, _unwrap(other)
        device.run("operations", lambda: function(host, other))
        return self

    return method


for _name in ("add", "sub", "mul", "truediv"):
    _method, _reflected = _operator(getattr(operator, _name))
    setattr(ndarray, f"__{_name}__", _method)
    setattr(ndarray, f"__r{_name}__", _reflected)
    setattr(ndarray, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))


class RawModule:
    """CUDA C, compiled on the first use of a kernel."""

    def __init__(self, code: str, options: tuple[str, ...] = ()) -> None:
        self.code, self.options = code, tuple(options)
        device.sources.add((code, self.options))
        self._modules: dict[bool, Module] = {}

    def get_function(self, name: str):
        return lambda grid, block, arguments: self._launch(name, grid, block, arguments)

    def _launch(self, name, grid, block, arguments) -> None:
        if len(grid) > 3 or any(not 0 < size < limit for size, limit in zip(grid, (2**31, 65536, 65536), strict=False)):
            raise ValueError(f"{name}: grid {grid}")
        if int(np.prod(block)) > 1024:
            raise ValueError(f"{name}: block {block}")
        if device.checked not in self._modules:
            make_module = Module if device.runs else NotRun
            self._modules[device.checked] = make_module(self.code, self.options, checked=device.checked)
        module, schedule = self._modules[device.checked], device.schedule
        values = [_argument(value) for value in arguments]
        pointees = [array for value in values for array in _pointees(value)]

        def action():
            device.kernels[name] += 1
            module.launch(name, grid, block, values, schedule=schedule, pointees=pointees)

        device.run("launches", action)


def _argument(value):
    """Launch argument as the emulator takes it; CuPy refuses NumPy arrays of more than one element."""
    if isinstance(value, ndarray):
        if not value.flags.c_contiguous:
            raise TypeError("a kernel would read a strided array as a contiguous one")
        return value._host
    if isinstance(value, np.ndarray) and not (value.size == 1 and value.dtype.names):
        raise TypeError(f"You are trying to pass a numpy.ndarray of shape {value.shape} as a kernel parameter")
    return value


def _pointees(value) -> list[np.ndarray]:
    """Allocations that the pointers in a structure point to."""
    if not isinstance(value, np.ndarray) or value.dtype.names is None:
        return []
    pointers = {int(p) for name in value.dtype.names if value[name].dtype == np.uintp for p in value[name].ravel()}
    starts = sorted(device.allocations)
    owners = [device.allocations[starts[bisect_right(starts, pointer) - 1]] for pointer in pointers if pointer]
    return [memory.view(np.ndarray)[memory.extent] for memory in owners]


class Graph:
    """What was recorded from a stream."""

    def __init__(self) -> None:
        self.actions: list = []

    def launch(self, stream=None) -> None:
        for what, action in self.actions:
            device.run(what, action)


class Stream:
    """A stream; everything runs at once, so streams differ in nothing but whether they record."""

    def __init__(self, non_blocking: bool = False) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        pass

    def begin_capture(self) -> None:
        device.graph = Graph()

    def end_capture(self) -> Graph:
        graph, device.graph = device.graph, None
        return graph

    def synchronize(self) -> None:
        if device.graph is not None:
            raise RuntimeError("a synchronisation while a graph is recorded")


class MemoryPool:
    """Memory of its own."""

    def malloc(self, size):
        raise NotImplementedError

    def free_all_blocks(self) -> None:
        pass

    def total_bytes(self) -> int:
        return 0


@contextmanager
def _using_allocator(allocator):
    yield


class _CurrentDevice:
    compute_capability = "90"

    def __init__(self, index: int = 0) -> None:
        pass

    def use(self) -> None:
        pass


def _asarray(values, dtype=None):
    if isinstance(values, ndarray):
        return values if dtype is None or values.dtype == dtype else values.astype(dtype)
    device.transfer("to_device")
    values = np.asarray(values, dtype)
    result = _allocate(values.shape, values.dtype)
    result[...] = values
    return ndarray(result)


def make(devices: int = 1) -> types.ModuleType:
    """Return the module to be imported as ``cupy``, for a machine with so many devices."""
    module = types.ModuleType("cupy")
    error = type("CUDARuntimeError", (RuntimeError,), {})
    module.ndarray, module.RawModule, module.RawKernel = ndarray, RawModule, object
    module.empty = lambda shape, dtype=float: ndarray(_allocate(shape, dtype))
    module.empty_like = lambda array: module.empty(array.shape, array.dtype)
    module.zeros = lambda shape, dtype=float: _compute(lambda: np.zeros(shape, dtype))
    module.asarray = _asarray
    module.get_default_memory_pool = MemoryPool
    module.ascontiguousarray = lambda array: array if array.flags.c_contiguous else array.copy()
    module.cuda = types.SimpleNamespace(
        Device=_CurrentDevice,
        Graph=Graph,
        MemoryPool=MemoryPool,
        Stream=Stream,
        get_current_stream=Stream,
        runtime=types.SimpleNamespace(getDeviceCount=lambda: devices, CUDARuntimeError=error),
        using_allocator=_using_allocator,
    )
    return module


class NotRun:
    """In place of a module: its kernels are counted, and nothing is computed."""

    checked = False

    def __init__(self, *args, **kwargs) -> None:
        pass

    def launch(self, *args, **kwargs) -> None:
        pass


@contextmanager
def installed(devices: int = 1, *, run: bool = True):
    """Import the double in place of CuPy, and the CUDA kernels anew, inside a ``with`` block. Yields :data:`device`.

    Unless ``run``, own kernels are only counted.
    """

    def forget_kernels() -> None:
        for name in [name for name in sys.modules if name.startswith("incnet.kernels.cuda")]:
            del sys.modules[name]
        package = sys.modules.get("incnet.kernels")
        if package is not None and hasattr(package, "cuda"):
            del package.cuda

    before = sys.modules.get("cupy")
    forget_kernels()
    sys.modules["cupy"] = make(devices)
    device.checked, device.schedule, device.runs = False, 0, run
    device.sources.clear()
    device.reset()
    try:
        yield device
    finally:
        forget_kernels()
        del sys.modules["cupy"]
        if before is not None:
            sys.modules["cupy"] = before
