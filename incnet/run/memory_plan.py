"""How many images a step learns from, where memory decides: the largest batch that fits, for each sub-network.

The paper trained every sub-network with the largest batch that its GPU could hold (Figure 5): while the network is
small its batches are large, which allows for a larger learning rate. What a batch takes is rehearsed, not tried out;
see :mod:`incnet.cost`.
"""

from __future__ import annotations

import ctypes
import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from incnet.config import Config, ConfigError
from incnet.cost import network_bytes, pool_bytes
from incnet.data.loader import Loader
from incnet.graph import Graph
from incnet.layer import Layer
from incnet.optim import Optimizer
from incnet.run.images import RunImages
from incnet.run.network import NetworkFactory
from incnet.run.state import RunState
from incnet.sizes import parse_size

__all__ = [
    "Memory",
    "StagePlan",
    "largest_batch",
    "plan_batches",
    "plan_stages",
    "return_freed_memory",
    "round_batch",
    "training_memory",
]

FLOAT = 4  # bytes
DIGITS = 4
# Of the C library: pieces of this size and larger have pages of their own.
MMAP_THRESHOLD, PIECE = -3, 2**18


class Memory(NamedTuple):
    """Bytes that training takes.

    Attributes
    ----------
    pool : int
        Of the CPU's memory pool; see :func:`incnet.cost.pool_bytes`.
    beside : int
        The network, and all that a run keeps as long as a stage lasts.
    """

    pool: int
    beside: int

    @property
    def total(self) -> int:
        """Both."""
        return self.pool + self.beside


class StagePlan(NamedTuple):
    """How a stage trains.

    Attributes
    ----------
    batch_size : int
        Images in a step.
    pool : int or None
        Bytes that the CPU's memory pool may hold, None where memory is not limited.
    """

    batch_size: int
    pool: int | None = None


def round_batch(images: int) -> int:
    """Round down to a number of at most four binary digits and zeros: 1 to 16, 18, 20, ..., 32, 36, ..., 128, 144, ...

    At most an eighth is lost, and large batches are multiples of what kernels work on at once.
    """
    spare = max(0, images.bit_length() - DIGITS)
    return images >> spare << spare


def largest_batch(bytes_for: Callable[[int], int], limit: int, most: int) -> int | None:
    """Return the largest batch of at most ``most`` images, as :func:`round_batch` has them, that takes up to ``limit``.

    None if there is no room for a single image.
    """
    sizes = sorted({round_batch(images) for images in range(1, most + 1)})
    fitting = bisect_right(sizes, 0, key=lambda images: int(bytes_for(images) > limit))
    return sizes[fitting - 1] if fitting else None


def plan_stages(config: Config, state: RunState, networks: NetworkFactory, images: RunImages) -> dict[str, StagePlan]:
    """Images in a step, and memory for it, for each sub-network, from when it was inserted.

    Parameters
    ----------
    state : RunState
        Before the first epoch.

    Raises
    ------
    ConfigError
        If the memory does not even hold a step of one image.
    """
    if isinstance(config.batch_size, int):
        return dict.fromkeys(state.subnetworks, StagePlan(config.batch_size))
    assert config.memory_limit is not None
    try:
        return plan_batches(
            networks.graph(),
            state.subnetworks,
            state.optimizer,
            images.train,
            images.validation,
            limit=parse_size(config.memory_limit),
            most=config.max_batch_size,
            together=state.schedule.inserted,
            average=config.average,
        )
    except ValueError as error:
        raise ConfigError(f"--memory-limit {config.memory_limit}: {error}; allow more") from error


def plan_batches(
    graph: Graph,
    subnetworks: Mapping[str, Layer],
    optimizer: Optimizer,
    train: Loader,
    validation: Loader,
    *,
    limit: int,
    most: int,
    together: int = 1,
    average: bool = False,
) -> dict[str, StagePlan]:
    """Return the batch size and the pool's limit for each sub-network, from its insertion on.

    Parameters
    ----------
    graph : Graph
        Without sub-networks; in the end it has all.
    subnetworks : mapping of str to Layer
        In the order in which they come.
    limit : int
        Bytes that training may take, as :func:`training_memory` counts them.
    most : int
        Images in a batch at most.
    together : int
        Number of sub-networks that are there from the beginning.
    average : bool
        Whether the average of the weights is kept beside them.

    Raises
    ------
    ValueError
        If there is no room for a step of one image.
    """
    names, planned, least = list(subnetworks), dict[str, StagePlan](), 0
    most = min(most, len(train.split))
    for number, name in enumerate(names, start=1):
        graph.insert(name, subnetworks[name])
        if number < together:
            continue
        waiting = [subnetworks[later] for later in names[number:]]
        takes = partial(training_memory, graph, optimizer, train, validation, waiting, average=average)
        least = max(least, takes(1).total)
        most = largest_batch(partial(_total, takes), limit, most) or 1
        planned[name] = StagePlan(most, takes(most).pool)
    if least > limit:
        raise ValueError(f"steps of one image take up to {least / 1e6:,.1f} MB")
    return {name: planned.get(name, planned[names[together - 1]]) for name in names}


def training_memory(
    graph: Graph,
    optimizer: Optimizer,
    train: Loader,
    validation: Loader,
    waiting: Iterable[Layer],
    batch_size: int,
    *,
    average: bool = False,
) -> Memory:
    """Memory that a run takes while it trains the whole of ``graph`` in batches of this size.

    Steps and validation at their peak, gradients included, in the pool; beside it the network with its optimizer state,
    the batches of a loader, a copy of the best weights, another one for their ``average``, sub-networks that are
    ``waiting`` to be inserted, and what it takes to look for NaN. Neither the interpreter with its libraries, nor the
    data set, nor cached features.
    """
    pool = pool_bytes(graph, batches(train, batch_size), batches(validation, validation.batch_size))
    images = (train.prefetch + 1) * max(batch_size, *batches(validation, validation.batch_size))
    loaded = images * math.prod(train.image_shape) * FLOAT
    state = [array.nbytes for layer in (graph, *waiting) for array in layer.state().values()]
    best = sum(array.nbytes for array in graph.state().values())
    averaged = sum(parameter.data.nbytes for parameter in graph.parameters()) if average else 0
    later = sum(state) - best
    return Memory(pool, network_bytes(graph, optimizer) + loaded + best + averaged + later + max(state) // FLOAT)


def _total(takes: Callable[[int], Memory], images: int) -> int:
    return takes(images).total


def batches(loader: Loader, batch_size: int) -> list[int]:
    """Sizes of an epoch's batches, each once."""
    whole, rest = divmod(len(loader.split), batch_size)
    return [size for size in (batch_size if whole else 0, rest) if size]


def return_freed_memory() -> None:
    """Let this process give memory back when it is freed: the GNU C library keeps some, which nobody has reckoned with.

    Elsewhere nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, PIECE)
