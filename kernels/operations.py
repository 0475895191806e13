"""What a backend offers: every operation, with the types of its arguments and results.

The definitions, with docstrings, are those of ``reference``; the shapes stand in ``shapes``.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import DTypeLike

from .operands import Array, BackwardEpilogue, Normalised, NormGradient, OuterProduct
from .shapes import Shape

__all__ = ["Operations"]


class Operations(Protocol):
    """The operations of a backend."""

    def conv2d(self, x: Array, weight: Array, bias: Array | None, stride: int, padding: int) -> Array: ...

    def conv2d_input_grad(
        self, dy: Array | NormGradient, weight: Array, x_shape: Shape, stride: int, padding: int
    ) -> Array: ...

    def conv2d_weight_grad(
        self, x: Array | Normalised, dy: Array | NormGradient, kernel_size: tuple[int, int], stride: int, padding: int
    ) -> Array: ...

    def as_matrix(self, x: Array) -> Array: ...

    def im2col(self, x: Array, kernel_size: tuple[int, int], stride: int, padding: int) -> Array: ...

    def col2im(
        self, columns: Array, x_shape: Shape, kernel_size: tuple[int, int], stride: int, padding: int
    ) -> Array: ...

    def conv2d_bias_relu(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        stride: int,
        padding: int,
        residual: Array | None = None,
        scale: Array | None = None,
        overwrite: bool = False,
    ) -> Array: ...

    def conv2d_moments(
        self, x: Array | Normalised, weight: Array, stride: int, padding: int
    ) -> tuple[Array, Array, Array]: ...

    def norm_conv2d_moments(
        self, x: Normalised, weight: Array, stride: int, padding: int
    ) -> tuple[Array, Array, Array, Array]: ...

    def fused_input_grad(
        self, dy: Array | NormGradient, weight: Array, x_shape: Shape, stride: int, padding: int
    ) -> Array: ...

    def fused_weight_grad(
        self, x: Array | Normalised, dy: Array | NormGradient, kernel_size: tuple[int, int], stride: int, padding: int
    ) -> Array: ...

    def masked_input_grad(
        self,
        dy: Array | NormGradient,
        weight: Array,
        x_shape: Shape,
        stride: int,
        padding: int,
        below: BackwardEpilogue,
    ) -> tuple[Array, Array]: ...

    def masked_grads(
        self,
        x: Array | Normalised,
        dy: Array | NormGradient,
        weight: Array,
        stride: int,
        padding: int,
        below: BackwardEpilogue,
    ) -> tuple[Array, Array, Array]: ...

    def norm_relu(self, x: Normalised) -> Array: ...

    def norm_gradient(self, dy: NormGradient) -> Array: ...

    def relu_mask(self, da: Array, below: BackwardEpilogue) -> tuple[Array, Array]: ...

    def bias_grad(self, dy: Array) -> Array: ...

    def batch_norm_stats(self, x: Array) -> tuple[Array, Array]: ...

    def batch_norm(
        self,
        x: Array,
        mean: Array,
        var: Array,
        gamma: Array,
        beta: Array,
        eps: float,
        residual: Array | None = None,
        relu: bool = False,
    ) -> Array: ...

    def batch_norm_grad(
        self, dy: Array, x: Array, mean: Array, var: Array, gamma: Array, eps: float
    ) -> tuple[Array, Array, Array]: ...

    def batch_norm_fixed_grad(
        self, dy: Array, x: Array, mean: Array, var: Array, gamma: Array, eps: float
    ) -> tuple[Array, Array, Array]: ...

    def norm_coefficients(
        self, mean: Array, var: Array, gamma: Array, beta: Array, eps: float
    ) -> tuple[Array, Array]: ...

    def gradient_coefficients(
        self, sums: Array, m: int, mean: Array, var: Array, gamma: Array, eps: float
    ) -> tuple[Array, Array, Array, Array, Array]: ...

    def move_statistics(
        self, running_mean: Array, running_var: Array, mean: Array, var: Array, decay: float, unbiased: float
    ) -> None: ...

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array: ...

    def linear_input_grad(self, dy: Array, weight: Array) -> Array: ...

    def linear_weight_grad(self, x: Array, dy: Array) -> Array: ...

    def factored_weight_grad(self, x: Array, dy: Array) -> Array | OuterProduct: ...

    def softmax_cross_entropy(self, logits: Array, labels: Array) -> tuple[Array, Array]: ...

    def sgd_step_all(self, tensors: Sequence[tuple[Any, ...]], lr: float, momentum: float) -> None: ...

    def rmsprop_step_all(
        self, tensors: Sequence[tuple[Any, ...]], lr: float, rho: float, momentum: float, eps: float
    ) -> None: ...

    def lerp_all(self, tensors: Sequence[tuple[Any, ...]], weight: float) -> None: ...

    def add(self, a: Array, b: Array) -> Array: ...

    def relu(self, x: Array) -> Array: ...

    def relu_grad(self, dy: Array, y: Array) -> Array: ...

    def leaky_relu(self, x: Array, slope: float) -> Array: ...

    def leaky_relu_grad(self, dy: Array, y: Array, slope: float) -> Array: ...

    def cast(self, x: Array, dtype: DTypeLike) -> Array: ...

    def draw_seed(self, count: Array, skipped: int) -> Array: ...

    def dropout(self, x: Array, rate: float, seed: Array | int) -> Array: ...

    def subsample(self, x: Array, stride: int, channels: int) -> Array: ...

    def subsample_grad(self, dy: Array, x_shape: Shape, stride: int) -> Array: ...

    def max_pool(self, x: Array, size: int, stride: int) -> tuple[Array, Array]: ...

    def max_pool_grad(self, dy: Array, where: Array, x_shape: Shape, size: int, stride: int) -> Array: ...

    def avg_pool(self, x: Array, size: int, stride: int) -> Array: ...

    def avg_pool_grad(self, dy: Array, x_shape: Shape, size: int, stride: int) -> Array: ...

    def global_avg_pool(self, x: Array) -> Array: ...

    def global_avg_pool_grad(self, dy: Array, x_shape: Shape) -> Array: ...

    def augment(
        self, images: Array, rows: Array, shifts: Array, flips: Array, mean: Array, std: Array, out: Array | None = None
    ) -> Array: ...

    def resize_bilinear(self, x: Array, size: tuple[int, int], out: Array | None = None) -> Array: ...

    def resize_area(self, x: Array, size: tuple[int, int], out: Array | None = None) -> Array: ...
