"""A sum and a broadcast by CuPy's real binding of NCCL, on a library that says what it was called with.

Streams are made up, since real ones need a driver.
"""

import ctypes
import sys
from types import SimpleNamespace

import numpy as np


class Stream:
    def __init__(self, non_blocking=False):
        self.ptr = 0x77

    def record(self):
        return "event"

    def wait_event(self, event):
        assert event == "event"


def device_array(pointer, size, dtype):
    dtype, memory = np.dtype(dtype), SimpleNamespace(ptr=pointer)
    flags = SimpleNamespace(c_contiguous=True)
    return SimpleNamespace(data=memory, size=size, dtype=dtype, nbytes=size * dtype.itemsize, flags=flags)


def main():
    ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)  # first, so that it is found in place of an installed NCCL
    import cupy

    cupy.cuda.Stream, cupy.cuda.get_current_stream = Stream, Stream
    from cupy.cuda import nccl

    from incnet.parallel.nccl import NcclTransport
    from incnet.parallel.transport import nccl_version

    print(nccl_version(), nccl.available, issubclass(nccl.NcclError, RuntimeError), flush=True)
    transport = NcclTransport(nccl.get_unique_id(), 1, 3)
    transport.allreduce_async(device_array(0x1000, 10, np.float64)).wait()
    transport.allreduce_async(device_array(0x2000, 11, np.float32)).wait()
    transport.broadcast({"seed": device_array(0x3000, 1, np.uint64)})


if __name__ == "__main__":
    main()
