"""Networks as data: the same layers come back, and nothing else is built or imported, whatever a file says."""

import json
import tracemalloc

import numpy as np
import pytest

from incnet import layers
from incnet.checked_json import from_json
from incnet.fusion import fuse
from incnet.init import Blank
from incnet.layer import Layer
from incnet.layers import Conv2d, ReLU, Residual, Sequential
from incnet.models.vgg import vgg16
from incnet.networks.description import LAYERS, Architecture, class_name, own_classes, shapes
from incnet.user_code import class_finder
from tests.layers.catalogue import FIXED, TRAINED


class Scale(Layer):
    """A class that is none of incnet's."""

    def __init__(self, factor, *, inside=None, steps=()):
        super().__init__()
        self.factor, self.inside, self.steps = factor, inside or ReLU(), list(steps)


class Forgetful(Layer):
    def __init__(self, factor):
        super().__init__()


class Wordy(Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor


class Loud(ReLU):
    """What is derived from a layer of incnet's is another layer."""


def data_of(layer):
    return json.loads(json.dumps(Architecture.of({"S1": layer}).subnetworks["S1"]))


def built(data, trust=(), values=None):
    subnetworks, _ = Architecture(1, {"S1": data}).build(Blank(), class_finder(trust, Layer), values)
    return subnetworks["S1"]


def described(kind, **arguments):
    return {"layer": kind, "arguments": arguments}


# There and back.


@pytest.mark.parametrize("case", [*TRAINED, *FIXED], ids=str)
def test_every_layer_comes_back(case):
    rng = np.random.default_rng(0)
    layer = case.layer(rng, np.float32)
    data = data_of(layer)
    again, _ = Architecture(1, {"S1": data}).build(rng, class_finder((), Layer), None)
    again = again["S1"]
    assert [type(each) for each in again.layers()] == [type(each) for each in layer.layers()]
    assert data_of(again) == data
    again.load_state(layer.state())
    x = case.input(rng, np.float32)
    np.testing.assert_array_equal(again.forward(x), layer.forward(x))


def test_every_class_of_layers_has_its_name_in_the_registry():
    kinds = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    assert LAYERS.keys() == kinds
    assert all(class_name(kind) == name for name, kind in LAYERS.items())


def test_the_textbook_layers_are_written_not_those_that_are_fused():
    chain = Sequential({"inner": Sequential({"relu": ReLU()})})
    assert data_of(fuse(chain)) == data_of(chain)


def test_classes_of_ones_own():
    chain = Sequential({"scale": Scale(2.5, inside=Scale(1), steps=[ReLU(), 7]), "loud": Loud()})
    data = data_of(chain)
    assert own_classes({"S1": chain}).keys() == {f"{__name__}:Scale", f"{__name__}:Loud"}
    again = built(data, trust=[Scale, Loud]).children()
    assert (type(again["loud"]), again["scale"].factor, again["scale"].inside.factor) == (Loud, 2.5, 1)
    assert [type(each) for each in again["scale"].steps] == [ReLU, int]
    with pytest.raises(ValueError, match=r"names a class that is none of incnet's, '[\w.]+:Scale'; if you trust it"):
        built(data)
    with pytest.raises(ValueError, match=r"'[^']*:Loud' is not in what is trusted, Scale"):
        built(data, trust=Scale)


@pytest.mark.parametrize(("layer", "message"), [
    (Forgetful(2), r"S1: what makes this Forgetful cannot be written down: .* no attribute 'factor'; keep each"),
    (Wordy(np), r"S1: what makes this Wordy cannot be written down: S1.factor is <module .* which JSON has not"),
    (Sequential({"a.b": ReLU()}), r"a layer cannot be called 'a\.b': choose up to 80 letters, without dots"),
])  # fmt: skip
def test_layers_that_cannot_be_written(layer, message):
    with pytest.raises(ValueError, match=message):
        Architecture.of({"S1": layer})


# What is refused.


def conv(**changes):
    return described("Conv2d", **{"in_channels": 3, "out_channels": 4, "kernel_size": 3} | changes)


def chain(depth):
    data = described("ReLU")
    for _ in range(depth):
        data = described("Sequential", layers={"x": data})
    return data


@pytest.mark.parametrize(("data", "message"), [
    (None, "S1 is None, expected an object"),
    ({}, "S1 lacks layer, arguments"),
    (described("Sigmoid"), "names a class that is none of incnet's, 'Sigmoid'"),
    (described("os:system", command="touch executed"), "names a class that is none of incnet's, 'os:system'"),
    (described("incnet.graph:Graph"), "names a class that is none of incnet's"),
    (described("residual_block", in_channels=1, out_channels=1), "none of incnet's, 'residual_block'"),
    (described("Layer"), "none of incnet's, 'Layer'"),
    (conv(stride=0), "S1: stride is 0: choose at least 1"),
    (conv(padding=-1), "S1: padding is -1: choose at least 0"),
    (conv(kernel_size=3.0), r"S1\.kernel_size is 3\.0, expected int"),
    (conv(out_channels="4"), r"S1\.out_channels is '4', expected int"),
    (conv(out_channels=True), r"S1\.out_channels is True, expected int"),
    (conv(in_channels=10**12), r"S1\.in_channels is 1000000000000, more than 4,194,304"),
    (conv(rng=1), "S1: Conv2d takes no 'rng'"),
    (conv(dtype="object"), "S1: Conv2d takes no 'dtype'"),
    (conv(colour=1), "S1: Conv2d takes no 'colour'"),
    (described("Conv2d", in_channels=3), "S1: Conv2d lacks out_channels, kernel_size"),
    (described("Dropout", rate=1.5), "S1: Dropout rate 1.5"),
    (described("Dropout", rate=float("nan")), "S1.rate is nan, expected a finite number"),
    (described("BatchNorm2d", channels=4, eps=-1), "S1: eps is -1.0: choose at least 0"),
    (described("MaxPool2d", size=2, stride=0), r"S1: MaxPool2d\(2, stride=0\): choose windows of at least 1 pixel"),
    (described("Sequential", layers=[]), r"S1\.layers is \[\], expected an object"),
    (described("Sequential", layers={"a": 1}), r"S1\.a is 1, expected an object|S1\.layers\.a is 1"),
    (described("Sequential", layers={"\x1b[2J": described("ReLU")}), r"cannot be called '\\x1b\[2J'"),
    (described("Residual", body=described("ReLU"), shortcut=3), r"S1\.shortcut is 3, expected an object"),
    (chain(30), "nested too deeply"),
])  # fmt: skip
def test_data_that_describe_no_network(data, message):
    with pytest.raises(ValueError, match=message):
        built(data)


@pytest.mark.parametrize(("network", "message"), [
    ({"format": 2, "subnetworks": {"S1": described("ReLU")}}, "format is 2, expected one of 1"),
    ({"format": 1, "subnetworks": {}}, "without sub-networks"),
    ({"format": 1, "subnetworks": {"a.b": described("ReLU")}}, "cannot be called"),
])  # fmt: skip
def test_impossible_networks(network, message):
    with pytest.raises(ValueError, match=message):
        from_json(Architecture, network, "network")


def test_nothing_large_is_built_for_which_there_are_no_values():
    wide = described("BatchNorm2d", channels=2**16)
    data = described("Sequential", layers={f"n{i}": wide for i in range(1000)})
    tracemalloc.start()
    with pytest.raises(ValueError, match="more parameters and statistics than there are values"):
        built(data, values=10**6)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


# Sizes.


def test_shapes_of_what_computes():
    rng = np.random.default_rng(0)
    subnetwork = Sequential({unit.name: unit.layer for unit in vgg16((8, 8, 3), rng=Blank())[:2]})
    found = [(name, shape, output) for name, _, shape, output in shapes(subnetwork, (8, 8, 3), "S1")]
    assert [name for name, *_ in found] == [
        *("S1.conv1_1.conv", "S1.conv1_1.relu", "S1.conv1_2.conv", "S1.conv1_2.relu", "S1.conv1_2.pool"),
    ]
    assert found[-1][1:] == ((8, 8, 64), (4, 4, 64))
    block = Residual(Conv2d(3, 4, 1, rng=rng), Conv2d(2, 4, 1, rng=rng))
    with pytest.raises(ValueError, match=r"S1\.x\.shortcut: Conv2d expects images of 2 channels"):
        list(shapes(Sequential({"x": block}), (8, 8, 3), "S1"))
