"""Every kernel of every backend against its definition in ``reference``.

One registry of cases serves all checks, so a kernel is tested from the day that it is registered, and a backend from
the day that it stands in ``BACKENDS``. Each call must return what the reference returns for the same numbers in
float64, up to a stated number of roundings; keep the dtype; and leave its arguments as they were, however they lie in
memory.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count as count_from
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incnet.backend import device_count
from incnet.kernels import reference
from incnet.kernels.cpu import dry_run
from incnet.kernels.im2col import Im2col
from incnet.kernels.operands import BackwardEpilogue, Normalised, NormGradient, OuterProduct
from incnet.kernels.operations import Operations
from incnet.kernels.shapes import OPERATIONS, checked


@dataclass(frozen=True)
class Backend:
    """Kernels, and the way to the arrays that they take."""

    module: str
    to_device: Callable[[np.ndarray], Any] = np.asarray
    to_host: Callable[[Any], np.ndarray] = np.asarray
    by_im2col: bool = False

    @property
    def kernels(self):
        module = importlib.import_module(self.module)
        return Im2col(module) if self.by_im2col else module


def _to_cuda(array: np.ndarray) -> Any:
    return importlib.import_module("cupy").asarray(array)


# The reference is a backend as well: its float32 is held against its own float64.
BACKENDS = {
    "reference": Backend("incnet.kernels.reference"),
    "cpu": Backend("incnet.kernels.cpu"),
    "cuda": Backend("incnet.kernels.cuda", _to_cuda, lambda array: array.get()),
}


BY_IM2COL = {f"{name} by im2col": replace(each, by_im2col=True) for name, each in BACKENDS.items()}


def _parameters(*names):
    """Backends to test on; one that needs a device is marked so."""
    return [pytest.param(name, marks=[pytest.mark.gpu] if name.startswith("cuda") else []) for name in names]


def _existing(name):
    """Return the backend, or skip the test where its device is missing."""
    if name.startswith("cuda") and not device_count():
        pytest.skip("needs a CUDA device")
    return (BACKENDS | BY_IM2COL)[name]


@dataclass(frozen=True)
class Case:
    """One call of a kernel.

    Parameters
    ----------
    build : callable
        Takes a :class:`Draw` and the sizes; returns the arguments, which may hold arrays inside tuples.
    tolerance : int
        Largest error, in units of the dtype's epsilon times the largest value of the output; 0 for equal bits.
    changed : callable
        Takes the arguments, returns the arrays among them that the kernel changes in place.
    any_layout : bool
        Whether arrays may lie otherwise than contiguously.
    dtypes : tuple of type
        That the kernel is defined for.
    """

    kernel: str
    sizes: tuple
    build: Callable[..., tuple]
    tolerance: int
    changed: Callable[[tuple], list]
    any_layout: bool
    dtypes: tuple[type, ...]

    def __str__(self) -> str:
        return f"{self.build.__name__}{self.sizes}".replace(" ", "")


CASES: list[Case] = []
BUILDERS: dict[str, Case] = {}


def case(kernel, *sizes, tolerance=0, changed=lambda arguments: [], any_layout=True, dtypes=(np.float32, np.float64)):
    """Register the decorated builder, once for each of ``sizes``."""

    def register(build):
        for each in sizes:
            CASES.append(Case(kernel, each, build, tolerance, changed, any_layout, dtypes))
        BUILDERS.setdefault(kernel, CASES[-1])
        return build

    return register


class Draw:
    """Random arrays of one dtype."""

    def __init__(self, dtype, seed=0):
        self.dtype, self.rng = dtype, np.random.default_rng(seed)

    def __call__(self, *shape, mean=0.0):
        return (mean + self.rng.standard_normal(shape)).astype(self.dtype)

    def positive(self, *shape):
        return self.rng.uniform(0.5, 2, shape).astype(self.dtype)

    def few_values(self, *shape):
        """Many equal ones, zeros among them."""
        return self.rng.integers(-2, 3, shape).astype(self.dtype)


# Convolution: n, height, width, channels, filters, kernel, stride, padding. Odd sizes; a kernel as large as the image;
# strides that leave pixels out, or all but the padding; filters that are not square; channels in and out of whole
# vectors, since fast kernels choose their algorithm by them; last, more than a thousand patches.

CONVOLUTIONS = [
    (2, 9, 7, 3, 5, (3, 3), 1, 1),
    (1, 8, 8, 16, 17, (3, 3), 1, 1),
    (2, 11, 6, 4, 3, (3, 3), 2, 1),
    (3, 5, 5, 1, 1, (1, 1), 2, 0),
    (1, 7, 9, 2, 4, (5, 5), 3, 2),
    (2, 4, 3, 6, 2, (4, 3), 1, 0),
    (2, 6, 8, 32, 16, (3, 3), 1, 1),
    (1, 9, 7, 16, 32, (3, 3), 1, 1),
    (3, 33, 5, 16, 16, (3, 3), 1, 1),
    (1, 4, 4, 64, 128, (3, 3), 1, 1),
    (2, 9, 11, 16, 32, (3, 3), 2, 1),
    (2, 7, 5, 3, 16, (3, 3), 1, 1),
    (1, 8, 6, 32, 64, (1, 1), 2, 0),
    (1, 1, 1, 16, 16, (1, 1), 2, 0),
    (1, 1, 4, 16, 16, (1, 1), 2, 1),
    (9, 12, 11, 3, 16, (3, 3), 1, 1),
    (5, 16, 15, 16, 5, (3, 3), 1, 1),
]


def _output(size, kernel, stride, padding):
    return (size + 2 * padding - kernel) // stride + 1


def _outputs(height, width, kernel, stride, padding):
    return _output(height, kernel[0], stride, padding), _output(width, kernel[1], stride, padding)


@case("conv2d", *CONVOLUTIONS, tolerance=64)
def conv2d(draw, n, height, width, channels, filters, kernel, stride, padding):
    return draw(n, height, width, channels), draw(*kernel, channels, filters), draw(filters), stride, padding


@case("conv2d", *CONVOLUTIONS[:2], tolerance=64)
def conv2d_without_bias(*geometry):
    x, weight, _, stride, padding = conv2d(*geometry)
    return x, weight, None, stride, padding


@case("conv2d_input_grad", *CONVOLUTIONS, tolerance=64)
def conv2d_input_grad(draw, n, height, width, channels, filters, kernel, stride, padding):
    dy = draw(n, *_outputs(height, width, kernel, stride, padding), filters)
    return dy, draw(*kernel, channels, filters), (n, height, width, channels), stride, padding


@case("conv2d_weight_grad", *CONVOLUTIONS, tolerance=64)
def conv2d_weight_grad(draw, n, height, width, channels, filters, kernel, stride, padding):
    dy = draw(n, *_outputs(height, width, kernel, stride, padding), filters)
    return draw(n, height, width, channels), dy, kernel, stride, padding


@case("as_matrix", (3, 5, 7, 2), (3, 3, 4, 5), (2, 9))
def as_matrix(draw, *shape):
    return (draw(*shape),)


@case("im2col", *CONVOLUTIONS)
def im2col(draw, n, height, width, channels, filters, kernel, stride, padding):
    return draw(n, height, width, channels), kernel, stride, padding


@case("col2im", *CONVOLUTIONS, tolerance=16)
def col2im(draw, n, height, width, channels, filters, kernel, stride, padding):
    rows, cols = _outputs(height, width, kernel, stride, padding)
    columns = draw(n * rows * cols, kernel[0] * kernel[1] * channels)
    return columns, (n, height, width, channels), kernel, stride, padding


# Batch normalisation and sums: shapes whose last axis is the channels. The means lie several deviations from zero, and
# gamma has either sign.

ROWS = [(3, 5, 7, 4), (1, 9, 3, 1), (2, 3, 1, 33), (6, 5)]


# Dense layers: rows, features in and out; whole vectors and not, many weights and few.

DENSE = [
    (3, 5, 7),
    (1, 16, 16),
    (9, 320, 112),
    (33, 528, 96),
    (9, 4096, 10),
    (13, 48, 1000),
    (500, 64, 10),
    (1030, 48, 32),
    (1100, 20, 7),
]


@case("linear", *DENSE, tolerance=64)
def linear(draw, n, features, outputs):
    return draw(n, features), draw(features, outputs), draw(outputs)


@case("linear_input_grad", *DENSE, tolerance=64)
def linear_input_grad(draw, n, features, outputs):
    return draw(n, outputs), draw(features, outputs)


@case("linear_weight_grad", *DENSE, tolerance=64)
def linear_weight_grad(draw, n, features, outputs):
    return draw(n, features), draw(n, outputs)


@case("factored_weight_grad", *DENSE, (7, 512, 160), tolerance=64)
def factored_weight_grad(draw, n, features, outputs):
    return draw(n, features), draw(n, outputs)


@case("bias_grad", *ROWS, (1, 3), (2, 40, 50, 3), tolerance=16)
def bias_grad(draw, *shape):
    return (draw(*shape),)


@case("batch_norm_stats", *ROWS, (1, 1, 1, 3), tolerance=16)
def batch_norm_stats(draw, *shape):
    return (draw(*shape, mean=30),)


def _norm(draw, shape):
    """Input, mean, variance and gamma that have nothing to do with each other."""
    channels = shape[-1]
    return draw(*shape, mean=3), draw(channels, mean=3), draw.positive(channels), draw(channels)


@case("batch_norm", *ROWS, (1, 1, 1, 3), tolerance=32)
def batch_norm(draw, *shape):
    return *_norm(draw, shape), draw(shape[-1]), 0.3


@case("batch_norm", *ROWS, tolerance=32)
def batch_norm_add_relu(draw, *shape):
    return *batch_norm(draw, *shape), draw(*shape), True


@case("batch_norm", *ROWS, tolerance=32)
def batch_norm_relu(draw, *shape):
    return *batch_norm(draw, *shape), None, True


@case("batch_norm_grad", *ROWS, tolerance=64)
def batch_norm_grad(draw, *shape):
    x, _, _, gamma = _norm(draw, shape)
    mean, var = (a.astype(draw.dtype) for a in reference.batch_norm_stats(x.astype(np.float64)))
    return draw(*shape, mean=0.5), x, mean, var, gamma, 0.3


@case("batch_norm_fixed_grad", *ROWS, tolerance=64)
def batch_norm_fixed_grad(draw, *shape):
    return draw(*shape, mean=0.5), *_norm(draw, shape), 0.3


# Pooling: n, height, width, channels, size, stride. Windows that touch, that overlap, and that leave pixels out.

POOLS = [(2, 8, 6, 3, 2, 2), (1, 9, 7, 5, 2, 2), (2, 7, 9, 4, 3, 2), (3, 5, 5, 1, 3, 1), (1, 8, 9, 2, 2, 3)]


@case("max_pool", *POOLS)
def max_pool(draw, n, height, width, channels, size, stride):
    return draw(n, height, width, channels), size, stride


@case("max_pool", *POOLS[:3])
def max_pool_of_equals(draw, n, height, width, channels, size, stride):
    return draw.few_values(n, height, width, channels), size, stride


@case("max_pool", POOLS[2])
def max_pool_of_nan(draw, n, height, width, channels, size, stride):
    x = draw(n, height, width, channels)
    x[draw.rng.random(x.shape) < 0.2] = np.nan
    return x, size, stride


@case("max_pool_grad", *POOLS, tolerance=8)
def max_pool_grad(draw, n, height, width, channels, size, stride):
    shape = n, _output(height, size, stride, 0), _output(width, size, stride, 0), channels
    where = draw.rng.integers(size * size, size=shape, dtype=np.uint8)
    return draw(*shape), where, (n, height, width, channels), size, stride


@case("avg_pool", *POOLS, tolerance=8)
def avg_pool(draw, n, height, width, channels, size, stride):
    return draw(n, height, width, channels, mean=1), size, stride


@case("avg_pool_grad", *POOLS, tolerance=8)
def avg_pool_grad(draw, n, height, width, channels, size, stride):
    shape = n, _output(height, size, stride, 0), _output(width, size, stride, 0), channels
    return draw(*shape), (n, height, width, channels), size, stride


@case("global_avg_pool", (2, 5, 7, 3), (1, 1, 1, 4), (3, 8, 8, 65), tolerance=16)
def global_avg_pool(draw, *shape):
    return (draw(*shape, mean=1),)


@case("global_avg_pool_grad", (2, 5, 7, 3), (1, 1, 1, 4), tolerance=2)
def global_avg_pool_grad(draw, n, height, width, channels):
    return draw(n, channels), (n, height, width, channels)


# Single elements.

SHAPES = [(3, 5, 7, 2), (1, 1, 1, 1), (2, 9), (70_001,)]


@case("add", *SHAPES)
def add(draw, *shape):
    return draw(*shape), draw(*shape)


@case("relu", *SHAPES)
def relu(draw, *shape):
    return (draw(*shape),)


@case("relu", (4, 7))
def relu_of_nan(draw, *shape):
    x = draw.few_values(*shape)
    x[1, 2:4] = np.nan
    return (x,)


@case("relu_grad", *SHAPES)
def relu_grad(draw, *shape):
    return draw(*shape), np.maximum(draw.few_values(*shape), 0)


@case("leaky_relu", *SHAPES)
def leaky_relu(draw, *shape):
    return draw(*shape), 0.2


@case("leaky_relu", (4, 7))
def leaky_relu_of_nan(draw, *shape):
    return *relu_of_nan(draw, *shape), 0.2


@case("leaky_relu_grad", *SHAPES)
def leaky_relu_grad(draw, *shape):
    return draw(*shape), draw.few_values(*shape), 0.2


@case("dropout", *SHAPES)
def dropout(draw, *shape):
    return draw(*shape), 0.3, 0xFEDC_BA98_7654_3210


@case("dropout", *SHAPES[:1])
def dropout_of_nothing(draw, *shape):
    return draw(*shape), 0.0, 1


@case("draw_seed", (0,), (2**64 - 1,), changed=lambda arguments: [arguments[0]], any_layout=False, dtypes=(np.float32,))
def draw_seed(draw, skipped):
    return draw.rng.integers(2**63, size=1, dtype=np.uint64), skipped


@case("cast", (2, 5))
def cast(draw, *shape):
    return draw.rng.standard_normal(shape), np.dtype(draw.dtype)


# n, height, width, channels, stride, channels of the output.
SUBSAMPLES = [(2, 8, 6, 3, 2, 6), (1, 9, 7, 4, 2, 5), (2, 5, 4, 3, 3, 3), (3, 4, 3, 2, 1, 7)]


@case("subsample", *SUBSAMPLES)
def subsample(draw, n, height, width, channels, stride, filled):
    return draw(n, height, width, channels), stride, filled


@case("subsample_grad", *SUBSAMPLES)
def subsample_grad(draw, n, height, width, channels, stride, filled):
    return draw(n, -(-height // stride), -(-width // stride), filled), (n, height, width, channels), stride


# Loss, optimizers, augmentation.


@case("softmax_cross_entropy", (7, 10), (1, 3), (130, 100), tolerance=32)
def softmax_cross_entropy(draw, n, classes):
    return draw(n, classes), draw.rng.integers(classes, size=n)


@case("softmax_cross_entropy", (40, 5), tolerance=32)
def softmax_cross_entropy_of_equals_and_extremes(draw, n, classes):
    return 200 * draw.few_values(n, classes), draw.rng.integers(classes, size=n)


def _data_and_state(arguments):
    return [array for data, _, *state, _ in arguments[0] for array in (data, *state)]


@case("rmsprop_step_all", (50,), tolerance=16, changed=_data_and_state, any_layout=False)
def rmsprop_step_from_nothing(draw, *shape):
    return [(draw(*shape), draw(*shape), 0 * draw(*shape), 0 * draw(*shape), 0.0)], 0.01, 0.9, 0.0, 1e-7


# Gradients in factors: rows, features in and out.
PRODUCTS = [(1, 512, 512), (7, 528, 96), (32, 512, 112), (3, 5, 7), (100, 4096, 10)]


def _product(draw, n, *shape):
    return OuterProduct(draw(n, shape[0]), draw(n, shape[1]))


@case("rmsprop_step_all", *PRODUCTS, tolerance=64, changed=_data_and_state, any_layout=False)
def rmsprop_step_along_a_product(draw, n, *shape):
    tensor = draw(*shape), _product(draw, n, *shape), draw.positive(*shape), draw(*shape), 0.05
    return [tensor], 0.01, 0.9, 0.8, 0.1


@case("sgd_step_all", *PRODUCTS, tolerance=64, changed=_data_and_state, any_layout=False)
def sgd_step_along_a_product(draw, n, *shape):
    return [(draw(*shape), _product(draw, n, *shape), draw(*shape), 0.05)], 0.01, 0.9


# Parameters of very different sizes; some decay.
TENSORS = [((3, 3, 5, 7), 0.05), ((7,), 0.0), ((40_000,), 0.05), ((1,), 0.0)]


@case("rmsprop_step_all", (), tolerance=16, changed=_data_and_state, any_layout=False)
def rmsprop_step_all(draw):
    tensors = [(draw(*s), draw(*s), draw.positive(*s), draw(*s), decay) for s, decay in TENSORS]
    (product,), *hyper = rmsprop_step_along_a_product(draw, 7, 528, 96)
    tensors.insert(1, product)
    return tensors, *hyper


@case("sgd_step_all", (), tolerance=16, changed=_data_and_state, any_layout=False)
def sgd_step_all(draw):
    tensors = [(draw(*s), draw(*s), draw(*s), decay) for s, decay in TENSORS]
    (product,), *hyper = sgd_step_along_a_product(draw, 7, 528, 96)
    tensors.insert(1, product)
    return tensors, *hyper


@case(
    "lerp_all",
    (),
    tolerance=4,
    changed=lambda arguments: [average for average, _ in arguments[0]],
    any_layout=False,
)
def lerp_all(draw):
    return [(draw(*shape), draw(*shape)) for shape, _ in [*TENSORS, ((600, 300), 0.0)]], 0.3


@case("augment", (9, 8, 8, 1, 5, 2), (4, 7, 5, 3, 6, 6), (1, 1, 1, 1, 2, 1), dtypes=(np.float32,))
def augment(draw, images, height, width, channels, n, reach):
    return (
        draw.rng.integers(256, size=(images, height, width, channels), dtype=np.uint8),
        draw.rng.integers(images, size=n),
        draw.rng.integers(-reach, reach, size=(n, 2), endpoint=True),
        draw.rng.random(n) < 0.5,
        draw(channels, mean=100),
        draw.positive(channels),
    )


@case(
    "resize_bilinear", (2, 4, 5, 3, 7, 11), (1, 8, 8, 1, 32, 24), (3, 6, 7, 2, 4, 3), (2, 1, 1, 3, 4, 4), tolerance=16
)
def resize_bilinear(draw, n, height, width, channels, rows, cols):
    return draw(n, height, width, channels), (rows, cols)


@case("resize_area", (2, 8, 6, 3, 4, 2), (3, 32, 32, 3, 24, 16), (1, 7, 5, 2, 3, 3), (2, 3, 4, 1, 3, 7), tolerance=16)
def resize_area(draw, n, height, width, channels, rows, cols):
    return draw(n, height, width, channels), (rows, cols)


# Fused kernels: what they read is described by named tuples of arrays. Means are small beside what they summarise, and
# their errors are not.


@case("norm_coefficients", (5,), tolerance=8)
def norm_coefficients(draw, channels):
    return draw(channels), draw.positive(channels), draw(channels), draw(channels), 0.3


@case("gradient_coefficients", (5,), tolerance=8)
def gradient_coefficients(draw, channels):
    sums = 9 * draw.rng.standard_normal((2, channels))
    return sums, 60, draw(channels), draw.positive(channels), draw(channels), 0.3


@case(
    "move_statistics",
    (5,),
    tolerance=8,
    changed=lambda arguments: list(arguments[:2]),
    any_layout=False,
)
def move_statistics(draw, channels):
    return draw(channels), draw.positive(channels), draw(channels), draw.positive(channels), 0.9, 60 / 59


def _normalised(draw, *shape, residual=False):
    channels = shape[-1]
    return Normalised(draw(*shape), draw(channels), draw(channels), draw(*shape) if residual else None)


def _norm_gradient(draw, *shape):
    channels = shape[-1]
    return NormGradient(draw(*shape), draw(*shape), draw(channels), draw(channels), draw(channels))


def _below(draw, *shape, kind):
    """Return what lies below: batch norm and ReLU; these with a residual, so that the output is stored; ReLU alone."""
    channels = shape[-1]
    if kind == "norm":
        return BackwardEpilogue(y=draw(*shape), mean=draw(channels), scale=draw(channels), shift=draw(channels))
    output = np.maximum(draw(*shape), 0)
    if kind == "bias":
        return BackwardEpilogue(a=output)
    skip = draw(*shape) if kind == "residual, skip" else None
    return BackwardEpilogue(y=draw(*shape), mean=draw(channels), a=output, skip=skip)


# Some of the convolutions, since there are many operands: each algorithm and each stride once.
FUSED = [CONVOLUTIONS[i] for i in (0, 2, 7, 9, 10, 12)]

# n, height, width, channels: in and out of whole vectors.
IMAGES = [(2, 5, 7, 3), (1, 8, 6, 16), (3, 4, 5, 32), (1, 1, 1, 16)]
KINDS = ["norm", "residual", "residual, skip", "bias"]


@case("norm_relu", *((*shape, residual) for shape in IMAGES for residual in (False, True)), tolerance=8)
def norm_relu(draw, *sizes):
    *shape, residual = sizes
    return (_normalised(draw, *shape, residual=residual),)


@case("norm_gradient", *IMAGES, tolerance=8)
def norm_gradient(draw, *shape):
    return (_norm_gradient(draw, *shape),)


@case("relu_mask", *((*shape, kind) for shape in IMAGES for kind in KINDS), tolerance=32)
def relu_mask(draw, *sizes):
    *shape, kind = sizes
    return draw(*shape), _below(draw, *shape, kind=kind)


@case("conv2d_bias_relu", *FUSED, tolerance=64)
def conv2d_bias_relu(*geometry):
    return conv2d(*geometry)


@case("conv2d_bias_relu", *FUSED, tolerance=64)
def conv2d_bias_residual_relu(*geometry):
    arguments = conv2d(*geometry)
    draw, n, height, width, _, filters, kernel, stride, padding = geometry
    return *arguments, draw(n, *_outputs(height, width, kernel, stride, padding), filters)


@case("conv2d_bias_relu", *((*sizes, residual) for sizes in FUSED for residual in (False, True)), tolerance=64)
def conv2d_scale_bias_relu(draw, *sizes):
    *geometry, residual = sizes
    arguments = (conv2d_bias_residual_relu if residual else lambda *g: (*conv2d(*g), None))(draw, *geometry)
    return *arguments, draw(geometry[4])


@case("conv2d_moments", *FUSED, tolerance=256)
def conv2d_moments(*geometry):
    x, weight, _, stride, padding = conv2d(*geometry)
    return x, weight, stride, padding


@case("conv2d_moments", *((*sizes, residual) for sizes in FUSED for residual in (False, True)), tolerance=256)
def conv2d_moments_of_normalised(draw, n, height, width, channels, *sizes):
    *geometry, residual = sizes
    _, weight, _, stride, padding = conv2d(draw, n, height, width, channels, *geometry)
    return _normalised(draw, n, height, width, channels, residual=residual), weight, stride, padding


@case("norm_conv2d_moments", *((*sizes, residual) for sizes in FUSED for residual in (False, True)), tolerance=256)
def norm_conv2d_moments(*sizes):
    return conv2d_moments_of_normalised(*sizes)


@case(
    "fused_weight_grad",
    *((*sizes, *operands) for sizes in FUSED for operands in ((0, 0), (0, 1), (1, 0), (1, 1))),
    tolerance=64,
)
def fused_weight_grad(draw, n, height, width, channels, filters, kernel, stride, padding, of_norm, of_gradient):
    x_shape = n, height, width, channels
    dy_shape = n, *_outputs(height, width, kernel, stride, padding), filters
    x = _normalised(draw, *x_shape, residual=True) if of_norm else draw(*x_shape)
    dy = _norm_gradient(draw, *dy_shape) if of_gradient else draw(*dy_shape)
    return x, dy, kernel, stride, padding


@case("fused_input_grad", *((*sizes, g) for sizes in FUSED for g in (0, 1)), tolerance=64)
def fused_input_grad(draw, n, height, width, channels, filters, kernel, stride, padding, of_gradient):
    dy_shape = n, *_outputs(height, width, kernel, stride, padding), filters
    dy = _norm_gradient(draw, *dy_shape) if of_gradient else draw(*dy_shape)
    return dy, draw(*kernel, channels, filters), (n, height, width, channels), stride, padding


@case(
    "masked_input_grad",
    *((*sizes, g, kind) for sizes in FUSED for g in (0, 1) for kind in KINDS),
    tolerance=64,
)
def masked_input_grad(draw, n, height, width, channels, *sizes):
    *geometry, kind = sizes
    below = _below(draw, n, height, width, channels, kind=kind)
    return *fused_input_grad(draw, n, height, width, channels, *geometry), below


@case(
    "masked_grads",
    *((*sizes, of_norm, kind) for sizes in FUSED for of_norm in (0, 1) for kind in KINDS),
    tolerance=64,
)
def masked_grads(draw, n, height, width, channels, filters, *sizes):
    *geometry, of_norm, kind = sizes
    x, dy, *_, stride, padding = fused_weight_grad(draw, n, height, width, channels, filters, *geometry, of_norm, 1)
    weight = draw(*geometry[0], channels, filters)
    return x, dy, weight, stride, padding, _below(draw, n, height, width, channels, kind=kind)


# Where arrays lie.


def _every_other(array, to_device):
    """The same values in every other place of a larger array."""
    return to_device(np.repeat(array, 2, axis=-1))[..., ::2]


def _transposed(array, to_device):
    """The same values with the axes in reverse order in memory."""
    return to_device(np.ascontiguousarray(array.T)).T


def _contiguous(array, to_device):
    return to_device(array.copy())


LAYOUTS = {"contiguous": _contiguous, "every other": _every_other, "transposed": _transposed}


def _map(function, value):
    """Apply a function to the arrays in nested lists and tuples, named ones too."""
    if isinstance(value, np.ndarray):
        return function(value)
    if isinstance(value, list | tuple):
        mapped = (_map(function, each) for each in value)
        return type(value)(*mapped) if hasattr(value, "_fields") else type(value)(mapped)
    return value


def _float64(array):
    """A copy, in float64 if it holds fractions."""
    return array.astype(np.float64) if array.dtype.kind == "f" else array.copy()


def _arrays(value):
    """Arrays in nested lists and tuples, in order."""
    if isinstance(value, list | tuple):
        return [array for each in value for array in _arrays(each)]
    return [value] if hasattr(value, "dtype") and hasattr(value, "shape") else []


def _outcome(kernels, case, arguments):
    """Call the kernel; return the arrays that it hands back, factors multiplied, then those that it changed."""
    returned = getattr(kernels, case.kernel)(*arguments)
    if isinstance(returned, OuterProduct):
        returned = kernels.linear_weight_grad(*returned)
    return _arrays(returned) + case.changed(arguments)


def _shapes(said):
    """Shapes that an operation's shape function returns, as a list."""
    if said is None:
        return []
    return list(said) if said and isinstance(said[0], tuple) else [said]


def check(backend, case, dtype, layout, sizes=None):
    """Run one call on a backend, and hold it against the reference."""
    arguments = case.build(Draw(dtype), *(case.sizes if sizes is None else sizes))
    plain = _outcome(reference, case, _map(np.copy, arguments))
    exact = plain if case.tolerance == 0 else _outcome(reference, case, _map(_float64, arguments))
    given = _map(lambda array: layout(array, backend.to_device), arguments)
    found = [backend.to_host(array) for array in _outcome(backend.kernels, case, given)]

    assert len(found) == len(exact)
    shapes = _shapes(OPERATIONS[case.kernel](*given))
    assert shapes == [array.shape for array in found[: len(found) - len(case.changed(given))]]
    for ours, same_dtype, expected in zip(found, plain, exact, strict=True):
        assert ours.dtype == same_dtype.dtype
        assert ours.shape == expected.shape
        if case.tolerance == 0:
            np.testing.assert_array_equal(ours, expected)
        else:
            largest = np.abs(expected).max(initial=0)
            np.testing.assert_allclose(ours, expected, rtol=0, atol=case.tolerance * np.finfo(dtype).eps * largest)
    changed = {id(array) for array in case.changed(given)}
    for before, after in zip(_arrays(arguments), _arrays(given), strict=True):
        if id(after) not in changed:
            np.testing.assert_array_equal(backend.to_host(after), before, err_msg="an argument was changed")


@pytest.fixture(params=_parameters(*BACKENDS))
def backend(request):
    return _existing(request.param)


BY_IM2COL_CASES = [each for each in CASES if hasattr(Im2col, each.kernel)]


def calls(cases=CASES):
    """Yield every case, dtype and layout."""
    for each in cases:
        for dtype in each.dtypes:
            for name, layout in LAYOUTS.items():
                if each.any_layout or layout is _contiguous:
                    yield pytest.param(each, dtype, layout, id=f"{each}-{dtype.__name__}-{name}")


@pytest.mark.parametrize(("case", "dtype", "layout"), list(calls()))
def test_equals_its_definition(backend, case, dtype, layout):
    check(backend, case, dtype, layout)


@pytest.mark.parametrize("name", _parameters(*BY_IM2COL))
@pytest.mark.parametrize(("case", "dtype", "layout"), list(calls(BY_IM2COL_CASES)))
def test_im2col_equals_the_definition(name, case, dtype, layout):
    check(_existing(name), case, dtype, layout)


@pytest.mark.parametrize(("case", "dtype", "layout"), list(calls()))
def test_repeats_what_was_recorded(case, dtype, layout):
    """On the CPU a recorded call, repeated, does with other numbers in its arguments what a new call does."""
    check_repeated(BACKENDS["cpu"].kernels, case, dtype, layout)


@pytest.mark.parametrize(("case", "dtype", "layout"), list(calls(BY_IM2COL_CASES)))
def test_im2col_repeats_what_was_recorded(case, dtype, layout):
    check_repeated(BY_IM2COL["cpu by im2col"].kernels, case, dtype, layout)


def check_repeated(kernels, case, dtype, layout):
    """Record a call, repeat it with other numbers, and hold it against a new call."""
    given, others = (
        _map(lambda array: layout(array, np.asarray), case.build(Draw(dtype, seed), *case.sizes)) for seed in (0, 1)
    )
    results = []
    recorded = kernels.Recorder()(lambda: results.extend(_arrays(getattr(kernels, case.kernel)(*given))))
    recorded()
    for array, other in zip(_arrays(given), _arrays(others), strict=True):
        array[...] = other
    for result in results:
        if result.flags.writeable and not any(np.may_share_memory(result, array) for array in _arrays(given)):
            result[...] = 0
    recorded()
    expected = _arrays(getattr(kernels, case.kernel)(*_like(given, others)))
    for found, right in zip(results + case.changed(given), expected + case.changed(others), strict=True):
        np.testing.assert_array_equal(found, right)


def _widen(array, place):
    """The array, in float64 if it is the float32 array whose place is 0."""
    return _float64(array) if array.dtype == np.float32 and next(place) == 0 else array


def cases_on_cpu():
    """Yield every case of the CPU's operations, and again those that are computed by im2col."""
    for name, cases in (("cpu", CASES), ("cpu by im2col", BY_IM2COL_CASES)):
        yield from ((name, each) for each in cases)


@pytest.mark.parametrize(("name", "case"), [(n, c) for n, c in cases_on_cpu() if np.float32 in c.dtypes], ids=str)
def test_mixed_types_are_refused_or_right(name, case):
    """On the CPU no kernel takes the bits of one type for those of another, whichever argument differs."""
    kernels = _existing(name).kernels
    count = sum(array.dtype == np.float32 for array in _arrays(case.build(Draw(np.float32), *case.sizes)))
    for odd in range(count):
        arguments = case.build(Draw(np.float32), *case.sizes)
        mixed = _map(partial(_widen, place=count_from(-odd)), arguments)
        exact = _outcome(reference, case, _map(_float64, mixed))
        try:
            found = _outcome(kernels, case, mixed)
        except TypeError:
            continue
        for ours, expected in zip(found, exact, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * np.nanmax(np.abs(expected), initial=0))


def _cut(array, axis, place):
    """The array, without the last entries along an axis if it is the one whose place is 0."""
    return array.take(range(array.shape[axis] - 1), axis) if next(place) == 0 else array


@pytest.mark.parametrize(("name", "case"), list(cases_on_cpu()), ids=str)
def test_shapes_that_do_not_fit_are_refused_or_right(name, case):
    """Behind `ops` no kernel of the CPU goes beyond an array that is smaller than others ask for."""
    dtype, kernels = case.dtypes[0], _existing(name).kernels
    wrapped = SimpleNamespace(**{case.kernel: checked(case.kernel, getattr(kernels, case.kernel))})
    shapes = [array.shape for array in _arrays(case.build(Draw(dtype), *case.sizes))]
    for place, axis in [(place, axis) for place, shape in enumerate(shapes) for axis in range(len(shape))]:
        if shapes[place][axis] < 2:
            continue
        cut = _map(partial(_cut, axis=axis, place=count_from(-place)), case.build(Draw(dtype), *case.sizes))
        exact = _map(np.copy, cut)
        try:
            found = _outcome(wrapped, case, cut)
        except (ValueError, TypeError, IndexError):
            continue
        for ours, expected in zip(found, _outcome(reference, case, exact), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * np.nanmax(np.abs(expected), initial=0))


# What has no place in a training step, or is done by another operation of the same kind.
NOT_IN_THE_DRY_RUN = {"augment", "lerp_all", "resize_area", "resize_bilinear"}


@pytest.mark.parametrize("case", [case for case in CASES if case.kernel not in NOT_IN_THE_DRY_RUN], ids=str)
def test_the_dry_run_has_the_shapes_and_types_of_the_real_one(case):
    dtype = case.dtypes[0]
    arguments = case.build(Draw(dtype), *case.sizes)
    with dry_run.memory_account():
        meta = _map(lambda array: dry_run.MetaArray(array.shape, array.dtype), arguments)
        returned = getattr(dry_run, case.kernel)(*meta)
        if isinstance(returned, OuterProduct):
            returned = dry_run.linear_weight_grad(*returned)
        found = [(array.shape, array.dtype) for array in _arrays(returned)]
    real = _outcome(BACKENDS["cpu"].kernels, case, arguments)
    assert found == [(array.shape, array.dtype) for array in real[: len(real) - len(case.changed(arguments))]]


def _like(given, others):
    """Arguments with the arrays of ``others``, and whatever else ``given`` has."""
    arrays = iter(_arrays(others))
    return _map(lambda _: next(arrays), given)


@st.composite
def convolutions(draw):
    kernel = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    stride, padding = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    height, width = (draw(st.integers(max(1, k - 2 * padding), 12)) for k in kernel)
    channels, filters = (draw(st.integers(1, 20) | st.sampled_from([16, 32, 48])) for _ in range(2))
    return draw(st.integers(1, 3)), height, width, channels, filters, kernel, stride, padding


@st.composite
def pools(draw):
    size, stride = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    n, channels = draw(st.integers(1, 3)), draw(st.integers(1, 20))
    return n, draw(st.integers(size, 12)), draw(st.integers(size, 12)), channels, size, stride


@st.composite
def subsamples(draw):
    n, height, width, stride, channels, more = (draw(st.integers(1, 9)) for _ in range(6))
    return n, height, width, channels, stride, channels + more - 1


GEOMETRIES = {
    convolutions: ["conv2d", "conv2d_input_grad", "conv2d_weight_grad", "im2col", "col2im"],
    pools: ["max_pool", "max_pool_grad", "avg_pool", "avg_pool_grad"],
    subsamples: ["subsample", "subsample_grad"],
}


@pytest.mark.parametrize("name", _parameters("cpu", "cuda"))
@pytest.mark.parametrize(
    ("kernel", "geometries"), [(kernel, geometry) for geometry, kernels in GEOMETRIES.items() for kernel in kernels]
)
def test_any_geometry(name, kernel, geometries):
    check_any_geometry(_existing(name), kernel, geometries)


@pytest.mark.parametrize("name", _parameters("cpu by im2col", "cuda by im2col"))
@pytest.mark.parametrize("kernel", ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"])
def test_any_geometry_by_im2col(name, kernel):
    check_any_geometry(_existing(name), kernel, convolutions)


def check_any_geometry(tested, kernel, geometries):
    """Hold a kernel against its definition for sizes that are drawn."""

    @settings(max_examples=25)
    @given(geometries())
    def holds(sizes):
        check(tested, BUILDERS[kernel], np.float32, _contiguous, sizes)

    holds()


# The registry itself.


def test_every_kernel_has_a_case():
    assert {case.kernel for case in CASES} == set(OPERATIONS)


def test_every_kernel_has_its_shapes():
    """Under the same parameters, so that a call of the one is a call of the other."""
    assert set(OPERATIONS) == {name for name, value in vars(reference).items() if inspect.isfunction(value)}
    for name, function in OPERATIONS.items():
        defined, said = (
            [(p.name, p.default) for p in inspect.signature(each).parameters.values()]
            for each in (getattr(reference, name), function)
        )
        assert said == defined, name


def test_every_kernel_has_its_types():
    """What mypy knows of ``ops`` is what the backends have."""
    methods = {name: method for name, method in vars(Operations).items() if not name.startswith("_")}
    assert set(methods) == set(OPERATIONS)
    for name, method in methods.items():
        _, *typed = inspect.signature(method).parameters.values()
        defined = inspect.signature(getattr(reference, name)).parameters.values()
        assert [(p.name, p.default) for p in typed] == [(p.name, p.default) for p in defined], name


def test_the_dry_run_has_every_kernel_of_a_step():
    assert OPERATIONS.keys() - set(vars(dry_run)) == NOT_IN_THE_DRY_RUN


def test_every_backend_has_every_kernel(backend):
    assert not OPERATIONS.keys() - set(vars(backend.kernels))


@pytest.mark.parametrize("kernel", OPERATIONS)
def test_signatures_agree(backend, kernel):
    """The same parameters, with the same names and defaults; a backend's own ones come after them, and are optional."""
    expected, found = (
        list(inspect.signature(getattr(module, kernel)).parameters.values()) for module in (reference, backend.kernels)
    )
    shared, own = found[: len(expected)], found[len(expected) :]
    assert [(p.name, p.default) for p in shared] == [(p.name, p.default) for p in expected]
    assert all(p.default is not inspect.Parameter.empty for p in own)
