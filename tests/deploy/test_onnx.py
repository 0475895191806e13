"""ONNX models against onnxruntime: every layer, every architecture, every stage."""

import json
import sys
from dataclasses import asdict

import numpy as np
import pytest

from incnet.backend import use
from incnet.deploy import Model
from incnet.deploy.onnx_graph import CONVERTERS, OPSET, TOLERANCE, OnnxError, OnnxGraph, difference, to_onnx
from incnet.layer import Layer
from incnet.layers import MaxPool2d, ReLU
from incnet.models import ARCHITECTURES
from tests.deploy.products import pictures, stages
from tests.layers.catalogue import FIXED, TRAINED

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def run(model, inputs):
    """All outputs by name, computed without the runtime's own optimisations: what the graph says, and nothing else."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs), strict=True))


# Layers.


def channels_first(array):
    return np.moveaxis(array, -1, 1)


@pytest.mark.parametrize("case", [*TRAINED, *FIXED], ids=str)
def test_every_layer(case, rng):
    layer, x = case.layer(rng, np.float32), case.input(rng, np.float32)
    expected = layer.forward(x)
    graph = OnnxGraph()
    graph.node("Identity", [graph.convert(layer, "x", case.shape, "layer")], "y")
    shapes = {name: (np.float32, channels_first(array).shape[1:]) for name, array in {"x": x, "y": expected}.items()}
    model = graph.model({"x": shapes["x"]}, {"y": shapes["y"]})
    onnx.checker.check_model(model, full_check=True)
    found = run(model, {"x": channels_first(x)})["y"]
    np.testing.assert_allclose(found, channels_first(expected), rtol=0, atol=1e-6 * np.abs(expected).max())


def test_a_layer_without_a_converter():
    class Swish(Layer):
        pass

    with pytest.raises(OnnxError, match=r"top\.swish: Swish has no converter; register one"):
        OnnxGraph().convert(Swish(), "x", (3,), "top.swish")


# Networks.


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_stage_of_every_architecture(arch):
    """With all statistics, scales and shifts drawn at random; the differences are shares of the largest logit."""
    images = pictures((32, 32, 3), 4)
    for description, weights in stages(arch, (32, 32, 3)):
        model = Model(description, weights)
        assert difference(to_onnx(model).SerializeToString(), model, images) <= TOLERANCE == 1e-5


@pytest.mark.parametrize(("arch", "shape", "resize", "split", "up_to"), [
    ("vgg16", (64, 33, 1), None, "filters", None),  # 2 x 1 pixels of 512 channels are flattened
    ("vgg16-bn", (17, 40, 3), None, "blocks", 7),
    ("resnet14", (9, 15, 1), None, "blocks", None),
    ("resnet14", (9, 15, 1), None, "depth", None),
    ("resnet8", (28, 28, 1), 100, "filters", None),  # 28 * float32(100 / 28) is less than 100
    ("resnet8", (9, 15, 3), 33, "filters", None),
])  # fmt: skip
def test_other_images_and_partitions(arch, shape, resize, split, up_to):
    description, weights = list(stages(arch, shape, split=split, up_to=up_to, resize=resize))[-1]
    model = Model(description, weights)
    assert difference(to_onnx(model).SerializeToString(), model, pictures(shape, 3)) <= TOLERANCE


@pytest.fixture(scope="module")
def small():
    use("cpu")
    return Model(*list(stages("resnet8", (12, 10, 1), classes="odd"))[-1])


@pytest.mark.parametrize("count", [1, 5])
def test_outputs_for_any_number_of_images(small, count):
    images = pictures((12, 10, 1), count)
    found = run(to_onnx(small), {"images": images})
    assert list(found) == ["logits", "probabilities"]
    scale = np.abs(small.logits(images)).max()
    np.testing.assert_allclose(found["logits"], small.logits(images), rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(found["probabilities"], small.predict(images), rtol=0, atol=1e-4)


def test_what_the_model_says_of_itself(small):
    model = to_onnx(small)
    properties = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert properties == {"classes": ["T-shirt/top", "ankle boot", "Käse"], "incnet": asdict(small.description)}
    assert [(each.domain, each.version) for each in model.opset_import] == [("", OPSET)]
    assert model.producer_name == "incnet"
    (images,) = model.graph.input
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [size.dim_param or size.dim_value for size in images.type.tensor_type.shape.dim] == ["N", 12, 10, 1]
    assert sum(node.op_type == "Transpose" for node in model.graph.node) == 1


def test_a_wrong_converter_shows(small, monkeypatch):
    monkeypatch.setitem(CONVERTERS, ReLU, CONVERTERS[MaxPool2d].__globals__["_nothing"])
    assert difference(to_onnx(small).SerializeToString(), small, pictures((12, 10, 1), 3)) > 100 * TOLERANCE


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package(small, package, monkeypatch):
    exported = to_onnx(small).SerializeToString()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(OnnxError, match=rf'{package} is missing; run: pip install "incnet\[onnx\]"'):
        _ = to_onnx(small) if package == "onnx" else difference(exported, small, pictures((12, 10, 1), 1))
