"""NaN and infinity, found early, and where they began."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from incnet.backend import Array, asnumpy
from incnet.graph import Graph
from incnet.kernels.operands import OuterProduct

__all__ = ["NonFiniteError", "check_gradients", "check_loss", "first_nonfinite", "gradient_sum"]


class NonFiniteError(Exception):
    """A loss, a gradient or a weight is NaN or infinite."""

    exit_code = 3


def check_loss(graph: Graph, loss: float, batch: int) -> None:
    """Raise :class:`NonFiniteError` if ``loss``, the mean over an epoch up to ``batch``, is no finite number."""
    if not math.isfinite(loss):
        raise NonFiniteError(f"the training loss is {loss} at batch {batch}{_origin(graph)}")


def gradient_sum(graph: Graph) -> Array | float:
    """Sum of all values of all gradients: not finite if one of them is not, or if it is too large."""
    gradients = [p.gradient for _, p in graph.trainable_parameters() if p.gradient is not None]
    with np.errstate(over="ignore", invalid="ignore"):
        return sum((_sum(gradient) for gradient in gradients[1:]), start=_sum(gradients[0])) if gradients else 0.0


def _sum(gradient: Array | OuterProduct) -> Array:
    """Sum of all values; of a product the sum of what is added up in them, without the signs.

    With the signs, x and dy could add up to something finite where single products overflow.
    """
    if isinstance(gradient, OuterProduct):
        x, dy = gradient
        return (abs(x).sum(axis=1) * abs(dy).sum(axis=1)).sum()
    return gradient.sum()


def check_gradients(graph: Graph, batch: int, total: float | None = None) -> None:
    """Raise :class:`NonFiniteError` if any gradient holds NaN or infinity, naming its parameter.

    ``total`` is :func:`gradient_sum` where that is known already: on a device each look waits.
    """
    if math.isfinite(float(gradient_sum(graph)) if total is None else total):
        return
    with np.errstate(over="ignore", invalid="ignore"):
        gradients = (p.grad for _, p in graph.trainable_parameters() if p.grad is not None)
        finite = all(np.isfinite(asnumpy(gradient)).all() for gradient in gradients)
        origin = "" if finite else _origin(graph)
    if not finite:
        raise NonFiniteError(f"a gradient is not finite at batch {batch}{origin}")


def first_nonfinite(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Describe the first of ``arrays`` that holds NaN or infinity; None if there is none."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            return f"{name} ({_statistics(array)})"
    return None


def _origin(graph: Graph) -> str:
    """Name the layer where it began: forward goes up, so the lowest weights; backward down, so the highest gradient."""
    parameters = list(graph.named_parameters())
    values = {name: asnumpy(parameter.data) for name, parameter in parameters}
    if found := first_nonfinite(values):
        return f"; the lowest layer with weights that are not finite is {found}"
    gradients = {name: asnumpy(p.grad) for name, p in reversed(parameters) if p.grad is not None}
    if found := first_nonfinite(gradients):
        largest = max(values, key=lambda name: float(np.abs(values[name]).max(initial=0)))
        return (
            f"; the highest layer with a gradient that is not finite is {found}; "
            f"the largest weight, {float(np.abs(values[largest]).max()):.3g}, is in {largest}"
        )
    return ""


def _statistics(array: np.ndarray) -> str:
    finite = array[np.isfinite(array)]
    text = f"{array.size:,} values, {int(np.isnan(array).sum()):,} NaN, {int(np.isinf(array).sum()):,} infinite"
    if finite.size:
        text += f", the others from {finite.min():.3g} to {finite.max():.3g}"
    return text
