"""Calls of every kernel, with inputs, to be held against its definition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from incnet.kernels.operands import BackwardEpilogue, Normalised, NormGradient, OuterProduct
from incnet.kernels.shapes import output_size

__all__ = ["CONVOLUTIONS", "FUSED", "Case", "cases", "error", "mapped", "more_cases", "results", "truth"]

Shapes = Sequence[tuple[int, ...]]


class Case(NamedTuple):
    """One call.

    ``changes`` are the positions of arguments that are changed in place; ``exact`` asks for the reference's very bits.
    """

    name: str
    kernel: str
    arguments: tuple
    changes: tuple[int, ...] = ()
    exact: bool = False


# (N, H, W, C, K, kernel, stride, padding): odd sizes, every vector width, split reductions, ResNet's and VGG's kinds.
CONVOLUTIONS = (
    (2, 6, 5, 8, 16, 3, 1, 1),
    (2, 5, 7, 3, 16, 3, 1, 1),
    (2, 7, 6, 16, 32, 3, 2, 1),
    (3, 5, 5, 4, 10, 1, 2, 0),
    (1, 9, 8, 5, 7, 5, 2, 2),
    (2, 4, 4, 64, 64, 3, 1, 1),
    (70, 1, 1, 36, 70, 1, 1, 0),
)
# Those that are fused with what lies around them: parts of tiles, several tiles along each axis, groups of pixels, and
# last a split reduction, where the epilogue becomes a pass.
FUSED = (
    (2, 6, 5, 8, 16, 3, 1, 1),
    (9, 9, 7, 16, 40, 3, 2, 1),
    (5, 5, 5, 6, 10, 1, 2, 0),
    (2, 4, 4, 64, 64, 3, 1, 1),
    (80, 15, 14, 4, 16, 3, 1, 1),
)
DENSE = ((5, 36, 10), (32, 7, 16))  # N, C, K
CHANNELS = (16, 3, 40)


def cases(
    dtype: Any, rng: np.random.Generator, convolutions: Shapes = CONVOLUTIONS, fused: Shapes = FUSED
) -> Iterator[Case]:
    """Yield cases for every kernel; arrays are NumPy's, of ``dtype`` where the kernel is generic."""

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    for n, h, w, c, k, size, stride, padding in convolutions:
        name = f"{n}x{h}x{w}x{c}-{k}-{size}-{stride}-{padding}"
        x, weight, bias = normal(n, h, w, c), normal(size, size, c, k), normal(k)
        rows, cols = (output_size(s, size, stride, padding) for s in (h, w))
        dy = normal(n, rows, cols, k)
        geometry = (stride, padding)
        yield Case(name, "conv2d", (x, weight, bias, *geometry))
        yield Case(f"{name}-without-bias", "conv2d", (x, weight, None, *geometry))
        yield Case(name, "conv2d_input_grad", (dy, weight, x.shape, *geometry))
        yield Case(name, "conv2d_weight_grad", (x, dy, (size, size), *geometry))
        yield Case(name, "as_matrix", (dy,), exact=True)
        yield Case(name, "im2col", (x, (size, size), *geometry), exact=True)
        yield Case(name, "col2im", (normal(n * rows * cols, size * size * c), x.shape, (size, size), *geometry))
    for n, h, w, c, k, size, stride, padding in fused:
        name = f"{n}x{h}x{w}x{c}-{k}-{size}-{stride}-{padding}"
        weight, bias, geometry = normal(size, size, c, k), normal(k), (stride, padding)
        rows, cols = (output_size(s, size, stride, padding) for s in (h, w))
        x, a, skip = (normal(n, h, w, c) for _ in range(3))
        recipe = Normalised(x, normal(c), normal(c))
        dz, y = normal(n, rows, cols, k), normal(n, rows, cols, k)
        norm_dy = NormGradient(dz, y, normal(k), normal(k), normal(k))
        belows = {
            "norm": BackwardEpilogue(x, normal(c), normal(c), normal(c)),
            "output": BackwardEpilogue(x, normal(c), a=a),
            "output-skip": BackwardEpilogue(x, normal(c), a=a, skip=skip),
            "bias": BackwardEpilogue(a=a),
        }
        yield Case(name, "norm_relu", (recipe,))
        yield Case(f"{name}-residual", "norm_relu", (recipe._replace(residual=a),))
        yield Case(name, "norm_gradient", (norm_dy,))
        yield Case(name, "conv2d_bias_relu", (x, weight, bias, *geometry))
        yield Case(f"{name}-residual", "conv2d_bias_relu", (x, weight, bias, *geometry, dz))
        yield Case(f"{name}-scale", "conv2d_bias_relu", (x, weight, bias, *geometry, dz, normal(k)))
        yield Case(name, "conv2d_moments", (x, weight, *geometry))
        yield Case(f"{name}-normalised", "conv2d_moments", (recipe, weight, *geometry))
        yield Case(name, "norm_conv2d_moments", (recipe._replace(residual=a), weight, *geometry))
        yield Case(name, "fused_weight_grad", (recipe, norm_dy, (size, size), *geometry))
        yield Case(f"{name}-array", "fused_weight_grad", (x, norm_dy, (size, size), *geometry))
        yield Case(name, "fused_input_grad", (norm_dy, weight, x.shape, *geometry))
        for kind, below in belows.items():
            yield Case(f"{name}-{kind}", "relu_mask", (skip, below))
            yield Case(f"{name}-{kind}", "masked_input_grad", (norm_dy, weight, x.shape, *geometry, below))
        yield Case(name, "masked_grads", (recipe, norm_dy, weight, *geometry, belows["norm"]))
    for n, c, k in DENSE:
        name, x, dy, weight = f"{n}-{c}-{k}", normal(n, c), normal(n, k), normal(c, k)
        yield Case(name, "linear", (x, weight, normal(k)))
        yield Case(name, "linear_input_grad", (dy, weight))
        yield Case(name, "linear_weight_grad", (x, dy))
    for channels in CHANNELS:
        name = f"{channels}-channels"
        sums = 9 * rng.standard_normal((2, channels))
        mean, var, gamma, beta = (
            normal(channels),
            rng.uniform(5, 12, channels).astype(dtype),
            normal(channels),
            normal(channels),
        )
        yield Case(name, "norm_coefficients", (mean, var, gamma, beta, 1e-5))
        yield Case(name, "gradient_coefficients", (sums, 60, mean, var, gamma, 1e-5))
        yield Case(name, "move_statistics", (beta, np.abs(gamma), mean, var, 0.9, 60 / 59), (0, 1))
        # A mean far from zero: squares of the values themselves would cancel.
        x, dy, residual = 3 * normal(4, 5, 3, channels) + 40, normal(4, 5, 3, channels), normal(4, 5, 3, channels)
        mean, var = (normal(channels) + 40).astype(dtype), rng.uniform(5, 12, channels).astype(dtype)
        gamma, beta, eps = normal(channels), normal(channels), 1e-5
        yield Case(name, "batch_norm_stats", (x,))
        yield Case(name, "batch_norm", (x, mean, var, gamma, beta, eps))
        yield Case(f"{name}-relu", "batch_norm", (x, mean, var, gamma, beta, eps, None, True))
        yield Case(f"{name}-residual", "batch_norm", (x, mean, var, gamma, beta, eps, residual, True))
        yield Case(name, "batch_norm_grad", (dy, x, mean, var, gamma, eps))
        yield Case(name, "batch_norm_fixed_grad", (dy, x, mean, var, gamma, eps))
        yield Case(name, "bias_grad", (dy,))
        yield Case(name, "global_avg_pool", (dy,))
        yield Case(name, "global_avg_pool_grad", (normal(4, channels), dy.shape))
        yield Case(name, "add", (dy, residual), exact=True)
        yield Case(name, "relu", (dy,), exact=True)
        yield Case(name, "relu_grad", (dy, residual), exact=True)
        yield Case(name, "leaky_relu", (dy, 0.2))
        yield Case(name, "leaky_relu_grad", (dy, residual, 0.2))
        yield Case(name, "subsample", (dy, 2, channels + 5), exact=True)
        yield Case(name, "subsample_grad", (normal(4, 3, 2, channels + 5), dy.shape, 2), exact=True)
        yield Case(name, "dropout", (dy, 0.3, 2**64 - 59), exact=True)
        for size, stride in ((2, 2), (3, 2), (2, 1)):
            images = rng.integers(-3, 3, (2, 7, 6, channels)).astype(dtype)  # with equal values
            rows, cols = (7 - size) // stride + 1, (6 - size) // stride + 1
            where = rng.integers(0, size * size, (2, rows, cols, channels)).astype(np.uint8)
            yield Case(f"{name}-{size}-{stride}", "max_pool", (images, size, stride), exact=True)
            gradient = normal(2, rows, cols, channels)
            yield Case(f"{name}-{size}-{stride}", "max_pool_grad", (gradient, where, images.shape, size, stride))
            yield Case(f"{name}-{size}-{stride}", "avg_pool", (images, size, stride))
            yield Case(f"{name}-{size}-{stride}", "avg_pool_grad", (gradient, images.shape, size, stride))
    for rows, classes in ((5, 10), (40, 100), (1, 1)):
        logits, labels = 5 * normal(rows, classes), rng.integers(0, classes, rows)
        yield Case(f"{rows}x{classes}", "softmax_cross_entropy", (logits, labels))
    shapes = ((3, 3, 5, 7), (4,), (50, 60), (40, 30))
    tensors: list[tuple] = [(normal(*s), normal(*s), np.abs(normal(*s)), normal(*s), 1e-3) for s in shapes]
    data, _, *others = tensors[-1]
    tensors.append((data, OuterProduct(normal(6, 40), normal(6, 30)), *others))
    yield Case("list", "rmsprop_step_all", (tensors, 1e-2, 0.9, 0.9, 1e-7), (0,))
    without_square = [(data, grad, velocity, decay) for data, grad, _, velocity, decay in tensors]
    yield Case("list", "sgd_step_all", (without_square, 1e-2, 0.9), (0,))
    images = rng.integers(0, 256, (9, 8, 7, 3), np.uint8)
    drawn = rng.integers(0, 9, 5), rng.integers(-4, 5, (5, 2)), rng.random(5) < 0.5
    mean, std = rng.uniform(100, 140, 3).astype(np.float32), rng.uniform(40, 70, 3).astype(np.float32)
    for pixels in ((14, 20), (5, 3)):
        yield Case(f"{pixels}", "resize_bilinear", (normal(2, 8, 7, 3), pixels))
    for pixels in ((4, 7), (5, 3)):
        yield Case(f"{pixels}", "resize_area", (normal(2, 8, 7, 3), pixels))
    yield Case("shift-and-flip", "augment", (images, *drawn, mean, std), exact=True)


def more_cases(rng: np.random.Generator) -> Iterator[Case]:
    """Yield cases for kernels that are defined for one type, or have no place in a training step."""
    pairs = [tuple(rng.standard_normal((2, *shape)).astype(np.float32)) for shape in ((3, 5), (70,))]
    yield Case("list", "lerp_all", (pairs, 0.3), (0,))
    yield Case("images", "as_matrix", (rng.standard_normal((2, 3, 4, 5)).astype(np.float32),), exact=True)
    yield Case("seed", "draw_seed", (np.array([2**63 + 5], np.uint64), 2**64 - 1), (0,), exact=True)
    yield Case("float64", "cast", (rng.standard_normal(9), np.dtype(np.float32)), exact=True)


def mapped(function: Callable, value: Any) -> Any:
    """Apply a function to an array, or to the arrays of a recipe, list or tuple; anything else stays as it is."""
    if isinstance(value, np.ndarray):
        return function(value)
    if hasattr(value, "_fields"):
        return type(value)(*(mapped(function, field) for field in value))
    if isinstance(value, list | tuple):
        return type(value)(mapped(function, each) for each in value)
    return value


def arrays_in(value: Any) -> Iterator[Any]:
    """Yield the arrays of an array, or of a list or tuple that has some."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from arrays_in(each)
    elif hasattr(value, "dtype"):
        yield value


def results(case: Case, kernels: Any, convert: Callable = np.copy, back: Callable = np.asarray) -> list[np.ndarray]:
    """Run a case; return what it returned and changed. ``convert`` and ``back`` move arrays to the kernels and back."""
    arguments = [mapped(convert, value) for value in case.arguments]
    returned = getattr(kernels, case.kernel)(*arguments)
    changed = [arguments[position] for position in case.changes]
    return [back(array) for array in arrays_in([returned, changed])]


def in_double(value: Any) -> Any:
    """A float array in float64, to compute what the kernel should; anything else as it is."""
    return value.astype(np.float64) if value.dtype == np.float32 else value.copy()


def truth(case: Case, reference: Any) -> list[np.ndarray]:
    """What the reference gives, in double precision unless the bits have to agree."""
    return results(case, reference, np.copy if case.exact else in_double)


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative error in the Euclidean norm; infinite if a value is missing or the shapes differ."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    norm = np.linalg.norm(expected.astype(np.float64))
    return float(np.linalg.norm(found.astype(np.float64) - expected) / (norm or 1.0))
