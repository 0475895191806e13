"""The kernels of this backend without their arithmetic: they allocate and free memory as those do, and touch none.

A training step that runs on them, in place of the real ones, is a *dry run*: whoever keeps an array keeps its bytes on
the account, layers, fusion and kernels alike, so that what a step needs is known for any network and any batch size
before the memory is there. Arrays are `MetaArray` objects, of a shape and a type; their bytes are counted on a
`MemoryAccount`.

The functions are those of `reference`, where their docstrings are. Of the scratch memory of convolutions, what grows
with the network or the batch is counted; buffers of a few hundred KiB per thread are not. A test compares the account
with what the pool really allocates.
"""

import math
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
from numba import get_num_threads

from .. import shapes
from ..operands import BackwardEpilogue, Normalised, NormGradient, OuterProduct
from . import convolution, fused, panels, winograd
from .blocks import ALIGNMENT, TIGHT, Block, Pool, round_up
from .emit import LANES, ROWS, VECTORS
from .linear import MOST_ROWS, computed_on_the_way, share
from .memory import SMALL

FLOAT = 4  # bytes


class MemoryAccount(Pool):
    """A pool that allocates no memory but keeps its accounts, and counts the bytes that were asked for.

    Attributes
    ----------
    live, peak : int
        Bytes of the arrays that are alive, and the most that ever were; of each, what its shape and type take.
    peak_allocated, peak_held : int
        As the real pool counts them: rounded up to its sizes, for arrays that are large enough for it.
    workspaces : dict of int to Bytes
        The buffers, 0 and 1, that kernels carve up for scratch memory: as large as any of them has needed so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.workspaces: dict[int, Bytes] = {}

    @property
    def of_arrays(self) -> int:
        """Bytes of the arrays that are alive, less the workspaces."""
        return self.live - sum(workspace.size for workspace in self.workspaces.values())

    def plan_limit(self) -> None:
        """Allocate as a pool with a limit does, from now on: the most that is held is that limit."""
        self.slack, self.max_oversize = TIGHT, 1

    def _make(self, capacity: int) -> Block:
        return Block(SimpleNamespace(size=capacity), 0)  # type: ignore[arg-type]


ACCOUNT = MemoryAccount()


@contextmanager
def memory_account():
    """Count on a new account in a ``with`` block."""
    global ACCOUNT
    before, ACCOUNT = ACCOUNT, MemoryAccount()
    try:
        yield ACCOUNT
    finally:
        ACCOUNT = before


class Bytes:
    """So many bytes, on the account from when this is made until nobody refers to it any more."""

    __slots__ = ("account", "allocation", "size")

    def __init__(self, size: int) -> None:
        self.account, self.size = ACCOUNT, size
        self.allocation = ACCOUNT.allocate(size) if size >= SMALL else None
        ACCOUNT.live += size
        ACCOUNT.peak = max(ACCOUNT.peak, ACCOUNT.live)

    def __del__(self) -> None:
        self.account.live -= self.size


ELSEWHERE = SimpleNamespace(size=0)  # bytes that are not on the account


class MetaArray:
    """An array without memory: a shape, a type, and a share in some bytes. Contiguous."""

    flags = SimpleNamespace(c_contiguous=True)

    def __init__(self, shape, dtype=np.float32, bytes=None) -> None:
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.dtype = np.dtype(dtype)
        self.bytes = Bytes(self.size * self.dtype.itemsize) if bytes is None else bytes

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> "MetaArray":
        return MetaArray(self.shape[1:], self.dtype, self.bytes)

    def reshape(self, *shape) -> "MetaArray":
        """View of the same bytes; one size may be -1."""
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        rest = self.size // -math.prod(shape) if -1 in shape else None
        return MetaArray([rest if size == -1 else size for size in shape], self.dtype, self.bytes)

    def astype(self, dtype) -> "MetaArray":
        """Copy of another type."""
        return MetaArray(self.shape, dtype)


def like(x):
    """Array of the shape and type of x."""
    return MetaArray(x.shape, x.dtype)


def channels(x, count):
    """So many arrays (C,), C the last axis of x."""
    return tuple(MetaArray(x.shape[-1], x.dtype) for _ in range(count))


def contiguous(x):
    """Return x itself, or else, if all pixels share their bytes, a copy."""
    return x if x.bytes.size >= x.size * x.dtype.itemsize else like(x)


def allocate_briefly(*floats):
    """Allocate memory of so many floats, and free it."""
    _allocated = [Bytes(FLOAT * count) for count in floats]


def carve(*floats, workspace=0):
    """Take scratch memory of so many floats from a workspace, which grows if need be."""
    size = sum(round_up(FLOAT * count, ALIGNMENT) for count in floats)
    if workspace not in ACCOUNT.workspaces or size > ACCOUNT.workspaces[workspace].size:
        ACCOUNT.workspaces.pop(workspace, None)
        ACCOUNT.workspaces[workspace] = Bytes(size)


# Operations whose results are all that they take.


def computed(shapes_of):
    """Return an operation that gives arrays of the shapes that come out, and of its first array's type."""

    def operation(x, *arguments, **options):
        shape = shapes_of(x, *arguments, **options)
        several = shape and isinstance(shape[0], tuple)
        return tuple(MetaArray(each, x.dtype) for each in shape) if several else MetaArray(shape, x.dtype)

    return operation


im2col, col2im = computed(shapes.im2col), computed(shapes.col2im)
add, dropout = computed(shapes.add), computed(shapes.dropout)
relu, leaky_relu = computed(shapes.relu), computed(shapes.leaky_relu)
subsample, subsample_grad = computed(shapes.subsample), computed(shapes.subsample_grad)
avg_pool, global_avg_pool = computed(shapes.avg_pool), computed(shapes.global_avg_pool)
bias_grad, batch_norm, batch_norm_stats = map(computed, (shapes.bias_grad, shapes.batch_norm, shapes.batch_norm_stats))
batch_norm_grad, batch_norm_fixed_grad = computed(shapes.batch_norm_grad), computed(shapes.batch_norm_fixed_grad)
norm_coefficients = computed(shapes.norm_coefficients)


# Convolutions.


def conv2d(x, weight, bias, stride, padding):
    y = MetaArray(shapes.conv2d(x, weight, bias, stride, padding), x.dtype)
    forward_scratch(x.shape, weight.shape, stride, padding, x.dtype)
    return y


def conv2d_input_grad(dy, weight, x_shape, stride, padding):
    dx = MetaArray(shapes.conv2d_input_grad(dy, weight, x_shape, stride, padding), dy.dtype)
    input_scratch(x_shape, weight.shape, stride, padding, dy.dtype)
    return dx


def conv2d_weight_grad(x, dy, kernel_size, stride, padding):
    dw = MetaArray(shapes.conv2d_weight_grad(x, dy, kernel_size, stride, padding), x.dtype)
    weight_scratch(x.shape, dw.shape, stride, padding, x.dtype)
    return dw


def as_matrix(x):
    array = contiguous(x) if isinstance(x, MetaArray) else x  # weights are there
    return array.reshape(-1, x.shape[-1])


def forward_scratch(x_shape, weight_shape, stride, padding, dtype):
    """Take what a forward pass takes besides its result."""
    (N, H, W, C), (Kh, Kw, _, K) = x_shape, weight_shape
    match convolution.algorithm(x_shape, weight_shape, stride, padding, dtype):
        case "winograd":
            carve(*winograd.forward_plan(N, H, W, C, K).buffers)
        case "panels":
            carve(panel_scratch(N, H, W, C, K))
        case "direct":
            allocate_briefly(Kh * Kw * C * K)


def input_scratch(x_shape, weight_shape, stride, padding, dtype):
    """Take what an input gradient takes besides its result."""
    (N, H, W, C), (Kh, Kw, _, K) = x_shape, weight_shape
    chosen = convolution.algorithm(x_shape, weight_shape, stride, padding, dtype)
    if chosen == "winograd":
        carve(*winograd.forward_plan(N, H, W, K, C).buffers)
    elif chosen == "panels":
        carve(panel_scratch(N, H, W, K, C))
    elif chosen == "direct" and C % LANES == 0:
        allocate_briefly(Kh * Kw * C * K, Kh * Kw * C * K)


def weight_scratch(x_shape, weight_shape, stride, padding, dtype):
    """Take what a weight gradient takes besides its result."""
    (N, H, W, C), (Kh, Kw, _, K) = x_shape, weight_shape
    match convolution.algorithm(x_shape, weight_shape, stride, padding, dtype):
        case "winograd":
            carve(*winograd.gradient_plan(N, H, W, C, K).buffers)
        case "panels":
            family, T = panels.plan(N, H, W)
            carve(panels.FAMILIES[family].points ** 2 * (panels.plane(T, C) + panels.plane(T, K)))
        case "direct":
            allocate_briefly(Kh * Kw * C * K)


def panel_scratch(N, H, W, C, K):
    """Floats for the transformed tiles of an image of C channels, and each thread's products for a panel of K."""
    family, T = panels.plan(N, H, W)
    points, panel = panels.FAMILIES[family].points ** 2, LANES * VECTORS if K % (LANES * VECTORS) == 0 else LANES
    return points * (panels.plane(T, C) + get_num_threads() * (panels.DEPTH * panel + panels.plane(T, panel)))


# Convolutions that normalise what they read: the decisions are those of `fused`.


def norm_relu(x: Normalised):
    return like(x.y)


def norm_gradient(dy: NormGradient):
    return like(dy.y)


def relu_mask(da, below: BackwardEpilogue):
    return like(da), MetaArray((2, da.shape[-1]), np.float64)


def conv2d_bias_relu(x, weight, bias, stride, padding, residual=None, scale=None, overwrite=False):
    in_place = overwrite and residual is not None
    if in_place and fused.fuses(x, weight.shape, stride, padding, whole_tiles=True):
        forward_scratch(x.shape, weight.shape, stride, padding, x.dtype)
        return residual
    y = conv2d(x, weight, bias, stride, padding)
    return residual if in_place else y


def conv2d_moments(x, weight, stride, padding):
    source = x.y if isinstance(x, Normalised) else x
    if isinstance(x, Normalised) and not reads(x, weight, stride, padding):
        source = norm_relu(x)
    y = conv2d(source, weight, None, stride, padding)
    return y, *channels(y, 2)


def reads(x: Normalised, weight, stride, padding):
    """Whether a convolution normalises what it reads, so that the activation is not stored."""
    return x.residual is None and fused.fuses(x.y, weight.shape, stride, padding, whole_tiles=True)


def norm_conv2d_moments(x: Normalised, weight, stride, padding):
    a = norm_relu(x)
    return a, *conv2d_moments(a, weight, stride, padding)


def fused_weight_grad(x, dy, kernel_size, stride, padding):
    source, dz = x.y if isinstance(x, Normalised) else x, dy.dz if isinstance(dy, NormGradient) else dy
    shape = (*kernel_size, source.shape[3], dz.shape[3])
    if not fused.fuses(source, shape, stride, padding) or (isinstance(x, Normalised) and x.residual is not None):
        source = norm_relu(x) if isinstance(x, Normalised) else x
        if convolution.algorithm(source.shape, shape, stride, padding, source.dtype) != "direct":
            dz = norm_gradient(dy) if isinstance(dy, NormGradient) else dy
    return conv2d_weight_grad(source, dz, kernel_size, stride, padding)


def fused_input_grad(dy, weight, x_shape, stride, padding):
    dz = dy.dz if isinstance(dy, NormGradient) else dy
    if isinstance(dy, NormGradient) and not fused.fuses(dz, weight.shape, stride, padding):
        dz = norm_gradient(dy)
    return conv2d_input_grad(dz, weight, x_shape, stride, padding)


def masked_input_grad(dy, weight, x_shape, stride, padding, below: BackwardEpilogue):
    dz = dy.dz if isinstance(dy, NormGradient) else dy
    recipe, _, _ = fused.mask(below)
    if recipe is None or not fused.fuses(dz, weight.shape, stride, padding, whole_tiles=True):
        dx = fused_input_grad(dy, weight, x_shape, stride, padding)
    else:
        dx = conv2d_input_grad(dz, weight, x_shape, stride, padding)
    return dx, MetaArray((2, dx.shape[-1]), np.float64)


def masked_grads(x, dy, weight, stride, padding, below: BackwardEpilogue):
    source = x.y if isinstance(x, Normalised) else x
    if fused.in_turns(x, weight.shape, stride, padding, below):
        dw, dx = MetaArray(weight.shape, source.dtype), like(source)
        input_scratch(source.shape, weight.shape, stride, padding, source.dtype)
        N, H, W, C = source.shape
        carve(*winograd.gradient_plan(N, H, W, C, weight.shape[3]).buffers, workspace=1)
        return dw, dx, MetaArray((2, dx.shape[-1]), np.float64)
    if isinstance(dy, NormGradient) and not fused.fuses(source, weight.shape, stride, padding):
        dy = norm_gradient(dy)
    dw = fused_weight_grad(x, dy, weight.shape[:2], stride, padding)
    return dw, *masked_input_grad(dy, weight, source.shape, stride, padding, below)


# Dense layers.


def linear(x, weight, bias):
    if len(x) > MOST_ROWS:
        return conv2d(pixels(x), weight.reshape(1, 1, *weight.shape), bias, 1, 0).reshape(len(x), -1)
    return dense(x, shapes.linear(x, weight, bias))


def linear_input_grad(dy, weight):
    if len(dy) > MOST_ROWS:
        shape = len(dy), 1, 1, len(weight)
        return conv2d_input_grad(pixels(dy), weight.reshape(1, 1, *weight.shape), shape, 1, 0).reshape(len(dy), -1)
    return dense(dy, shapes.linear_input_grad(dy, weight))


def pixels(rows):
    return rows.reshape(len(rows), 1, 1, -1)


def dense(x, shape):
    T = round_up(len(x), ROWS)
    _packed, y = Bytes(FLOAT * T * x.shape[1]), MetaArray(shape, x.dtype)
    carve(get_num_threads() * share(T, shape[1]))
    return y


def linear_weight_grad(x, dy):
    if len(x) > MOST_ROWS:
        return conv2d_weight_grad(pixels(x), pixels(dy), (1, 1), 1, 0).reshape(x.shape[1], -1)
    _packed = Bytes(FLOAT * x.size), Bytes(FLOAT * dy.size)
    return MetaArray(shapes.linear_weight_grad(x, dy), x.dtype)


def factored_weight_grad(x, dy):
    return OuterProduct(x, dy) if computed_on_the_way(x, dy) else linear_weight_grad(x, dy)


# Optimizers.


def sgd_step_all(tensors, *hyper):
    for _, gradient, *_ in tensors:
        if isinstance(gradient, OuterProduct):
            allocate_briefly(gradient.x.size, gradient.dy.size)


rmsprop_step_all = sgd_step_all


# Batch normalisation.


def gradient_coefficients(sums, m, mean, var, gamma, eps):
    return channels(mean, 5)


def move_statistics(running_mean, running_var, mean, var, decay, unbiased):
    pass


# Single elements, and feature maps.


def relu_grad(dy, y):
    _contiguous, dx = contiguous(dy), like(dy)
    return dx


def leaky_relu_grad(dy, y, slope):
    return relu_grad(dy, y)


def cast(x, dtype):
    return MetaArray(x.shape, dtype)


def draw_seed(count, skipped):
    return MetaArray((), np.uint64)


def max_pool(x, size, stride):
    y, where = shapes.max_pool(x, size, stride)
    return MetaArray(y, x.dtype), MetaArray(where, np.uint8)


def max_pool_grad(dy, where, x_shape, size, stride):
    _contiguous = contiguous(dy)
    dx = MetaArray(shapes.max_pool_grad(dy, where, x_shape, size, stride), dy.dtype)
    return dx


def avg_pool_grad(dy, x_shape, size, stride):
    _contiguous = contiguous(dy)
    dx = MetaArray(shapes.avg_pool_grad(dy, x_shape, size, stride), dy.dtype)
    return dx


def global_avg_pool_grad(dy, x_shape):
    return MetaArray(shapes.global_avg_pool_grad(dy, x_shape), dy.dtype, like(dy).bytes)


def softmax_cross_entropy(logits, labels):
    totals, dlogits = shapes.softmax_cross_entropy(logits, labels)
    return MetaArray(totals, np.float64), MetaArray(dlogits, logits.dtype)
