"""Stages on the test images: once, when training is over, and whatever came before."""

import json

import numpy as np
import pytest

from incnet import train
from incnet.config import Config
from incnet.data.catalogue import load_dataset
from incnet.data.dataset import Dataset, Split
from incnet.deploy import load_model
from incnet.run import network as network_module
from incnet.run import testing
from incnet.run.run import Run
from incnet.run.testing import evaluate_stages
from incnet.storage.folder import RunFolder
from incnet.training.evaluation import unpack_evaluation
from tests.faults.runs import ARGUMENTS, dropout_network


def read(folder):
    return unpack_evaluation((folder / "test.json").read_bytes())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train.main([*ARGUMENTS, "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("options", [(), ("--resize", "12", "--epochs", "4")], ids=["as they are", "resized"])
def test_each_stage_is_tested_as_its_model_answers(options, tmp_path):
    folder = tmp_path / "run"
    assert train.main([*ARGUMENTS, *options, "--out", str(folder)]) == 0
    tested, test = read(folder), load_dataset("digits").test
    assert (tested.images, tested.classes) == (359, [str(digit) for digit in range(10)])
    summary = json.loads((folder / "summary.json").read_text())
    assert [stage.accuracy for stage in tested.stages] == [stage["test_accuracy"] for stage in summary["stages"]]
    assert (summary["test_accuracy"], summary["test_images"]) == (tested.accuracy, 359)
    models = sorted((folder / "stages").iterdir(), key=lambda path: len(path.name))
    assert len(models) == len(tested.stages) >= 2
    for path, stage in zip(models, tested.stages, strict=True):
        probabilities = load_model(path).predict(test.images)
        confusion = np.zeros((10, 10), int)
        for label, answer in zip(test.labels, probabilities.argmax(axis=1), strict=True):
            confusion[label, answer] += 1
        assert stage.confusion == confusion.tolist()
        assert stage.loss == pytest.approx(-np.log(probabilities[np.arange(359), test.labels]).mean(), rel=1e-4)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != test.labels)
    surest = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:24]
    assert [mistake.index for mistake in tested.mistakes] == surest.tolist()
    for mistake in tested.mistakes:
        assert mistake.label == test.labels[mistake.index]
        assert mistake.probability == pytest.approx(probabilities[mistake.index, mistake.predicted], rel=1e-4)
        assert (mistake.image == test.images[mistake.index]).all()


def test_no_decision_sees_the_test_images(tmp_path):
    """They are replaced by noise: everything but the test is as it was."""
    digits = load_dataset("digits")
    noise = np.random.default_rng(0).integers(0, 256, digits.test.images.shape).astype(np.uint8)
    config = Config(
        arch="resnet8", limit=200, epochs=4, window=2, lookahead_epochs=1, threads=1, device="cpu"
    ).resolve()
    events, accuracies = [], []
    for name, test in (("digits", digits.test), ("noise", Split(noise, digits.test.labels))):
        run = Run(config, Dataset("digits", digits.classes, digits.train, test, name))
        with RunFolder.create(tmp_path / name, {"config": config.as_json()}) as folder:
            run.train(folder)
            assert not (tmp_path / name / "test.json").exists()
            accuracies.append(evaluate_stages(run.state, run.networks, run.images, folder).accuracy)
        lines = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        events.append([line.get("val_accuracy") for line in lines])
    assert events[0] == events[1]
    assert accuracies[0] != accuracies[1]


def test_weights_are_tested_once(finished, monkeypatch):
    before = (finished / "test.json").read_bytes()
    monkeypatch.setattr(testing, "_logits", lambda *_: pytest.fail("tested again"))
    assert train.main(["--resume", str(finished)]) == 0
    assert (finished / "test.json").read_bytes() == before


def test_a_damaged_file_is_made_anew(finished):
    before = (finished / "test.json").read_bytes()
    (finished / "test.json").write_bytes(before[:-100])
    assert train.main(["--resume", str(finished)]) == 0
    assert (finished / "test.json").read_bytes() == before


def test_a_stage_whose_model_is_lost_costs_the_others_nothing(finished):
    (finished / "test.json").unlink()
    (finished / "stages" / "S1.safetensors").write_bytes(b"damaged")
    assert train.main(["--resume", str(finished)]) == 0
    assert [stage.name for stage in read(finished).stages] == ["S2", "S3"]
    summary = json.loads((finished / "summary.json").read_text())
    assert [stage["test_accuracy"] is None for stage in summary["stages"]] == [True, False, False]


def test_an_own_network(tmp_path, monkeypatch):
    monkeypatch.setattr(network_module, "build", dropout_network)
    folder = tmp_path / "run"
    assert train.main([*ARGUMENTS, "--out", str(folder)]) == 0
    assert [stage.name for stage in read(folder).stages] == ["S1", "S2", "S3"]


def test_a_baseline_has_one_stage(tmp_path):
    folder = tmp_path / "run"
    assert train.main([*ARGUMENTS, "--method", "baseline", "--epochs", "1", "--out", str(folder)]) == 0
    assert [stage.name for stage in read(folder).stages] == ["S3"]


def test_large_images_are_kept_small():
    image = np.arange(150 * 130 * 3, dtype=np.uint8).reshape(150, 130, 3)
    small = testing._small(image)
    assert (small.shape, small.dtype) == ((50, 43, 3), np.uint8)
    assert small[1, 2].tolist() == np.rint(image[3:6, 6:9].mean(axis=(0, 1))).tolist()
    assert testing._small(np.full((1, 200, 4), 8, np.uint8)).tolist() == [[[8]] * 50]
