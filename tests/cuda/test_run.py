"""A whole run on the double of CuPy: grown, checkpointed and resumed as on the CPU, with the copies that it needs."""

import json
import math

import numpy as np
import pytest

from incnet import backend
from incnet import train as command
from incnet.config import Config
from incnet.data.dataset import Dataset, Split
from incnet.run.course import Course
from incnet.run.run import Run
from incnet.storage.folder import RunFolder
from incnet.training.loop import INTERVAL

OPTIONS = {"arch": "resnet8", "window": 2, "lookahead_epochs": 1, "max_stage_epochs": 2, "epochs": 5, "batch_size": 4}


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    train, test = (Split(rng.integers(0, 256, (n, 6, 6, 1), dtype=np.uint8), np.arange(n) % 3) for n in (30, 6))
    return Dataset("digits", ("a", "b", "c"), train, test, "nowhere")


def carry_out(dataset, folder, **options):
    """Epochs of a run, and its last weights."""
    config = Config(**{**OPTIONS, **options}).resolve()
    run = Run(config, dataset)
    begin = RunFolder.reopen if folder.exists() else lambda path: RunFolder.create(path, {"config": config.as_json()})
    with begin(folder) as opened:
        run.resume(opened)
        run.train(opened)
        events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    weights = {name: backend.asnumpy(array) for name, array in run.state.graph.state().items()}
    return [event for event in events if event["event"] == "epoch"], weights


@pytest.mark.parametrize("convolution", ["auto", "im2col"])
def test_the_run_of_the_cpu(device, dataset, tmp_path, convolution):
    backend.use("cuda")
    epochs, weights = carry_out(dataset, tmp_path / "device", convolution=convolution)
    backend.use("reference")
    expected_epochs, expected = carry_out(dataset, tmp_path / "host")
    assert [e["subnetworks"] for e in epochs] == [e["subnetworks"] for e in expected_epochs]
    assert epochs[-1]["subnetworks"] == 3
    for name in ("train_loss", "val_loss"):
        np.testing.assert_allclose([e[name] for e in epochs], [e[name] for e in expected_epochs], rtol=1e-3)
    # RMSProp's steps are about as long for small gradients, rounding errors among them, as for large ones.
    for name, array in expected.items():
        np.testing.assert_allclose(weights[name], array, rtol=1e-2, atol=5e-3, err_msg=name)


def test_resumed_bit_by_bit(device, dataset, tmp_path):
    _, weights = carry_out(dataset, tmp_path / "whole")
    carry_out(dataset, tmp_path / "pieces", epochs=2)
    _, resumed = carry_out(dataset, tmp_path / "pieces")
    assert weights.keys() == resumed.keys()
    assert all(weights[name].tobytes() == resumed[name].tobytes() for name in weights)


def test_an_epoch_copies_its_order_and_looks_once_in_ten_batches(device, dataset, tmp_path):
    copies, epoch = [], Course._epoch

    def counted(course):
        device.reset()
        accuracy = epoch(course)
        copies.append((device.counts["to_device"], device.counts["to_host"]))
        return accuracy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Course, "_epoch", counted)
        _, weights = carry_out(
            dataset, tmp_path / "run", method="baseline", epochs=3, batch_size=2, validation=0.2, checkpoint_minutes=0
        )
    looks = math.ceil(12 / INTERVAL) + 1  # and once at the end
    plan = 4 + 4 + 4  # order, shifts, flips and labels, of training, of recalibration and of validation
    *_, (to_device, to_host) = copies
    assert to_device == plan
    # Validation ends with a look; the best weights are kept on the host.
    assert to_host in (looks + 1, looks + 1 + len(weights))


def test_tf32_is_for_gpus(capsys, tmp_path):
    assert command.main(["digits", "--device", "cpu", "--tf32", "--out", str(tmp_path / "run")]) == 2
    assert "error: --tf32: the cpu backend has no tensor cores" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
