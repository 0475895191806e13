"""Memory that a dry run finds against bytes that are really held, and the pool's own accounts."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from incnet.backend import free_memory, limit_memory, ops, use
from incnet.kernels.cpu import blocks, dry_run, memory
from incnet.kernels.operands import OuterProduct
from incnet.memory import pool_bytes, step_bytes, step_memory
from incnet.models import ARCHITECTURES
from incnet.optim import SGD, RMSProp
from tests.small_networks import IMAGE, assert_same_state, batch, grow, snapshot, step


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
from incnet.memory import step_bytes
from incnet.optim import RMSProp
from incnet.threads import use_threads
from tests.small_networks import batch, grow, step

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
