"""A trainable array and its gradient."""

from __future__ import annotations

from collections.abc import Callable

from incnet.backend import Array, ops
from incnet.kernels.operands import OuterProduct

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
        Gradient of the loss with respect to ``data``, of the same shape; *assigned* by each backward pass, once, never
        accumulated. None before the first one.
    gradient : array, OuterProduct or None
        The same as backward has left it: in factors, perhaps, which optimizers take as they are. Whoever reads ``grad``
        has them multiplied.
    on_grad : callable or None
        Called with the parameter when its gradient has been assigned, while backward still goes on below.
    """

    __slots__ = ("_grad", "data", "decay", "on_grad")

    def __init__(self, data: Array, decay: bool = False) -> None:
        self.data = data
        self.decay = decay
        self.on_grad: Callable[[Parameter], None] | None = None
        self._grad: Array | OuterProduct | None = None

    @property
    def grad(self) -> Array | None:
        """Gradient of the loss; see above."""
        if isinstance(self._grad, OuterProduct):
            self._grad = ops.linear_weight_grad(*self._grad)
        return self._grad

    @grad.setter
    def grad(self, gradient: Array | OuterProduct | None) -> None:
        self._grad = gradient
        if self.on_grad is not None:
            self.on_grad(self)

    @property
    def gradient(self) -> Array | OuterProduct | None:
        """The same, in factors perhaps."""
        return self._grad

    def __repr__(self) -> str:
        return f"Parameter(shape={self.data.shape}, dtype={self.data.dtype}, decay={self.decay})"
