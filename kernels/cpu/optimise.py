"""One step of each optimizer, in place: all parameters in one parallel pass."""

import numpy as np
from numba import carray, njit, prange, types
from numba.extending import intrinsic

from .memory import address
from .parallel import run, threads_for

__all__ = ["rmsprop_step", "rmsprop_step_all", "sgd_step", "sgd_step_all"]


def rmsprop_step(data, grad, square, velocity, lr, rho, momentum, eps, weight_decay):
    """RMSProp with a heavy ball on the normalised step; changes ``data``, ``square`` and ``velocity``."""
    rmsprop_step_all([(data, grad, square, velocity, weight_decay)], lr, rho, momentum, eps)


def rmsprop_step_all(tensors, lr, rho, momentum, eps):
    """:func:`rmsprop_step` on a list of (data, grad, square, velocity, weight_decay)."""
    for dtype, group in _by_dtype(tensors).items():
        hyper = np.array([lr, rho, 1 - rho, momentum, eps], dtype)
        addresses, sizes, weight_decays = _table(group)
        total = int(sizes.sum())
        run(_rmsprop_step, total, addresses, sizes, weight_decays, hyper, threads_for(total))


# NumPy's error model, and slices that are walked from 0 up: without a check for zero divisors or negative indices in
# their way, the loops become vector code.


@njit(parallel=True, cache=True, error_model="numpy")
def _rmsprop_step(addresses, sizes, weight_decays, hyper, threads):
    lr, rho, fresh, momentum, eps = hyper[0], hyper[1], hyper[2], hyper[3], hyper[4]
    total = sizes.sum()
    for t in prange(threads):
        first, last, start = t * total // threads, (t + 1) * total // threads, 0
        for n in range(sizes.size):
            a, b = max(first - start, 0), min(last - start, sizes[n])
            start += sizes[n]
            if a < b:
                data = carray(pointer(addresses[n, 0], lr), sizes[n])[a:b]
                grad = carray(pointer(addresses[n, 1], lr), sizes[n])[a:b]
                square = carray(pointer(addresses[n, 2], lr), sizes[n])[a:b]
                velocity = carray(pointer(addresses[n, 3], lr), sizes[n])[a:b]
                decay = weight_decays[n]
                for i in range(b - a):
                    g = grad[i] + decay * data[i]
                    square[i] = rho * square[i] + fresh * (g * g)
                    velocity[i] = momentum * velocity[i] + g / (np.sqrt(square[i]) + eps)
                    data[i] -= lr * velocity[i]


def sgd_step(data, grad, velocity, lr, momentum, weight_decay):
    """Gradient descent with a heavy ball; changes ``data`` and ``velocity``; see the reference."""
    sgd_step_all([(data, grad, velocity, weight_decay)], lr, momentum)


def sgd_step_all(tensors, lr, momentum):
    """:func:`sgd_step` on a list of (data, grad, velocity, weight_decay)."""
    for dtype, group in _by_dtype(tensors).items():
        addresses, sizes, weight_decays = _table(group)
        total = int(sizes.sum())
        run(_sgd_step, total, addresses, sizes, weight_decays, np.array([lr, momentum], dtype), threads_for(total))


@njit(parallel=True, cache=True, error_model="numpy")
def _sgd_step(addresses, sizes, weight_decays, hyper, threads):
    lr, momentum = hyper[0], hyper[1]
    total = sizes.sum()
    for t in prange(threads):
        first, last, start = t * total // threads, (t + 1) * total // threads, 0
        for n in range(sizes.size):
            a, b = max(first - start, 0), min(last - start, sizes[n])
            start += sizes[n]
            if a < b:
                data = carray(pointer(addresses[n, 0], lr), sizes[n])[a:b]
                grad = carray(pointer(addresses[n, 1], lr), sizes[n])[a:b]
                velocity = carray(pointer(addresses[n, 2], lr), sizes[n])[a:b]
                decay = weight_decays[n]
                for i in range(b - a):
                    velocity[i] = momentum * velocity[i] + grad[i] + decay * data[i]
                    data[i] -= lr * velocity[i]


@intrinsic
def pointer(typing_context, address, like):
    """Pointer to numbers of the type of ``like`` at an address."""
    signature = types.CPointer(like)(types.int64, like)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, codegen


def _by_dtype(tensors):
    """Group tensors by the dtype of their data: {dtype: [tensor, ...]}."""
    groups: dict = {}
    for tensor in tensors:
        groups.setdefault(tensor[0].dtype, []).append(tensor)
    return groups


def _table(tensors):
    """Addresses (n, arrays), sizes (n,) and weight decays (n,) of tensors, which have to be contiguous."""
    addresses = np.empty((len(tensors), len(tensors[0]) - 1), np.int64)
    sizes = np.empty(len(tensors), np.int64)
    weight_decays = np.empty(len(tensors), tensors[0][0].dtype)
    for n, (*arrays, weight_decay) in enumerate(tensors):
        data = arrays[0]
        for i, array in enumerate(arrays):
            if array.shape != data.shape or array.dtype != data.dtype or not array.flags.c_contiguous:
                raise TypeError(
                    f"parameter, gradient and state have to be contiguous and alike: {data.dtype} {data.shape}, "
                    f"{array.dtype} {array.shape}"
                )
            addresses[n, i] = address(array)
        sizes[n], weight_decays[n] = data.size, weight_decay
    return addresses, sizes, weight_decays
