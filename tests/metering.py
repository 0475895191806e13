"""Count the multiply-adds that really run: what the ledger of a network is held against."""

import math
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np

from incnet.backend import ops
from incnet.layer import Cost
from incnet.layers import Linear

FORWARD, WEIGHT_GRAD, INPUT_GRAD = "forward", "weight_grad", "input_grad"


class Meter:
    """Multiply-adds by pass, from the shapes of the arrays that went through convolutions and matrix products."""

    def __init__(self):
        self.macs = dict.fromkeys((FORWARD, WEIGHT_GRAD, INPUT_GRAD), 0)

    def cost(self, n):
        """Return the cost for each of ``n`` samples."""
        assert all(macs % n == 0 for macs in self.macs.values())
        return Cost(**{name: macs // n for name, macs in self.macs.items()})


class _MeteredKernels:
    """The kernels of a backend; convolutions are put down on a meter as they are called."""

    def __init__(self, kernels, meter):
        self._kernels, self._meter = kernels, meter

    def __getattr__(self, name):
        kernel = getattr(self._kernels, name)
        if name == "conv2d":
            return lambda x, weight, *rest: self._put(FORWARD, kernel(x, weight, *rest), weight.shape[:3])
        if name == "conv2d_weight_grad":
            return lambda x, dy, *rest: self._put(WEIGHT_GRAD, kernel(x, dy, *rest), dy.shape[:3])
        if name == "conv2d_input_grad":
            # Every entry of dy meets one filter's worth of weights.
            return lambda dy, weight, *rest: self._put(INPUT_GRAD, kernel(dy, weight, *rest), weight.shape[:3], dy.size)
        assert "conv" not in name, f"{name}: a convolution that the meter does not know"
        return kernel

    def _put(self, what, result, terms, sums=None):
        """Put down ``sums`` sums, by default one for each value of the result, of so many products."""
        self._meter.macs[what] += (result.size if sums is None else sums) * math.prod(terms)
        return result


class _MeteredMatrix(np.ndarray):
    """A matrix whose products are reported; whatever else is done with it gives plain arrays."""

    report = None

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        plain = [np.asarray(each) if isinstance(each, _MeteredMatrix) else each for each in inputs]
        result = getattr(ufunc, method)(*plain, **kwargs)
        if ufunc is np.matmul:
            _MeteredMatrix.report(result, plain[0].shape[1])
        return result


def _metered_linear(meter):
    """Return forward and backward of a dense layer whose products are put down on a meter."""
    forward, backward = Linear.forward, Linear.backward

    def metered_forward(self, x, train=False):
        def report(result, terms):
            meter.macs[FORWARD] += result.size * terms

        with patch.object(_MeteredMatrix, "report", report):
            return forward(self, x.view(_MeteredMatrix), train)

    def metered_backward(self, dy, need_dx=True):
        def report(result, terms):
            what = WEIGHT_GRAD if result.shape == self.weight.data.shape else INPUT_GRAD
            meter.macs[what] += result.size * terms

        with patch.object(_MeteredMatrix, "report", report):
            return backward(self, dy.view(_MeteredMatrix), need_dx)

    return metered_forward, metered_backward


@contextmanager
def metering():
    """Meter every convolution and every product of a dense layer inside a ``with`` block."""
    meter = Meter()
    forward, backward = _metered_linear(meter)
    with (
        patch.object(ops, "_kernels", _MeteredKernels(ops.kernels, meter)),
        patch.object(Linear, "forward", forward),
        patch.object(Linear, "backward", backward),
    ):
        yield meter
