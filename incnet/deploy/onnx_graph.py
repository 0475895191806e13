"""Models as ONNX graphs: one converter for each kind of layer, registered by ``converts``.

Inside the graph images are NCHW and weights OIHW, as ONNX has them; the one transposition is at the input, where pixels
are normalised as well. The exported model therefore needs nothing beside itself::

    images         uint8 (N, H, W, C)       pixels, 0 to 255; any N
    logits         float32 (N, classes)
    probabilities  float32 (N, classes)

Its metadata holds the classes and the whole :class:`incnet.deploy.model.Description`, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from incnet import __version__
from incnet.backend import Array, asnumpy
from incnet.deploy.model import Model
from incnet.extras import install, why_not
from incnet.graph import Graph
from incnet.layer import Layer, Shape
from incnet.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Identity,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Subsample,
)
from incnet.layers.pool import one_pixel

if TYPE_CHECKING:
    import onnx

__all__ = ["CONVERTERS", "OPSET", "TOLERANCE", "OnnxError", "OnnxGraph", "difference", "to_onnx"]

# Of 2020: TensorRT, OpenVINO, Core ML's and the browsers' runtimes all read it, and it has all that is needed here.
OPSET = 13
# Largest difference of a logit, in units of the largest logit, that rounding may explain.
TOLERANCE = 1e-5


class OnnxError(Exception):
    """The package ``onnx`` or ``onnxruntime`` is missing, or an exported model does not compute what it should."""


class OnnxGraph:
    """An ONNX graph in the making; arrays in it are known by their names."""

    def __init__(self) -> None:
        self._helper = _import("onnx").helper
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: Array) -> str:
        """Add an array of numbers that are known now."""
        array = np.ascontiguousarray(asnumpy(values))
        kind = self._helper.np_dtype_to_tensor_dtype(array.dtype)
        self.constants.append(self._helper.make_tensor(name, kind, array.shape, array.tobytes(), raw=True))
        return name

    def node(self, kind: str, inputs: Iterable[str], name: str, **attributes: Any) -> str:
        """Add an operation, known by the name of its output."""
        self.nodes.append(self._helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def convert(self, layer: Layer, x: str, shape: Shape, name: str) -> str:
        """Add a layer.

        Parameters
        ----------
        x : str
            Its input: (N, C, H, W) or (N, features).
        shape : tuple of int
            Of one input as the layer has it: (H, W, C) or (features,).
        name : str
            What the layer's nodes are called, or begin with.

        Returns
        -------
        str
            Its output.

        Raises
        ------
        OnnxError
            If there is no converter for such a layer.
        """
        kind = type(layer.unfused())  # not what it is derived from, which computes something else
        if kind not in CONVERTERS:
            raise OnnxError(
                f"{name}: {kind.__name__} has no converter; register one, by incnet.deploy.onnx_graph.converts"
            )
        return CONVERTERS[kind](self, layer, x, shape, name)

    def model(self, inputs: dict[str, tuple[type, Shape]], outputs: dict[str, tuple[type, Shape]]) -> onnx.ModelProto:
        """Return the graph as a model; inputs and outputs by name, with the type and the shape of one element."""
        helper = self._helper

        def values(described: dict[str, tuple[type, Shape]]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), ["N", *shape])
                for name, (kind, shape) in described.items()
            ]

        graph = helper.make_graph(self.nodes, "incnet", values(inputs), values(outputs), self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        version = helper.find_min_ir_version_for(opsets)
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=version, producer_name="incnet", producer_version=__version__
        )


def to_onnx(model: Model) -> onnx.ModelProto:
    """Return ``model`` as an ONNX model, checked by the rules of the format.

    Raises
    ------
    OnnxError
        If onnx is missing.
    """
    graph = OnnxGraph()
    x = graph.convert(model.graph, _prepared(graph, model), model.graph.input_shape, "")
    logits = graph.node("Identity", [x], "logits")
    graph.node("Softmax", [logits], "probabilities", axis=1)
    answer = (np.float32, (len(model.classes),))
    exported = graph.model({"images": (np.uint8, model.image_shape)}, {"logits": answer, "probabilities": answer})
    described = {"classes": model.classes, "incnet": asdict(model.description)}
    _import("onnx").helper.set_model_props(exported, {key: json.dumps(value) for key, value in described.items()})
    _import("onnx").checker.check_model(exported, full_check=True)
    return exported


def _prepared(graph: OnnxGraph, model: Model) -> str:
    """Normalise and interpolate as ``augment`` and ``resize_bilinear`` do, and bring the channels forward."""
    mean, std = model.normalisation.mean, model.normalisation.std
    x = graph.node("Cast", ["images"], "pixels", to=_import("onnx").TensorProto.FLOAT)
    x = graph.node("Sub", [x, graph.constant("mean", mean)], "centred")
    x = graph.node("Mul", [x, graph.constant("inv_std", np.float32(1) / std)], "normalised")
    x = graph.node("Transpose", [x], "nchw", perm=[0, 3, 1, 2])
    if model.description.resize is None:
        return x
    # The sizes that Resize takes begin with the number of images, which is not known before there are some.
    height, width, channels = model.graph.input_shape
    first, last = (graph.constant(f"resized.{name}", np.array([i])) for i, name in enumerate(("first", "last")))
    count = graph.node("Slice", [graph.node("Shape", [x], "shape"), first, last], "count")
    image = graph.constant("resized.image", np.array([channels, height, width]))
    sizes = graph.node("Concat", [count, image], "sizes", axis=0)
    return graph.node("Resize", [x, "", "", sizes], "resized", mode="linear")  # pixels are squares, by default


def difference(exported: bytes, model: Model, images: NDArray[np.uint8]) -> float:
    """Largest difference between the logits of an exported model, run by onnxruntime, and those of ``model``.

    Parameters
    ----------
    exported : bytes
        The ONNX model.
    images : uint8 (N, H, W, C)
        Pixels.

    Returns
    -------
    float
        As a share of the largest logit.

    Raises
    ------
    OnnxError
        If onnxruntime is missing.
    """
    session = _import("onnxruntime").InferenceSession(exported, providers=["CPUExecutionProvider"])
    expected = model.logits(images)
    (logits,) = session.run(["logits"], {"images": images})
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


def _import(name: str) -> Any:
    try:
        return __import__(name)
    except Exception as error:
        raise OnnxError(why_not(name, error, f"{name} is missing; run: {install('onnx')}")) from error


# Converters.

Converter = Callable[[OnnxGraph, Any, str, Shape, str], str]
CONVERTERS: dict[type[Layer], Converter] = {}
_Converter = TypeVar("_Converter", bound=Converter)


def converts(*kinds: type[Layer]) -> Callable[[_Converter], _Converter]:
    """Register a function as the converter of these kinds of layers; see :meth:`OnnxGraph.convert`."""

    def register(converter: _Converter) -> _Converter:
        CONVERTERS.update(dict.fromkeys(kinds, converter))
        return converter

    return register


@converts(Sequential, Graph)
def _chain(graph: OnnxGraph, layer: Sequential | Graph, x: str, shape: Shape, name: str) -> str:
    for child_name, child in layer.parts if isinstance(layer, Graph) else layer.children().items():
        x = graph.convert(child, x, shape, f"{name}.{child_name}".removeprefix("."))
        shape = child.output_shape(shape)
    return x


@converts(Residual)
def _residual(graph: OnnxGraph, layer: Residual, x: str, shape: Shape, name: str) -> str:
    branches = [
        graph.convert(layer.body, x, shape, f"{name}.body"),
        graph.convert(layer.shortcut, x, shape, f"{name}.shortcut"),
    ]
    return graph.node("Relu", [graph.node("Add", branches, f"{name}.sum")], f"{name}.relu")


@converts(Conv2d)
def _conv(graph: OnnxGraph, layer: Conv2d, x: str, shape: Shape, name: str) -> str:
    inputs = [x, graph.constant(f"{name}.weight", asnumpy(layer.weight.data).transpose(3, 2, 0, 1))]
    if layer.bias is not None:
        inputs.append(graph.constant(f"{name}.bias", layer.bias.data))
    geometry = {"kernel_shape": layer.kernel_size, "strides": [layer.stride] * 2, "pads": [layer.padding] * 4}
    return graph.node("Conv", inputs, name, **geometry)


@converts(BatchNorm2d)
def _norm(graph: OnnxGraph, layer: BatchNorm2d, x: str, shape: Shape, name: str) -> str:
    arrays = {
        "gamma": layer.gamma.data,
        "beta": layer.beta.data,
        "running_mean": layer.running_mean,
        "running_var": layer.running_var,
    }
    inputs = [graph.constant(f"{name}.{key}", array) for key, array in arrays.items()]
    return graph.node("BatchNormalization", [x, *inputs], name, epsilon=layer.eps)


@converts(ReLU)
def _relu(graph: OnnxGraph, layer: ReLU, x: str, shape: Shape, name: str) -> str:
    return graph.node("Relu", [x], name)


@converts(LeakyReLU)
def _leaky_relu(graph: OnnxGraph, layer: LeakyReLU, x: str, shape: Shape, name: str) -> str:
    return graph.node("LeakyRelu", [x], name, alpha=layer.slope)


@converts(MaxPool2d)
def _max_pool(graph: OnnxGraph, layer: MaxPool2d, x: str, shape: Shape, name: str) -> str:
    if one_pixel(shape):
        return x
    return graph.node("MaxPool", [x], name, kernel_shape=[layer.size] * 2, strides=[layer.stride] * 2)


@converts(AvgPool2d)
def _avg_pool(graph: OnnxGraph, layer: AvgPool2d, x: str, shape: Shape, name: str) -> str:
    if one_pixel(shape):
        return x
    return graph.node("AveragePool", [x], name, kernel_shape=[layer.size] * 2, strides=[layer.stride] * 2)


@converts(GlobalAvgPool2d)
def _global_avg_pool(graph: OnnxGraph, layer: GlobalAvgPool2d, x: str, shape: Shape, name: str) -> str:
    return graph.node("Flatten", [graph.node("GlobalAveragePool", [x], f"{name}.mean")], name)


@converts(Flatten)
def _flatten(graph: OnnxGraph, layer: Flatten, x: str, shape: Shape, name: str) -> str:
    # The next layer's weights expect the channels of a pixel beside each other; a single pixel is the same either way.
    if shape[:2] != (1, 1):
        x = graph.node("Transpose", [x], f"{name}.nhwc", perm=[0, 2, 3, 1])
    return graph.node("Flatten", [x], name)


@converts(Linear)
def _linear(graph: OnnxGraph, layer: Linear, x: str, shape: Shape, name: str) -> str:
    weight = graph.constant(f"{name}.weight", layer.weight.data)
    return graph.node("Gemm", [x, weight, graph.constant(f"{name}.bias", layer.bias.data)], name)


@converts(Dropout, Identity)
def _nothing(graph: OnnxGraph, layer: Layer, x: str, shape: Shape, name: str) -> str:
    return x


@converts(Subsample)
def _subsample(graph: OnnxGraph, layer: Subsample, x: str, shape: Shape, name: str) -> str:
    height, width, channels = shape
    window = {"starts": [0, 0], "ends": [height, width], "axes": [2, 3], "steps": [layer.stride] * 2}
    inputs = [graph.constant(f"{name}.{key}", np.array(values, np.int64)) for key, values in window.items()]
    picked = graph.node("Slice", [x, *inputs], f"{name}.picked")
    pads = graph.constant(f"{name}.pads", np.array([0, 0, 0, 0, 0, layer.channels - channels, 0, 0], np.int64))
    return graph.node("Pad", [picked, pads], name)
