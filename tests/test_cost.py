"""The cost model against what really runs: counted multiply-adds."""

import json

import numpy as np
import pytest

from incnet import train as command
from incnet.backend import ops, use
from incnet.cost import Ledger
from incnet.layer import Cost
from incnet.optim import RMSProp
from incnet.run import epoch as epoch_module
from incnet.training import loop
from incnet.training.recalibration import recalibrate
from tests.faults.runs import ARGUMENTS
from tests.metering import metering
from tests.small_networks import IMAGE, batch, grow, step


@pytest.mark.parametrize("how", ["fused", "unfused", "im2col"])
@pytest.mark.parametrize(("arch", "frozen_bn"), [("resnet20", "eval"), ("resnet20", "batch"), ("vgg16", "eval")])
def test_the_ledger_is_what_the_kernels_do(arch, how, frozen_bn):
    use("cpu", convolution="im2col" if how == "im2col" else "auto")
    fused = how != "unfused"
    graph, n = grow(arch, IMAGE, fused=fused, frozen_bn=frozen_bn), 2
    optimizer = RMSProp()
    x, labels = batch(n)
    with metering() as meter:
        step(graph, x, labels, optimizer)
    whole = meter.cost()
    assert Ledger.of(graph, n) == Ledger(whole.forward, whole.weight_grad, whole.input_grad, 0)
    for boundary in range(1, len(graph.subnetworks) + 1):
        graph.freeze_prefix(boundary)
        with metering() as meter:
            step(graph, x, labels, optimizer)
        ran, ledger = meter.cost(), Ledger.of(graph, n)
        assert (ledger.forward, ledger.weight_grad, ledger.input_grad) == (ran.forward, ran.weight_grad, ran.input_grad)
        assert ledger.total + ledger.skipped == whole.total
        assert graph.boundary == boundary
        with metering() as meter:
            graph.forward(x)
        assert meter.cost(n) == Cost(forward=graph.macs(IMAGE))


@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_the_gradient_at_the_boundary_on_demand(fused, need_dx):
    graph = grow("resnet8", IMAGE, fused=fused)
    x, labels = batch(2)
    for boundary in range(len(graph.subnetworks) + 1):
        graph.freeze_prefix(boundary)
        with metering() as meter:
            _, dlogits = ops.softmax_cross_entropy(graph.forward(x, train=True), labels)
            dx = graph.backward(dlogits, need_dx)
        assert meter.cost(2) == graph.cost(IMAGE, need_dx)
        assert (dx is not None) == need_dx
        if need_dx and boundary == 0:
            assert dx.shape == x.shape


def test_one_layer_by_hand():
    """The classifier of ResNet-20 alone on top of all that is frozen."""
    graph = grow("resnet20", IMAGE)
    graph.freeze_prefix(3)
    ledger = Ledger.of(graph, images=7)
    assert (ledger.weight_grad, ledger.input_grad) == (7 * 640, 0)
    assert ledger.skipped == 7 * (2 * 40_551_040 - 32 * 32 * 27 * 16 - 640)
    assert ledger.share_skipped == pytest.approx(ledger.skipped / (ledger.skipped + 7 * 640))


def test_counting_changes_nothing():
    """Neither what is frozen nor gradients."""
    graph = grow("resnet8", IMAGE)
    graph.freeze_prefix(1)
    layer = graph.subnetworks["S3"].freeze()
    weight = graph.classifier.children()["linear"].weight
    weight.grad = gradient = np.ones_like(weight.data)
    before = [each.frozen for each in graph.layers()]
    assert Ledger.of(graph, images=1).skipped > 0
    assert [each.frozen for each in graph.layers()] == before
    assert (graph.boundary, layer.frozen, weight.grad is gradient) == (1, True, True)


def test_ledgers_add_up():
    assert Ledger(1, 2, 3, 4, 5) + Ledger(10, 20, 30, 40, 50) == Ledger(11, 22, 33, 44, 55)
    assert Ledger(1, 2, 3, 5).total == 6
    assert Ledger(1, 2, 3, 5).share_skipped == 0.5
    assert Ledger().share_skipped == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--init", "random"),
        ("--method", "baseline"),
        ("--lookahead-cache", "fixed", "--lookahead-epochs", "2", "--max-stage-epochs", "3"),
        ("--image-sizes", "4,6,8"),
    ],
    ids=["look-ahead", "random", "baseline", "cached", "growing images"],
)
def test_the_ledger_of_a_run_is_what_its_steps_did(arguments, tmp_path, monkeypatch):
    meters, recalibrations = [], []

    def metered(step, batches, **options):
        with metering() as meter:
            metrics = loop.train_epoch(step, batches, **options)
        meters.append(meter.cost())
        return metrics

    def metered_recalibration(graph, batches, **options):
        with metering() as meter:
            images = recalibrate(graph, batches, **options)
        recalibrations.append(meter.cost())
        return images

    monkeypatch.setattr(epoch_module, "train_epoch", metered)
    monkeypatch.setattr(epoch_module, "recalibrate", metered_recalibration)
    # A replayed step calls kernels, not the operations that the meter counts.
    monkeypatch.setattr(epoch_module, "Replay", lambda step: step)
    assert command.main([*ARGUMENTS, *arguments, "--out", str(tmp_path / "run")]) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    epochs = [event for event in log if event["event"] == "epoch"]
    assert len(epochs) == len(meters) == 6
    spent, recalibration = Cost(), Cost()
    for event, meter, recalibrated in zip(epochs, meters, recalibrations, strict=True):
        spent += meter
        recalibration += recalibrated
        found = Cost(event["macs_forward"], event["macs_weight_grad"], event["macs_input_grad"])
        assert found == spent
        assert event["macs_recalibration"] == recalibration.total
        assert event["macs_training"] == spent.total + recalibration.total
    # Skipped in look-ahead, and only there.
    skipped = np.diff([0] + [event["macs_skipped"] for event in epochs])
    assert [count > 0 for count in skipped] == [event["phase"] == "lookahead" for event in epochs]
    stages = json.loads((tmp_path / "run" / "summary.json").read_text())["stages"]
    assert sum(stage["ledger"]["forward"] for stage in stages) == spent.forward
    assert sum(stage["ledger"]["skipped"] for stage in stages) == epochs[-1]["macs_skipped"]
    assert (epochs[-1]["macs_cached"] > 0) == ("--lookahead-cache" in arguments)
