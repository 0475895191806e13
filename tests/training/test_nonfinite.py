"""Numbers that are none: where they are found, what is said, and the way back."""

import json
import os
import signal
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from incnet import train as command
from incnet.graph import Graph
from incnet.kernels.operands import OuterProduct
from incnet.models import build, make_classifier
from incnet.report.reading import read_history
from incnet.run import epoch as epoch_module
from incnet.run import state as state_module
from incnet.training import loop
from incnet.training.nonfinite import NonFiniteError, check_gradients, check_loss, first_nonfinite
from tests.faults.runs import ARGUMENTS, EVERY_STEP, history, outcome

LOST = 0.1  # seconds that an epoch takes before it fails


def graph():
    rng = np.random.default_rng(0)
    graph = Graph((8, 8, 1), lambda shape: make_classifier(shape, 10, rng=rng))
    for name, subnetwork in build("resnet8", (8, 8, 1), rng=rng).items():
        graph.insert(name, subnetwork)
    for parameter in graph.parameters():
        parameter.grad = np.zeros_like(parameter.data)
    return graph


def test_the_lowest_weights_are_named():
    network = graph()
    for name, parameter in network.named_parameters():
        if name.startswith(("S2.block2_1.body.conv1", "S3")):
            parameter.data[0] = np.inf
    with pytest.raises(NonFiniteError, match=r"loss is nan at batch 7; the lowest layer .* S2.block2_1.body.conv1.wei"):
        check_loss(network, float("nan"), 7)


def test_the_highest_gradient_is_named_with_its_statistics():
    network = graph()
    for name, parameter in network.named_parameters():
        if name.startswith(("S1", "S2.block2_1.body.conv2")):
            parameter.grad.flat[:2] = np.nan, np.inf
    with pytest.raises(NonFiniteError) as error:
        check_gradients(network, 11)
    message = str(error.value)
    assert "a gradient is not finite at batch 11; the highest layer" in message
    assert "S2.block2_1.body.conv2.weight (9,216 values, 1 NaN, 1 infinite, the others from 0 to 0)" in message
    assert "the largest weight, " in message


def test_large_gradients_are_no_error():
    network = graph()
    for parameter in network.parameters():
        parameter.grad[...] = np.finfo(np.float32).max / 2
    check_gradients(network, 1)


@pytest.mark.parametrize("spoilt", ["nothing", "x", "dy", "overflow"])
def test_a_gradient_in_factors(spoilt):
    """It is looked at without multiplying; what only its products show is found all the same."""
    rng = np.random.default_rng(0)
    network = graph()
    weight = network.classifier.children()["linear"].weight
    x, dy = (rng.standard_normal((6, size), np.float32) for size in weight.data.shape)
    if spoilt == "overflow":  # of either sign: x adds up to nothing
        x[:], dy[:] = 0, 1e30
        x[0, :2] = 1e30, -1e30
    elif spoilt != "nothing":
        (x if spoilt == "x" else dy)[3, 2] = np.nan
    weight.grad = OuterProduct(x, dy)
    if spoilt == "nothing":
        check_gradients(network, 1)
        assert isinstance(weight.gradient, OuterProduct)
        return
    with pytest.raises(NonFiniteError, match=r"not finite at batch 1; the highest .* classifier.linear.w"):
        check_gradients(network, 1)


def test_frozen_layers_have_no_gradient_to_check():
    network = graph()
    network.freeze_prefix(3)
    check_gradients(network, 1)


def test_first_nonfinite():
    assert first_nonfinite({"a": np.zeros(3), "b": np.arange(3)}) is None
    assert first_nonfinite({"a": np.full(2, np.nan)}) == "a (2 values, 2 NaN, 0 infinite)"


@pytest.fixture
def poisoned(monkeypatch):
    """Images of epoch 4 are infinite until the learning rate has been halved often enough."""

    def poison(halvings, interrupt=False):
        def train_epoch(step, batches, *, running, after_step, **options):
            def spoilt():
                for images, labels in batches:
                    bad = epochs_begun(step.graph) and step.optimizer.lr > 3e-4 / 2**halvings and running.batches == 3
                    time.sleep(LOST if bad else 0)
                    yield images + np.float32(np.inf) if bad else images, labels

            def receive_signal():
                os.kill(os.getpid(), signal.SIGTERM)
                after_step()

            hook = receive_signal if interrupt else after_step
            return loop.train_epoch(step, spoilt(), running=running, after_step=hook, **options)

        def epochs_begun(graph):
            return len(graph.subnetworks) == 2 and graph.boundary == 0

        monkeypatch.setattr(epoch_module, "train_epoch", train_epoch)

    return poison


def train(*arguments):
    return command.main([*ARGUMENTS, *map(str, arguments)])


def test_stop_keeps_the_last_good_epoch(poisoned, tmp_path, capsys):
    poisoned(99)
    assert train("--out", tmp_path) == 3
    error = capsys.readouterr().err
    assert error.startswith(
        "error: epoch 4 (train), learning rate 0.0003: the training loss is nan at batch 4; the highest layer"
    )
    assert error.count("\n") == 1
    assert all(np.isfinite(array).all() for array in load_file(tmp_path / "last.safetensors").values())
    assert json.loads((tmp_path / "summary.json").read_text())["epochs"] == 3
    assert [event["epoch"] for event in history(tmp_path) if event["event"] == "epoch"] == [1, 2, 3]


def test_rollback_halves_the_learning_rate_until_it_works(poisoned, tmp_path):
    poisoned(2)
    assert train("--out", tmp_path, "--on-nonfinite", "rollback") == 0
    log = history(tmp_path)
    retries = [event for event in log if event["event"] == "rollback"]
    assert [(e["epoch"], e["failed_epoch"], e["retry"], e["lr"]) for e in retries] == [
        (3, 4, 1, 1.5e-4),
        (3, 4, 2, 7.5e-5),
    ]
    assert "at batch 4; the highest layer" in retries[0]["reason"]
    seconds = [json.loads(line)["seconds"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(seconds[log.index(retry)] - seconds[log.index(retry) - 1] >= LOST for retry in retries)
    assert [event["epoch"] for event in log if event["event"] == "epoch"] == [1, 2, 3, 4, 5, 6]


def test_retries_are_bounded(poisoned, tmp_path, capsys):
    poisoned(99)
    assert train("--out", tmp_path, "--on-nonfinite", "rollback") == 3
    assert len([event for event in history(tmp_path) if event["event"] == "rollback"]) == state_module.MAX_ROLLBACKS
    assert "epoch 4 (train)" in capsys.readouterr().err


def test_rolling_back_is_the_same_in_one_session_and_in_many(poisoned, tmp_path):
    poisoned(2)
    assert train("--out", tmp_path / "whole", "--on-nonfinite", "rollback") == 0
    poisoned(2, interrupt=True)
    code = train("--out", tmp_path / "pieces", "--on-nonfinite", "rollback")
    while code == 143:
        code = command.main(["--resume", str(tmp_path / "pieces")])
    assert code == 0
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("arguments", [(), EVERY_STEP, ("--init", "random", *EVERY_STEP)])
def test_a_run_that_stopped_can_be_resumed_with_rollback(arguments, poisoned, tmp_path):
    """Also past an insertion, which the checkpoints from within the failed epoch expect."""
    poisoned(1)
    assert train("--out", tmp_path / "whole", *arguments, "--on-nonfinite", "rollback") == 0
    assert train("--out", tmp_path / "stopped", *arguments) == 3
    assert command.main(["--resume", str(tmp_path / "stopped"), "--on-nonfinite", "rollback"]) == 0
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def test_weights_that_are_not_finite_at_the_end_of_an_epoch_are_not_saved(monkeypatch, tmp_path, capsys):
    def spoilt(step, batches, **options):
        metrics = loop.train_epoch(step, batches, **options)
        if len(step.graph.subnetworks) == 2:
            dict(step.graph.named_buffers())["S1.block1_1.stem.norm.running_var"][0] = np.inf
        return metrics

    monkeypatch.setattr(epoch_module, "train_epoch", spoilt)
    assert train("--out", tmp_path) == 3
    assert "network/S1.block1_1.stem.norm.running_var (16 values, 0 NaN, 1 infinite" in capsys.readouterr().err
    assert all(np.isfinite(array).all() for array in load_file(tmp_path / "last.safetensors").values())


def test_what_is_left_of_a_run_and_to_be_done_is_said(tmp_path, capsys):
    folder = tmp_path / "run"
    assert command.main([*ARGUMENTS, "--optimizer", "sgd", "--lr", "1e30", "--out", str(folder)]) == 3
    remedy = f"; no epoch was good; try a lower --lr, or --resume {folder} --on-nonfinite rollback\n"
    assert capsys.readouterr().err.endswith(remedy)
    assert command.main(["--resume", str(folder), "--on-nonfinite", "rollback"]) == 3
    assert capsys.readouterr().err.endswith("; no epoch was good; try a lower --lr\n")
    assert len(read_history(folder).events) == 6  # insertion, and retries at rates that no other run has
