"""Runs that begin with the trained weights of a model: what is taken, what is trained first, and how they go on."""

import json
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from incnet.config import Config, ConfigError
from incnet.data import Dataset, Split
from incnet.data.digits import load_digits
from incnet.report.arms import networks
from incnet.report.course import course
from incnet.report.headline import headline
from incnet.report.reading import read_history
from incnet.run.run import Run
from incnet.run.start import FILE
from incnet.session import train_run
from incnet.train import main

OPTIONS = {"arch": "resnet8", "lookahead_epochs": 1, "lr": 1e-3, "limit": 200, "report": False}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run on digits, of which two of three sub-networks are in: stages S1 and S1-S2."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    train_run(Run(Config(dataset="digits", epochs=3, **OPTIONS).resolve()), folder, say=lambda line: None)
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def others(channels=1):
    """Digits under other names."""
    train = load_digits().train.take(slice(120))
    images = np.repeat(train.images, channels, axis=3)
    return Dataset("letters", tuple("abcdefghij"), Split(images, train.labels), Split(images[:20], train.labels[:20]))


def run(start, dataset=None, out="out", **options):
    run = Run(Config(**{"dataset": "digits", "start_from": start, **OPTIONS, **options}).resolve(), dataset)
    train_run(run, out, say=lambda line: None)
    return run


def model(begun, stage="S1-S2"):
    return load_file(begun / "stages" / f"{stage}.safetensors")


def events(folder, kind):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_of_the_same_classes_everything_that_fits(begun, tmp_path):
    """The first epoch goes on from where the model was; what it has not got comes later, with first weights."""
    started = run(begun, lr=1e-7, epochs=5, max_stage_epochs=3)
    assert (started.start.taken, started.start.classifier) == (("S1", "S2"), True)
    assert started.start.said[0].endswith("S1, S2, with batch norm's statistics, and the classifier")
    assert started.start.said[1] == "not taken: S3, since the model has no S3"
    inserted = events(tmp_path / "out", "insert")
    assert [(event["subnetwork"], event["init"]) for event in inserted] == [
        ("S1", "trained"),
        ("S2", "trained"),
        ("S3", "lookahead"),
    ]
    assert [(epoch["phase"], epoch["subnetworks"]) for epoch in events(tmp_path / "out", "epoch")] == [
        ("train", 2),
        ("train", 2),
        ("train", 2),
        ("lookahead", 3),
        ("train", 3),
    ]
    found, expected = load_file(tmp_path / "out" / "stages" / "S1-S2.safetensors"), model(begun)
    for name, array in expected.items():
        if "running" not in name:  # statistics are taken anew before each evaluation
            np.testing.assert_allclose(found[name], array, atol=1e-4, err_msg=name)
    history = read_history(tmp_path / "out")
    (network,) = networks([history])
    assert ", begun with trained weights, grown over S2 and S3, with" in headline(network)
    assert course(network.arms[0], history).steps[0].text.endswith("; with the weights of a trained model")
    content = json.loads((tmp_path / "out" / "config.json").read_text())
    assert content["start"]["taken"] == ["S1", "S2", "classifier"]
    assert content["start"]["model"] == str(begun / "stages" / "S1-S2.safetensors")
    assert re.fullmatch(r"[0-9a-f]{64}", content["start"]["sha256"])


def test_of_other_classes_all_but_the_classifier_which_is_trained_alone_first(begun, tmp_path):
    started = run(begun, others(), epochs=2, lookahead_epochs=2)
    assert started.start.said[1].startswith("not taken: the classifier, since the model tells others apart: 0, 1, 2")
    assert [(epoch["phase"], epoch["subnetworks"]) for epoch in events(tmp_path / "out", "epoch")] == [
        ("lookahead", 2)
    ] * 2
    found = load_file(tmp_path / "out" / "last.safetensors")
    for name, array in model(begun).items():
        if not name.startswith("classifier"):  # statistics, too, are the model's
            np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert np.abs(found["classifier.linear.weight"]).max() > 0


def test_then_everything_is_trained_and_the_network_grows(begun, tmp_path):
    run(begun / "stages" / "S1.safetensors", others(), epochs=6)
    phases = [(epoch["phase"], epoch["subnetworks"]) for epoch in events(tmp_path / "out", "epoch")]
    assert phases == [("lookahead", 1), ("train", 1), ("lookahead", 2), ("train", 2), ("lookahead", 3), ("train", 3)]
    found, begin = load_file(tmp_path / "out" / "stages" / "S1.safetensors"), model(begun, "S1")
    assert (found["S1.block1_1.stem.conv.weight"] != begin["S1.block1_1.stem.conv.weight"]).any()


def test_without_look_ahead_all_is_trained_at_once(begun, tmp_path):
    run(begun, others(), epochs=1, init="random")
    assert [epoch["phase"] for epoch in events(tmp_path / "out", "epoch")] == ["train"]


def test_a_baseline_has_its_other_sub_networks_at_once(begun, tmp_path):
    started = run(begun, epochs=2, method="baseline", lookahead_cache="fixed")
    assert not started.start.classifier  # it reads what S3 makes
    assert [(epoch["phase"], epoch["subnetworks"]) for epoch in events(tmp_path / "out", "epoch")] == [
        ("lookahead", 3),
        ("train", 3),
    ]
    assert [event["init"] for event in events(tmp_path / "out", "insert")] == ["trained", "trained", "random"]


# Going on.


def command(begun, epochs, out):
    options = ["--arch", "resnet8", "--lookahead-epochs", "1", "--lr", "1e-3", "--limit", "200", "--no-report"]
    return ["digits", *options, "--start-from", str(begun), "--epochs", str(epochs), "--out", out]


def test_it_goes_on_when_the_model_is_gone_bit_for_bit(begun, tmp_path, capsys):
    """From a checkpoint, and from the very beginning."""
    shutil.copytree(begun, "copy")
    assert main(command("copy", 2, "whole")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "S1-S2.safetensors: S1, S2, with batch norm's statistics, and the classifier" in said
    whole = (tmp_path / "whole" / "last.safetensors").read_bytes()
    shutil.rmtree("copy")
    for left in (1, 0):
        for checkpoint in sorted((tmp_path / "whole" / "checkpoints").iterdir())[left:]:
            checkpoint.unlink()
        (tmp_path / "whole" / "last.safetensors").unlink()
        assert main(["--resume", "whole"]) == 0
        assert (tmp_path / "whole" / "last.safetensors").read_bytes() == whole
    (tmp_path / "whole" / FILE).write_bytes((begun / "stages" / "S1.safetensors").read_bytes())
    assert main(["--resume", "whole"]) == 2
    assert "is another model than that which the run was begun with" in " ".join(capsys.readouterr().err.split())


# What cannot be taken.


def test_a_model_that_fits_nowhere_is_refused(begun):
    expected = r"nothing fits, since S1\.block1_1\.stem\.conv\.weight is \(3, 3, 1, 16\) in the model, \(3, 3, 3, 16\)"
    with pytest.raises(ConfigError, match=expected):
        run(begun, others(channels=3), epochs=1)
    with pytest.raises(ConfigError, match=r"resnet8 by 'filters': nothing fits, since the \w+ has no 'S1\."):
        run(begun, epochs=1, arch="vgg16")


def test_a_part_that_has_more_is_not_taken(begun):
    started = run(begun, epochs=1, arch="resnet8", shortcut="B")
    assert started.start.taken == ("S1",)
    assert "not taken: S2, S3, since the model has no 'S2.block2_1.shortcut" in started.start.said[-1]


@pytest.mark.parametrize(("name", "message"), [
    ("missing", r"--start-from \S+missing: No such file or directory; name a model, or a run folder"),
    (".", "holds no stages/S1.safetensors, which a run writes when the first stage ends"),
    ("damaged.safetensors", r"damaged\.safetensors: no model that can be used: "),
    ("weights.safetensors", "no model that can be used: it holds arrays, but does not say what they are"),
])  # fmt: skip
def test_what_is_no_model_is_refused_in_one_line_before_anything_is_made(begun, tmp_path, name, message, capsys):
    (tmp_path / "damaged.safetensors").write_bytes((begun / "stages" / "S1.safetensors").read_bytes()[:-100])
    shutil.copy(begun / "last.safetensors", "weights.safetensors")
    assert main(command(name, 1, "out")) == 2
    captured = capsys.readouterr()
    [line] = captured.err.splitlines()
    assert re.search(message, line)
    assert not (tmp_path / "out").exists()
