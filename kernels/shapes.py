"""The shapes that each operation takes: a function of the same name and arguments, which raises ValueError.

Kernels are given addresses, and would read and write beyond arrays that do not fit. A pattern has a word for each
operand and a letter for each axis: equal letters are equal sizes. ``*`` stands for any axes, the same ones everywhere.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

from .reference.conv import output_size

__all__ = ["checked"]

VECTORS = {"scale", "shift", "mean", "p", "q", "r"}  # fields of operands that hold a number for each channel


@lru_cache(256)
def checked(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
    """Return the operation of that name, with a look at the shapes of what it is given."""
    check = globals().get(name)
    if check is None:
        return operation

    @wraps(operation)
    def careful(*arguments: Any, **options: Any) -> Any:
        check(*arguments, **options)
        return operation(*arguments, **options)

    return careful


def fit(pattern: str, *operands: Any, **sizes: Any) -> None:
    """Raise ValueError unless arrays, or operands made of them, have shapes of a pattern; None always has."""
    arrays = [pair for word, operand in zip(pattern.split(), operands, strict=True) for pair in parts(word, operand)]
    for word, array in arrays:
        found = named(word, array.shape)
        if found is None or any(sizes.setdefault(letter, size) != size for letter, size in found):
            shapes = ", ".join(f"{array.shape} for {word}" for word, array in arrays)
            known = ", ".join(f"{letter} = {size}" for letter, size in sizes.items())
            raise ValueError(f"arrays do not fit together: {shapes}, where {known}")


def named(word: str, shape: tuple[int, ...]) -> list[tuple[str, Any]] | None:
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


def outputs(height: int, width: int, kernel_size, stride: int, padding: int) -> dict[str, int]:
    """Rows Y and columns X of what a convolution makes of images."""
    return {
        axis: output_size(size, count, stride, padding)
        for axis, size, count in zip("YX", (height, width), kernel_size, strict=True)
    }


# Convolution.


def conv2d(x, weight, bias, stride, padding):
    fit("NHWC abCK K", x, weight, bias)


def conv2d_input_grad(dy, weight, x_shape, stride, padding):
    N, H, W, C = x_shape
    fit("NYXK abCK", dy, weight, N=N, C=C, **outputs(H, W, weight.shape[:2], stride, padding))


def conv2d_weight_grad(x, dy, kernel_size, stride, padding):
    fit("NHWC", x)
    _, H, W, _ = (x if hasattr(x, "shape") else x[0]).shape
    fit("NHWC NYXK", x, dy, **outputs(H, W, kernel_size, stride, padding))


def col2im(columns, x_shape, kernel_size, stride, padding):
    (N, H, W, C), (a, b) = x_shape, kernel_size
    output = outputs(H, W, kernel_size, stride, padding)
    fit("MD", columns, M=N * output["Y"] * output["X"], D=a * b * C)


def conv2d_bias_relu(x, weight, bias, stride, padding, residual=None, scale=None, overwrite=False):
    fit("NHWC abCK K K", x, weight, bias, scale)
    fit("NYXK K", residual, bias, N=len(x), **outputs(*x.shape[1:3], weight.shape[:2], stride, padding))


def conv2d_moments(x, weight, stride, padding):
    fit("NHWC abCK", x, weight)


norm_conv2d_moments, fused_input_grad, fused_weight_grad = conv2d_moments, conv2d_input_grad, conv2d_weight_grad


def masked_input_grad(dy, weight, x_shape, stride, padding, below):
    conv2d_input_grad(dy, weight, x_shape, stride, padding)
    fit("NHWC", below, **dict(zip("NHWC", x_shape, strict=True)))


def masked_grads(x, dy, weight, stride, padding, below):
    fit("NHWC abCK NHWC", x, weight, below)
    conv2d_weight_grad(x, dy, weight.shape[:2], stride, padding)
    fit("abCK NYXK", weight, dy)


# Batch norm.


def batch_norm(x, mean, var, gamma, beta, eps, residual=None, relu=False):
    fit("*C C C C C *C", x, mean, var, gamma, beta, residual)


def batch_norm_grad(dy, x, mean, var, gamma, eps):
    fit("*C *C C C C", dy, x, mean, var, gamma)


batch_norm_fixed_grad = batch_norm_grad


def norm_relu(x):
    fit("*C", x)


norm_gradient = norm_relu


def relu_mask(da, below):
    fit("*C *C", da, below)


def norm_coefficients(mean, var, gamma, beta, eps):
    fit("C C C C", mean, var, gamma, beta)


def gradient_coefficients(sums, m, mean, var, gamma, eps):
    fit("sC C C C", sums, mean, var, gamma, s=2)


def move_statistics(running_mean, running_var, mean, var, decay, unbiased):
    fit("C C C C", running_mean, running_var, mean, var)


# Dense layers, and the loss.


def linear(x, weight, bias):
    fit("NC CK K", x, weight, bias)


def linear_input_grad(dy, weight):
    fit("NK CK", dy, weight)


def linear_weight_grad(x, dy):
    fit("NC NK", x, dy)


factored_weight_grad = linear_weight_grad


def softmax_cross_entropy(logits, labels):
    fit("NK N", logits, labels)


def lerp_all(tensors, weight):
    for average, data in tensors:
        fit("* *", average, data)


# Pixels.


def add(a, b):
    fit("* *", a, b)


relu_grad = add


def subsample(x, stride, channels):
    if channels < x.shape[3]:
        raise ValueError(f"a shortcut that pads channels leads to no fewer: {channels} are asked for, of {x.shape}")


def subsample_grad(dy, x_shape, stride):
    N, H, W, C = x_shape
    fit("NYXK", dy, N=N, **outputs(H, W, (1, 1), stride, 0))
    if dy.shape[3] < C:
        raise ValueError(f"a shortcut that pads channels comes from no more: {C} are asked for, of {dy.shape}")


def max_pool_grad(dy, where, x_shape, size, stride):
    N, H, W, C = x_shape
    fit("NYXC NYXC", dy, where, N=N, C=C, **outputs(H, W, (size, size), stride, 0))


def global_avg_pool_grad(dy, x_shape):
    fit("NC", dy, N=x_shape[0], C=x_shape[3])
