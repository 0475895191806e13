"""Training on a real GPU; ``bench.gpu`` runs these tests too. Skipped, and counted, where there is none."""

import math
import os
import re
import signal

import numpy as np
import pytest

from incnet import backend
from incnet import train as command
from incnet.backend import asarray, asnumpy, device_count, ops, recorder
from incnet.fusion import fuse
from incnet.graph import Graph
from incnet.models import build, make_classifier
from incnet.optim import RMSProp
from incnet.parallel.transport import nccl_version
from incnet.run import epoch as epoch_module
from incnet.run import network as network_module
from incnet.training import loop
from incnet.training.replay import Replay
from incnet.training.step import Step
from tests.faults.runs import ARGUMENTS, EVERY_STEP, Child, dropout_network, outcome
from tests.parallel.mpiexec import needs_mpi

from .one_rank import WAYS, state_after_steps
from .test_ranks import CASES, examine
from .test_training import NETWORKS, reference_run, train

pytestmark = pytest.mark.gpu

ON_GPU = ("--device", "gpu", *ARGUMENTS[: ARGUMENTS.index("--device")])
STEPS = 36  # of such a run


@pytest.fixture(autouse=True)
def _gpu():
    if not device_count():
        pytest.skip("needs a CUDA device")
    backend.use("cuda")


def resnet20():
    rng = np.random.default_rng(0)
    graph = Graph((32, 32, 3), lambda shape: make_classifier(shape, 10, rng=rng))
    for name, subnetwork in build("resnet20", (32, 32, 3), rng=rng).items():
        graph.insert(name, fuse(subnetwork))
    return graph


def batch(size):
    rng = np.random.default_rng(1)
    return asarray(rng.standard_normal((size, 32, 32, 3), np.float32)), asarray(rng.integers(0, 10, size))


@pytest.mark.parametrize("as_graph", [False, True], ids=["eager", "recorded"])
@pytest.mark.parametrize("make_network", NETWORKS)
def test_same_training_as_on_the_cpu(make_network, as_graph):
    losses, state = train(make_network, RMSProp, 10, graph_of_launches=as_graph)
    expected_losses, expected_state = reference_run(train, make_network, RMSProp, 10)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-9)
    for name, array in expected_state.items():
        np.testing.assert_allclose(state[name], array, rtol=1e-7, atol=1e-10, err_msg=name)


def test_launches_and_copies_of_a_recorded_step(record_property):
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="counts the nodes of a graph")
    graph, optimizer, (images, labels) = resnet20(), RMSProp(), batch(128)

    def step():
        graph.backward(ops.softmax_cross_entropy(graph.forward(images, train=True), labels)[1])
        optimizer.step(graph.trainable_parameters())

    call = recorder()(step)
    call()
    call()
    _, nodes, count = runtime.cudaGraphGetNodes(runtime.cudaGraph_t(call._graph.graph))
    if not nodes:  # asked for the number only
        _, nodes, _ = runtime.cudaGraphGetNodes(runtime.cudaGraph_t(call._graph.graph), count)
    kinds = [runtime.cudaGraphNodeGetType(node)[1] for node in nodes]
    copies = [node for node, kind in zip(nodes, kinds, strict=True) if kind.name.endswith("Memcpy")]
    within = runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
    assert all(runtime.cudaGraphMemcpyNodeGetParams(node)[1].kind == within for node in copies)
    launches = sum(kind.name.endswith("Kernel") for kind in kinds)
    record_property("launches", launches)
    assert 100 < launches <= 210


def test_recorded_steps_of_two_sizes_work_in_the_memory_of_one():
    import cupy  # is there, since the device is

    graph, optimizer, make = resnet20(), RMSProp(), recorder()
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    before, memory = pool.total_bytes(), []
    for size in (128, 72):
        images, labels = batch(size)

        def step(images=images, labels=labels):
            graph.backward(ops.softmax_cross_entropy(graph.forward(images, train=True), labels)[1])
            optimizer.step(graph.trainable_parameters())

        call = make(step)
        call()
        memory.append(pool.total_bytes() - before)
        call()
        memory.append(make.memory)
    launched_one_by_one, first, _, both = memory
    assert first <= 1.1 * launched_one_by_one
    assert both <= 1.05 * first


def test_replays_follow_the_size_of_the_batch():
    """Against plain launches: the weights after batches of two sizes in turn, bit for bit."""
    states = []
    for as_graph in (False, True):
        graph = resnet20()
        step = Replay(Step(graph, RMSProp()))
        for size in (32, 32, 24, 32, 24, 24, 32):
            if as_graph:
                step.gradients(*batch(size))
                step.update()
            else:
                step.step.backpropagate(*batch(size))
                step.step.update()
        states.append({name: asnumpy(array).tobytes() for name, array in graph.state().items()})
    assert states[0] == states[1]


def test_tf32_trains_alike():
    import cupy  # is there, since the device is

    if int(cupy.cuda.Device().compute_capability) < 80:
        pytest.skip("TF32 needs compute capability 8.0")
    found = []
    for tf32 in (False, True):
        backend.use("cuda", tf32=tf32)
        step, losses = Replay(Step(resnet20(), RMSProp(1e-5))), []
        for _ in range(5):
            losses.append(asnumpy(step.gradients(*batch(64)))[0])
            step.update()
        found.append(losses)
    assert found[0] != found[1]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-2)


# Several ranks, as far as one GPU can have them: NCCL refuses to connect two on the same.


@pytest.mark.parametrize("sync_bn", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_one_rank_takes_the_steps_of_a_process_alone(way, sync_bn):
    if way == "nccl" and nccl_version() is None:
        pytest.skip("NCCL is not installed")
    expected, found = state_after_steps(), state_after_steps(way, sync_bn)
    for name, array in expected.items():
        if sync_bn:  # statistics are put together from sums, and rounded otherwise
            np.testing.assert_allclose(found[name], array, rtol=1e-7, atol=1e-10, err_msg=name)
        else:
            assert found[name].tobytes() == array.tobytes(), name


@needs_mpi
@pytest.mark.parametrize("sums", WAYS)
def test_two_ranks_take_the_steps_of_one(sums):
    if sums == "nccl" and (nccl_version() is None or device_count() < 2):
        pytest.skip("needs NCCL, and a GPU for each of two ranks")
    for case, result in zip(CASES, examine(2, [case | {"sums": sums} for case in CASES], on="gpu"), strict=True):
        assert all(difference < 1e-8 for difference in result["differences"].values()), (case, result)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    if not device_count():
        pytest.skip("needs a CUDA device")
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert command.main([*ON_GPU, "--out", str(folder)]) == 0
    return folder


def test_one_seed_gives_one_history(finished, tmp_path):
    assert command.main([*ON_GPU, "--out", str(tmp_path / "again")]) == 0
    assert outcome(tmp_path / "again") == outcome(finished)


def in_sessions(folder, monkeypatch, every):
    """A run that a signal stops after so many steps, again and again, and that is resumed. Returns the sessions."""

    def interrupted(step, batches, *, after_step, **options):
        def count_down():
            steps.append(None)
            if len(steps) % every == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            after_step()

        return loop.train_epoch(step, batches, after_step=count_down, **options)

    monkeypatch.setattr(epoch_module, "train_epoch", interrupted)
    steps, sessions = [], 1
    code = command.main([*ON_GPU, "--out", str(folder)])
    while code == 128 + signal.SIGTERM:
        code, sessions = command.main(["--resume", str(folder)]), sessions + 1
    assert code == 0
    return sessions


def test_a_stopped_run_goes_on_bit_by_bit(finished, tmp_path, monkeypatch):
    assert in_sessions(tmp_path / "pieces", monkeypatch, 5) == math.ceil((STEPS + 1) / 5)
    assert outcome(tmp_path / "pieces") == outcome(finished)


def test_dropout_goes_on_with_the_masks_that_would_have_come(tmp_path, monkeypatch):
    monkeypatch.setattr(network_module, "build", dropout_network)
    assert command.main([*ON_GPU, "--out", str(tmp_path / "whole")]) == 0
    in_sessions(tmp_path / "pieces", monkeypatch, 7)
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")


def test_a_killed_run_ends_as_if_it_had_not_been(finished, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    for die_at in (150, 90):
        place = ("--resume", str(folder)) if (folder / "config.json").exists() else ("--out", str(folder))
        assert Child((*ON_GPU, *EVERY_STEP, *place), log, die_at=die_at).wait() == -signal.SIGKILL, log.read_text()
    assert command.main(["--resume", str(folder)]) == 0
    assert re.search("going on after", log.read_text())
    assert outcome(folder) == outcome(finished)
