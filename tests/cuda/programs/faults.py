"""Faults, to be planted where ranks sum device arrays, that a test must see.

Modules that import CuPy are imported when a fault is planted: before, there is no double of CuPy to import.
"""

from unittest.mock import patch

import numpy as np

from incnet.parallel.step import ParallelStep


def nobody_waits():
    from incnet.parallel.nccl import NcclSum

    return patch.object(NcclSum, "wait", lambda self: None)


def begins_before_backward():
    from incnet.parallel.nccl import NcclTransport

    return patch.object(NcclTransport, "_after", lambda self, array: None)


def another_stream():
    """Sums run on one stream, and what is waited for is another one."""
    import cupy
    from cupy.cuda import nccl

    launch, stream = nccl.NcclCommunicator.allReduce, cupy.cuda.Stream(non_blocking=True)

    def elsewhere(self, sendbuf, recvbuf, count, datatype, op, _):
        stream.wait_event(cupy.cuda.get_current_stream().record())
        launch(self, sendbuf, recvbuf, count, datatype, op, stream.ptr)

    return patch.object(nccl.NcclCommunicator, "allReduce", elsewhere)


def largest_instead_of_sum():
    from cupy.cuda import nccl

    return patch.object(nccl, "NCCL_SUM", 2)


def another_type():
    from cupy.cuda import nccl

    from incnet.parallel.nccl import TYPES

    return patch.dict(TYPES, {np.dtype(np.float64): nccl.NCCL_FLOAT32})


def first_half():
    """Sums of half the values."""
    from cupy.cuda import nccl

    launch = nccl.NcclCommunicator.allReduce

    def half(self, sendbuf, recvbuf, count, *rest):
        launch(self, sendbuf, recvbuf, -(-count // 2), *rest)

    return patch.object(nccl.NcclCommunicator, "allReduce", half)


def gradients_without_share():
    """Each rank's gradients count in full."""
    begin = ParallelStep.begin

    def own(self, images):
        begin(self, images)
        return images

    return patch.object(ParallelStep, "begin", own)


def sums_before_the_copy():
    from cupy.cuda import Event

    return patch.object(Event, "synchronize", lambda self: None)


def never_copied_back():
    from incnet.parallel.staged import StagedTransport

    return patch.object(StagedTransport, "take_back", lambda self, array, staged: None)


def memory_given_back_early():
    from incnet.parallel.staged import StagedTransport

    return patch.object(StagedTransport, "take_back", lambda self, array, staged: array.set(staged))


def copied_before_backward():
    from cupy.cuda import Stream

    return patch.object(Stream, "wait_event", lambda self, event: None)


FAULTS = {
    fault.__name__: fault
    for fault in (
        nobody_waits,
        begins_before_backward,
        another_stream,
        largest_instead_of_sum,
        another_type,
        first_half,
        gradients_without_share,
        sums_before_the_copy,
        never_copied_back,
        memory_given_back_early,
        copied_before_backward,
    )
}
