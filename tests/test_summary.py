"""Networks as a person sees them: tables and short names."""

from itertools import islice

import numpy as np
import pytest

from incnet import Conv2d, Graph, MaxPool2d, build, fuse, make_classifier

TABLE = """\
            output        parameters     MACs
S1          32 x 32 x 16      14,480  14.60 M  frozen
  block1_1  32 x 32 x 16       5,136   5.16 M  stem block
  block1_2  32 x 32 x 16       4,672   4.72 M  Residual(body, shortcut, relu)
  block1_3  32 x 32 x 16       4,672   4.72 M  Residual(body, shortcut, relu)
S2          16 x 16 x 32      51,072  12.98 M  trainable
  block2_1  16 x 16 x 32      13,952   3.54 M  Residual(body, shortcut, relu)
  block2_2  16 x 16 x 32      18,560   4.72 M  Residual(body, shortcut, relu)
  block2_3  16 x 16 x 32      18,560   4.72 M  Residual(body, shortcut, relu)
classifier  10                   330   0.00 M  trainable
  pool      32                     0   0.00 M  GlobalAvgPool2d()
  linear    10                   330   0.00 M  Linear(32, 10)
total       10                65,882  27.57 M  51,402 parameters trained"""


def network(arch, count=None, size=32):
    """A network of its first ``count`` sub-networks, all of which can be trained."""
    rng = np.random.default_rng(0)
    graph = Graph((size, size, 3), lambda shape: make_classifier(shape, 10, rng=rng))
    for name, subnetwork in islice(build(arch, graph.input_shape, rng=rng).items(), count):
        graph.insert(name, fuse(subnetwork))
    return graph


def test_the_table():
    graph = network("resnet20", 2)
    graph.freeze_prefix(1)
    assert str(graph) == TABLE
    assert repr(graph) == "<Graph S1 -> S2 -> classifier, 1 of 2 sub-networks frozen>"


def test_it_says_what_the_network_says():
    graph = network("resnet32")
    *_, total = str(graph).splitlines()
    assert f" {graph.num_parameters():,} " in total
    assert f" {graph.macs(graph.input_shape) / 1e6:.2f} M " in total


@pytest.mark.parametrize("arch", ["resnet56", "vgg16-bn"])
def test_it_fits_a_terminal(arch):
    assert max(map(len, str(network(arch)).splitlines())) <= 80


def test_layers_that_are_frozen_by_themselves():
    graph = network("resnet20", 1)
    next(iter(graph.subnetworks["S1"].children().values())).freeze()
    lines = [line.split("  ")[-1] for line in str(graph).splitlines()]
    assert lines[1:4] == ["partly frozen", "stem block, frozen", "Residual(body, shortcut, relu), trainable"]


def test_a_network_of_a_classifier_alone():
    graph = Graph((8, 8, 3), lambda shape: make_classifier(shape, 10, rng=np.random.default_rng(0)))
    assert [line.split()[0] for line in str(graph).splitlines()] == ["output", "classifier", "pool", "linear", "total"]


def test_names_of_layers():
    rng = np.random.default_rng(0)
    assert repr(Conv2d(3, 16, 5, stride=2, rng=rng)) == "Conv2d(3, 16, 5, stride=2)"
    assert repr(MaxPool2d(2)) == "MaxPool2d(2, stride=2)"
    assert repr(network("vgg16", 1).subnetworks["S1"]) == "FusedSequential(conv1_1, conv1_2)"
