"""The cost model against what really runs: counted multiply-adds, bytes that are held, and the pool's own accounts."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from incnet import train as command
from incnet.backend import free_memory, limit_memory, ops, use
from incnet.cost import Ledger, pool_bytes, step_bytes, step_memory
from incnet.kernels.cpu import blocks, dry_run, memory
from incnet.kernels.operands import OuterProduct
from incnet.layer import Cost
from incnet.models import ARCHITECTURES
from incnet.optim import SGD, RMSProp
from incnet.run import epoch as epoch_module
from incnet.training import loop
from incnet.training.recalibration import recalibrate
from tests.faults.runs import ARGUMENTS
from tests.metering import metering
from tests.networks import assert_same_state, grow, snapshot

IMAGE = (32, 32, 3)


def batch(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, *IMAGE), np.float32), rng.integers(10, size=n)


def step(graph, x, labels, optimizer=None):
    _, dlogits = ops.softmax_cross_entropy(graph.forward(x, train=True), labels)
    graph.backward(dlogits)
    if optimizer:
        optimizer.step(graph.trainable_parameters())


# The ledger.


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


# Memory.


def held(values, known):
    """Bytes of the arrays within ``values``, each piece of memory once, without those of ``known``."""
    found, known = {}, {id(memory_of(array)) for array in known}

    def visit(value):
        if isinstance(value, np.ndarray):
            found[id(memory_of(value))] = memory_of(value)
        elif isinstance(value, dict):
            visit(list(value.values()))
        elif isinstance(value, (list, tuple)):
            for each in value:
                visit(each)
        elif dataclasses.is_dataclass(value):
            visit(vars(value))

    visit(values)
    return sum(array.nbytes for key, array in found.items() if key not in known)


def memory_of(array):
    """The array that owns what this one views."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_activations_are_the_bytes_really_held(arch, fused, monkeypatch):
    monkeypatch.setattr(memory, "SMALL", 0)  # every array in a block of its own, without padding
    graph = grow(arch, IMAGE, fused=fused)
    x = memory.aligned_empty((3, *IMAGE))
    x[...] = batch(3)[0]
    for boundary in (0, 1, len(graph.subnetworks)):
        graph.freeze_prefix(boundary)
        expected = step_memory(graph, 3).kept
        graph.forward(x, train=True)
        kept = held([layer._kept for layer in graph.layers()], [x, *graph.state().values()])
        graph.discard()
        assert kept == expected, f"{boundary} frozen"


def gradient_bytes(gradient):
    return sum(array.nbytes for array in (gradient if isinstance(gradient, OuterProduct) else [gradient]))


@pytest.mark.parametrize(
    ("arch", "n", "how"),
    [("resnet20", 32, "fused"), ("resnet20", 100, "fused"), ("resnet20", 32, "unfused"), ("resnet56", 32, "fused"),
     ("vgg16", 32, "fused"), ("vgg16", 80, "fused"), ("vgg16-bn", 32, "fused"),
     ("resnet20", 32, "im2col"), ("vgg16", 20, "im2col")],
)  # fmt: skip
def test_the_peak_of_a_step_is_what_the_pool_lends(arch, n, how, fresh_pool):
    use("cpu", convolution="im2col" if how == "im2col" else "auto")
    graph = grow(arch, IMAGE, fused=how != "unfused")
    expected = step_memory(graph, n)
    x = memory.aligned_empty((n, *IMAGE))
    x[...], labels = batch(n)
    for _ in range(3):
        step(graph, x, labels)
    assert sum(gradient_bytes(p.gradient) for p in graph.parameters()) == expected.gradients
    # A block may be twice as large as the array that it serves, as those of patches are for the next layer's.
    assert fresh_pool.peak_allocated == pytest.approx(expected.peak, rel=0.25 if how == "im2col" else 0.1)
    assert fresh_pool.peak_held == pytest.approx(expected.held, rel=0.03)


@pytest.mark.parametrize(("arch", "frozen"), [("resnet20", 1), ("resnet20", 2), ("vgg16", 4)])
def test_the_peak_of_a_step_from_features(arch, frozen, fresh_pool):
    graph = grow(arch, IMAGE, fused=True)
    graph.freeze_prefix(frozen)
    expected = step_memory(graph, 32, from_features=True)
    images, labels = batch(32)
    there = graph.features(images)
    features = memory.aligned_empty(there.shape)
    features[...] = there
    del there
    free_memory()
    fresh_pool.peak_allocated = fresh_pool.peak_held = 0
    for _ in range(3):
        _, dlogits = ops.softmax_cross_entropy(graph.logits(features, train=True), labels)
        graph.backward(dlogits)
    assert fresh_pool.peak_allocated == pytest.approx(expected.peak, rel=0.1)
    assert fresh_pool.peak_held == pytest.approx(expected.held, rel=0.03)


@pytest.fixture
def fresh_pool(monkeypatch):
    pool = blocks.Pool()
    monkeypatch.setattr(memory, "POOL", pool)
    for name, value in vars(memory.Workspace()).items():
        monkeypatch.setattr(memory.WORKSPACE, name, value)
        monkeypatch.setattr(memory.SECOND_WORKSPACE, name, value)
    return pool


@pytest.mark.parametrize(
    ("arch", "convolution"),
    [("resnet20", "auto"), ("resnet56", "auto"), ("vgg16", "auto"), ("vgg16-bn", "auto"), ("resnet20", "im2col")],
)
def test_the_pool_keeps_to_what_was_planned(arch, convolution, fresh_pool):
    """By its own account: whatever came before, after batches of other sizes and evaluation, and in steady steps."""
    use("cpu", convolution=convolution)
    graph, optimizer = grow(arch, IMAGE, fused=True), RMSProp()
    planned = pool_bytes(graph, [40, 24], [50])
    step(graph, *batch(90), optimizer)
    limit_memory(planned)
    fresh_pool.peak_held = 0
    images, labels = batch(50)
    for _ in range(3):
        for _ in range(3):
            step(graph, images[:40], labels[:40], optimizer)
        made = fresh_pool.made
        step(graph, images[:40], labels[:40], optimizer)
        if convolution == "auto":  # the patches of each layer are of another size, and do not wait all together
            assert fresh_pool.made == made
        step(graph, images[:24], labels[:24], optimizer)
        ops.softmax_cross_entropy(graph.forward(images), labels)
    assert 0.8 * planned < fresh_pool.peak_held <= planned
    free_memory()
    assert fresh_pool.waiting_bytes == 0
    assert fresh_pool.peak_held == fresh_pool.allocated < 0.8 * planned  # the gradients


def test_the_pool_lends_what_a_kernel_copies(fresh_pool):
    """The gradient of global average pooling is a view of one pixel per image; max pooling's kernel reads a copy."""
    x = memory.aligned_empty((16, 32, 32, 64))
    x[...] = 0
    y, where = ops.max_pool(x, 2, 2)
    dy = ops.global_avg_pool_grad(ops.global_avg_pool(y), y.shape)
    fresh_pool.peak_allocated = 0
    before = x.nbytes + y.nbytes + where.nbytes
    dx = ops.max_pool_grad(dy, where, x.shape, 2, 2)
    assert fresh_pool.peak_allocated >= before + dx.nbytes + dy.nbytes
    with dry_run.memory_account() as account:
        pixels = dry_run.MetaArray((len(x), x.shape[3]))
        dry_run.max_pool_grad(dry_run.global_avg_pool_grad(pixels, y.shape), None, x.shape, 2, 2)
    assert account.peak == dx.nbytes + dy.nbytes + 2 * 4 * pixels.size


def test_lookahead_takes_less():
    graph = grow("resnet20", IMAGE, fused=True)
    whole = step_memory(graph, 128)
    graph.freeze_prefix(2)
    ahead = step_memory(graph, 128)
    assert ahead.kept < whole.kept / 4
    assert ahead.peak < whole.peak / 2
    assert ahead.gradients == sum(p.data.nbytes for _, p in graph.trainable_parameters())


def test_memory_grows_in_proportion_to_the_batch():
    graph = grow("resnet20", IMAGE, fused=True)
    small, large = step_memory(graph, 10).kept, step_memory(graph, 1_000_000).kept
    statistics = step_memory(graph, 1).kept * 10 - small  # nine times what does not grow
    assert large == pytest.approx(100_000 * (small - statistics / 9), rel=1e-6)
    assert step_bytes(graph, RMSProp(), 1_000_000) > 2**40  # more than there is: nothing of it is touched


def test_a_step_counts_network_and_optimizer():
    graph = grow("vgg16", IMAGE, fused=True)
    parameters = sum(p.data.nbytes for p in graph.parameters())
    per_parameter = step_bytes(graph, RMSProp(), 1) - step_bytes(graph, SGD(), 1)
    assert per_parameter == parameters  # the square as well as the velocity
    graph.freeze_prefix(5)
    ahead = step_bytes(graph, RMSProp(), 1)
    assert ahead < 4.5 * parameters


def test_evaluation_keeps_nothing():
    graph = grow("resnet56", IMAGE, fused=True)
    assert step_memory(graph, 100, train=False)[:2] == (0, 0)
    assert step_memory(graph, 100, train=False).held < 0.3 * step_memory(graph, 100).held


def test_a_dry_run_leaves_the_graph_as_it_was():
    graph = grow("vgg16-bn", IMAGE, fused=True)
    x, labels = batch(2)
    step(graph, x, labels)
    before, gradients = snapshot(graph), [p.grad for p in graph.parameters()]
    step_memory(graph, 64)
    step_memory(graph, 64, train=False)
    assert_same_state(graph, before)
    assert all(p.grad is gradient for p, gradient in zip(graph.parameters(), gradients, strict=True))
    assert not graph.holds_activations
    step(graph, x, labels)


def test_a_dry_run_between_the_passes_is_refused():
    graph = grow("resnet8", IMAGE, fused=True)
    graph.forward(batch(1)[0], train=True)
    with pytest.raises(RuntimeError, match="holds activations"):
        step_memory(graph, 4)
    with pytest.raises(ValueError, match="a batch of 0"):
        step_memory(grow("resnet8", IMAGE), 0)


def test_a_dry_run_on_another_backend():
    use("reference")
    graph = grow("resnet8", IMAGE)
    use("cpu")
    assert step_memory(graph, 5).kept == step_memory(grow("resnet8", IMAGE), 5).kept


PEAK = """
import ctypes, gc, re, sys
from incnet.backend import free_memory
from incnet.cost import step_bytes
from incnet.optim import RMSProp
from incnet.threads import use_threads
from tests.networks import grow
from tests.test_cost import batch, step

def resident(what):
    return 1024 * int(re.search(rf"{what}:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

use_threads(1)
arch, n = sys.argv[1], int(sys.argv[2])
step(grow(arch, (32, 32, 3), fused=True), *batch(n // 8), RMSProp())  # loads the kernels
gc.collect()
free_memory()
ctypes.CDLL(None).malloc_trim(0)  # what that took goes back to the system
x, labels = batch(n)
before = resident("VmRSS")
graph, optimizer = grow(arch, (32, 32, 3), fused=True), RMSProp()
for _ in range(3):
    step(graph, x, labels, optimizer)
print(resident("VmHWM") - before, step_bytes(graph, optimizer, n) - x.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the resident set is read from /proc")
@pytest.mark.parametrize(("arch", "n"), [("resnet20", 256), ("resnet56", 64), ("vgg16", 32)])
def test_the_resident_set_of_a_step(arch, n):
    arguments = [sys.executable, "-c", PEAK, arch, str(n)]
    found = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=os.getcwd())
    measured, expected = map(int, found.stdout.split())
    assert measured == pytest.approx(expected, rel=0.1)
