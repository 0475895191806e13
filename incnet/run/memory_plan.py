"""How many images a step learns from, where memory decides: the largest batch that fits, for each sub-network.

The paper trained every sub-network with the largest batch that its GPU could hold (Figure 5): while the network is
small its batches are large, which allows for a larger learning rate. What a batch takes is found by a dry run; see
:mod:`incnet.memory`.
"""

from __future__ import annotations

import ctypes
import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from incnet.backend import Array
from incnet.config import Config, ConfigError
from incnet.data.loader import Loader
from incnet.graph import Graph
from incnet.layer import Layer
from incnet.layers.norm import BatchNorm2d
from incnet.layers.reduction import Reduction
from incnet.memory import network_bytes, pool_bytes, step_memory
from incnet.optim import Optimizer
from incnet.run.images import RunImages
from incnet.run.network import NetworkFactory
from incnet.run.state import RunState
from incnet.units import parse_size

__all__ = [
    "Memory",
    "StagePlan",
    "fewest_images",
    "largest_batch",
    "plan_batches",
    "plan_stages",
    "return_freed_memory",
    "round_batch",
    "smallest_batch",
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
        Of the CPU's memory pool; see :func:`incnet.memory.pool_bytes`.
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


def largest_batch(bytes_for: Callable[[int], int], limit: int, most: int, fewest: int = 1) -> int | None:
    """Return the largest batch of at most ``most`` images, as :func:`round_batch` has them, that takes up to ``limit``.

    None if there is no room for the ``fewest`` images that a batch may have.
    """
    sizes = sorted({round_batch(images) for images in range(fewest, most + 1)})
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
    unknown = next((layer for each in state.subnetworks.values() if (layer := not_dry_run(each))), None)
    if unknown is not None:
        kind = type(unknown).__name__
        raise ConfigError(
            f"--batch-size auto: what {kind} takes is not known beforehand; choose a number, or, if {kind} computes by "
            "incnet.ops alone, let it say so: recordable = True"
        )
    kept = len(networks.own.content) if networks.own else 0
    try:
        return plan_batches(
            networks.graph(),
            state.subnetworks,
            state.optimizer,
            images.train,
            images.validation,
            limit=parse_size(config.memory_limit) - kept,
            most=config.max_batch_size,
            together=state.schedule.inserted,
            average=config.average,
            lookahead=state.schedule.lookahead > 0,
        )
    except ValueError as error:
        raise ConfigError(f"--memory-limit {config.memory_limit}: {error}; allow more") from error


def fewest_images(config: Config, state: RunState, networks: NetworkFactory, images: RunImages) -> int:
    """Return how many images a batch has to have, so that batch norm sees more than one value per channel.

    Parameters
    ----------
    state : RunState
        Before the first epoch.

    Raises
    ------
    ConfigError
        If no batch has as many.
    """
    ranks = 1 if config.sync_bn else images.ranks
    given, there = config.batch_size, len(images.train.split)
    size = min(given if isinstance(given, int) else config.max_batch_size, there)
    if isinstance(given, int) and min(size, there % size or size) >= 2 * ranks:
        return 1
    graph = networks.graph()
    for name, subnetwork in state.subnetworks.items():
        graph.insert(name, subnetwork)
    least = smallest_batch(graph)
    if size < least * ranks:
        where = f"--batch-size {given}" if size < there else f"{there} training images"
        raise ConfigError(
            f"{where}: batch normalisation would see one pixel of one image, and a single value has no variance; "
            f"choose at least {least * ranks}"
        )
    return 1 if least == 1 else least * ranks


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
    lookahead: bool = False,
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
    lookahead : bool
        Whether a new sub-network is first trained with all others frozen.

    Raises
    ------
    ValueError
        If there is no room for a step of one image, or of as many as a step needs.
    """
    names, planned, least = list(subnetworks), dict[str, StagePlan](), 0
    most = min(most, len(train.split))
    for number, name in enumerate(names, start=1):
        graph.insert(name, subnetworks[name])
        if number < together:
            continue
        waiting = [subnetworks[later] for later in names[number:]]
        frozen = number - 1 if lookahead and number > together else 0
        takes = partial(training_memory, graph, optimizer, train, validation, waiting, average=average, frozen=frozen)
        least = max(least, takes(train.least).total)
        most = largest_batch(partial(_total, takes), limit, most, train.least) or train.least
        planned[name] = StagePlan(most, takes(most).pool)
    if least > limit:
        images = "one image" if train.least == 1 else f"{train.least} images"
        raise ValueError(f"steps of {images} take up to {least / 1e6:,.1f} MB")
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
    frozen: int = 0,
) -> Memory:
    """Memory that a run takes while it trains the whole of ``graph`` in batches of this size.

    Before that the first ``frozen`` sub-networks may have been frozen, which can take more where they lie above others:
    frozen layers that hand a gradient on are computed one by one.

    Steps and validation at their peak, gradients included, in the pool; beside it the network with its optimizer state,
    the batches of a loader, a copy of the best weights, another one for their ``average``, sub-networks that are
    ``waiting`` to be inserted, and what it takes to look for NaN. Neither the interpreter with its libraries, nor the
    data set, nor cached features.
    """
    pool = 0
    for boundary in {frozen, 0}:
        graph.freeze_prefix(boundary)
        pool = max(pool, pool_bytes(graph, batches(train, batch_size), batches(validation, validation.batch_size)))
    graph.unfreeze()
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
    return [size for size in (batch_size if whole else 0, rest) if size >= loader.least]


def not_dry_run(network: Layer) -> Layer | None:
    """Return a layer that cannot be gone through without computing, for all that it says; None if there is none."""
    return next((layer for layer in network.layers() if not vars(type(layer)).get("recordable")), None)


def smallest_batch(graph: Graph) -> int:
    """Return how many images a training step needs at least: 2 where a batch norm sees one pixel of each, else 1.

    Where that cannot be known beforehand, 2 if there is batch norm.
    """
    norms = [layer for layer in graph.layers() if isinstance(layer, BatchNorm2d)]
    if not_dry_run(graph) is not None:
        return 2 if norms else 1
    before, seen = [norm.reduction for norm in norms], _FewestValues()
    try:
        for norm in norms:
            norm.reduction = seen
        step_memory(graph, 2)
    finally:
        for norm, reduction in zip(norms, before, strict=True):
            norm.reduction = reduction
    return 2 if seen.fewest == 2 else 1


class _FewestValues(Reduction):
    """The fewest values per channel that statistics were taken over."""

    fewest = sys.maxsize

    def moments(self, mean: Array, var: Array, m: int) -> tuple[Array, Array, int]:
        self.fewest = min(self.fewest, m)
        return mean, var, m


def return_freed_memory() -> None:
    """Let this process give memory back when it is freed: the GNU C library keeps some, which nobody has reckoned with.

    Elsewhere nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, PIECE)
