"""A trainable array and its gradient."""

from __future__ import annotations

from incnet.backend import Array

__all__ = ["Parameter"]


class Parameter:
    """A trainable array.

    Parameters
    ----------
    data : array
        The values.
    decay : bool
        Whether weight decay applies: yes for the weights of convolutions and dense layers, no for biases and for the
        scale and shift of batch normalisation.

    Attributes
    ----------
    grad : array or None
        Gradient of the loss with respect to ``data``, of the same shape; *assigned* by each backward pass, never
        accumulated. None before the first one.
    """

    __slots__ = ("data", "decay", "grad")

    def __init__(self, data: Array, decay: bool = False) -> None:
        self.data = data
        self.grad: Array | None = None
        self.decay = decay

    def __repr__(self) -> str:
        return f"Parameter(shape={self.data.shape}, dtype={self.data.dtype}, decay={self.decay})"
