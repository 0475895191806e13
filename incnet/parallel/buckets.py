"""Summing gradients over the ranks while backward is still at work below.

Backward assigns gradients from the top of the network down. They are put into *buckets* of a stated size, and a bucket
whose last gradient has come is sent off while the layers below still compute: only the sum of the last bucket, the
smallest, cannot hide behind anything. What is frozen has no gradient, and nothing of it travels.

Source: Li et al. (2020), arXiv:2006.15704.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from incnet.backend import Array, asarray, issue
from incnet.communicator import Communicator, Pending
from incnet.parameter import Parameter

__all__ = ["BUCKET_BYTES", "Bucket", "GradientSum", "pack"]

# Large enough that a sum's bandwidth counts and not its latency, small enough that the first ones leave early.
BUCKET_BYTES = 1 << 20
# Where each gradient begins in its bucket: at a multiple of a cache line, as kernels have it for all arrays.
ALIGNMENT = 64


class GradientSum:
    """Replace the gradients that a backward pass assigns by their sums over the ranks.

    ::

        sums.begin(parameters)
        graph.backward(dlogits)      # buckets leave as they fill
        sums.finish()                # every parameter.grad is the sum

    Parameters
    ----------
    communicator : Communicator
        Of the ranks. All have the same parameters, and assign their gradients in the same order.
    bucket_bytes : int
        A bucket is full when the next gradient would not fit. A larger gradient travels by itself.

    Attributes
    ----------
    buckets : list of Bucket
        In the order in which they leave.
    seconds_waited : float
        That :meth:`finish` has waited so far.
    """

    def __init__(self, communicator: Communicator, bucket_bytes: int = BUCKET_BYTES) -> None:
        self.communicator, self.bucket_bytes = communicator, bucket_bytes
        self.buckets: list[Bucket] = []
        self.seconds_waited = 0.0
        self._parameters: list[Parameter] = []
        self._bucket_of: dict[int, Bucket] = {}
        self._underway: list[Pending] = []

    @property
    def bytes(self) -> int:
        """That one backward pass hands to the communicator."""
        return sum(bucket.bytes for bucket in self.buckets)

    def begin(self, parameters: Sequence[Parameter]) -> None:
        """Expect a gradient for each of ``parameters``, in about their reverse order, and for no others."""
        if len(parameters) != len(self._parameters) or any(
            new is not old for new, old in zip(parameters, self._parameters, strict=True)
        ):
            self._parameters = list(parameters)
            self.buckets = pack(parameters, self.bucket_bytes)
            self._bucket_of = {id(parameter): bucket for bucket in self.buckets for parameter in bucket.parameters}
        for bucket in self.buckets:
            bucket.begin()
        for parameter in parameters:
            parameter.on_grad = self._receive
        self._underway = []

    def _receive(self, parameter: Parameter) -> None:
        """Put a gradient into its bucket, and send off what is full: in one order on all ranks."""
        self._bucket_of[id(parameter)].take(parameter)
        for pending in self._underway:
            issue(pending.progress)
        while len(self._underway) < len(self.buckets) and self.buckets[len(self._underway)].full:
            self._underway.append(self.communicator.allreduce_async(self.buckets[len(self._underway)].array))

    def finish(self) -> None:
        """Wait for all sums and hand them out.

        Raises
        ------
        RuntimeError
            If backward has assigned no gradient to a parameter.
        """
        if len(self._underway) < len(self.buckets):
            raise RuntimeError("backward is over, and a parameter has no gradient to sum over the ranks")
        issue(self._wait, self._underway)
        for parameter in self._parameters:
            parameter.on_grad = None
        for bucket in self.buckets:
            bucket.hand_out()

    def _wait(self, underway: list[Pending]) -> None:
        start = time.perf_counter()
        for pending in underway:
            pending.wait()
        self.seconds_waited += time.perf_counter() - start


class Bucket:
    """Gradients that travel together, one after the other in one array.

    Parameters
    ----------
    parameters : list of Parameter
        Of one type. A single one is its gradient itself, uncopied.
    """

    def __init__(self, parameters: list[Parameter]) -> None:
        self.parameters = parameters
        self.array: Array | None = None
        self._missing: set[int] = set()
        self._places: dict[int, Array] = {}
        if len(parameters) > 1:
            dtype = parameters[0].data.dtype
            starts = np.cumsum([0, *(padded(parameter) for parameter in parameters)]) // dtype.itemsize
            self.array = asarray(np.zeros(starts[-1], dtype))
            for start, parameter in zip(starts.tolist(), parameters, strict=False):
                place = self.array[start : start + parameter.data.size]
                self._places[id(parameter)] = place.reshape(parameter.data.shape)

    @property
    def bytes(self) -> int:
        """Length, with the gaps that keep gradients aligned."""
        return self.parameters[0].data.nbytes if len(self.parameters) == 1 else self.array.nbytes  # type: ignore[union-attr]

    @property
    def full(self) -> bool:
        """Whether every gradient has come."""
        return not self._missing

    def begin(self) -> None:
        """Expect every gradient."""
        self._missing = {id(parameter) for parameter in self.parameters}

    def take(self, parameter: Parameter) -> None:
        """Copy a gradient in."""
        if id(parameter) not in self._missing:
            raise RuntimeError(f"backward has assigned the gradient of {parameter} twice")
        self._missing.remove(id(parameter))
        if len(self.parameters) == 1:
            self.array = parameter.grad
        else:
            issue(assign, self._places[id(parameter)], parameter.grad)

    def hand_out(self) -> None:
        """Let every parameter's gradient be its place in the array."""
        for parameter in self.parameters:
            parameter.grad = self.array if len(self.parameters) == 1 else self._places[id(parameter)]


def assign(target: Array, source: Array) -> None:
    """Copy the values of an array to another one."""
    target[...] = source


def pack(parameters: Sequence[Parameter], bucket_bytes: int) -> list[Bucket]:
    """Cut parameters, from the last to the first, into buckets of at most so many bytes and of one type each."""
    groups: list[list[Parameter]] = []
    room = 0
    for parameter in reversed(parameters):
        size = padded(parameter)
        if not groups or size > room or parameter.data.dtype != groups[-1][0].data.dtype:
            groups.append([])
            room = bucket_bytes
        groups[-1].append(parameter)
        room -= size
    return [Bucket(group) for group in groups]


def padded(parameter: Parameter) -> int:
    """Bytes that a parameter takes in a bucket."""
    return -(-parameter.data.nbytes // ALIGNMENT) * ALIGNMENT
