"""Architectures: sizes and costs to the last parameter, every way of splitting them, any size of image."""

from string import ascii_letters

import numpy as np
import pytest

import incnet.layers.conv
import incnet.layers.linear
from incnet.layers import BatchNorm2d, Conv2d, Dropout, GlobalAvgPool2d, Linear, MaxPool2d
from incnet.models import ARCHITECTURES, build, make_classifier, resnet
from tests.small_networks import grow

CIFAR = (32, 32, 3)


@pytest.fixture
def weightless(monkeypatch):
    """Weights of the right shapes that take no memory: what is counted here does not depend on their values."""
    for module in (incnet.layers.conv, incnet.layers.linear):
        monkeypatch.setattr(module, "he_normal", lambda shape, rng, dtype: np.broadcast_to(np.zeros((), dtype), shape))


def parts(arch, shape=CIFAR, **options):
    return build(arch, shape, rng=np.random.default_rng(), **options)


def sizes(subnetworks):
    return [subnetwork.num_parameters() for subnetwork in subnetworks.values()]


def costs(subnetworks, shape=CIFAR):
    """Multiply-adds of each sub-network, for one image."""
    macs = []
    for subnetwork in subnetworks.values():
        macs.append(subnetwork.macs(shape))
        shape = subnetwork.output_shape(shape)
    return macs


# Sizes and costs.

RESNETS = {
    "resnet20": (269_722, 40.55, [14_480, 51_072, 203_520]),
    "resnet32": (464_154, 68.86, [23_824, 88_192, 351_488]),
    "resnet44": (658_586, 97.17, [33_168, 125_312, 499_456]),
    "resnet56": (853_018, 125.49, [42_512, 162_432, 647_424]),
}


@pytest.mark.usefixtures("weightless")
@pytest.mark.parametrize("arch", RESNETS)
def test_resnet(arch):
    parameters, millions, stages = RESNETS[arch]
    network = grow(arch, CIFAR)
    assert network.num_parameters() == parameters
    assert sizes(network.subnetworks) == stages
    assert network.classifier.num_parameters() == parameters - sum(stages) == 650
    assert round(network.macs(CIFAR) / 1e6, 2) == millions
    assert network.macs(CIFAR) == sum(costs(network.subnetworks)) + 640


@pytest.mark.usefixtures("weightless")
class TestVgg16:
    SIZES = (38_720, 221_440, 1_475_328, 5_899_776, 7_079_424, 18_882_560)

    def test_parameters(self):
        network = grow("vgg16", CIFAR)
        assert tuple(sizes(network.subnetworks)) == self.SIZES
        assert network.classifier.num_parameters() == 40_970
        assert network.num_parameters() == 33_638_218

    def test_shares_of_the_parameters(self):
        """The figures that the paper's partition has to explain."""
        network = grow("vgg16", CIFAR)
        total = network.num_parameters()
        found = sizes(network.subnetworks)
        assert round(100 * sum(found[:3]) / total, 1) == 5.2
        assert round(100 * sum(found[:5]) / total, 1) == 43.7

    def test_costs(self):
        network = grow("vgg16", CIFAR)
        found = costs(network.subnetworks)
        assert [round(macs / 1e6, 1) for macs in found] == [39.5, 56.6, 94.4, 94.4, 28.3, 18.9]
        assert round(100 * sum(found[4:]) / sum(found[:4]), 1) == 16.6
        assert network.macs(CIFAR) == sum(found) + 40_960

    def test_batch_norm_replaces_the_biases(self):
        plain, normalised = parts("vgg16"), parts("vgg16-bn")
        channels = sum(filters * n for filters, n in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)))
        assert sum(sizes(normalised)) == sum(sizes(plain)) + channels  # gamma and beta in place of a bias
        assert costs(normalised) == costs(plain)

    def test_layers(self):
        layers = [layer for part in parts("vgg16").values() for layer in part.layers()]
        assert [sum(isinstance(each, kind) for each in layers) for kind in (Conv2d, MaxPool2d, Linear, Dropout)] == [
            13, 5, 2, 2,
        ]  # fmt: skip
        assert {each.rate for each in layers if isinstance(each, Dropout)} == {0.5}


# Ways of splitting.


@pytest.mark.usefixtures("weightless")
@pytest.mark.parametrize(
    ("arch", "split", "expected"),
    [
        ("resnet20", "filters", [3, 3, 3]),
        ("resnet20", "blocks", [1] * 9),
        ("resnet20", 1, [9]),
        ("resnet20", 2, [5, 4]),
        ("resnet20", 4, [3, 2, 2, 2]),
        ("resnet20", "4", [3, 2, 2, 2]),
        ("resnet20", 9, [1] * 9),
        ("resnet56", 5, [6, 6, 5, 5, 5]),
        ("vgg16", "filters", [2, 2, 3, 3, 3, 2]),
        ("vgg16", "blocks", [1] * 15),
        ("vgg16", 4, [4, 4, 4, 3]),
    ],
)
def test_partition(arch, split, expected):
    subnetworks = parts(arch, split=split)
    assert list(subnetworks) == [f"S{k}" for k in range(1, len(expected) + 1)]
    assert [len(subnetwork.children()) for subnetwork in subnetworks.values()] == expected
    assert all(subnetwork.trainable for subnetwork in subnetworks.values())
    whole = parts(arch, split=1)["S1"]
    # The same units in the same order, whatever the split.
    units = [name for subnetwork in subnetworks.values() for name in subnetwork.children()]
    assert units == list(whole.children())
    assert sum(sizes(subnetworks)) == whole.num_parameters()
    assert sum(costs(subnetworks)) == whole.macs(CIFAR)


@pytest.mark.usefixtures("weightless")
@pytest.mark.parametrize(
    ("arch", "split", "expected"),
    [
        ("resnet20", "depth", [["1_1", "2_1", "3_1"], ["1_2", "1_3", "2_2", "2_3", "3_2", "3_3"]]),
        ("resnet20", "depth:3", [["1_1", "2_1", "3_1"], ["1_2", "2_2", "3_2"], ["1_3", "2_3", "3_3"]]),
        ("vgg16", "depth:3", [
            ["1_1", "1_2_pool", "2_1", "2_2_pool", "3_1", "3_3_pool", "4_1", "4_3_pool", "5_1", "5_3_pool", "1", "2"],
            ["1_2", "2_2", "3_2", "4_2", "5_2"],
            ["3_3", "4_3", "5_3"],
        ]),
    ],
)  # fmt: skip
def test_partition_in_depth(arch, split, expected):
    """First the lowest block of each width, all pooling and all dense layers; then the others, from every width."""
    subnetworks = parts(arch, split=split).values()
    assert [[name.lstrip(ascii_letters) for name in part.children()] for part in subnetworks] == expected
    assert sum(part.num_parameters() for part in subnetworks) == sum(sizes(parts(arch)))


def test_rounds_in_depth_share_the_blocks():
    rounds = [list(part.children()) for part in parts("resnet38", (8, 8, 1), split="depth:4").values()]
    assert [len(names) for names in rounds] == [3, 6, 6, 3]
    assert rounds[1] == ["block1_2", "block1_3", "block2_2", "block2_3", "block3_2", "block3_3"]


def test_nothing_to_insert_is_an_error():
    with pytest.raises(ValueError, match="partition depth: for this network choose another one: it has a single block"):
        parts("resnet8", (8, 8, 1), split="depth")


@pytest.mark.parametrize("split", ["blocks", 2, "depth:3"])
def test_the_split_changes_no_weight(split):
    ours, whole = (build("resnet20", (8, 8, 1), rng=np.random.default_rng(3), split=s) for s in (split, "filters"))
    flat = [
        {name: parameter.data for subnetwork in part.values() for name, parameter in subnetwork.named_parameters()}
        for part in (ours, whole)
    ]
    assert flat[0].keys() == flat[1].keys()
    for name, array in flat[0].items():
        np.testing.assert_array_equal(array, flat[1][name])


@pytest.mark.usefixtures("weightless")
@pytest.mark.parametrize(
    ("split", "message"),
    [
        (0, "partition 0: this network can be cut into 1 to 9 sub-networks"),
        (10, "partition 10: this network can be cut into 1 to 9"),
        (-1, "partition -1"),
        ("halves", "partition 'halves': choose 'filters', 'blocks', 'depth' or a number"),
        ("2.5", r"partition '2\.5': choose"),
        ("depth:4", "partition depth:4: for this network choose depth:2 to depth:3"),
        ("depth:1", "partition 'depth:1': choose"),
    ],
)
def test_an_impossible_partition_is_an_error(split, message):
    with pytest.raises(ValueError, match=message):
        parts("resnet20", split=split)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("resnet21", "ResNet of depth 21: choose 6n \\+ 2 layers, such as 20, 32, 44, 56"),
        ("resnet2", "ResNet of depth 2"),
        ("resnet0", "ResNet of depth 0"),
        ("resnet", "unknown architecture 'resnet': choose one of resnet20, "),
        ("resnet-20", "unknown architecture"),
        ("vgg19", "unknown architecture 'vgg19': choose one of .*vgg16-bn$"),
        ("", "unknown architecture ''"),
    ],
)
def test_an_unknown_architecture_is_an_error(arch, message):
    with pytest.raises(ValueError, match=message):
        parts(arch)


# Any image.


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (5, 11, 4), (1, 1, 1)])
@pytest.mark.parametrize("arch", ["resnet20", "resnet8"])
def test_resnet_of_any_image(arch, shape):
    _runs(grow(arch, shape, num_classes=7), shape)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (5, 20, 4), (1, 1, 1)])
@pytest.mark.parametrize("arch", ["vgg16", "vgg16-bn"])
def test_vgg_of_any_image(arch, shape, monkeypatch):
    monkeypatch.setattr("incnet.models.vgg.DENSE", (40, 30))
    _runs(grow(arch, shape, num_classes=7), shape)


def _runs(network, shape):
    x = np.random.default_rng().standard_normal((2, *shape), np.float32)
    assert network.output_shape(shape) == (7,)
    assert network.forward(x).shape == (2, 7)
    feature = x
    for subnetwork in network.subnetworks.values():
        feature, shape = subnetwork.forward(feature), subnetwork.output_shape(shape)
    assert feature.shape[1:] == shape


@pytest.mark.usefixtures("weightless")
@pytest.mark.parametrize(
    ("arch", "shape", "features"),
    [
        ("vgg16", (224, 224, 3), [(112, 112, 64), (56, 56, 128), (28, 28, 256), (14, 14, 512), (7, 7, 512), (4096,)]),
        ("vgg16", (28, 28, 1), [(14, 14, 64), (7, 7, 128), (3, 3, 256), (1, 1, 512), (1, 1, 512), (4096,)]),
        ("vgg16", (8, 8, 1), [(4, 4, 64), (2, 2, 128), (1, 1, 256), (1, 1, 512), (1, 1, 512), (4096,)]),
        ("resnet20", (224, 224, 3), [(224, 224, 16), (112, 112, 32), (56, 56, 64)]),
        ("resnet20", (8, 8, 1), [(8, 8, 16), (4, 4, 32), (2, 2, 64)]),
        ("resnet20", (5, 11, 4), [(5, 11, 16), (3, 6, 32), (2, 3, 64)]),
    ],
)
def test_shapes(arch, shape, features):
    found, now = [], shape
    for subnetwork in parts(arch, shape).values():
        now = subnetwork.output_shape(now)
        found.append(now)
    assert found == features


@pytest.mark.usefixtures("weightless")
def test_vgg_of_224_pixels_is_the_original_one():
    """138 M parameters for 1,000 classes (Simonyan and Zisserman, 2014, table 2); the classifier is a dense layer."""
    assert grow("vgg16", (224, 224, 3), num_classes=1000).num_parameters() == 138_357_544


# Weights and parts.


@pytest.mark.parametrize("arch", ["resnet20", "vgg16-bn"])
def test_one_seed_gives_one_network(arch, monkeypatch):
    monkeypatch.setattr("incnet.models.vgg.DENSE", (40, 30))
    one, same, other = (grow(arch, (8, 8, 1), seed=seed).state() for seed in (1, 1, 2))
    assert list(one) == list(same) == list(other)
    for name, array in one.items():
        np.testing.assert_array_equal(array, same[name])
        if name.endswith("conv1.weight"):
            assert not np.array_equal(array, other[name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype(dtype):
    network = grow("resnet20", (8, 8, 1), dtype=dtype)
    assert {array.dtype for array in network.state().values()} == {np.dtype(dtype)}


@pytest.mark.usefixtures("weightless")
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_builds(arch):
    network = grow(arch, CIFAR, num_classes=100)
    assert network.output_shape(CIFAR) == (100,)
    has_norm = any(isinstance(layer, BatchNorm2d) for layer in network.layers())
    assert has_norm == (arch != "vgg16")


def test_projection_shortcuts_are_an_option_of_resnet():
    plain, projected = (resnet(20, CIFAR, rng=np.random.default_rng(), shortcut=s) for s in "AB")
    extra = sum(u.layer.num_parameters() for u in projected) - sum(u.layer.num_parameters() for u in plain)
    assert extra == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


def test_deviation_of_dense_layers():
    def deviations(std):
        layers = parts("vgg16", dense_std=std)["S6"].layers()
        return [layer.weight.data.std() for layer in layers if type(layer) is Linear]

    assert deviations(None) == pytest.approx([(2 / 512) ** 0.5, (2 / 4096) ** 0.5], rel=1e-2)
    assert deviations(0.01) == pytest.approx([0.01, 0.01], rel=1e-2)


@pytest.mark.parametrize(("shape", "std"), [((4, 4, 4096), (2 / 4096) ** 0.5), ((4096,), 0.01)])
def test_classifier_behind_dense_layers(shape, std, rng):
    classifier = make_classifier(shape, 100, rng=rng, dense_std=0.01)
    (linear,) = (layer for layer in classifier.layers() if type(layer) is Linear)
    assert linear.weight.data.std() == pytest.approx(std, rel=1e-2)


def test_classifier(rng):
    spatial, flat = make_classifier((4, 4, 6), 10, rng=rng), make_classifier((6,), 10, rng=rng)
    assert [type(layer) for layer in spatial.children().values()] == [GlobalAvgPool2d, Linear]
    assert [type(layer) for layer in flat.children().values()] == [Linear]
    assert spatial.num_parameters() == flat.num_parameters() == 70
