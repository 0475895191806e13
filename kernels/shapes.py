"""The shapes of each operation, said once: which ones fit together, and what comes out.

A function of an operation's name and arguments returns the shape of its result: a tuple of them for several arrays,
None for an operation that works in place. Of its arrays it looks at nothing else, so that a :class:`Placeholder` will
do. Where arrays do not fit together it raises ValueError: kernels are given addresses, and would read and write beyond
them. Checks (:func:`checked`), layers and the CPU's dry run all use these functions.

A pattern has a word for each operand and a letter for each axis: equal letters are equal sizes. ``*`` stands for any
axes, the same ones everywhere.
"""

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, NamedTuple, Protocol, TypeVar

from .operands import BackwardEpilogue, Normalised, NormGradient, OuterProduct

__all__ = ["OPERATIONS", "Checked", "Placeholder", "Shape", "checked", "output_size"]

Shape = tuple[int, ...]
Function = TypeVar("Function", bound=Callable[..., Any])
VECTORS = {"scale", "shift", "mean", "p", "q", "r"}  # fields of operands that hold a number for each channel
OPERATIONS: dict[str, Callable[..., Any]] = {}  # each operation's function here, by its name


class Shaped(Protocol):
    """An array of whatever kind."""

    @property
    def shape(self) -> Shape:
        """Sizes of its axes."""


class Placeholder(NamedTuple):
    """An array of which no more than the shape is known."""

    shape: Shape


def operation(function: Function) -> Function:
    """Enter a function into ``OPERATIONS``."""
    OPERATIONS[function.__name__] = function
    return function


@lru_cache(256)
def checked(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Return the kernel of that operation, wrapped with a shape check; what is no operation is returned as it is."""
    check = OPERATIONS.get(name)
    if check is None:
        return kernel

    @wraps(kernel)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        check(*arguments, **options)
        return kernel(*arguments, **options)

    return wrapped


class Checked:
    """A backend's kernels, each wrapped with a shape check."""

    def __init__(self, kernels: Any) -> None:
        self.kernels = kernels

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return checked(name, getattr(self.kernels, name))


def fit(pattern: str, *operands: Any, **sizes: Any) -> dict[str, Any]:
    """Return the size of each letter; raise ValueError unless arrays, or operands made of them, have those shapes.

    None always has.
    """
    arrays = [pair for word, operand in zip(pattern.split(), operands, strict=True) for pair in parts(word, operand)]
    for word, array in arrays:
        found = named(word, array.shape)
        if found is None or any(sizes.setdefault(letter, size) != size for letter, size in found):
            shapes = ", ".join(f"{array.shape} for {word}" for word, array in arrays)
            known = ", ".join(f"{letter} = {size}" for letter, size in sizes.items())
            raise ValueError(f"arrays do not fit together: {shapes}, where {known}")
    return sizes


def named(word: str, shape: Shape) -> list[tuple[str, Any]] | None:
    """Letters and their sizes; None if there are more of the one than of the other."""
    if not word.startswith("*"):
        return list(zip(word, shape, strict=True)) if len(word) == len(shape) else None
    more = len(shape) - len(word) + 1
    return [("*", shape[:more]), *zip(word[1:], shape[more:], strict=True)] if more >= 0 else None


def parts(word: str, operand: Any) -> list[tuple[str, Any]]:
    """Arrays of an operand that is there, each with its letters."""
    if hasattr(operand, "shape"):
        return [(word, operand)]
    if operand is None:
        return []
    fields = zip(operand._fields, operand, strict=True)
    return [(word[-1] if field in VECTORS else word, array) for field, array in fields if array is not None]


def source(x: Any) -> Any:
    """The array x, or the one that ``Normalised`` normalises."""
    return x.y if isinstance(x, Normalised) else x


# Windows.


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Length of a convolution's or pooling's output along one axis, at least 1."""
    result = (size + 2 * padding - kernel) // stride + 1
    if result < 1:
        raise ValueError(
            f"a window of {kernel} pixels does not fit into {size}, with {padding} of padding on each side"
        )
    return result


def outputs(x_shape: Shape, kernel_size: tuple[int, int], stride: int, padding: int) -> dict[str, int]:
    """Rows Y and columns X of what a window makes of images (N, H, W, C)."""
    (_, height, width, _), (rows, columns) = x_shape, kernel_size
    if height + 2 * padding < rows or width + 2 * padding < columns:
        padded = f" with {padding} pixels of padding" if padding else ""
        raise ValueError(f"a window of {rows} x {columns} pixels does not fit into an input of {x_shape[1:3]}{padded}")
    return {"Y": output_size(height, rows, stride, padding), "X": output_size(width, columns, stride, padding)}


# Convolution.


@operation
def conv2d(x: Shaped, weight: Shaped, bias: Shaped | None, stride: int, padding: int) -> Shape:
    sizes = fit("NHWC abCK K", x, weight, bias)
    return convolved(x.shape, weight.shape, sizes, stride, padding)


def convolved(x_shape: Shape, weight_shape: Shape, sizes: dict[str, int], stride: int, padding: int) -> Shape:
    """Shape of a convolution's result."""
    kernel_size = weight_shape[0], weight_shape[1]
    return sizes["N"], *outputs(x_shape, kernel_size, stride, padding).values(), sizes["K"]


@operation
def conv2d_input_grad(dy: Any, weight: Shaped, x_shape: Shape, stride: int, padding: int) -> Shape:
    n, _, _, channels = x_shape
    kernel_size = weight.shape[0], weight.shape[1]
    fit("NYXK abCK", dy, weight, N=n, C=channels, **outputs(x_shape, kernel_size, stride, padding))
    return tuple(x_shape)


@operation
def conv2d_weight_grad(x: Any, dy: Any, kernel_size: tuple[int, int], stride: int, padding: int) -> Shape:
    fit("NHWC", x)
    sizes = fit("NHWC NYXK", x, dy, **outputs(source(x).shape, kernel_size, stride, padding))
    return *kernel_size, sizes["C"], sizes["K"]


@operation
def as_matrix(x: Shaped) -> Shape:
    fit("*C", x)
    return math.prod(x.shape[:-1]), x.shape[-1]


@operation
def im2col(x: Shaped, kernel_size: tuple[int, int], stride: int, padding: int) -> Shape:
    sizes = fit("NHWC", x)
    pixels = outputs(x.shape, kernel_size, stride, padding)
    return sizes["N"] * pixels["Y"] * pixels["X"], math.prod(kernel_size) * sizes["C"]


@operation
def col2im(columns: Shaped, x_shape: Shape, kernel_size: tuple[int, int], stride: int, padding: int) -> Shape:
    rows, entries = im2col(Placeholder(x_shape), kernel_size, stride, padding)
    fit("MD", columns, M=rows, D=entries)
    return tuple(x_shape)


# Convolutions that are fused with what surrounds them.


@operation
def conv2d_bias_relu(
    x: Shaped,
    weight: Shaped,
    bias: Shaped,
    stride: int,
    padding: int,
    residual: Shaped | None = None,
    scale: Shaped | None = None,
    overwrite: bool = False,
) -> Shape:
    sizes = fit("NHWC abCK K K", x, weight, bias, scale)
    y = convolved(x.shape, weight.shape, sizes, stride, padding)
    if residual is not None:
        fit("NYXK", residual, **dict(zip("NYXK", y, strict=True)))
    return y


@operation
def conv2d_moments(x: Any, weight: Shaped, stride: int, padding: int) -> tuple[Shape, ...]:
    sizes = fit("NHWC abCK", x, weight)
    channels = (sizes["K"],)
    return convolved(source(x).shape, weight.shape, sizes, stride, padding), channels, channels


@operation
def norm_conv2d_moments(x: Normalised, weight: Shaped, stride: int, padding: int) -> tuple[Shape, ...]:
    return x.y.shape, *conv2d_moments(x, weight, stride, padding)


@operation
def masked_input_grad(
    dy: Any, weight: Shaped, x_shape: Shape, stride: int, padding: int, below: BackwardEpilogue
) -> tuple[Shape, ...]:
    dx = conv2d_input_grad(dy, weight, x_shape, stride, padding)
    fit("NHWC", below, **dict(zip("NHWC", dx, strict=True)))
    return dx, (2, dx[-1])


@operation
def masked_grads(
    x: Any, dy: Any, weight: Shaped, stride: int, padding: int, below: BackwardEpilogue
) -> tuple[Shape, ...]:
    sizes = fit("NHWC abCK NHWC", x, weight, below)
    dw = conv2d_weight_grad(x, dy, (sizes["a"], sizes["b"]), stride, padding)
    fit("abCK NYXK", weight, dy)
    return dw, source(x).shape, (2, sizes["C"])


@operation
def norm_relu(x: Normalised) -> Shape:
    fit("*C", x)
    return x.y.shape


@operation
def norm_gradient(dy: NormGradient) -> Shape:
    fit("*C", dy)
    return dy.y.shape


@operation
def relu_mask(da: Shaped, below: BackwardEpilogue) -> tuple[Shape, ...]:
    fit("*C *C", da, below)
    return da.shape, (2, da.shape[-1])


# Batch norm, and sums over all axes but the last.


@operation
def bias_grad(dy: Shaped) -> Shape:
    return (fit("*K", dy)["K"],)


@operation
def batch_norm_stats(x: Shaped) -> tuple[Shape, ...]:
    channels = (fit("*C", x)["C"],)
    return channels, channels


@operation
def batch_norm(
    x: Shaped,
    mean: Shaped,
    var: Shaped,
    gamma: Shaped,
    beta: Shaped,
    eps: float,
    residual: Shaped | None = None,
    relu: bool = False,
) -> Shape:
    fit("*C C C C C *C", x, mean, var, gamma, beta, residual)
    return x.shape


@operation
def batch_norm_grad(dy: Shaped, x: Shaped, mean: Shaped, var: Shaped, gamma: Shaped, eps: float) -> tuple[Shape, ...]:
    fit("*C *C C C C", dy, x, mean, var, gamma)
    return x.shape, gamma.shape, gamma.shape


@operation
def norm_coefficients(mean: Shaped, var: Shaped, gamma: Shaped, beta: Shaped, eps: float) -> tuple[Shape, ...]:
    fit("C C C C", mean, var, gamma, beta)
    return gamma.shape, gamma.shape


@operation
def gradient_coefficients(
    sums: Shaped, m: int, mean: Shaped, var: Shaped, gamma: Shaped, eps: float
) -> tuple[Shape, ...]:
    fit("sC C C C", sums, mean, var, gamma, s=2)
    return (mean.shape,) * 5


@operation
def move_statistics(
    running_mean: Shaped, running_var: Shaped, mean: Shaped, var: Shaped, decay: float, unbiased: float
) -> None:
    fit("C C C C", running_mean, running_var, mean, var)


# Dense layers, and the loss.


@operation
def linear(x: Shaped, weight: Shaped, bias: Shaped | None) -> Shape:
    sizes = fit("NC CK K", x, weight, bias)
    return sizes["N"], sizes["K"]


@operation
def linear_input_grad(dy: Shaped, weight: Shaped) -> Shape:
    sizes = fit("NK CK", dy, weight)
    return sizes["N"], sizes["C"]


@operation
def linear_weight_grad(x: Shaped, dy: Shaped) -> Shape:
    sizes = fit("NC NK", x, dy)
    return sizes["C"], sizes["K"]


@operation
def softmax_cross_entropy(logits: Shaped, labels: Shaped) -> tuple[Shape, ...]:
    fit("NK N", logits, labels)
    return (2,), logits.shape


# Optimizers, in place.


@operation
def sgd_step_all(tensors: Any, lr: float, momentum: float) -> None:
    for data, grad, velocity, _ in tensors:
        update(grad, data, velocity)


@operation
def rmsprop_step_all(tensors: Any, lr: float, rho: float, momentum: float, eps: float) -> None:
    for data, grad, square, velocity, _ in tensors:
        update(grad, data, square, velocity)


def update(grad: Any, *arrays: Shaped) -> None:
    """Look at a parameter and its optimizer's state, of one shape, that of the gradient or of its factors' product."""
    shape = linear_weight_grad(*grad) if isinstance(grad, OuterProduct) else grad.shape
    for array in arrays:
        if array.shape != shape:
            raise ValueError(f"arrays do not fit together: a gradient of {shape} changes an array of {array.shape}")


@operation
def lerp_all(tensors: Any, weight: float) -> None:
    for average, data in tensors:
        fit("* *", average, data)


# Single elements, and feature maps.


@operation
def add(a: Shaped, b: Shaped) -> Shape:
    fit("* *", a, b)
    return a.shape


@operation
def relu(x: Shaped) -> Shape:
    return x.shape


@operation
def relu_grad(dy: Shaped, y: Shaped) -> Shape:
    fit("* *", dy, y)
    return dy.shape


@operation
def leaky_relu(x: Shaped, slope: float) -> Shape:
    return x.shape


@operation
def leaky_relu_grad(dy: Shaped, y: Shaped, slope: float) -> Shape:
    return relu_grad(dy, y)


@operation
def cast(x: Shaped, dtype: Any) -> Shape:
    return x.shape


@operation
def draw_seed(count: Shaped, skipped: int) -> Shape:
    fit("n", count, n=1)
    return ()


@operation
def dropout(x: Shaped, rate: float, seed: Any) -> Shape:
    return x.shape


@operation
def subsample(x: Shaped, stride: int, channels: int) -> Shape:
    sizes = fit("NHWC", x)
    if channels < sizes["C"]:
        raise ValueError(f"shortcut A pads channels, and cannot lead from {sizes['C']} to {channels}; choose B")
    return sizes["N"], *outputs(x.shape, (1, 1), stride, 0).values(), channels


@operation
def subsample_grad(dy: Shaped, x_shape: Shape, stride: int) -> Shape:
    y = subsample(Placeholder(x_shape), stride, dy.shape[-1])
    fit("NYXK", dy, **dict(zip("NYXK", y, strict=True)))
    return tuple(x_shape)


@operation
def max_pool(x: Shaped, size: int, stride: int) -> tuple[Shape, ...]:
    sizes = fit("NHWC", x)
    y = sizes["N"], *outputs(x.shape, (size, size), stride, 0).values(), sizes["C"]
    return y, y


@operation
def max_pool_grad(dy: Shaped, where: Shaped, x_shape: Shape, size: int, stride: int) -> Shape:
    y, _ = max_pool(Placeholder(x_shape), size, stride)
    fit("NYXC NYXC", dy, where, **dict(zip("NYXC", y, strict=True)))
    return tuple(x_shape)


@operation
def avg_pool(x: Shaped, size: int, stride: int) -> Shape:
    y, _ = max_pool(x, size, stride)
    return y


@operation
def avg_pool_grad(dy: Shaped, x_shape: Shape, size: int, stride: int) -> Shape:
    y = avg_pool(Placeholder(x_shape), size, stride)
    fit("NYXC", dy, **dict(zip("NYXC", y, strict=True)))
    return tuple(x_shape)


@operation
def global_avg_pool(x: Shaped) -> Shape:
    sizes = fit("NHWC", x)
    return sizes["N"], sizes["C"]


@operation
def global_avg_pool_grad(dy: Shaped, x_shape: Shape) -> Shape:
    fit("NC", dy, N=x_shape[0], C=x_shape[3])
    return tuple(x_shape)


# Images of a data set.


@operation
def augment(
    images: Shaped, rows: Shaped, shifts: Shaped, flips: Shaped, mean: Shaped, std: Shaped, out: Shaped | None = None
) -> Shape:
    sizes = fit("NHWC n nt n C C nHWC", images, rows, shifts, flips, mean, std, out, t=2)
    return tuple(sizes[axis] for axis in "nHWC")


@operation
def resize_bilinear(x: Shaped, size: tuple[int, int], out: Shaped | None = None) -> Shape:
    height, width = size
    sizes = fit("nHWC nYXC", x, out, Y=height, X=width)
    return sizes["n"], height, width, sizes["C"]


# Operations that take and return what others do.

OPERATIONS["fused_input_grad"] = fused_input_grad = conv2d_input_grad
OPERATIONS["fused_weight_grad"] = fused_weight_grad = conv2d_weight_grad
OPERATIONS["batch_norm_fixed_grad"] = batch_norm_fixed_grad = batch_norm_grad
OPERATIONS["factored_weight_grad"] = factored_weight_grad = linear_weight_grad
OPERATIONS["resize_area"] = resize_area = resize_bilinear
