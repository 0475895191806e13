"""Batch size and learning rate for each stage."""

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from incnet import train as command
from incnet.config import Config, ConfigError
from incnet.data import Loader, Normalisation, Split
from incnet.graph import Graph
from incnet.kernels.cpu import blocks, memory
from incnet.memory import network_bytes, pool_bytes, step_memory
from incnet.optim import RMSProp
from incnet.run.memory_plan import largest_batch, plan_batches, round_batch, training_memory
from incnet.run.run import Run
from incnet.storage.folder import RunFolder
from incnet.training.events import Epoch
from tests.faults.runs import ARGUMENTS, history, outcome
from tests.small_networks import grow
from tests.training.test_resume import in_sessions, one_step_a_session

AUTO = ("--batch-size", "auto", "--memory-limit", "4MB", "--max-batch-size", "64")


def train(*arguments):
    assert command.main([*ARGUMENTS, *map(str, arguments)]) == 0


def insertions(folder):
    return [event for event in history(folder) if event["event"] == "insert"]


def test_rounding():
    assert [round_batch(n) for n in (1, 7, 15, 16, 17, 31, 33, 63, 100, 127, 129, 500, 1000)] == [
        *(1, 7, 15, 16, 16, 30, 32, 60, 96, 120, 128, 480, 960),
    ]
    assert all(round_batch(n) > 7 / 8 * n for n in range(1, 5000))


@pytest.mark.parametrize("most", [1, 6, 100, 1024])
@pytest.mark.parametrize("limit", [0, 1, 99, 100, 110, 5_000, 10**9])
def test_the_largest_that_fits(limit, most):
    fitting = [n for n in range(1, most + 1) if 90 + 10 * n <= limit and round_batch(n) == n]
    assert largest_batch(lambda images: 90 + 10 * images, limit, most) == max(fitting, default=None)


# The plan.


@pytest.fixture
def loaders(rng):
    split = Split(rng.integers(0, 256, (500, 32, 32, 3), np.uint8), np.zeros(500, np.int64))
    normalisation = Normalisation.fit(split)
    return (
        Loader(split, normalisation, 1, seed=0),
        Loader(split.take(slice(30)), normalisation, 30, seed=0),
    )


def plan(loaders, limit, **options):
    whole = grow("resnet20", (32, 32, 3), fused=True)
    graph, subnetworks = Graph(whole.input_shape, whole._make_classifier), whole.subnetworks
    planned = plan_batches(graph, subnetworks, RMSProp(), *loaders, limit=limit, **{"most": 1000, **options})
    return {name: stage.batch_size for name, stage in planned.items()}, subnetworks


def test_batches_shrink_as_the_network_grows(loaders):
    sizes, _ = plan(loaders, 100_000_000)
    assert list(sizes) == ["S1", "S2", "S3"]
    assert sizes["S1"] > sizes["S2"] >= sizes["S3"] > 20
    doubled, _ = plan(loaders, 200_000_000)
    assert all(1.7 * sizes[name] < doubled[name] < 2.4 * sizes[name] for name in sizes)


def test_the_next_larger_batch_would_not_fit(loaders):
    limit = 100_000_000
    sizes, subnetworks = plan(loaders, limit)
    graph = Graph((32, 32, 3), grow("resnet20", (32, 32, 3))._make_classifier)
    graph.insert("S1", subnetworks["S1"])
    waiting = [subnetworks["S2"], subnetworks["S3"]]
    takes = {n: training_memory(graph, RMSProp(), *loaders, waiting, n).total for n in (sizes["S1"], sizes["S1"] + 16)}
    assert takes[sizes["S1"]] <= limit < takes[sizes["S1"] + 16]


def test_bounds(loaders):
    assert set(plan(loaders, 10**12)[0].values()) == {480}  # of 500 images
    assert set(plan(loaders, 10**12, most=50)[0].values()) == {48}
    with pytest.raises(ValueError, match=r"steps of one image take up to [\d.]+ MB") as error:
        plan(loaders, 10)
    needed = int(1e6 * float(re.search(r"([\d.]+) MB", str(error.value))[1]))
    assert plan(loaders, needed + 50_000)[0]["S3"] >= 1
    with pytest.raises(ValueError, match="steps of one image"):
        plan(loaders, needed - 60_000)


def test_a_baseline_begins_with_the_batch_of_the_whole_network(loaders):
    growing, whole = plan(loaders, 100_000_000)[0], plan(loaders, 100_000_000, together=3)[0]
    assert set(whole.values()) == {growing["S3"]}


def test_what_is_counted(loaders):
    graph, optimizer = grow("resnet20", (32, 32, 3), fused=True), RMSProp()
    weights = sum(array.nbytes for array in graph.state().values())
    alone = training_memory(graph, optimizer, *loaders, [], 64)
    with_another = training_memory(graph, optimizer, *loaders, [graph.subnetworks["S3"]], 64)
    assert with_another.pool == alone.pool == pool_bytes(graph, [64, 52], [30])
    assert with_another.beside - alone.beside == sum(a.nbytes for a in graph.subnetworks["S3"].state().values())
    images = 64 * 32 * 32 * 3 * 4
    assert alone.pool >= step_memory(graph, 64).held - 1.2 * images
    assert alone.beside == network_bytes(graph, optimizer) + weights + 3 * images + 64 * 64 * 9
    assert alone.total == alone.pool + alone.beside


def test_a_look_ahead_that_takes_more_than_all_that_follows(loaders):
    """Frozen layers between others are computed one by one, in arrays of other sizes than those of evaluation."""
    graph = grow("resnet20", (32, 32, 3), split="depth", fused=True)
    whole, ahead = (training_memory(graph, RMSProp(), *loaders, [], 4, frozen=frozen).pool for frozen in (0, 1))
    graph.freeze_prefix(1)
    assert ahead == pool_bytes(graph, [4], [30]) > whole


# Whole runs.


def test_batch_and_rate_of_each_stage_are_written_down(tmp_path):
    train("--out", tmp_path, *AUTO, "--scale-lr", "sqrt")
    sizes = [event["batch_size"] for event in insertions(tmp_path)]
    assert len(sizes) == 3
    assert 64 >= sizes[0] > sizes[2] >= 2
    rates = [event["lr"] for event in insertions(tmp_path)]
    assert rates == pytest.approx([3e-4 * math.sqrt(size / 32) for size in sizes])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [stage["batch_size"] for stage in summary["stages"]] == sizes


def test_the_pool_keeps_to_the_plan_in_every_stage(tmp_path, monkeypatch):
    pool = blocks.Pool()
    monkeypatch.setattr(memory, "POOL", pool)
    memory.WORKSPACE.free()
    options = {"lookahead_epochs": 1, "max_stage_epochs": 3, "epochs": 9, "window": 2, "limit": 180}
    config = Config("digits", "resnet8", batch_size="auto", memory_limit="4MB", max_batch_size=64, **options).resolve()
    run, held = Run(config), {}

    def note(event):
        if isinstance(event, Epoch):
            held[event.subnetworks] = max(held.get(event.subnetworks, 0), pool.peak_held)

    with RunFolder.create(tmp_path / "run", {"config": config.as_json()}) as folder:
        run.train(folder, listeners=[SimpleNamespace(event=note)])
    planned = [stage.pool for stage in run.plan.values()]
    assert list(held) == [1, 2, 3]
    for most, limit in zip(held.values(), planned, strict=True):
        assert 0.8 * limit < most <= limit
    assert pool.limit is None
    assert pool.waiting_bytes == 0


def test_a_fixed_batch_is_the_same_in_all_stages(tmp_path):
    train("--out", tmp_path, "--batch-size", 16, "--scale-lr", "linear")
    assert [(event["batch_size"], event["lr"]) for event in insertions(tmp_path)] == [(16, 1.5e-4)] * 3


def test_steps_learn_from_as_many_images_as_planned(tmp_path, monkeypatch):
    from incnet.run import epoch as epoch_module
    from incnet.training import loop

    seen = []

    def watched(step, batches, **options):
        def counted():
            for images, labels in batches:
                seen.append((len(step.graph.subnetworks), len(images), step.optimizer.lr))
                yield images, labels

        return loop.train_epoch(step, counted(), **options)

    monkeypatch.setattr(epoch_module, "train_epoch", watched)
    train("--out", tmp_path, *AUTO, "--scale-lr", "linear", "--lookahead-cache", "fixed", "--lookahead-epochs", "2")
    for number, event in enumerate(insertions(tmp_path), start=1):
        assert max(images for k, images, _ in seen if k == number) == event["batch_size"]
        assert {lr for k, _, lr in seen if k == number} == {event["lr"]}


def test_stopped_after_every_step(tmp_path, monkeypatch):
    train("--out", tmp_path / "whole", *AUTO, "--scale-lr", "sqrt")
    one_step_a_session(monkeypatch)
    sizes = [event["batch_size"] for event in insertions(tmp_path / "whole")]
    assert in_sessions(tmp_path / "pieces", *AUTO, "--scale-lr", "sqrt") == 1 + sum(2 * -(-180 // n) for n in sizes)
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")


def test_a_retry_halves_the_rate_of_the_stage(tmp_path):
    run = Run(Config(arch="resnet8", limit=100, scale_lr="sqrt", batch_size=128).resolve())
    run.state.graph.insert("S1", run.state.subnetworks["S1"])
    run.begin_stage()
    assert run.state.optimizer.lr == pytest.approx(6e-4)
    run.state.rollbacks = 2
    run.apply_stage_settings()
    assert run.state.optimizer.lr == pytest.approx(1.5e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": "auto"}, "--batch-size auto: choose a --memory-limit with it"),
        ({"memory_limit": "1GB"}, "--memory-limit 1GB: choose --batch-size auto to go with it"),
        ({"batch_size": "auto", "memory_limit": "lots"}, "--memory-limit: 'lots' is no size"),
        ({"batch_size": "auto", "memory_limit": "1GB", "max_batch_size": 0}, "--max-batch-size 0: choose at least 1"),
        ({"batch_size": 0}, "--batch-size 0: choose at least 1, or auto"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Config(**options).resolve()


def test_too_little_memory_is_said_before_the_run_begins(tmp_path, capsys):
    arguments = [*ARGUMENTS, "--batch-size", "auto", "--memory-limit", "100kB", "--out", str(tmp_path / "run")]
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert re.search(r"--memory-limit 100kB: steps of one image take up to [\d.]+ MB; allow more", error)
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_configuration_survives_its_json():
    for size in ("auto", 48):
        limit = "1GB" if size == "auto" else None
        config = Config(batch_size=size, memory_limit=limit).resolve()
        assert Config.from_json(json.loads(json.dumps(config.as_json()))) == config
    with pytest.raises(ConfigError, match=r"config.batch_size is 'fast', expected int"):
        Config.from_json(config.as_json() | {"batch_size": "fast"})
