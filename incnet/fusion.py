"""What is computed together: convolution, batch norm, ReLU and the residual addition, in as few passes as possible.

This is the one place that decides about fusion. :func:`fuse` looks along a chain of textbook layers for the patterns
below and returns a chain with the same layers, names and parameters that computes the same function::

    Conv2d, BatchNorm2d, ReLU          one convolution; its statistics come with it, and whoever reads it normalises
    Residual of two of these           the same, with the addition
    Conv2d with bias, ReLU             one convolution
    Linear                             its weight gradient, and the optimizer's step along it

Forward, a normalised activation is not stored: a step hands on the convolution's output with scale and shift, an
:class:`Activation`, and the next convolution normalises what it reads. Backward, a convolution that has computed its
input gradient masks it with the ReLU below and sums what the batch norm below needs: a :class:`Masked` gradient. The
gradient of a dense layer's weights is left in factors, where the backend's optimizers compute it on their way: until
they have, what the layer read and its output's gradient must stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from incnet.backend import Array, ops
from incnet.kernels.operands import BackwardEpilogue, Normalised, NormGradient
from incnet.layer import Layer
from incnet.layers import BatchNorm2d, Conv2d, Interleaved, Linear, ReLU, Residual, Sequential
from incnet.layers.norm import check_count

__all__ = ["FusedSequential", "fuse"]


@dataclass
class Activation:
    """What a step hands to the next one: an array, or what it takes to compute it.

    Attributes
    ----------
    array : (N, H, W, K) or None
        The activation a; None until somebody needs it stored.
    y, mean, scale, shift, residual
        ``a = relu(scale * y + shift [+ residual])``, y the output of a convolution with batch norm behind it and mean
        its batch mean. All None where there is none.
    rectified : bool
        Whether a is the output of a ReLU that the step below the next one has fused.
    """

    array: Array | None = None
    y: Array | None = None
    mean: Array | None = None
    scale: Array | None = None
    shift: Array | None = None
    residual: Array | None = None
    rectified: bool = False

    def store(self) -> Array:
        """Return the array, computing it first if need be."""
        if self.array is None:
            self.array = ops.norm_relu(self.recipe())
        return self.array

    def recipe(self) -> Normalised:
        """How to compute the array."""
        return Normalised(self.y, self.scale, self.shift, self.residual)

    def operand(self) -> Array | Normalised:
        """What a fused kernel reads."""
        return self.recipe() if self.array is None else self.array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.y.shape if self.array is None else self.array.shape  # type: ignore[union-attr]

    def below(self, skip: Array | None = None) -> BackwardEpilogue | None:
        """Describe this activation to the convolution that computes its gradient; None if no ReLU masks it."""
        if self.y is None:
            return BackwardEpilogue(a=self.array, skip=skip) if self.rectified else None
        if self.residual is None and skip is None:
            return BackwardEpilogue(self.y, self.mean, self.scale, self.shift)
        return BackwardEpilogue(self.y, self.mean, a=self.store(), skip=skip)


class Masked(NamedTuple):
    """A gradient behind the ReLU of the step that it goes to, and the sums that its batch norm or bias needs."""

    dz: Array
    sums: Array


Gradient = Any  # Array | Masked


class ConvNorm:
    """A convolution without bias, and its batch norm."""

    def __init__(self, conv: Conv2d, norm: BatchNorm2d) -> None:
        self.conv, self.norm = conv, norm

    def forward(self, x: Array | Normalised) -> tuple[Array, Array, Array]:
        """Return y with its batch mean and variance; the running statistics move."""
        y, mean, var = ops.conv2d_moments(x, self.conv.weight.data, self.conv.stride, self.conv.padding)
        return self._normalised(y, mean, var)

    def forward_storing(self, x: Normalised) -> tuple[Array, tuple[Array, Array, Array]]:
        """As :meth:`forward`, returning the activation that was read as well."""
        a, *rest = ops.norm_conv2d_moments(x, self.conv.weight.data, self.conv.stride, self.conv.padding)
        return a, self._normalised(*rest)

    def _normalised(self, y: Array, mean: Array, var: Array) -> tuple[Array, Array, Array]:
        mean, var, m = self.norm.reduction.moments(mean, var, y.size // y.shape[-1])
        check_count(m)
        self.norm.move_statistics(mean, var, m)
        return y, mean, var

    def activation(self, y: Array, mean: Array, var: Array, residual: Array | None = None) -> Activation:
        """``relu(norm(y) [+ residual])``, not computed yet."""
        norm = self.norm
        scale, shift = ops.norm_coefficients(mean, var, norm.gamma.data, norm.beta.data, norm.eps)
        return Activation(None, y, mean, scale, shift, residual)

    def gradient(self, gradient: Masked, y: Array, mean: Array, var: Array) -> NormGradient:
        """Assign the gradients of gamma and beta; return dy, not computed yet."""
        norm, own = self.norm, (gradient.sums, y.size // y.shape[-1])
        p, q, r, dgamma, dbeta = ops.gradient_coefficients(*own, mean, var, norm.gamma.data, norm.eps)
        norm.gamma.grad, norm.beta.grad = dgamma, dbeta
        whole = norm.reduction.sums(*own)
        if whole[0] is not gradient.sums:
            p, q, r, _, _ = ops.gradient_coefficients(*whole, mean, var, norm.gamma.data, norm.eps)
        return NormGradient(gradient.dz, y, p, q, r)

    def infer(self, x: Array, residual: Array | None = None, overwrite: bool = False) -> Array:
        """``relu(norm(conv(x)) [+ residual])`` with running statistics, in one pass; it may overwrite the residual.

        Scale and shift are applied where the convolution writes, which costs what folded weights would: nothing. They
        are taken from the layers each time, so that no copy of anything can be out of date.
        """
        conv, norm = self.conv, self.norm
        scale, shift = ops.norm_coefficients(
            norm.running_mean, norm.running_var, norm.gamma.data, norm.beta.data, norm.eps
        )
        return ops.conv2d_bias_relu(x, conv.weight.data, shift, conv.stride, conv.padding, residual, scale, overwrite)


def backward(
    conv: Conv2d, dy: Array | NormGradient, x: Activation, need_dx: bool, skip: Array | None = None
) -> Gradient:
    """Assign the gradient of a convolution's weights; return that of the activation x that it read, if that is needed.

    ``skip`` is added to it. Where a ReLU was fused below, it is masked and summed.
    """
    geometry, below = (conv.stride, conv.padding), x.below(skip) if need_dx else None
    if below is not None:
        conv.weight.grad, dz, sums = ops.masked_grads(x.operand(), dy, conv.weight.data, *geometry, below)
        return Masked(dz, sums)
    conv.weight.grad = ops.fused_weight_grad(x.operand(), dy, conv.kernel_size, *geometry)
    if not need_dx:
        return None
    dx = ops.fused_input_grad(dy, conv.weight.data, x.shape, *geometry)
    return dx if skip is None else ops.add(dx, skip)


# The steps of a fused chain. A step's forward returns its output and what its backward needs besides input and output.


class ConvNormReLU:
    """``relu(norm(conv(x)))``."""

    def __init__(self, conv: Conv2d, norm: BatchNorm2d) -> None:
        self.unit = ConvNorm(conv, norm)

    def forward(self, x: Activation) -> tuple[Activation, tuple]:
        """Convolve; normalising is left to the next step."""
        if x.residual is not None:
            x.store()
        normalised = self.unit.forward(x.operand())
        return self.unit.activation(*normalised), normalised

    def backward(self, kept: tuple, x: Activation, gradient: Masked, need_dx: bool) -> Gradient:
        """Assign the parameters' gradients and return that of x."""
        dy = self.unit.gradient(gradient, *kept)
        return backward(self.unit.conv, dy, x, need_dx)

    def infer(self, x: Array, overwrite: bool) -> Array:
        """Forward in eval mode; x may be overwritten if that is said."""
        return self.unit.infer(x)


class ConvReLU:
    """``relu(conv(x) + bias)``."""

    def __init__(self, conv: Conv2d) -> None:
        self.conv = conv

    def forward(self, x: Activation) -> tuple[Activation, tuple]:
        """Convolve, add and cut off in one pass."""
        return Activation(self.infer(x.store(), overwrite=False), rectified=True), ()

    def backward(self, kept: tuple, x: Activation, gradient: Masked, need_dx: bool) -> Gradient:
        """Assign the parameters' gradients and return that of x."""
        conv, dy = self.conv, gradient.dz
        assert conv.bias is not None
        conv.bias.grad = ops.cast(gradient.sums[0], dy.dtype)
        x.store()
        return backward(conv, dy, x, need_dx)

    def infer(self, x: Array, overwrite: bool) -> Array:
        """Forward in eval mode."""
        conv = self.conv
        assert conv.bias is not None
        return ops.conv2d_bias_relu(x, conv.weight.data, conv.bias.data, conv.stride, conv.padding)


class ResidualBlock:
    """``relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x))``."""

    def __init__(self, first: ConvNorm, second: ConvNorm, shortcut: Layer) -> None:
        self.first, self.second, self.shortcut = first, second, shortcut

    def forward(self, x: Activation) -> tuple[Activation, tuple]:
        """Convolve twice. The input is stored: the shortcut needs it, and so does backward."""
        if x.array is None and self.first.conv.stride == 1:
            x.array, normalised1 = self.first.forward_storing(x.recipe())
        else:
            normalised1 = self.first.forward(x.store())
        between = self.first.activation(*normalised1)
        normalised2 = self.second.forward(between.operand())
        residual = self.shortcut.forward(x.store(), train=True)
        return self.second.activation(*normalised2, residual), (normalised1, between, normalised2)

    def backward(self, kept: tuple, x: Activation, gradient: Masked, need_dx: bool) -> Gradient:
        """Assign the parameters' gradients and return that of x."""
        normalised1, between, normalised2 = kept
        dy2 = self.second.gradient(gradient, *normalised2)
        dy1 = self.first.gradient(backward(self.second.conv, dy2, between, need_dx=True), *normalised1)
        x.store()
        skip = self.shortcut.backward(gradient.dz, need_dx)
        return backward(self.first.conv, dy1, x, need_dx, skip)

    def infer(self, x: Array, overwrite: bool) -> Array:
        """Forward in eval mode."""
        return self.second.infer(self.first.infer(x), self.shortcut.forward(x), overwrite)


class Dense:
    """``x @ weight + bias``."""

    def __init__(self, linear: Linear) -> None:
        self.linear = linear

    def forward(self, x: Activation) -> tuple[Activation, tuple]:
        """Multiply and add."""
        return Activation(self.linear.forward(x.store())), ()

    def backward(self, kept: tuple, x: Activation, dy: Array, need_dx: bool) -> Gradient:
        """Assign the parameters' gradients and return that of x."""
        linear = self.linear
        linear.weight.grad = ops.factored_weight_grad(x.store(), dy)
        linear.bias.grad = ops.bias_grad(dy)
        return ops.linear_input_grad(dy, linear.weight.data) if need_dx else None

    def infer(self, x: Array, overwrite: bool) -> Array:
        """Forward in eval mode."""
        return self.linear.forward(x)


class Plain:
    """Any other layer, as it is."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer

    def forward(self, x: Activation) -> tuple[Activation, tuple]:
        """Compute the layer's output."""
        return Activation(self.layer.forward(x.store(), train=True)), ()

    def backward(self, kept: tuple, x: Activation, gradient: Array, need_dx: bool) -> Gradient:
        """Return the layer's input gradient."""
        return self.layer.backward(gradient, need_dx)

    def infer(self, x: Array, overwrite: bool) -> Array:
        """Forward in eval mode."""
        return self.layer.forward(x)


FusedStep = ConvNormReLU | ConvReLU | ResidualBlock | Dense | Plain


class FusedSequential(Sequential):
    """A :class:`Sequential` that computes its layers in fused steps.

    The layers, their names, parameters and state are the textbook ones. Where one of them is frozen and takes part in a
    training pass all the same, the chain falls back to computing them one by one.
    """

    recordable = True

    def __init__(self, chain: Sequential) -> None:
        super().__init__(chain.children())
        self.steps = plan(chain.flattened())
        self._all_layers = list(self.layers())

    def unfused(self) -> Sequential:
        return Sequential(self.children())

    def forward(self, x: Array, train: bool = False) -> Array:
        self.check(x)
        if not train:
            made_here = False  # once x is, its memory may take a result: two buffers carry a whole chain
            for step in self.steps:
                x = step.infer(x, overwrite=made_here)
                made_here = made_here or not isinstance(step, Plain)
            return x
        if any(layer.frozen for layer in self._all_layers):
            self._kept = None  # of a fused pass before
            return super().forward(x, train)
        activations, kept = [Activation(x)], []
        for step in self.steps:
            activation, values = step.forward(activations[-1])
            activations.append(activation)
            kept.append(values)
        self.keep(activations, kept)
        return activations[-1].store()

    def recalibrate(self, x: Array) -> Array:
        if any(layer.frozen for layer in self._all_layers):
            return super().recalibrate(x)
        activation = Activation(x)
        for step in self.steps:
            if isinstance(step, Plain):
                activation = Activation(step.layer.recalibrate(activation.store()))
            else:
                activation, _ = step.forward(activation)
        self.discard()  # what shortcuts have kept
        return activation.store()

    def backward(self, dy: Array, need_dx: bool = True) -> Array | None:
        if self._kept is None:
            return super().backward(dy, need_dx)
        activations, kept = self.release()
        gradient: Gradient = dy
        learning = (i for i, step in enumerate(self.steps) if not isinstance(step, Plain) or step.layer.trainable)
        lowest = 0 if need_dx else next(learning, len(self.steps))
        for i, step in reversed(list(enumerate(self.steps))[lowest:]):
            output = activations.pop()
            below = None if isinstance(gradient, Masked) else output.below()
            if below is not None:
                gradient = Masked(*ops.relu_mask(gradient, below))
            gradient = step.backward(kept.pop(), activations[-1], gradient, need_dx or i > lowest)
        for step in self.steps[:lowest]:
            if isinstance(step, Plain):
                step.layer.discard()
        return gradient if need_dx else None


class FusedInterleaved(Interleaved):
    """An :class:`Interleaved` whose neighbouring layers are computed in fused steps."""

    recordable = True

    def unfused(self) -> Interleaved:
        return Interleaved(self.children(), self.after)

    def chain_of(self, names: Iterable[str]) -> Sequential:
        return FusedSequential(super().chain_of(names))


def fuse(layer: Layer) -> Layer:
    """Return a chain of the same layers that computes them in fused steps, if the operations in use have fused ones.

    Those of convolution by im2col have none: the chain stays as it is, and its layers are computed one by one. So does
    any other layer than a chain.

    Parameters
    ----------
    layer : Layer
        A chain, whose layers, parameters and names the result has.
    """
    if not hasattr(ops, "conv2d_moments"):
        return layer
    if type(layer) is Interleaved:
        return FusedInterleaved(layer.children(), layer.after)
    return FusedSequential(layer) if type(layer) is Sequential else layer


def plan(layers: Iterable[Layer]) -> list[FusedStep]:
    """Cut a row of layers into steps: the longest pattern that fits, else a layer by itself."""
    steps: list[FusedStep] = []
    rest = known_or_plain(layers)
    while rest:
        match rest:
            case [Conv2d(bias=None) as conv, BatchNorm2d() as norm, ReLU(), *rest]:
                steps.append(ConvNormReLU(conv, norm))
            case [Conv2d() as conv, ReLU(), *rest] if conv.bias is not None:
                steps.append(ConvReLU(conv))
            case [Residual() as residual, *rest]:
                steps.append(residual_step(residual))
            case [Linear() as linear, *rest]:
                steps.append(Dense(linear))
            case [Plain() as step, *rest]:
                steps.append(step)
            case [layer, *rest]:
                steps.append(Plain(layer))
    return steps


def known_or_plain(layers: Iterable[Layer]) -> list[Any]:
    """Return these layers; what no pattern names, classes derived from those that one names too, as plain steps."""
    return [layer if type(layer) in (Conv2d, BatchNorm2d, ReLU, Linear, Residual) else Plain(layer) for layer in layers]


def residual_step(residual: Residual) -> ResidualBlock | Plain:
    """Fuse a residual block, if it is the usual one of two convolutions."""
    match known_or_plain(residual.body.flattened()):
        case [
            Conv2d(bias=None) as conv1,
            BatchNorm2d() as norm1,
            ReLU(),
            Conv2d(bias=None) as conv2,
            BatchNorm2d() as norm2,
        ]:
            return ResidualBlock(ConvNorm(conv1, norm1), ConvNorm(conv2, norm2), residual.shortcut)
    return Plain(residual)
