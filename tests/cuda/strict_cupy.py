"""A double of CuPy for machines without a GPU: arrays that refuse what would be an error or a silent copy on one.

An array lives in host memory, but nothing turns it into a NumPy array by itself, nothing mixes the two, whatever waits
for the device is counted, and new memory holds NaN, as a pool's recycled memory might. RawModule compiles CUDA C with
g++ and runs it as emulator.py does. A stream can be captured: launches are then kept, and run when the graph is.

Streams are the adversary that they are on a device. What is launched on one runs in that order, and before or after
what is launched on another only where an event says so. Elsewhere the double takes the worst order: by default streams
other than the default one run as late as events and the host allow, with ``device.early`` as soon as they allow.

It is not a subclass of numpy.ndarray, so that no operation works by accident. A name that is missing here is missing on
purpose: add it when CuPy has it and the product needs it.
"""

from __future__ import annotations

import ctypes
import operator
import sys
import types
import weakref
from bisect import bisect_right
from collections import Counter, deque
from contextlib import contextmanager

import numpy as np

from . import strict_nccl
from .emulator import Module

ALIGNMENT = 512  # bytes; CuPy's memory pool aligns to as many
SCALARS = (bool, int, float, np.generic)


class Device:
    """What happened since the last reset, and how kernels are run.

    Attributes
    ----------
    counts : Counter
        ``launches`` of own kernels, ``operations`` of CuPy's, ``collectives`` of NCCL, ``to_device`` and ``to_host``
        copies; ``bytes_summed`` by NCCL, ``bytes_staged`` in copies to the host that nobody waits for.
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
    early : bool
        Whether streams other than the default one run as soon as they can; else they run as late as they can.
    patience : int
        How often an event must be asked whether it is done before it is.
    """

    def __init__(self) -> None:
        self.sources: set[tuple[str, tuple[str, ...]]] = set()
        self.allocations: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
        self.pinned: dict[int, np.ndarray] = {}
        self.restart()

    def restart(self) -> None:
        """Begin anew, with streams that have nothing to do."""
        self.checked, self.schedule, self.runs, self.early, self.patience, self.index = False, 0, True, False, 1, 0
        self.default = Stream()
        self.current = [self.default]
        self.graph: Graph | None = None
        self.sources.clear()
        self.reset()

    def reset(self) -> None:
        """Forget all counts."""
        self.counts: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()

    def run(self, what: str, action) -> None:
        """Launch an operation on the current stream."""
        self.current[-1].launch(what, action)

    def transfer(self, what: str) -> None:
        """Count a copy between host and device."""
        if self.graph is not None:
            raise RuntimeError(f"a copy {what} while a graph is recorded")
        self.counts[what] += 1


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

    def get(self, stream=None, out=None, blocking=True):
        device.transfer("to_host")
        stream, out = stream or device.current[-1], np.empty(self.shape, self.dtype) if out is None else out
        if out.shape != self.shape or out.dtype != self.dtype:
            raise ValueError(f"a copy of {self.dtype} {self.shape} to {out.dtype} {out.shape}")
        # Held by its address alone, as on a device: whoever gives the memory back too early finds other values in it.
        source, target = self._host, out if blocking else _page_locked(out)
        stream.add(lambda: operator.setitem(target, ..., source))
        if blocking:
            stream.synchronize()
        else:
            device.counts["bytes_staged"] += self.nbytes
        return out

    def set(self, values, stream=None):
        if not isinstance(values, np.ndarray) or values.shape != self.shape or values.dtype != self.dtype:
            raise TypeError(f"a copy to {self.dtype} {self.shape} of {type(values)}")
        device.transfer("to_device")
        target, source = self._host, _page_locked(values)
        (stream or device.current[-1]).add(lambda: operator.setitem(target, ..., source))

    def _look(self):
        return self.get().item()

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

    def view(self, dtype):
        return ndarray(self._host.view(dtype))

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


class Row:
    """Work that is done in order, from the first piece on; a piece may be to wait for another row."""

    def __init__(self) -> None:
        self.pieces: deque = deque()
        self.added = self.begun = 0

    def append(self, piece) -> None:
        self.pieces.append(piece)
        self.added += 1

    def advance(self, end: int) -> None:
        """Do the first ``end`` pieces, if that has not been done."""
        while self.begun < min(end, self.added):
            self.begun += 1
            self.pieces.popleft()()


class Graph:
    """What was recorded from a stream, and from those that its events have drawn in."""

    def __init__(self, origin: Stream) -> None:
        self.origin = origin
        self.work: dict[Stream, list] = {origin: []}
        self.waited_for: Counter = Counter()

    def joined(self) -> bool:
        """Whether every stream that was drawn in has been waited for, to its end."""
        return all(stream is self.origin or self.waited_for[stream] == len(work) for stream, work in self.work.items())

    def wait(self, stream: Stream, other: Stream, position: int) -> None:
        """Let what comes on one stream wait for another one."""
        self.waited_for[other] = max(self.waited_for[other], position)
        self.work.setdefault(stream, []).append(("waits", (other, position)))

    def launch(self, stream=None) -> None:
        for work in self.work.values():
            device.counts.update(what for what, _ in work if what != "waits")
        stream = stream or device.current[-1]
        stream.append(self._replay)
        stream.synchronize()

    def _replay(self) -> None:
        rows = {stream: Row() for stream in self.work}

        def wait(stream: Stream, position: int):
            return lambda: rows[stream].advance(position)

        for stream, work in self.work.items():
            for what, action in work:
                rows[stream].append(wait(*action) if what == "waits" else action)
        others = [row for stream, row in rows.items() if stream is not self.origin]
        for row in [*others, rows[self.origin]] if device.early else [rows[self.origin], *others]:
            row.advance(row.added)


class Stream(Row):
    """A stream; see the head of this file for when it runs."""

    def __init__(self, non_blocking: bool = False) -> None:
        super().__init__()
        self.ptr = id(self)
        streams[self.ptr] = self

    def __enter__(self):
        device.current.append(self)
        return self

    def __exit__(self, *exception) -> None:
        device.current.pop()

    @property
    def captured(self) -> bool:
        """Whether what is launched goes into a graph."""
        return device.graph is not None and self in device.graph.work

    def launch(self, what: str, action) -> None:
        """Count and carry out an operation when its turn comes, or keep it while a graph is recorded."""
        if self.captured:
            device.graph.work[self].append((what, action))
            return
        device.counts[what] += 1
        self.add(action)

    def add(self, action) -> None:
        """Carry out an action when its turn comes."""
        self.append(action)
        if (self is device.default) != device.early:
            self.advance(self.added)

    def record(self) -> Event:
        return Event(self)

    def wait_event(self, event: Event) -> None:
        if event.graph is not device.graph and (event.graph or self.captured):
            raise RuntimeError("a dependency between what a graph records and what it does not")
        if event.graph is not None:
            event.graph.wait(self, event.stream, event.position)
        else:
            self.add(lambda: event.stream.advance(event.position))

    def begin_capture(self) -> None:
        device.graph = Graph(self)

    def end_capture(self) -> Graph:
        graph, device.graph = device.graph, None
        if not graph.joined():
            raise RuntimeError("cudaErrorStreamCaptureUnjoined: a stream was drawn in, and nothing waits for it")
        return graph

    def synchronize(self) -> None:
        if device.graph is not None:
            raise RuntimeError("a synchronisation while a graph is recorded")
        self.advance(self.added)


class Event:
    """A point on a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.graph = stream, device.graph if stream.captured else None
        self.position = len(self.graph.work[stream]) if self.graph else stream.added
        self._asked = 0

    @property
    def done(self) -> bool:
        self._asked += 1
        if self._asked > device.patience:
            self.synchronize()
        return self.stream.begun >= self.position

    def synchronize(self) -> None:
        if device.graph is not None:
            raise RuntimeError("a synchronisation while a graph is recorded")
        self.stream.advance(self.position)


streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
device = Device()


def _alloc_pinned_memory(size: int):
    """Page-locked bytes. Given back they hold NaN, as if somebody else had got them."""
    memory = np.full(size, 0xFF, np.uint8)
    device.pinned[memory.ctypes.data] = memory
    # No array, since views of arrays hold the owner of the memory and not the array.
    given = type("PinnedMemory", (ctypes.c_ubyte * size,), {}).from_buffer(memory)
    weakref.finalize(given, memory.fill, 0xFF)
    return given


def _page_locked(array: np.ndarray) -> np.ndarray:
    """The page-locked memory of a whole allocation as such an array, without a hold on it."""
    memory = device.pinned.get(array.ctypes.data)
    if memory is None or memory.nbytes != array.nbytes:
        raise ValueError("a copy that nobody waits for, from or to memory that is not page-locked")
    return memory.view(array.dtype).reshape(array.shape)


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


class _Device:
    compute_capability = "90"

    def __init__(self, index: int | None = None) -> None:
        self.id = device.index if index is None else index
        self.pci_bus_id = f"0000:{self.id:02X}:00.0"

    def use(self) -> None:
        device.index = self.id


def _asarray(values, dtype=None):
    if isinstance(values, ndarray):
        return values if dtype is None or values.dtype == dtype else values.astype(dtype)
    device.transfer("to_device")
    values = np.asarray(values, dtype)
    result = _allocate(values.shape, values.dtype)
    result[...] = values
    return ndarray(result)


def make(devices: int = 1, nccl: bool = True) -> types.ModuleType:
    """Return the module to be imported as ``cupy``, for a machine with so many devices, with NCCL or without."""
    module = types.ModuleType("cupy")
    error = type("CUDARuntimeError", (RuntimeError,), {})
    module.ndarray, module.RawModule, module.RawKernel = ndarray, RawModule, object
    module.empty = lambda shape, dtype=float: ndarray(_allocate(shape, dtype))
    module.empty_like = lambda array: module.empty(array.shape, array.dtype)
    module.zeros = lambda shape, dtype=float: _compute(lambda: np.zeros(shape, dtype))
    module.asarray = _asarray
    module.get_default_memory_pool = module.get_default_pinned_memory_pool = MemoryPool
    module.ascontiguousarray = lambda array: array if array.flags.c_contiguous else array.copy()
    module.cuda = types.ModuleType("cupy.cuda")
    module.cuda.Device, module.cuda.Graph, module.cuda.MemoryPool = _Device, Graph, MemoryPool
    module.cuda.Event, module.cuda.Stream = Event, Stream
    module.cuda.get_current_stream = lambda: device.current[-1]
    module.cuda.runtime = types.SimpleNamespace(getDeviceCount=lambda: devices, CUDARuntimeError=error)
    module.cuda.using_allocator, module.cuda.alloc_pinned_memory = _using_allocator, _alloc_pinned_memory
    module.cuda.nccl = strict_nccl.make(device, streams) if nccl else types.SimpleNamespace(available=False)
    return module


class NotRun:
    """In place of a module: its kernels are counted, and nothing is computed."""

    checked = False

    def __init__(self, *args, **kwargs) -> None:
        pass

    def launch(self, *args, **kwargs) -> None:
        pass


@contextmanager
def installed(devices: int = 1, *, nccl: bool = True, run: bool = True):
    """Import the double in place of CuPy, and what imports CuPy anew, inside a ``with`` block. Yields :data:`device`.

    Unless ``run``, own kernels are only counted.
    """
    own = ("incnet.kernels.cuda", "incnet.parallel.nccl", "incnet.parallel.staged")

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith(own)]:
            package, _, last = name.rpartition(".")
            del sys.modules[name]
            if hasattr(sys.modules.get(package), last):
                delattr(sys.modules[package], last)

    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "cupy"}
    forget()
    for name in before:
        del sys.modules[name]
    cupy = make(devices, nccl)
    sys.modules |= {"cupy": cupy, "cupy.cuda": cupy.cuda, "cupy.cuda.nccl": cupy.cuda.nccl}
    device.restart()
    device.runs = run
    try:
        yield device
    finally:
        forget()
        for name in ("cupy", "cupy.cuda", "cupy.cuda.nccl"):
            del sys.modules[name]
        sys.modules.update(before)
