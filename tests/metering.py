"""Count the multiply-adds that really run: what the ledger of a network is held against."""

import math
from contextlib import contextmanager
from unittest.mock import patch

from incnet.backend import ops
from incnet.layer import Cost

FORWARD, WEIGHT_GRAD, INPUT_GRAD = "forward", "weight_grad", "input_grad"


class Meter:
    """Multiply-adds by pass, from the shapes of the arrays that went through convolutions and dense layers."""

    def __init__(self):
        self.macs = dict.fromkeys((FORWARD, WEIGHT_GRAD, INPUT_GRAD), 0)

    def cost(self, n):
        """Return the cost for each of ``n`` samples."""
        assert all(macs % n == 0 for macs in self.macs.values())
        return Cost(**{name: macs // n for name, macs in self.macs.items()})


class _MeteredKernels:
    """The kernels of a backend; convolutions and dense layers are put down on a meter as they are called."""

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
        if name == "linear":
            return lambda x, weight, bias: self._put(FORWARD, kernel(x, weight, bias), weight.shape[:1])
        if name == "linear_weight_grad":
            return lambda x, dy: self._put(WEIGHT_GRAD, kernel(x, dy), dy.shape[:1])
        if name == "linear_input_grad":
            return lambda dy, weight: self._put(INPUT_GRAD, kernel(dy, weight), weight.shape[1:])
        assert "conv" not in name, f"{name}: a convolution that the meter does not know"
        return kernel

    def _put(self, what, result, terms, sums=None):
        """Put down ``sums`` sums, by default one for each value of the result, of so many products."""
        self._meter.macs[what] += (result.size if sums is None else sums) * math.prod(terms)
        return result


@contextmanager
def metering():
    """Meter every convolution and every product of a dense layer inside a ``with`` block."""
    meter = Meter()
    with patch.object(ops, "_kernels", _MeteredKernels(ops.kernels, meter)):
        yield meter
