"""Weights on disk."""

import math

import numpy as np
import pytest

from incnet.layers import BatchNorm2d, Conv2d, Sequential
from incnet.storage.checkpoint import Checkpoint, CheckpointError, Checkpoints, load_weights, save_weights
from incnet.storage.files import WriteError


def network(channels=4, seed=0):
    rng = np.random.default_rng(seed)
    return Sequential({"conv": Conv2d(3, channels, 3, rng=rng), "norm": BatchNorm2d(channels)})


def test_round_trip(tmp_path):
    saved, loaded = network(seed=0), network(seed=1)
    save_weights(tmp_path / "w.safetensors", saved)
    load_weights(tmp_path / "w.safetensors", loaded)
    assert all(np.array_equal(array, loaded.state()[name]) for name, array in saved.state().items())


@pytest.mark.parametrize("damage", [b"", b"\x00" * 20, b"\xff" * 200])
def test_a_damaged_file_is_refused(damage, tmp_path):
    layer = network()
    before = {name: array.copy() for name, array in layer.state().items()}
    (tmp_path / "w.safetensors").write_bytes(damage)
    with pytest.raises(CheckpointError, match=r"w\.safetensors"):
        load_weights(tmp_path / "w.safetensors", layer)
    assert all(np.array_equal(array, layer.state()[name]) for name, array in before.items())


def test_a_state_that_could_not_be_read_again_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Checkpoints(tmp_path, keep=2).save(Checkpoint({"best": -math.inf}, {}), 1, 0)
    assert not list(tmp_path.iterdir())


def test_weights_of_another_architecture_are_refused(tmp_path):
    save_weights(tmp_path / "w.safetensors", network(channels=5))
    with pytest.raises(CheckpointError, match=r"conv.weight has shape \(3, 3, 3, 5\)"):
        load_weights(tmp_path / "w.safetensors", network())


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        load_weights(tmp_path / "none.safetensors", network())


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
