"""A rank by itself, whose sums take the way that those of several would."""

import numpy as np

from incnet.backend import asarray, asnumpy
from incnet.communicator import Communicator, Done
from incnet.optim import RMSProp
from incnet.parallel.step import ParallelStep
from incnet.training.replay import Replay
from incnet.training.step import Step
from tests.parallel.programs.same_steps import grow

WAYS = ("nccl", "staged")


class OneRank(Communicator):
    """Has its sums carried, to itself."""

    def __init__(self, way):
        super().__init__()
        if way == "nccl":
            from cupy.cuda import nccl

            from incnet.parallel.nccl import NcclTransport

            transport = NcclTransport(nccl.get_unique_id(), 0, 1)
        else:
            from incnet.parallel.staged import StagedTransport

            transport = StagedTransport(OnHost())
        self.allreduce_async, self.broadcast, self.recordable = (
            transport.allreduce_async,
            transport.broadcast,
            transport.recordable,
        )


class OnHost:
    """Sums of one rank."""

    def allreduce_async(self, array):
        assert isinstance(array, np.ndarray)
        return Done()

    def broadcast(self, arrays):
        pass


def state_after_steps(way=None, sync_bn=False):
    """State after steps with batches of two sizes: of a process alone, or of a rank whose sums take this way."""
    graph, optimizer, rng = grow("narrow", True, 0, "eval"), RMSProp(1e-3), np.random.default_rng(0)
    if way is None:
        step = Replay(Step(graph, optimizer))
    else:
        communicator = OneRank(way)
        communicator.broadcast(graph.state())
        step = Replay(ParallelStep(graph, optimizer, communicator, sync_bn=sync_bn))
        step.step.gradient_sum.bucket_bytes = 2048
    losses = []
    for size in (8, 8, 8, 5, 8, 5, 5, 8):
        images, labels = asarray(rng.standard_normal((size, 8, 8, 3))), asarray(rng.integers(0, 5, size))
        losses.append(asnumpy(step.gradients(images, labels)))
        step.update()
    return {"losses": np.array(losses), **{name: asnumpy(array) for name, array in graph.state().items()}}
