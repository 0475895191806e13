"""The command line, run in this process on a few hundred digits."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from incnet import train as command
from incnet.run import epoch as epoch_module
from incnet.training import loop

SMALL = [
    "digits",
    "--arch",
    "resnet8",
    "--limit",
    "200",
    "--window",
    "2",
    "--lookahead-epochs",
    "1",
    "--lr",
    "1e-3",
    "--no-report",
]


def run(*arguments):
    return command.main([*SMALL, *map(str, arguments)])


def events(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    assert run("--epochs", 6, "--out", folder) == 0
    return folder


def test_every_subnetwork_comes_in_by_lookahead(finished):
    log = events(finished)
    assert [(e["subnetwork"], e["init"]) for e in log if e["event"] == "insert"] == [
        ("S1", "random"),
        ("S2", "lookahead"),
        ("S3", "lookahead"),
    ]
    epochs = [e for e in log if e["event"] == "epoch"]
    assert [(e["phase"], e["subnetworks"]) for e in epochs] == [
        ("train", 1),
        ("train", 1),
        ("lookahead", 2),
        ("train", 2),
        ("lookahead", 3),
        ("train", 3),
    ]
    assert [e["epoch"] for e in epochs] == [1, 2, 3, 4, 5, 6]
    assert log[-1]["event"] == "stop"


def test_training_cost_knows_what_was_frozen(finished):
    epochs = [e for e in events(finished) if e["event"] == "epoch"]
    spent = np.diff([0] + [e["macs_training"] for e in epochs])
    full, lookahead = spent[3], spent[2]
    assert lookahead < full
    # Forward of both parts; of the new one two gradients, but no input gradient at the boundary.
    assert epochs[2]["macs_inference"] == epochs[3]["macs_inference"]
    images = spent[2] // (lookahead // 180)
    assert images == 180


def test_summary(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert 0.3 < summary["test_accuracy"] <= 1  # of ten classes, after 36 steps
    assert summary["epochs"] == 6
    assert [stage["name"] for stage in summary["stages"]] == ["S1", "S2", "S3"]
    assert [stage["epochs"] for stage in summary["stages"]] == [2, 2, 2]
    assert summary["stages"][-1]["params"] == summary["params"]
    config = json.loads((finished / "config.json").read_text())
    assert config["config"]["batch_size"] == 32
    assert config["environment"]["numpy"] == np.__version__


def test_weights_are_saved_with_their_names(finished):
    weights = load_file(finished / "best.safetensors")
    assert "S3.block3_1.body.conv1.weight" in weights
    assert "S1.block1_1.stem.norm.running_var" in weights
    assert weights["classifier.linear.weight"].shape == (64, 10)


def test_one_seed_gives_one_history(finished, tmp_path):
    assert run("--epochs", 6, "--out", tmp_path / "two") == 0
    drop = {"seconds", "seconds_training", "seconds_compiling", "images_per_second"}
    first, second = (
        [{k: v for k, v in e.items() if k not in drop} for e in events(f)] for f in (finished, tmp_path / "two")
    )
    assert first == second
    ours, theirs = (load_file(f / "last.safetensors") for f in (finished, tmp_path / "two"))
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("options", "shown"),
    [(("--device", "reference"), "reference (1 thread"), (("--convolution", "im2col"), "cpu by im2col (")],
)
def test_other_ways_to_compute_learn_alike(options, shown, finished, tmp_path, capsys):
    """In the first epoch: later ones begin where rounding has led."""
    assert run(*options, "--epochs", 1, "--out", tmp_path / "run") == 0
    assert f"on {shown}" in capsys.readouterr().out
    found, expected = (events(folder)[1]["train_loss"] for folder in (tmp_path / "run", finished))
    assert found == pytest.approx(expected, rel=1e-4)
    assert command.main(["--resume", str(tmp_path / "run"), "--epochs", "2"]) == 0
    assert f"on {shown}" in capsys.readouterr().out
    assert [e["epoch"] for e in events(tmp_path / "run") if e["event"] == "epoch"] == [1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--threads", 2), "--threads 2: choose 1: --device reference computes on one thread"),
        (
            ("--batch-size", "auto", "--memory-limit", "1GB"),
            "--batch-size auto: choose a number: what --device reference",
        ),
    ],
)
def test_what_the_definitions_do_not_take_is_told(options, message, tmp_path, capsys):
    assert run("--device", "reference", *options, "--out", tmp_path / "run") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_another_seed_gives_another_history(finished, tmp_path):
    assert run("--epochs", 1, "--seed", 1, "--out", tmp_path / "run") == 0
    assert events(tmp_path / "run")[1]["train_loss"] != events(finished)[1]["train_loss"]


def test_a_folder_that_is_taken_is_refused_before_any_data_is_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    monkeypatch.setattr(command, "Run", None)
    assert run("--out", tmp_path / "run") == 2
    assert "the folder is not empty" in capsys.readouterr().err


def test_too_few_epochs_are_told_and_any_name_of_a_folder_is_shown(tmp_path, capsys):
    assert run("--epochs", 3, "--out", tmp_path / "run[lr=1][") == 0
    shown = capsys.readouterr().out
    assert "3 epochs are few: look-ahead and an epoch of training take 5 with all sub-networks" in shown
    assert "run[lr=1][" in shown
    assert run("--epochs", 5, "--out", tmp_path / "enough") == 0
    assert "are few" not in capsys.readouterr().out


def test_baseline_trains_everything_from_the_start(tmp_path):
    assert run("--epochs", 2, "--method", "baseline", "--out", tmp_path / "run") == 0
    log = events(tmp_path / "run")
    assert [e["subnetworks"] for e in log if e["event"] == "epoch"] == [3, 3]
    assert len(json.loads((tmp_path / "run" / "summary.json").read_text())["stages"]) == 1


def test_random_initialisation_has_no_lookahead(tmp_path):
    assert run("--epochs", 3, "--init", "random", "--out", tmp_path / "run") == 0
    assert {e["phase"] for e in events(tmp_path / "run") if e["event"] == "epoch"} == {"train"}


def test_resized_images_cost_more(finished, tmp_path):
    assert run("--epochs", 1, "--resize", 16, "--out", tmp_path / "run") == 0
    small, large = (next(e for e in events(f) if e["event"] == "epoch") for f in (finished, tmp_path / "run"))
    assert large["params"] == small["params"]
    # Four times as many pixels; only the classifier, 16 x 10, has as few multiply-adds as before.
    assert large["macs_inference"] == 4 * (small["macs_inference"] - 160) + 160


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resize", "7"], "--resize 7: the images of digits have 8 x 8 pixels"),
        (["--resize", "0"], "--resize 0: choose at most 1024"),
        (["--resize", "1025"], "--resize 1025: choose at most 1024"),
        (["--arch", "resnet21"], "depth 21: choose 6n + 2"),
        (["--arch", "alexnet"], "--arch alexnet: choose one of resnet20"),
        (["--gamma", "0"], "--gamma 0.0: choose a number above 0 and up to 1"),
        (["--gamma", "1.5"], "--gamma 1.5"),
        (["--window", "1"], "--window 1: choose at least 2"),
        (["--epochs", "0"], "--epochs 0"),
        (["--partition", "thirds"], "--partition thirds"),
        (["--partition", "depth:1"], "depth, depth:K with a number K of at least 2"),
        (["--partition", "depth"], "partition depth: for this network choose another one"),
        (["--init", "copy"], "--init copy: choose another, or --partition depth: with --partition filters nothing"),
        (["--partition", "40"], "partition 40: this network can be cut into 1 to 3"),
        (["--lookahead-epochs", "0"], "--lookahead-epochs 0"),
        (["--max-stage-epochs", "0"], "--max-stage-epochs 0"),
        (["--lr", "nan"], "--lr is nan, expected a finite number"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--device", "tpu"], "--device tpu"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    assert run(*arguments, "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_to_go_on_in_is_named_as_a_shell_takes_it(tmp_path, capsys):
    folder = tmp_path / "my run"
    folder.mkdir()
    (folder / "notes.txt").write_text("kept", encoding="utf-8")
    assert run("--out", folder) == 2
    assert f"go on with the run in it by --resume '{folder}'" in capsys.readouterr().err


def test_a_file_is_no_run_folder(tmp_path, capsys):
    file = tmp_path / "notes.txt"
    file.write_text("kept", encoding="utf-8")
    for out in (file, file / "run"):
        assert run("--out", out) == 2
        assert capsys.readouterr().err == f"error: --out {out}: Not a directory; choose a folder that can be written\n"
    assert file.read_text(encoding="utf-8") == "kept"


def test_unknown_data_set(capsys, tmp_path):
    assert command.main(["imagenet"]) == 2
    error = capsys.readouterr().err
    assert "unknown data set imagenet: choose one of digits" in error
    assert f"or a folder of pictures: none is at {Path('imagenet').absolute()}" in error
    table = tmp_path / "labels.csv"
    table.write_text("picture,class\n", encoding="utf-8")
    assert command.main([str(table)]) == 2
    assert (
        f"the data set {table} is a file: give a folder, with a folder of pictures for each" in capsys.readouterr().err
    )


def test_a_missing_data_folder(tmp_path, capsys):
    assert command.main(["cifar10", "--data-dir", str(tmp_path / "none")]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_a_used_run_folder_is_never_overwritten(finished, capsys):
    before = (finished / "metrics.jsonl").read_bytes()
    assert run("--epochs", 1, "--out", finished) == 2
    assert "not empty" in capsys.readouterr().err
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_a_run_folder_below_a_file_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run("--epochs", 1, "--out", tmp_path / "file" / "run") == 2
    assert "--out" in capsys.readouterr().err


def test_nan_stops_the_run_and_keeps_the_last_good_weights(tmp_path, monkeypatch, capsys):
    def poisoned(step, batches, **options):
        if run_epochs.append(1) or len(run_epochs) == 2:
            next(iter(step.graph.named_parameters()))[1].data[...] = np.nan
        return loop.train_epoch(step, batches, **options)

    run_epochs: list[int] = []
    monkeypatch.setattr(epoch_module, "train_epoch", poisoned)
    assert run("--epochs", 4, "--out", tmp_path / "run") == 3
    error = capsys.readouterr().err
    assert "epoch 2 (lookahead)" in error
    assert "S1.block1_1.stem.conv.weight" in error
    weights = load_file(tmp_path / "run" / "last.safetensors")
    assert all(np.isfinite(array).all() for array in weights.values())
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 1
