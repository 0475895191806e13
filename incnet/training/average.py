"""The average of the weights over the steps of training.

At a constant learning rate the weights wander around a minimum, and their average lies nearer to it than they do
(Polyak and Juditsky, 1992, doi:10.1137/0330046). The average is what is evaluated, saved, and handed on at growth;
training goes on from the weights themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from incnet.backend import Array, asarray, ops
from incnet.graph import Graph

__all__ = ["WeightAverage"]


class WeightAverage:
    """Average of a graph's trainable parameters since :meth:`WeightAverage.restart`.

    Attributes
    ----------
    arrays : dict of str to array
        The average by parameter name; empty before the first update.
    steps : int
        Training steps since the restart.

    Notes
    -----
    Every eighth step is an update. The n-th one, with weights w, makes of the average a::

        a = a + (eta + 1) / (n + eta) * (w - a)        eta = 14

    a weighted mean in which the weights of step s count as s^eta: the first steps are soon forgotten, and on average it
    lags a sixteenth of the steps behind. So there is no decay to choose, whether training is short or long.

    Source: Shamir and Zhang (2013), arXiv:1212.1824, polynomial-decay averaging.
    """

    EVERY, ETA = 8, 14

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self.steps = 0

    def restart(self) -> None:
        """Forget all steps, as the set of trainable parameters changes."""
        self.arrays, self.steps = {}, 0

    def observe(self, graph: Graph) -> None:
        """Take note of the weights after a training step."""
        self.steps += 1
        updates, rest = divmod(self.steps, self.EVERY)
        if rest:
            return
        parameters = dict(graph.trainable_parameters())
        if not self.arrays:
            self.arrays = {name: parameter.data.copy() for name, parameter in parameters.items()}
            return
        pairs = [(self.arrays[name], parameter.data) for name, parameter in parameters.items()]
        ops.lerp_all(pairs, (self.ETA + 1) / (updates + self.ETA))

    @contextmanager
    def applied(self, graph: Graph) -> Iterator[None]:
        """Let the graph's parameters be their average in a ``with`` block."""
        before = [(parameter, parameter.data) for _, parameter in graph.named_parameters()]
        for name, parameter in graph.named_parameters():
            parameter.data = self.arrays.get(name, parameter.data)
        try:
            yield
        finally:
            for parameter, data in before:
                parameter.data = data

    def hand_on(self, graph: Graph) -> None:
        """Copy the average into the weights, and begin anew from there."""
        for name, parameter in graph.named_parameters():
            if name in self.arrays:
                parameter.data[...] = self.arrays[name]
        self.restart()

    def load(self, arrays: Mapping[str, np.ndarray], steps: int, graph: Graph) -> None:
        """Go on where another average of such a graph was.

        Raises
        ------
        ValueError
            If the arrays are not those of its trainable parameters, or too many or few for so many steps.
        """
        expected = {name: parameter.data for name, parameter in graph.trainable_parameters()}
        if steps < 0 or bool(arrays) != (steps >= self.EVERY) or (arrays and arrays.keys() != expected.keys()):
            raise ValueError(f"an average of {len(arrays)} of {len(expected)} parameters over {steps} steps")
        for name, array in arrays.items():
            if (array.shape, array.dtype) != (expected[name].shape, expected[name].dtype):
                raise ValueError(f"the average of {name} is {array.dtype} {array.shape}, not {expected[name].shape}")
        self.arrays, self.steps = {name: asarray(array.copy()) for name, array in arrays.items()}, steps
