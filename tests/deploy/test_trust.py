"""Models with classes of somebody's own: used where the user names the code, and refused where he does not, unrun."""

import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest

from incnet import export, predict
from incnet.backend import asnumpy
from incnet.deploy import Model, ModelError, load_model, save_model
from incnet.deploy import model as module
from incnet.graph import Graph
from incnet.layers import Conv2d, ReLU, Sequential
from incnet.models import make_classifier
from incnet.networks.description import Architecture
from incnet.storage.tensors import pack
from incnet.user_code import load
from tests.deploy.products import pictures, stages

SHAPE = (12, 10, 1)
CODE = """
from pathlib import Path

from incnet import Layer
from incnet.backend import ops
from incnet.deploy.onnx_graph import converts

Path("executed").touch()


class Twice(Layer):
    def __init__(self, times=2):
        super().__init__()
        self.times = times

    def forward(self, x, train=False):
        return x * x.dtype.type(self.times)


@converts(Twice)
def twice(graph, layer, x, shape, name):
    return graph.node("Add", [x, x], name)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def described(change):
    """A model's description and weights, with ``change`` made to its first sub-network's layers."""
    description, weights = next(stages("resnet8", SHAPE))
    graph = description.graph()
    network = Architecture.of({"S1": change(graph.subnetworks["S1"].unfused())}, graph.classifier)
    return replace(description, network=network), weights


@pytest.fixture
def file(place):
    """A model whose first sub-network ends with a layer that is in net.py."""
    (place / "net.py").write_text(CODE)
    twice = load("net.py").Twice
    save_model(place / "m", *described(lambda s1: Sequential(s1.children() | {"twice": twice()})))
    (place / "executed").unlink()
    return place / "m"


def test_without_trust_it_is_refused_and_nothing_is_run(file, place, capsys):
    with pytest.raises(ModelError, match=r"names a class that is none of incnet's, 'net:Twice'; if you trust it"):
        load_model(file)
    np.save("x.npy", pictures(SHAPE, 1))
    assert predict.main([str(file), "x.npy"]) == 2
    assert export.main([str(file), "m.onnx"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("'net:Twice'") == 2
    assert "--trust" in said
    assert not (place / "executed").exists()
    assert not (place / "m.onnx").exists()


@pytest.mark.parametrize("trust", ["net.py", ["net.py"], "class"])
def test_with_trust_it_answers(trust, file):
    model = load_model(file, load("net.py").Twice if trust == "class" else trust)
    images = pictures(SHAPE, 3)
    plain = load_model(_plain(file))
    bias = asnumpy(plain.graph.classifier.children()["linear"].bias.data)
    np.testing.assert_allclose(model.logits(images) - bias, 2 * (plain.logits(images) - bias), rtol=1e-4, atol=1e-5)


def _plain(file):
    save_model(file.with_name("plain"), *described(lambda s1: s1))
    return file.with_name("plain")


def test_the_commands_take_the_users_word(file, capsys):
    np.save("x.npy", pictures(SHAPE, 2))
    assert predict.main([str(file), "x.npy", "--trust", "net.py"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    pytest.importorskip("onnxruntime")
    assert export.main([str(file), "m.onnx", "--check", "--trust", "net.py"]) == 0


@pytest.mark.parametrize(("code", "message"), [
    (None, "trust net.py: cannot read net.py: No such file"),
    ("x = 1\ny = 1 / 0\n", "trust net.py: net.py, line 2: ZeroDivisionError: division by zero"),
    ("x = (\n", "trust net.py: net.py, line 1: SyntaxError"),
    ("raise SystemExit(3)\n", "trust net.py: net.py, line 1: SystemExit: 3"),
    ("Twice = print\n", "class 'net:Twice' is not in what is trusted, net.py"),
    ("class Twice:\n    pass\n", "class 'net:Twice' is not in what is trusted, net.py"),
])  # fmt: skip
def test_trusted_code_that_is_of_no_use(code, message, file, place):
    (place / "net.py").unlink()
    if code is not None:
        (place / "net.py").write_text(code)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(file, "net.py")
    assert "\n" not in str(caught.value)


def test_trusted_code_is_not_run_where_it_is_not_needed(file, place):
    load_model(_plain(file), "net.py")
    assert not (place / "executed").exists()


class Doubled(ReLU):
    recordable = False

    def forward(self, x, train=False):
        return 2 * super().forward(x, train)


def test_a_class_goes_along_in_a_pickle():
    description, weights = described(lambda s1: Sequential(s1.children() | {"doubled": Doubled()}))
    model, images = Model(description, weights, Doubled), pictures(SHAPE, 2)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.logits(images), model.logits(images))


# Files that mean harm.


def hostile(place, layer, **changes):
    """Write a model whose first sub-network is ``layer``, as data; its checksum is right."""
    description, weights = next(stages("resnet8", SHAPE))
    fields = asdict(description) | changes
    fields["network"]["subnetworks"]["S1"] = layer
    header = module.json.dumps({"model": fields, "sha256": module.digest(fields, weights)})
    (place / "hostile").write_bytes(b"".join(map(bytes, pack(weights, header))))
    return place / "hostile"


def nested(depth):
    data = {"layer": "ReLU", "arguments": {}}
    for _ in range(depth):
        data = {"layer": "Sequential", "arguments": {"layers": {"x": data}}}
    return data


@pytest.mark.parametrize(("layer", "message"), [
    ({"layer": "os:system", "arguments": {"command": "touch executed"}}, "none of incnet's, 'os:system'"),
    ({"layer": "subprocess:Popen", "arguments": {"args": ["touch", "executed"]}}, "none of incnet's"),
    ({"layer": "__import__", "arguments": {"name": "net"}}, "none of incnet's"),
    ({"layer": "net:Twice", "arguments": {"times": {"layer": "net:Twice", "arguments": {}}}}, "none of incnet's"),
    ({"layer": "Conv2d", "arguments": {"in_channels": 1, "out_channels": 4, "kernel_size": 2**21}}, "no|values|fit"),
    ({"layer": "BatchNorm2d", "arguments": {"channels": 2**22}}, "more parameters and statistics than there are"),
    (nested(100), "nested too deeply"),
    (
        {"layer": "Subsample", "arguments": {"stride": 1, "channels": 2**22}},
        "no trainable layer",
    ),
    (
        {
            "layer": "Sequential",
            "arguments": {
                "layers": {
                    "wide": {"layer": "Subsample", "arguments": {"stride": 1, "channels": 2**22}},
                    "pool": {"layer": "GlobalAvgPool2d", "arguments": {}},
                    "norm": {"layer": "BatchNorm2d", "arguments": {"channels": 16}},
                }
            },
        },
        "BatchNorm2d expects 16 channels",
    ),
])  # fmt: skip
def test_hostile_files(layer, message, place):
    (place / "net.py").write_text(CODE)
    with pytest.raises(ModelError, match=message):
        load_model(hostile(place, layer))
    assert not (place / "executed").exists()


def test_values_that_are_too_many_for_an_image(place):
    """Padding costs no weights: what a layer makes of an image is bounded, too."""
    rng = np.random.default_rng(0)
    graph = Graph(SHAPE, lambda shape: make_classifier(shape, 10, rng=rng))
    graph.insert("S1", Conv2d(1, 1, 1, padding=2**20, rng=rng))
    description, _ = next(stages("resnet8", SHAPE))
    network = Architecture.of(graph.subnetworks, graph.classifier)
    weights = {name: asnumpy(array) for name, array in graph.state().items()}
    save_model(place / "m", replace(description, network=network, params=graph.num_parameters()), weights)
    with pytest.raises(ModelError, match=r"S1 makes .* values of an image, more than 67,108,864"):
        load_model(place / "m")


def test_a_header_of_any_length(place):
    (place / "m").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelError, match="it is no safetensors file"):
        load_model(place / "m")
