"""One step of each optimizer, in place: all parameters in one parallel pass.

A gradient that comes as an `OuterProduct` is computed a few rows at a time, and used while they are in the cache: it is
not written to memory, nor read from there. The bits are those of a gradient that is.
"""

import numpy as np
from numba import njit

from .. import reference
from ..operands import OuterProduct
from .calls import issue
from .emit import LANES, ROWS, VECTORS, floats, integers, kernel, numbers
from .linear import computed_on_the_way, linear_weight_grad, packed_factors, store_outer
from .memory import address, address_of_any, aligned_empty, single
from .parallel import threads_for

__all__ = ["rmsprop_step_all", "sgd_step_all"]

FLOAT = 4  # bytes


def rmsprop_step_all(tensors, lr, rho, momentum, eps):
    """RMSProp with a heavy ball on the normalised step; changes data, square and velocity; see the reference."""
    others = _step(rmsprop_stored, rmsprop_outer, tensors, [lr, rho, 1 - rho, momentum, eps])
    issue(reference.rmsprop_step_all, others, lr, rho, momentum, eps)


def sgd_step_all(tensors, lr, momentum):
    """Gradient descent with a heavy ball; changes data and velocity; see the reference."""
    others = _step(sgd_stored, sgd_outer, tensors, [lr, momentum])
    issue(reference.sgd_step_all, others, lr, momentum)


# What is done to each of ``count`` elements at some addresses. NumPy's error model: without a check for zero divisors
# in their way, the loops become vector code.


@njit(error_model="numpy")
def _rmsprop(count, data, grad, square, velocity, decay, hyper):
    data, grad, square, velocity, hyper = floats(data), floats(grad), floats(square), floats(velocity), floats(hyper)
    lr, rho, fresh, momentum, eps = hyper[0], hyper[1], hyper[2], hyper[3], hyper[4]
    for i in range(count):
        g = grad[i] + decay * data[i]
        square[i] = rho * square[i] + fresh * (g * g)
        velocity[i] = momentum * velocity[i] + g / (np.sqrt(square[i]) + eps)
        data[i] -= lr * velocity[i]


@njit(error_model="numpy")
def _sgd(count, data, grad, velocity, decay, hyper):
    data, grad, velocity, hyper = floats(data), floats(grad), floats(velocity), floats(hyper)
    lr, momentum = hyper[0], hyper[1]
    for i in range(count):
        velocity[i] = momentum * velocity[i] + grad[i] + decay * data[i]
        data[i] -= lr * velocity[i]


# Gradients that are stored: each thread has its share of all elements of all tensors. Of each tensor there is a row of
# addresses, in the order of the arguments of what is done to its elements.


@kernel
def rmsprop_stored(t, threads, arguments):
    tensors, total, addresses, sizes, decays, hyper = numbers(arguments, 6)
    places, counts, decay = integers(addresses), integers(sizes), floats(decays)
    first, last, start = t * total // threads, (t + 1) * total // threads, 0
    for n in range(tensors):
        a, b = max(first - start, 0), min(last - start, counts[n])
        start += counts[n]
        if a < b:
            here = FLOAT * a
            data, grad, square, velocity = places[4 * n], places[4 * n + 1], places[4 * n + 2], places[4 * n + 3]
            _rmsprop(b - a, data + here, grad + here, square + here, velocity + here, decay[n], hyper)


@kernel
def sgd_stored(t, threads, arguments):
    tensors, total, addresses, sizes, decays, hyper = numbers(arguments, 6)
    places, counts, decay = integers(addresses), integers(sizes), floats(decays)
    first, last, start = t * total // threads, (t + 1) * total // threads, 0
    for n in range(tensors):
        a, b = max(first - start, 0), min(last - start, counts[n])
        start += counts[n]
        if a < b:
            here = FLOAT * a
            data, grad, velocity = places[3 * n], places[3 * n + 1], places[3 * n + 2]
            _sgd(b - a, data + here, grad + here, velocity + here, decay[n], hyper)


# Gradients that are products, of factors that are packed: each thread has its share of the rows of one tensor (C, K),
# and room for 16 rows of the gradient. The weight decay follows the other constants.


@kernel
def rmsprop_outer(t, threads, arguments):
    N, C, K, wide, x, dy, scratch, hyper, data, square, velocity = numbers(arguments, 11)
    size, grad, decay = LANES * K, scratch + FLOAT * t * LANES * K, floats(hyper)[5]
    for c in range(t * (C // LANES) // threads * LANES, (t + 1) * (C // LANES) // threads * LANES, LANES):
        here = FLOAT * c * K
        _gradient(wide, x + FLOAT * c * N, dy, N, K, grad)
        _rmsprop(size, data + here, grad, square + here, velocity + here, decay, hyper)


@kernel
def sgd_outer(t, threads, arguments):
    N, C, K, wide, x, dy, scratch, hyper, data, velocity = numbers(arguments, 10)
    size, grad, decay = LANES * K, scratch + FLOAT * t * LANES * K, floats(hyper)[2]
    for c in range(t * (C // LANES) // threads * LANES, (t + 1) * (C // LANES) // threads * LANES, LANES):
        here = FLOAT * c * K
        _gradient(wide, x + FLOAT * c * N, dy, N, K, grad)
        _sgd(size, data + here, grad, velocity + here, decay, hyper)


@njit
def _gradient(wide, x, dy, N, K, grad):
    """Compute 16 rows (16, K) of a gradient, from a chunk of x."""
    panel = LANES * VECTORS if wide else LANES
    for k in range(0, K, panel):
        for r in range(0, LANES, ROWS):
            store_outer(wide, x + FLOAT * r, dy + FLOAT * k * N, N, grad + FLOAT * (r * K + k), K)


def _step(stored, outer, tensors, hyper):
    """Step along all gradients: with the one kernel those that are there, with the other one products.

    Returns the tensors that are not float32, for which nothing is done.
    """
    there, others = [], []
    for data, grad, *state, decay in tensors:
        if isinstance(grad, OuterProduct) and len(grad.x) != len(grad.dy):
            raise TypeError(f"the factors of a gradient are {grad.x.shape} and {grad.dy.shape}: of unlike batches")
        if isinstance(grad, OuterProduct) and computed_on_the_way(*grad):
            _step_outer(outer, data, grad, state, np.array([*hyper, decay], np.float32))
            continue
        array = linear_weight_grad(*grad) if isinstance(grad, OuterProduct) else grad
        (there if single(data) else others).append((data, array, *state, decay))
    if there:
        addresses, sizes, decays = _table(there)
        total = int(sizes.sum())
        constants = np.array(hyper, np.float32)
        stored(
            len(there), total, address_of_any(addresses), address_of_any(sizes), address(decays), address(constants),
            threads=threads_for(total),
        )  # fmt: skip
    for data, *arrays, _ in others:
        _places(data, arrays)
    return others


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
    return addresses, sizes, np.array([decay for *_, decay in tensors], np.float32)


def _places(data, others):
    """Addresses of the parameter and of what belongs to it: contiguous arrays, all alike."""
    for array in (data, *others):
        if array.shape != data.shape or array.dtype != data.dtype or not array.flags.c_contiguous:
            raise TypeError(
                f"parameter, gradient and state have to be contiguous and alike: {data.dtype} {data.shape}, "
                f"{array.dtype} {array.shape}"
            )
    return [address_of_any(array) for array in (data, *others)]
