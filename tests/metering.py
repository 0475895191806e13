"""Count the multiply-adds that really run: what the ledger of a network is held against."""

import math
from contextlib import contextmanager

from incnet.backend import ops, substituted
from incnet.kernels.operands import NormGradient, OuterProduct
from incnet.layer import Cost

FORWARD, WEIGHT_GRAD, INPUT_GRAD = "forward", "weight_grad", "input_grad"


class Meter:
    """Multiply-adds by pass, from the shapes of the arrays that went through convolutions and dense layers."""

    def __init__(self):
        self.macs = dict.fromkeys((FORWARD, WEIGHT_GRAD, INPUT_GRAD), 0)

    def cost(self, n=1):
        """Return the cost for each of ``n`` samples."""
        assert all(macs % n == 0 for macs in self.macs.values())
        return Cost(**{name: macs // n for name, macs in self.macs.items()})


# Every output is a sum over one filter, every weight's gradient one over the pixels of dy, and every entry of dy meets
# one filter's worth of weights on its way to dx.


def _convolved(y, x, weight, *rest):
    return y.size * math.prod(weight.shape[:3])


def _convolved_for_weights(dw, x, dy, *rest):
    return dw.size * math.prod(_stored(dy).shape[:3])


def _convolved_for_input(dx, dy, weight, *rest):
    return _stored(dy).size * math.prod(weight.shape[:3])


def _stored(dy):
    return dy.dz if isinstance(dy, NormGradient) else dy


def _deferred(gradient):
    return isinstance(gradient, OuterProduct)


def _multiplied_on_the_way(_, tensors, *rest):
    return sum(data.size * len(gradient.x) for data, gradient, *_ in tensors if _deferred(gradient))


# Of each kernel: its pass, which of its results is the product, and the multiply-adds from result and arguments.
METERED = {
    "conv2d": (FORWARD, None, _convolved),
    "conv2d_bias_relu": (FORWARD, None, _convolved),
    "conv2d_moments": (FORWARD, 0, _convolved),
    "norm_conv2d_moments": (FORWARD, 1, _convolved),
    "conv2d_weight_grad": (WEIGHT_GRAD, None, _convolved_for_weights),
    "fused_weight_grad": (WEIGHT_GRAD, None, _convolved_for_weights),
    "conv2d_input_grad": (INPUT_GRAD, None, _convolved_for_input),
    "fused_input_grad": (INPUT_GRAD, None, _convolved_for_input),
    "masked_input_grad": (INPUT_GRAD, 0, _convolved_for_input),
    "linear": (FORWARD, None, lambda y, x, weight, bias: y.size * len(weight)),
    "linear_weight_grad": (WEIGHT_GRAD, None, lambda dw, x, dy: dw.size * len(dy)),
    "factored_weight_grad": (WEIGHT_GRAD, None, lambda dw, x, dy: 0 if _deferred(dw) else dw.size * len(dy)),
    "rmsprop_step_all": (WEIGHT_GRAD, None, _multiplied_on_the_way),
    "sgd_step_all": (WEIGHT_GRAD, None, _multiplied_on_the_way),
    "linear_input_grad": (INPUT_GRAD, None, lambda dx, dy, weight: dx.size * weight.shape[1]),
}
BOTH = {
    "masked_grads": (
        (WEIGHT_GRAD, 0, _convolved_for_weights),
        (INPUT_GRAD, 1, lambda dx, x, dy, weight, *rest: _convolved_for_input(dx, dy, weight)),
    )
}
UNMISTAKABLE = ("conv", "linear", "grads", "weight_grad", "input_grad")


class _MeteredKernels:
    """The kernels of a backend; convolutions and dense layers are put down on a meter as they are called."""

    def __init__(self, kernels, meter):
        self._kernels, self._meter = kernels, meter

    def __getattr__(self, name):
        kernel = getattr(self._kernels, name)
        products = BOTH.get(name) or ([METERED[name]] if name in METERED else [])
        if not products:
            assert not any(word in name for word in UNMISTAKABLE), f"{name} is not metered"
            return kernel

        def metered(*arguments, **options):
            result = kernel(*arguments, **options)
            for what, place, macs in products:
                self._meter.macs[what] += macs(result if place is None else result[place], *arguments)
            return result

        return metered


@contextmanager
def metering():
    """Meter every convolution and every product of a dense layer inside a ``with`` block."""
    meter = Meter()
    with substituted(_MeteredKernels(ops.kernels, meter)):
        yield meter
