"""Look-ahead on features that are computed once."""

import json
import signal
from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest

from incnet import train as command
from incnet.config import Config, ConfigError
from incnet.data import Augmentation, Loader, Normalisation, Split
from incnet.growth.features import Cache, LookaheadFeatures
from incnet.run import epoch as epoch_module
from incnet.run import network as network_module
from incnet.storage.spill import SpillStore
from incnet.training import loop
from tests.faults.runs import ARGUMENTS, dropout_network, history, outcome
from tests.metering import metering
from tests.small_networks import grow, randomise
from tests.training.test_resume import in_sessions, one_step_a_session

N, BATCH, FIRST = 22, 8, 5
THREE_EPOCHS = ("--lookahead-epochs", "3", "--epochs", "11", "--batch-size", "64")


def train(*arguments):
    assert command.main([*ARGUMENTS, *THREE_EPOCHS, *map(str, arguments)]) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("off", None), ("fixed", Cache(1, False)), ("views:1", Cache(1, True)), ("views:30", Cache(30, True))],
)
def test_options(text, expected):
    assert Cache.parse(text) == expected
    assert Config(lookahead_cache=text).resolve().cache() == expected


@pytest.mark.parametrize("text", ["", "on", "Fixed", "views", "views:", "views:0", "views:-1", "views:1.5", "views: 2"])
def test_other_options_are_refused(text):
    with pytest.raises(ConfigError, match=r"--lookahead-cache: .* is none of off, fixed, and views:V"):
        Config(lookahead_cache=text).resolve()


def test_features_that_depend_on_their_batch_cannot_be_cached():
    with pytest.raises(ConfigError, match="--lookahead-cache fixed: choose off, or --frozen-bn eval"):
        Config(lookahead_cache="fixed", frozen_bn="batch").resolve()


# Which features an epoch gets.


class Setting:
    """A frozen prefix and the images below it."""

    def __init__(self, tmp_path, cache, *, epochs=5, dtype="float32", memory=2**30):
        rng = np.random.default_rng(0)
        self.graph = randomise(grow("resnet8", (8, 8, 3), fused=True), rng)
        self.graph.freeze_prefix(2)
        split = Split(rng.integers(0, 256, (N, 8, 8, 3), np.uint8), np.arange(N) % 10)
        options = {"seed": 3, "prefetch": 0}
        augmentation = Augmentation(2, True)
        self.train = Loader(split, Normalisation.fit(split), BATCH, shuffle=True, augmentation=augmentation, **options)
        self.validation = Loader(split.take(slice(9)), Normalisation.fit(split), 4, **options)
        self.features = LookaheadFeatures(
            self.graph,
            self.train,
            self.validation,
            Cache.parse(cache),
            dtype=dtype,
            first=FIRST,
            epochs=epochs,
            store=SpillStore(memory, tmp_path),
        )

    def batches(self, index, start=0):
        with closing(self.features.train(index, start)) as batches:
            return [(x.copy(), labels.copy()) for x, labels in batches]

    def of_each_image(self, images, index):
        """Features by row of the images of an epoch, computed in its own batches."""
        computed = np.concatenate([self.graph.features(x.copy()) for x, _ in images.epoch(index)])
        by_row = np.empty_like(computed)
        by_row[images.order(index)] = computed
        return by_row


@pytest.mark.parametrize("memory", [2**30, 0], ids=["in memory", "in files"])
@pytest.mark.parametrize(
    ("cache", "views"), [("views:1", [0, 0, 0, 0, 0]), ("views:2", [0, 1, 0, 1, 0]), ("views:9", [0, 1, 2, 3, 4])]
)
def test_views_take_turns(cache, views, memory, tmp_path):
    setting = Setting(tmp_path, cache, memory=memory)
    for epoch, view in enumerate(views):
        expected = setting.of_each_image(setting.train, FIRST + view)
        order = setting.train.order(FIRST + epoch)
        batches = setting.batches(FIRST + epoch)
        assert [len(x) for x, _ in batches] == [8, 8, 6]
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), order % 10)
        np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), expected[order])
        assert setting.features.computes(FIRST + epoch) == (view == epoch)
    setting.features.close()
    assert list(tmp_path.iterdir()) == []


def test_fixed_features_are_those_of_the_images_as_they_are(tmp_path):
    setting = Setting(tmp_path, "fixed")
    plain = Loader(setting.train.split, setting.train.normalisation, N, seed=0)
    expected = setting.of_each_image(plain, 0)
    for epoch in range(3):
        x = np.concatenate([x for x, _ in setting.batches(FIRST + epoch)])
        np.testing.assert_allclose(x, expected[setting.train.order(FIRST + epoch)], rtol=1e-5, atol=1e-5)


def test_features_do_not_depend_on_the_batch_that_they_were_computed_in(tmp_path):
    setting = Setting(tmp_path, "fixed")
    images = np.concatenate([x.copy() for x, _ in setting.train.epoch(0)])
    alone = np.concatenate([setting.graph.features(images[i : i + 1]) for i in range(N)])
    np.testing.assert_allclose(setting.graph.features(images), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cache", ["fixed", "views:1", "views:9"])
def test_all_are_rounded_whether_they_are_kept_or_not(cache, tmp_path):
    exact, rounded = Setting(tmp_path, cache), Setting(tmp_path, cache, dtype="float16")
    for setting in (exact, rounded):
        setting.found = [x for epoch in range(3) for x, _ in setting.batches(FIRST + epoch)]
        setting.found += [x.copy() for _ in range(2) for x, _ in setting.features.validation()]
    for x, expected in zip(rounded.found, exact.found, strict=True):
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, expected.astype(np.float16))


def test_the_validation_images_are_computed_once(tmp_path):
    setting = Setting(tmp_path, "views:9")
    expected = [setting.graph.features(x) for x, _ in setting.validation.epoch(0)]
    for _ in range(3):
        found = [(x.copy(), labels) for x, labels in setting.features.validation()]
        for (x, _), features in zip(found, expected, strict=True):
            np.testing.assert_array_equal(x, features)
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), np.arange(9))
        setting.graph.features = None  # not called any more


@pytest.mark.parametrize("index", [FIRST, FIRST + 1, FIRST + 3])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_what_a_resumed_run_lost_is_computed_again(index, start, tmp_path):
    whole, resumed = Setting(tmp_path, "views:2"), Setting(tmp_path, "views:2")
    history = [whole.batches(FIRST + epoch) for epoch in range(5)]
    found = [resumed.batches(index, start), *(resumed.batches(later) for later in range(index + 1, FIRST + 5))]
    expected = history[index - FIRST :]
    expected[0] = expected[0][start:]
    for batches, others in zip(found, expected, strict=True):
        for (x, labels), (other_x, other_labels) in zip(batches, others, strict=True):
            np.testing.assert_array_equal(x, other_x)
            np.testing.assert_array_equal(labels, other_labels)


def test_an_epoch_that_ended_early_is_not_taken_for_complete(tmp_path):
    setting = Setting(tmp_path, "views:1")
    with closing(setting.features.train(FIRST)) as batches:
        next(batches)
    x = np.concatenate([x for x, _ in setting.batches(FIRST + 1)])
    expected = setting.of_each_image(setting.train, FIRST)
    np.testing.assert_array_equal(x, expected[setting.train.order(FIRST + 1)])


@pytest.mark.parametrize(("cache", "arrays"), [("fixed", 2), ("views:2", 3), ("views:4", 2), ("views:5", 1)])
def test_only_what_is_read_again_is_kept(cache, arrays, tmp_path):
    setting = Setting(tmp_path, cache, memory=0)
    for epoch in range(5):
        setting.batches(FIRST + epoch)
        list(setting.features.validation())
    assert len(list(tmp_path.iterdir())) == arrays


# Whole runs.


@pytest.mark.parametrize("network", ["residual", "dropout"])
def test_as_many_views_as_epochs_change_nothing(network, tmp_path, monkeypatch):
    if network == "dropout":
        monkeypatch.setattr(network_module, "build", dropout_network)
    train("--out", tmp_path / "off")
    train("--out", tmp_path / "views", "--lookahead-cache", "views:3", "--cache-memory", "1kB")
    assert outcome(tmp_path / "views") == outcome(tmp_path / "off")
    train("--out", tmp_path / "fewer", "--lookahead-cache", "views:2")
    assert outcome(tmp_path / "fewer") != outcome(tmp_path / "off")


@pytest.mark.parametrize(
    "arguments",
    [("fixed",), ("views:2", "--cache-memory", "0B"), ("views:1", "--cache-dtype", "float16")],
    ids=["fixed", "two views in files", "one view in float16"],
)
def test_stopped_after_every_step(arguments, tmp_path, monkeypatch):
    options = (*THREE_EPOCHS, "--lookahead-cache", *arguments)
    train("--out", tmp_path / "whole", "--lookahead-cache", *arguments)
    one_step_a_session(monkeypatch)
    assert in_sessions(tmp_path / "pieces", *options) == 11 * 3 + 1
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")
    assert not list(tmp_path.rglob("*.tmp"))


def test_files_are_there_during_a_lookahead_only(tmp_path, monkeypatch):
    seen = {}
    evaluate = epoch_module.evaluate

    def watched(graph, batches, **options):
        metrics = evaluate(graph, batches, **options)
        seen.setdefault(graph.boundary > 0, set()).add(len(list(tmp_path.glob("*.tmp"))))
        return metrics

    monkeypatch.setattr(epoch_module, "evaluate", watched)
    train("--out", tmp_path, "--lookahead-cache", "views:2", "--cache-memory", "0B")
    # In look-ahead the first of the two views, and the validation images.
    assert seen == {True: {2}, False: {0}}


def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    train("--out", tmp_path / "run", "--lookahead-cache", "fixed")
    (tmp_path / "run" / "array1.tmp").write_bytes(bytes(100))
    assert command.main(["--resume", str(tmp_path / "run"), "--cache-memory", "5GB"]) == 0
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_stopped_run_leaves_no_file(tmp_path, monkeypatch):
    one_step_a_session(monkeypatch)
    code = command.main([*ARGUMENTS, *THREE_EPOCHS, "--out", str(tmp_path), "--lookahead-cache", "fixed"])
    while code == 128 + signal.SIGTERM:
        assert not list(tmp_path.rglob("*.tmp"))
        code = command.main(["--resume", str(tmp_path), "--cache-memory", "0B"])
    assert code == 0


def test_a_rollback_within_a_lookahead_begins_with_a_new_cache(tmp_path, monkeypatch):
    def poisoned(step, batches, *, running, **options):
        def spoilt():
            for x, labels in batches:
                bad = step.from_features and step.optimizer.lr == 3e-4 and running.batches == 1 and len(epochs) > 4
                yield x + np.float32(np.inf) if bad else x, labels

        epochs.append(step.from_features)
        return loop.train_epoch(step, spoilt(), running=running, **options)

    monkeypatch.setattr(epoch_module, "train_epoch", poisoned)
    found = []
    for memory in ("0B", "1GB"):
        epochs: list[bool] = []
        folder = tmp_path / memory
        train("--out", folder, "--lookahead-cache", "fixed", "--cache-memory", memory, "--on-nonfinite", "rollback")
        assert [event["retry"] for event in history(folder) if event["event"] == "rollback"] == [1]
        assert epochs.count(True) == 2 * 3 + 1  # two look-aheads, and the epoch that failed
        found.append(outcome(folder))
    assert found[0] == found[1]
    assert not list(tmp_path.rglob("*.tmp"))


# The ledger.


def test_the_prefix_runs_where_it_is_said_to_run(tmp_path):
    setting = Setting(tmp_path, "views:2")
    setting.graph = setting.features._views[0].prefix.graph = grow("resnet8", (8, 8, 3))  # fused steps are not metered
    setting.graph.freeze_prefix(2)
    assert setting.graph.prefix_macs > 0
    for epoch in range(5):
        with metering() as meter:
            setting.batches(FIRST + epoch)
        computed = setting.graph.prefix_macs * N if setting.features.computes(FIRST + epoch) else 0
        assert meter.macs == {"forward": computed, "weight_grad": 0, "input_grad": 0}


def test_the_ledger_counts_the_prefix_once(tmp_path):
    spent = {}
    for cache in ("off", "views:2"):
        train("--out", tmp_path / cache, "--lookahead-cache", cache)
        epochs = [event for event in history(tmp_path / cache) if event["event"] == "epoch"]
        totals = [0, *(epoch["macs_training"] - epoch["macs_recalibration"] for epoch in epochs)]
        spent[cache] = [after - before for before, after in pairwise(totals)]
    phases = [(epoch["phase"], epoch["subnetworks"]) for epoch in epochs]
    saved = dict.fromkeys(phases, 0)
    for phase, off, cached in zip(phases, spent["off"], spent["views:2"], strict=True):
        saved[phase] += off - cached
    images = json.loads((tmp_path / "off" / "config.json").read_text())["config"]["limit"] * 9 // 10
    lowest = next(e["macs_inference"] for e in epochs if e["subnetworks"] == 1)
    assert saved["lookahead", 2] == images * (lowest - 160)  # less the classifier on 16 channels
    assert all((value > 0) == (phase == "lookahead") for (phase, _), value in saved.items())
