"""A single value a channel has no variance: no network is trained on one."""

import numpy as np
import pytest

from incnet.config import Config, ConfigError
from incnet.fusion import fuse
from incnet.layers import BatchNorm2d, Conv2d, ReLU, Sequential
from incnet.run.run import Run

# Of VGG-16 with batch normalisation the fifth sub-network has one pixel, if images have 16 x 16.
VGG = {"dataset": "digits", "arch": "vgg16-bn", "resize": 16, "limit": 100}


def chain(rng):
    conv = Conv2d(16, 16, 3, padding=1, bias=False, rng=rng)
    return Sequential({"conv": conv, "norm": BatchNorm2d(16), "relu": ReLU()})


@pytest.mark.parametrize("fused", [False, True], ids=["layer by layer", "fused"])
@pytest.mark.parametrize(
    ("shape", "refused"), [((1, 1, 1, 16), True), ((2, 1, 1, 16), False), ((1, 2, 1, 16), False)], ids=str
)
def test_a_layer_refuses_it_in_training(fused, shape, refused, rng):
    network, x = chain(rng), rng.standard_normal(shape).astype(np.float32)
    network = fuse(network) if fused else network
    if refused:
        before = {name: array.copy() for name, array in network.state().items()}
        with pytest.raises(ValueError, match=r"a single value per channel .* use batches of at least 2 images"):
            network.forward(x, train=True)
        for name, array in network.state().items():
            np.testing.assert_array_equal(array, before[name])
    else:
        network.forward(x, train=True)
    network.discard()
    assert np.isfinite(network.forward(x)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1}, r"--batch-size 1: batch normalisation would see one pixel of one image.* at least 2"),
        ({"limit": 2, "validation": 0.5}, "1 training images: batch norm.* at least 2"),
    ],
    ids=["batches", "images"],
)
def test_a_run_refuses_it_at_the_beginning(options, message):
    with pytest.raises(ConfigError, match=message):
        Run(Config(**VGG | options).resolve())


def test_a_last_batch_of_a_single_image_is_left_out():
    """Each epoch another one, since images are shuffled."""
    train = Run(Config(**VGG | {"batch_size": 89}).resolve()).images.train
    assert len(train.split) == 90
    sizes = [[len(labels) for _, labels in train.epoch(epoch)] for epoch in range(2)]
    assert sizes == [[89], [89]]
    assert train.order(0)[-1] != train.order(1)[-1]


@pytest.mark.parametrize("arch", ["resnet8", "vgg16"])
def test_where_there_are_more_pixels_or_no_statistics_it_is_not(arch):
    options = {"arch": arch, "batch_size": 89, "resize": 16, "limit": 100}
    train = Run(Config(dataset="digits", **options).resolve()).images.train
    assert [len(labels) for _, labels in train.epoch(0)] == [89, 1]


def test_memory_plans_for_batches_that_have_a_variance():
    """The least that fits is a step of two images."""
    with pytest.raises(ConfigError, match="steps of 2 images take up to"):
        Run(Config(**VGG | {"batch_size": "auto", "memory_limit": "100MB"}).resolve())
