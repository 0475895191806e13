"""How much memory a training step takes, before anything is computed.

It is found by a *dry run* of the step: the network's own passes run on kernels that count memory and compute nothing
(``incnet.kernels.cpu.dry_run``), in milliseconds and for any batch size. Whatever layers and fusion keep, they keep
there too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from incnet.backend import dry_run_kernels, ops, substituted
from incnet.graph import Graph
from incnet.layer import Shape
from incnet.optim import Optimizer

__all__ = ["StepMemory", "network_bytes", "pool_bytes", "step_bytes", "step_memory"]


class StepMemory(NamedTuple):
    """Bytes that a training step of a network takes beside the network itself; see :func:`step_memory`.

    Attributes
    ----------
    kept : int
        Held for backward when forward has returned: activations, batch statistics, places of maxima. The batch itself
        and the logits are not counted.
    gradients : int
        Of the parameters, or their factors, after the step and through the next one.
    peak : int
        All arrays that are alive at the worst moment: the batch, gradients, what is kept, what layers hand on, and
        the scratch memory of the CPU's convolutions.
    held : int
        What the CPU's memory pool takes from the system for it: the sizes that it rounds to, and the free blocks that
        wait for the next step.
    """

    kept: int
    gradients: int
    peak: int
    held: int


def step_memory(graph: Graph, batch_size: int, *, train: bool = True, from_features: bool = False) -> StepMemory:
    """Go through a step, or with ``train=False`` an evaluation, of the graph as it is, without computing anything.

    The graph is left as it was. Everything follows the CPU's kernels; on a GPU as much is kept, while scratch memory
    and what the pool holds differ.

    Parameters
    ----------
    batch_size : int
        Images, at least 1; they need not fit into memory.
    from_features : bool
        Whether the batch is of the frozen prefix's features in place of images.

    Raises
    ------
    RuntimeError
        Between a forward pass and its backward pass, when the graph holds activations.
    """
    if batch_size < 1:
        raise ValueError(f"a batch of {batch_size}: choose at least 1 image")
    with _dry_run(graph) as (make_batch, account):
        forward: Callable[..., Any] = graph.logits if from_features else graph.forward
        batch = make_batch(batch_size, graph.prefix_shape if from_features else graph.input_shape)
        kept = 0
        # The second step finds the gradients of the first, as all later ones do.
        for _ in range(2 if train else 1):
            kept = _go_through(graph, forward, batch, train, account)
        return StepMemory(kept, account.of_arrays - batch.bytes.size, account.peak, account.peak_held)


@contextmanager
def _dry_run(graph: Graph) -> Iterator[tuple[Callable[..., Any], Any]]:
    """Compute nothing in a ``with`` block; yields what makes batches without content, and the account."""
    kernels = dry_run_kernels()
    if graph.holds_activations:
        raise RuntimeError("the graph holds activations: do the dry run before a step or after it")
    with kernels.memory_account() as account, substituted(kernels), _as_it_was(graph):
        dtype = graph.parameters()[0].data.dtype

        def make_batch(images: int, shape: Shape, *, counted: bool = True) -> Any:
            return kernels.MetaArray((images, *shape), dtype, None if counted else kernels.ELSEWHERE)

        yield make_batch, account


def _go_through(graph: Graph, forward: Callable[..., Any], batch: Any, train: bool, account: Any) -> int:
    """Go forward and, in training, backward; return the bytes that were kept in between."""
    before = account.of_arrays
    logits = forward(batch, train)
    kept = account.of_arrays - before - logits.bytes.size
    if train:
        _, dlogits = ops.softmax_cross_entropy(logits, None)
        del logits
        graph.backward(dlogits)
        trainable = [parameter for _, parameter in graph.trainable_parameters()]
        # For a velocity stands what has its shape, the parameter.
        ops.sgd_step_all([(each.data, each.gradient, each.data, 0.0) for each in trainable], 0.0, 0.0)
    return kept


@contextmanager
def _as_it_was(graph: Graph) -> Iterator[None]:
    """Put gradients, and the buffers that a training pass moves, back at the end of a ``with`` block."""
    gradients = [(parameter, parameter.gradient) for parameter in graph.parameters()]
    buffers = [(array, array.copy()) for _, array in graph.named_buffers()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        graph.discard()
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for array, values in buffers:
            array[...] = values


def step_bytes(graph: Graph, optimizer: Optimizer, batch_size: int, *, from_features: bool = False) -> int:
    """Bytes that training with batches of this size takes at its peak, the graph being as it is.

    Parameters and statistics, gradients, optimizer state, the batch, and all that a step holds in between, as the CPU's
    memory pool takes it from the system. Not the interpreter with its libraries and compiled kernels, the data set, and
    what a run keeps besides: batches that are loaded ahead, the best weights, evaluation.
    """
    return network_bytes(graph, optimizer) + step_memory(graph, batch_size, from_features=from_features).held


def pool_bytes(graph: Graph, batches: Sequence[int], evaluated: Sequence[int]) -> int:
    """Bytes that the CPU's memory pool holds in epochs with ``batches`` of these sizes, each followed by evaluation.

    Before that, batch norm's statistics are taken anew in batches of the largest size.

    The pool keeps free blocks of all their sizes for a while, so this is more than the largest of them takes alone. The
    batches themselves, which a loader owns, are not counted. With this limit (:func:`incnet.backend.limit_memory`) the
    pool holds no more, whatever it was used for before, and steps of one size after the other find all their blocks.
    """
    with _dry_run(graph) as (make_batch, account):
        account.plan_limit()
        make = partial(make_batch, shape=graph.input_shape, counted=False)
        for _ in range(2):
            for images in batches:
                _go_through(graph, graph.forward, make(images), True, account)
            graph.recalibrate(make(max(batches)))
            for images in evaluated:
                _go_through(graph, graph.forward, make(images), False, account)
        return account.peak_held


def network_bytes(graph: Graph, optimizer: Optimizer) -> int:
    """Parameters, statistics, and the optimizer's state, that which the next step makes included."""
    state = {name: sum(array.nbytes for array in slots.values()) for name, slots in optimizer.state.items()}
    for name, parameter in graph.trainable_parameters():
        state.setdefault(name, len(optimizer.slots) * parameter.data.nbytes)
    return sum(array.nbytes for array in graph.state().values()) + sum(state.values())
