"""One step of each optimizer, in place: all parameters in one parallel pass.

A gradient that comes as an `OuterProduct` is computed a few rows at a time, and used while they are in the cache: it is
not written to memory, nor read from there. The bits are those of a gradient that is.
"""

import numpy as np
from numba import carray, njit, prange, types
from numba.extending import intrinsic

from ..operands import OuterProduct
from .emit import LANES, ROWS, VECTORS, kernel, numbers
from .linear import computed_on_the_way, linear_weight_grad, packed_factors, store_outer
from .memory import address, address_of_any, aligned_empty
from .parallel import run, threads_for

__all__ = ["rmsprop_step", "rmsprop_step_all", "sgd_step", "sgd_step_all"]

FLOAT = 4  # bytes


def rmsprop_step(data, grad, square, velocity, lr, rho, momentum, eps, weight_decay):
    """RMSProp with a heavy ball on the normalised step; changes ``data``, ``square`` and ``velocity``."""
    rmsprop_step_all([(data, grad, square, velocity, weight_decay)], lr, rho, momentum, eps)


def rmsprop_step_all(tensors, lr, rho, momentum, eps):
    """:func:`rmsprop_step` on a list of (data, grad, square, velocity, weight_decay)."""
    _step(_rmsprop_stored, _rmsprop_outer, tensors, [lr, rho, 1 - rho, momentum, eps])


def sgd_step(data, grad, velocity, lr, momentum, weight_decay):
    """Gradient descent with a heavy ball; changes ``data`` and ``velocity``; see the reference."""
    sgd_step_all([(data, grad, velocity, weight_decay)], lr, momentum)


def sgd_step_all(tensors, lr, momentum):
    """:func:`sgd_step` on a list of (data, grad, velocity, weight_decay)."""
    _step(_sgd_stored, _sgd_outer, tensors, [lr, momentum])


# What is done to each element. NumPy's error model, and arrays that are walked from 0 up: without a check for zero
# divisors or negative indices in their way, the loops become vector code.


@njit(error_model="numpy")
def _rmsprop(data, grad, square, velocity, decay, hyper):
    lr, rho, fresh, momentum, eps = hyper[0], hyper[1], hyper[2], hyper[3], hyper[4]
    for i in range(data.size):
        g = grad[i] + decay * data[i]
        square[i] = rho * square[i] + fresh * (g * g)
        velocity[i] = momentum * velocity[i] + g / (np.sqrt(square[i]) + eps)
        data[i] -= lr * velocity[i]


@njit(error_model="numpy")
def _sgd(data, grad, velocity, decay, hyper):
    lr, momentum = hyper[0], hyper[1]
    for i in range(data.size):
        velocity[i] = momentum * velocity[i] + grad[i] + decay * data[i]
        data[i] -= lr * velocity[i]


# Gradients that are stored: each thread has its share of all elements of all tensors.


@njit(parallel=True, cache=True, error_model="numpy")
def _rmsprop_stored(addresses, sizes, decays, hyper, threads):
    total = sizes.sum()
    for t in prange(threads):
        first, last, start = t * total // threads, (t + 1) * total // threads, 0
        for n in range(sizes.size):
            a, b = max(first - start, 0), min(last - start, sizes[n])
            start += sizes[n]
            if a < b:
                data = carray(pointer(addresses[n, 0], hyper[0]), sizes[n])[a:b]
                grad = carray(pointer(addresses[n, 1], hyper[0]), sizes[n])[a:b]
                square = carray(pointer(addresses[n, 2], hyper[0]), sizes[n])[a:b]
                velocity = carray(pointer(addresses[n, 3], hyper[0]), sizes[n])[a:b]
                _rmsprop(data, grad, square, velocity, decays[n], hyper)


@njit(parallel=True, cache=True, error_model="numpy")
def _sgd_stored(addresses, sizes, decays, hyper, threads):
    total = sizes.sum()
    for t in prange(threads):
        first, last, start = t * total // threads, (t + 1) * total // threads, 0
        for n in range(sizes.size):
            a, b = max(first - start, 0), min(last - start, sizes[n])
            start += sizes[n]
            if a < b:
                data = carray(pointer(addresses[n, 0], hyper[0]), sizes[n])[a:b]
                grad = carray(pointer(addresses[n, 1], hyper[0]), sizes[n])[a:b]
                velocity = carray(pointer(addresses[n, 2], hyper[0]), sizes[n])[a:b]
                _sgd(data, grad, velocity, decays[n], hyper)


# Gradients that are products, float32, of factors that are packed: each thread has its share of the rows of one tensor
# (C, K), and room for 16 rows of the gradient. The weight decay follows the other constants.


@kernel
def _rmsprop_outer(t, threads, arguments):
    N, C, K, wide, x, dy, scratch, hyper, data, square, velocity = numbers(arguments, 11)
    size, like, grad = LANES * K, np.float32(0), scratch + FLOAT * t * LANES * K
    constants = carray(pointer(hyper, like), 6)
    for c in range(t * (C // LANES) // threads * LANES, (t + 1) * (C // LANES) // threads * LANES, LANES):
        _gradient(wide, x + FLOAT * c * N, dy, N, K, grad)
        _rmsprop(
            carray(pointer(data + FLOAT * c * K, like), size),
            carray(pointer(grad, like), size),
            carray(pointer(square + FLOAT * c * K, like), size),
            carray(pointer(velocity + FLOAT * c * K, like), size),
            constants[5],
            constants,
        )


@kernel
def _sgd_outer(t, threads, arguments):
    N, C, K, wide, x, dy, scratch, hyper, data, velocity = numbers(arguments, 10)
    size, like, grad = LANES * K, np.float32(0), scratch + FLOAT * t * LANES * K
    constants = carray(pointer(hyper, like), 3)
    for c in range(t * (C // LANES) // threads * LANES, (t + 1) * (C // LANES) // threads * LANES, LANES):
        _gradient(wide, x + FLOAT * c * N, dy, N, K, grad)
        _sgd(
            carray(pointer(data + FLOAT * c * K, like), size),
            carray(pointer(grad, like), size),
            carray(pointer(velocity + FLOAT * c * K, like), size),
            constants[2],
            constants,
        )


@njit
def _gradient(wide, x, dy, N, K, grad):
    """Compute 16 rows (16, K) of a gradient, from a chunk of x."""
    panel = LANES * VECTORS if wide else LANES
    for k in range(0, K, panel):
        for r in range(0, LANES, ROWS):
            store_outer(wide, x + FLOAT * r, dy + FLOAT * k * N, N, grad + FLOAT * (r * K + k), K)


@intrinsic
def pointer(typing_context, address, like):
    """Pointer to numbers of the type of ``like`` at an address."""
    signature = types.CPointer(like)(types.int64, like)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, codegen


def _step(stored, outer, tensors, hyper):
    """Step along all gradients: with the one function those that are there, with the other one products."""
    groups: dict = {}
    for tensor in tensors:
        groups.setdefault(tensor[0].dtype, []).append(tensor)
    for dtype, group in groups.items():
        there = []
        for data, grad, *state, decay in group:
            if isinstance(grad, OuterProduct) and len(grad.x) != len(grad.dy):
                raise TypeError(f"the factors of a gradient are {grad.x.shape} and {grad.dy.shape}: of unlike batches")
            if isinstance(grad, OuterProduct) and computed_on_the_way(*grad):
                _step_outer(outer, data, grad, state, np.array([*hyper, decay], dtype))
            else:
                array = linear_weight_grad(*grad) if isinstance(grad, OuterProduct) else grad
                there.append((data, array, *state, decay))
        if there:
            addresses, sizes, decays = _table(there)
            total = int(sizes.sum())
            run(stored, total, addresses, sizes, decays, np.array(hyper, dtype), threads_for(total))


def _step_outer(function, data, grad, state, hyper):
    """Step along one gradient that is a product."""
    (N, C), K = grad.x.shape, grad.dy.shape[1]
    if data.shape != (C, K):
        raise TypeError(f"the parameter is {data.shape}, its gradient {(C, K)}")
    places = _places(data, state)
    x, dy, wide = packed_factors(*grad)
    threads = threads_for(N * data.size // LANES)
    scratch = aligned_empty((threads, LANES * K))
    function(N, C, K, wide, address(x), address(dy), address(scratch), address(hyper), *places, threads=threads)


def _table(tensors):
    """Addresses (n, arrays), sizes (n,) and weight decays (n,) of tensors."""
    addresses = np.array([_places(data, state) for data, *state, _ in tensors], np.int64)
    sizes = np.array([data.size for data, *_ in tensors], np.int64)
    return addresses, sizes, np.array([decay for *_, decay in tensors], tensors[0][0].dtype)


def _places(data, others):
    """Addresses of the parameter and of what belongs to it: contiguous arrays, all alike."""
    for array in (data, *others):
        if array.shape != data.shape or array.dtype != data.dtype or not array.flags.c_contiguous:
            raise TypeError(
                f"parameter, gradient and state have to be contiguous and alike: {data.dtype} {data.shape}, "
                f"{array.dtype} {array.shape}"
            )
    return [address_of_any(array) for array in (data, *others)]
