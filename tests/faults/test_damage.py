"""Damage to checkpoints, wherever it is."""

import numpy as np
import pytest

from incnet.storage.checkpoint import Checkpoint, CheckpointError, Checkpoints, read_checkpoint


@pytest.fixture
def whole(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"network/w": rng.standard_normal((9, 7), np.float32), "epoch/totals": np.ones(2)}
    state = {"epoch": 1, "accuracy": 0.5}
    return Checkpoints(tmp_path, keep=1).save(Checkpoint(state, arrays | {"s": np.array([3], np.uint64)}), 1, 0)


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint .* is damaged"):
        read_checkpoint(path)


def test_round_trip(whole):
    checkpoint = read_checkpoint(whole)
    assert checkpoint.state == {"epoch": 1, "accuracy": 0.5}
    assert {name: array.dtype.name for name, array in checkpoint.arrays.items()} == {
        "network/w": "float32",
        "epoch/totals": "float64",
        "s": "uint64",
    }
    assert np.array_equal(checkpoint.arrays["network/w"], np.random.default_rng(0).standard_normal((9, 7), np.float32))


def test_every_bit_of_the_header_and_the_body(whole):
    content = whole.read_bytes()
    for position in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            refused(whole, bytes(damaged))


def test_every_truncation(whole):
    content = whole.read_bytes()
    for length in range(len(content)):
        refused(whole, content[:length])


def test_more_than_was_written(whole):
    refused(whole, whole.read_bytes() + b"\0")


def test_another_name(whole):
    other = whole.with_name("000001-epoch1-batch0-0000.safetensors")
    whole.rename(other)
    with pytest.raises(CheckpointError, match="is damaged"):
        read_checkpoint(other)
