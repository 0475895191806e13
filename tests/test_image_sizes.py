"""Training images that grow over a run."""

import json

import pytest

from incnet import train as command
from incnet.config import Config, ConfigError
from incnet.deploy.model import load_model
from incnet.image_sizes import ImageSizes
from incnet.report.arms import networks
from incnet.report.reading import read_history
from incnet.report.tables import stages
from incnet.run import epoch as epoch_module
from incnet.training.loop import train_epoch
from incnet.training.recalibration import recalibrate
from tests.faults.runs import ARGUMENTS, EVERY_STEP, history, outcome
from tests.training.test_resume import in_sessions, one_step_a_session

GROWING = ("--image-sizes", "4,6,8")


def train(folder, *arguments):
    return command.main([*ARGUMENTS, *arguments, "--out", str(folder)])


def epochs(folder):
    return [event for event in history(folder) if event["event"] == "epoch"]


@pytest.mark.parametrize(
    ("text", "budget", "expected"),
    [
        ("16,24,32", 12, [16] * 4 + [24] * 4 + [32] * 4),
        ("16,24,32", 11, [16] * 3 + [24] * 3 + [32] * 5),
        ("16,24,32", 3, [16, 24, 32]),
        ("16:1,24:2,32", 6, [16, 24, 24, 32, 32, 32]),
        ("16:33%,24:25%,32", 12, [16] * 4 + [24] * 3 + [32] * 5),
        ("16:33%,24:25%,32", 24, [16] * 8 + [24] * 6 + [32] * 10),
        ("16:1%,32", 3, [16, 32, 32]),
        ("32", 2, [32, 32]),
    ],
)
def test_sizes_share_the_epochs(text, budget, expected):
    sizes = ImageSizes.parse(text, budget)
    assert [sizes.at(epoch) for epoch in range(budget)] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_sizes": "16,twenty"}, "--image-sizes: '16,twenty' does not have the form 16,24,32"),
        ({"image_sizes": ""}, "--image-sizes: '' does not have the form"),
        ({"image_sizes": "0,8"}, "does not have the form"),
        ({"image_sizes": "4:,8"}, "does not have the form"),
        ({"image_sizes": "4,8:3"}, "does not have the form"),
        ({"image_sizes": "4:%,8"}, "does not have the form"),
        ({"image_sizes": "4:100%,8"}, "the smaller sizes take 30 of 30 epochs"),
        ({"image_sizes": "6,4,8"}, "--image-sizes: 6,4,8: choose sizes that rise"),
        ({"image_sizes": "4:20,6:10,8"}, "the smaller sizes take 30 of 30 epochs; leave one to the last"),
        ({"image_sizes": "4,6,8", "epochs": 2}, "the smaller sizes take 2 of 2 epochs"),
        ({"image_sizes": "4,8", "lookahead_cache": "fixed"}, "--lookahead-cache fixed: choose off, or leave out"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        Config(**options).resolve()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--image-sizes", "4,6"), "--image-sizes 4,6: the images have 8 x 8 pixels; end with that"),
        (("--image-sizes", "8,16"), "--image-sizes 8,16: the images have 8 x 8 pixels; end with that"),
        (
            ("--image-sizes", "32,64", "--resize", "64", "--arch", "vgg16"),
            "vgg16 for images of 64 pixels takes none of 32: Linear expects rows of 2048 features",
        ),
    ],
)
def test_images_that_do_not_go_with_it_are_refused_at_the_beginning(arguments, message, tmp_path, capsys):
    assert train(tmp_path / "run", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_small_images_are_for_training_steps_alone(tmp_path, monkeypatch):
    seen = {"train": [], "recalibrate": []}

    def looking(kind, batches):
        for images, labels in batches:
            seen[kind].append(images.shape[1:])
            yield images, labels

    monkeypatch.setattr(
        epoch_module, "train_epoch", lambda step, batches, **rest: train_epoch(step, looking("train", batches), **rest)
    )
    monkeypatch.setattr(
        epoch_module,
        "recalibrate",
        lambda graph, batches, **rest: recalibrate(graph, looking("recalibrate", batches), **rest),
    )
    assert train(tmp_path / "run", *GROWING, "--epochs", "7", "--window", "2", "--gamma", "1") == 0
    log = epochs(tmp_path / "run")
    assert [epoch["image_size"] for epoch in log] == [4, 4, 6, 6, 8, 8, 8]  # to the end, though the rule would stop
    assert seen["train"] == [(epoch["image_size"],) * 2 + (1,) for epoch in log for _ in range(6)]
    assert set(seen["recalibrate"]) == {(8, 8, 1)}
    (network,) = networks([read_history(tmp_path / "run")])
    table = stages(network.arms[0])
    column = table.columns.index("images, pixels")
    assert [row[column] for row in table.rows] == ["4", "6", "8"]
    for stage in (tmp_path / "run" / "stages").iterdir():
        model = load_model(stage)
        assert (model.image_shape, model.graph.input_shape) == ((8, 8, 1), (8, 8, 1))


@pytest.mark.parametrize("method", ["incremental", "baseline"])
def test_a_run_in_many_sessions_is_the_same(method, tmp_path, monkeypatch):
    arguments = (*GROWING, "--method", method, "--batch-size", "64")
    assert train(tmp_path / "whole", *arguments) == 0
    one_step_a_session(monkeypatch)
    assert in_sessions(tmp_path / "parts", *arguments, *EVERY_STEP) > 6
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def test_recorded_steps_are_those_that_are_not(tmp_path, monkeypatch):
    """At a constant rate recordings of all sizes are kept."""
    assert train(tmp_path / "recorded", *GROWING, "--method", "baseline") == 0
    monkeypatch.setattr(epoch_module, "Replay", lambda step: step)
    assert train(tmp_path / "eager", *GROWING, "--method", "baseline") == 0
    assert outcome(tmp_path / "recorded") == outcome(tmp_path / "eager")


def test_memory_that_is_limited_suffices_at_every_size(tmp_path):
    """Batches are planned for images of full size."""
    auto = ("--batch-size", "auto", "--memory-limit", "4MB", "--max-batch-size", "64")
    assert train(tmp_path / "growing", *GROWING, *auto) == 0
    assert train(tmp_path / "whole", *auto) == 0
    growing, whole = (
        [event["batch_size"] for event in history(folder) if event["event"] == "insert"]
        for folder in (tmp_path / "growing", tmp_path / "whole")
    )
    assert growing == whole


def test_more_epochs_on_resuming(tmp_path, capsys):
    """Where the sizes share them that would be another run; where they have their own it is not."""
    for name, sizes in (("shared", "4,8"), ("own", "4:2,8")):
        assert train(tmp_path / name, "--image-sizes", sizes, "--method", "baseline", "--epochs", "4") == 0
    assert command.main(["--resume", str(tmp_path / "shared"), "--epochs", "6"]) == 2
    assert "--epochs 6: the images of this run grow over its 4 epochs, which may not grow" in capsys.readouterr().err
    assert command.main(["--resume", str(tmp_path / "own"), "--epochs", "6"]) == 0
    assert [epoch["image_size"] for epoch in epochs(tmp_path / "own")] == [4, 4, 8, 8, 8, 8]


def test_a_run_of_before_had_images_of_one_size(tmp_path):
    assert train(tmp_path / "run", "--method", "baseline", "--epochs", "2") == 0
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text())
    del content["config"]["image_sizes"]
    path.write_text(json.dumps(content))
    assert command.main(["--resume", str(tmp_path / "run"), "--epochs", "3"]) == 0
    assert [epoch["image_size"] for epoch in epochs(tmp_path / "run")] == [8, 8, 8]


def test_what_is_shown(tmp_path, capsys):
    assert train(tmp_path / "run", *GROWING, "--method", "baseline", "--epochs", "5") == 0
    lines = map(str.split, capsys.readouterr().out.splitlines())
    shown = [" ".join(words[:3] if words[0] == "images" else words[:2]) for words in lines if words]
    begin = shown.index("images of 4")
    assert shown[begin : begin + 6] == ["images of 4", "epoch 1", "images of 6", "epoch 2", "images of 8", "epoch 3"]
    assert shown[begin + 6] == "epoch 4"
