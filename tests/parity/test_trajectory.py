"""Thirty training steps of ResNet-20 on real images, in float32, beside PyTorch from the same weights.

The images are handwritten digits, enlarged to the shape of CIFAR-10's, and CIFAR-10's themselves where the environment
variable INCNET_DATA names a folder that holds them.

RMSProp divides each gradient by its own size, so the rounding of a gradient that is nearly zero moves its weight as far
as any other: trajectories in float32 part, PyTorch's from its own in float64 too. They part sooner where the loss falls
fast, as it does on digits; so those get smaller steps.
"""

import importlib
import os
from pathlib import Path

import numpy as np
import pytest

from incnet.backend import ops
from incnet.data import load_dataset
from incnet.optim import RMSProp
from tests.small_networks import grow

torch = pytest.importorskip("torch")
F = torch.nn.functional
twins = importlib.import_module("tests.twins")  # needs torch; any failure of its own must be seen

STEPS = 30


def digits():
    """Return digits as (32, 32, 3) images: every pixel four by four times, in a colour of its own for each image."""
    pytest.importorskip("sklearn")
    train = load_dataset("digits").train
    colours = np.random.default_rng(0).uniform(0.3, 1, (len(train), 1, 1, 3))
    return train.images.repeat(4, axis=1).repeat(4, axis=2) * colours, train.labels


def cifar10():
    if not (folder := os.environ.get("INCNET_DATA")):
        pytest.skip("INCNET_DATA names no folder with CIFAR-10")
    train = load_dataset("cifar10", Path(folder)).train
    return train.images[: STEPS * 128].astype(np.float64), train.labels


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "batch", "lr"), [(digits, 64, 3e-5), (cifar10, 128, 1e-4)], ids=["digits", "cifar10"]
)
def test_losses_stay_within_one_percent(images, batch, lr):
    x, labels = images()
    x = ((x - x.mean(axis=(0, 1, 2))) / x.std(axis=(0, 1, 2))).astype(np.float32)
    network = grow("resnet20", (32, 32, 3), fused=True)  # as it is trained
    twin = twins.make_twin("resnet20", (32, 32, 3), 10).train()
    twins.copy_weights(network, twin)
    settings = {"lr": lr, "rho": 0.9, "momentum": 0.9, "eps": 1e-7, "weight_decay": 1e-4}
    optimizer, their_optimizer = RMSProp(**settings), twins.rmsprop(twin, **settings)
    losses, their_losses = [], []
    for step in range(STEPS):
        rows = np.arange(step * batch, (step + 1) * batch) % len(x)
        losses.append(_step(network, optimizer, x[rows], labels[rows]))
        their_losses.append(_their_step(twin, their_optimizer, x[rows], labels[rows]))
    np.testing.assert_allclose(losses, their_losses, rtol=0.01)
    # Something was learnt: two networks that stand still agree too.
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])


def _step(network, optimizer, x, labels):
    (total, _), dlogits = ops.softmax_cross_entropy(network.forward(x, train=True), labels)
    network.backward(dlogits)
    optimizer.step(network.trainable_parameters())
    return total / len(x)


def _their_step(twin, optimizer, x, labels):
    loss = F.cross_entropy(twin(twins.to_torch(x)), torch.from_numpy(labels))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
