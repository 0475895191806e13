"""CUDA C kernels compiled by g++ and run on the CPU, one fiber a thread; for tests, never called a GPU run."""

from __future__ import annotations

import ctypes
import getpass
import hashlib
import os
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

SHIM = Path(__file__).parent / "shim"
CACHE = Path(tempfile.gettempdir()) / f"incnet-cuda-on-cpu-{getpass.getuser()}"
KERNEL = r'extern "C" __global__ void (?:__launch_bounds__\([\w, ]+\)\s*)?(\w+)\('

# Kernels that were run, the schedule, and whether every access was looked at.
executed: set[tuple[str, int, bool]] = set()


class LaunchError(Exception):
    """A race, an access out of bounds, or a barrier that not all threads reach."""


class Module:
    """The kernels of one source text.

    Parameters
    ----------
    code : str
        CUDA C, all headers expanded.
    options : tuple of str
        ``-D`` and ``-std`` options; others are passed on too.
    checked : bool
        Look at every access: slow, for small arrays.
    """

    def __init__(self, code: str, options: tuple[str, ...] = (), *, checked: bool = False) -> None:
        self.checked = checked
        exports = "\n".join(f"EXPORT_KERNEL({name})" for name in re.findall(KERNEL, code))
        text = f'#include "cuda_on_cpu.h"\n#line 1 "kernels.cu"\n{code}\n{exports}\n'
        flags = ["-O1", "-fsanitize=thread"] if checked else ["-O1"]
        self._library = ctypes.CDLL(str(_compiled(text, [*flags, *options])))
        self._library.cpu_error.restype = ctypes.c_char_p

    def launch(self, name, grid, block, arguments, *, schedule=0, pointees=()):
        """Run a kernel; arguments as CuPy takes them, with NumPy arrays for device arrays.

        ``pointees`` are arrays that a structure among the arguments points to.

        Raises
        ------
        LaunchError
            What the checker found first.
        """
        arrays = [*pointees, *(value for value in arguments if _is_array(value))]
        values = [_value(value) for value in arguments]
        self._library.cpu_arrays(
            int(self.checked),
            len(arrays),
            (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays)),
            (ctypes.c_size_t * len(arrays))(*(a.nbytes for a in arrays)),
        )
        pointers = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
        dims = [(ctypes.c_uint * 3)(*(*size, 1, 1)[:3]) for size in (grid, block)]
        if getattr(self._library, f"launch_{name}")(*dims, schedule, pointers):
            raise LaunchError(f"{name}: {self._library.cpu_error().decode()}")
        executed.add((name, schedule, self.checked))


def _is_array(value) -> bool:
    """Whether the kernel gets a pointer; an array of one structure is handed over by value."""
    return isinstance(value, np.ndarray) and value.dtype.names is None


def _value(value):
    """Array whose memory holds the argument as the kernel receives it."""
    if value is None:
        return np.zeros(1, np.uintp)
    if _is_array(value):
        return np.array([value.ctypes.data], np.uintp)
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, np.generic):
        return np.array([value])
    if isinstance(value, int | float):  # as CuPy does: a long, a double
        return np.array([value], np.int64 if isinstance(value, int) else np.float64)
    raise TypeError(f"Unsupported type {type(value)}")


def _compiled(text: str, flags: list[str]) -> Path:
    """Shared library of a source text, compiled once for each text, set of flags and version of the shim."""
    shim = [SHIM / "cuda_on_cpu.h", SHIM / "runtime.cpp"]
    key = hashlib.sha256("\0".join([text, *flags, *(path.read_text() for path in shim)]).encode()).hexdigest()[:16]
    library = CACHE / f"{key}.so"
    if not library.exists():
        CACHE.mkdir(exist_ok=True)
        source, partial = CACHE / f"{key}.cpp", CACHE / f"{key}.{os.getpid()}.partial"
        source.write_text(text)
        # Shared memory is a static variable, of which every library needs its own: hence no unique symbols.
        _gpp([*flags, "-fPIC", "-fno-gnu-unique", "-I", SHIM, "-c", source, "-o", f"{partial}.o"])
        _gpp(["-shared", f"{partial}.o", _runtime(), "-o", partial])
        partial.rename(library)
    return library


@cache
def _runtime() -> Path:
    """The compiled runtime, which each library gets a copy of: its state is the launch's own."""
    source = SHIM / "runtime.cpp"
    runtime = CACHE / f"runtime-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.o"
    if not runtime.exists():
        partial = runtime.with_suffix(f".{os.getpid()}.partial")
        _gpp(["-O2", "-fPIC", "-c", source, "-o", partial])
        partial.rename(runtime)
    return runtime


def nccl_stub() -> Path:
    """The library that stands for ``libnccl.so.2``; see shim/nccl_stub.cpp."""
    source = SHIM / "nccl_stub.cpp"
    stub = CACHE / f"nccl-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
    if not stub.exists():
        CACHE.mkdir(exist_ok=True)
        partial = stub.with_suffix(f".{os.getpid()}.partial")
        _gpp(["-shared", "-fPIC", "-Wl,-soname,libnccl.so.2", source, "-o", partial])
        partial.rename(stub)
    return stub


def _gpp(arguments) -> None:
    done = subprocess.run(["g++", "-std=c++17", "-w", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
