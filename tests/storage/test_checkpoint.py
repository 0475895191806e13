"""Weights on disk."""

import math

import numpy as np
import pytest
from safetensors.numpy import load_file

from incnet.layers import BatchNorm2d, Conv2d, Sequential
from incnet.storage.checkpoint import Checkpoint, Checkpoints, save_weights
from incnet.storage.files import WriteError
from tests.small_networks import assert_same_state, snapshot


def network(channels=4, seed=0):
    rng = np.random.default_rng(seed)
    return Sequential({"conv": Conv2d(3, channels, 3, rng=rng), "norm": BatchNorm2d(channels)})


def test_round_trip(tmp_path):
    saved, loaded = network(seed=0), network(seed=1)
    save_weights(tmp_path / "w.safetensors", saved)
    loaded.load_state(load_file(tmp_path / "w.safetensors"))
    assert all(np.array_equal(array, loaded.state()[name]) for name, array in saved.state().items())


def test_a_state_that_could_not_be_read_again_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Checkpoints(tmp_path, keep=2).save(Checkpoint({"best": -math.inf}, {}), 1, 0)
    assert not list(tmp_path.iterdir())


def test_weights_of_another_architecture_are_refused(tmp_path):
    save_weights(tmp_path / "w.safetensors", network(channels=5))
    layer = network()
    before = snapshot(layer)
    with pytest.raises(ValueError, match=r"conv.weight has shape \(3, 3, 3, 5\)"):
        layer.load_state(load_file(tmp_path / "w.safetensors"))
    assert_same_state(layer, before)


def test_a_failed_write_keeps_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_weights(path, network())
    before = path.read_bytes()

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(WriteError, match="No space left"):
        save_weights(path, network(seed=1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
