"""Runs leave models; the commands predict by them and export them; so does the documents' example."""

import csv
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from incnet import export, predict, train
from incnet.config import Config
from incnet.data.catalogue import load_dataset
from incnet.deploy import load_model
from incnet.deploy.onnx_graph import CONVERTERS
from incnet.layers import Dropout, ReLU
from incnet.run.run import Run
from incnet.training.loop import evaluate

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
SMALL = ("--arch", "resnet8", "--limit", "400", "--window", "2", "--lookahead-epochs", "1", "--lr", "1e-3")
STAGES = ("S1", "S1-S2", "S1-S3")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run at runs/digits, and a few digits."""
    folder = tmp_path_factory.mktemp("place")
    assert train.main(["digits", *SMALL, "--epochs", "8", "--out", str(folder / "runs" / "digits")]) == 0
    np.save(folder / "digits.npy", load_dataset("digits").test.images[:7])
    return folder


# What a run leaves.


def test_each_stage_is_saved_at_its_best(place):
    """On the very validation images, each model answers exactly as well as its stage did."""
    summary = json.loads((place / "runs" / "digits" / "summary.json").read_text())
    run = Run(Config.from_json(json.loads((place / "runs" / "digits" / "config.json").read_text())["config"]))
    assert {path.stem for path in (place / "runs" / "digits" / "stages").iterdir()} == set(STAGES)
    for count, (name, stage) in enumerate(zip(STAGES, summary["stages"], strict=True), start=1):
        model = load_model(place / "runs" / "digits" / "stages" / f"{name}.safetensors")
        described = model.description
        assert evaluate(model.graph, run.images.validation.epoch(0)).accuracy == stage["val_accuracy"]
        assert (described.val_accuracy, described.params, described.macs_inference) == (
            stage["val_accuracy"], stage["params"], stage["macs_inference"],
        )  # fmt: skip
        validation = run.images.validation.split
        answers = model.predict(validation.images).argmax(axis=1)
        assert np.mean(answers == validation.labels) == pytest.approx(described.val_accuracy)
        assert (described.arch, described.subnetworks, described.classes) == ("resnet8", count, list("0123456789"))
    assert summary["stages"][-1]["val_accuracy"] > 0.5  # it has learnt, so that agreement means something


def test_the_last_stage_is_the_best_of_the_run(place):
    """It holds the weights that the summary's test accuracy was taken with."""
    best = load_file(place / "runs" / "digits" / "best.safetensors")
    stage = load_file(place / "runs" / "digits" / "stages" / "S1-S3.safetensors")
    assert {name: array.tobytes() for name, array in best.items()} == {n: a.tobytes() for n, a in stage.items()}
    test = load_dataset("digits").test
    accuracy = np.mean(load_model(place / "runs" / "digits").predict(test.images).argmax(axis=1) == test.labels)
    summary = json.loads((place / "runs" / "digits" / "summary.json").read_text())
    assert accuracy == pytest.approx(summary["test_accuracy"])


def test_a_baseline_leaves_one_model(tmp_path):
    arguments = ("--method", "baseline", "--epochs", "1", "--out", str(tmp_path))
    assert train.main(["digits", *SMALL, *arguments]) == 0
    assert [path.name for path in (tmp_path / "stages").iterdir()] == ["S1-S3.safetensors"]


def test_models_of_interpolated_images_take_them_as_they_were(tmp_path):
    arguments = ("--epochs", "1", "--resize", "12", "--out", str(tmp_path))
    assert train.main(["digits", *SMALL, *arguments]) == 0
    run = Run(Config.from_json(json.loads((tmp_path / "config.json").read_text())["config"]))
    validation, model = run.images.validation.split, load_model(tmp_path)
    answers = model.predict(validation.images).argmax(axis=1)
    assert np.mean(answers == validation.labels) == pytest.approx(model.description.val_accuracy)
    assert (model.image_shape, model.graph.input_shape) == ((8, 8, 1), (12, 12, 1))


# Predicting.


def predicted(capsys, *arguments):
    assert predict.main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out.splitlines()


def same_predictions(one, other):
    """But for rounding, which depends on the images that are computed together."""
    ones, others = (json.loads(line)["predictions"] for line in (one, other))
    classes = [[each["class"] for each in predictions] for predictions in (ones, others)]
    probabilities = [[each["probability"] for each in predictions] for predictions in (ones, others)]
    return classes[0] == classes[1] and np.allclose(*probabilities, atol=1e-5)


def test_predictions_as_json(place, capsys, monkeypatch):
    monkeypatch.setattr("incnet.deploy.model.PIXELS_AT_A_TIME", 3 * 64)  # 7 images in three batches
    digits = place / "digits.npy"
    lines = [json.loads(line) for line in predicted(capsys, place / "runs" / "digits", digits, digits, "--json")]
    assert [line["image"] for line in lines] == [f"{digits}[{i}]" for i in range(7)] * 2
    assert lines[:7] == lines[7:]
    expected = load_model(place / "runs" / "digits").predict(np.load(digits))
    for line, row in zip(lines, expected, strict=False):
        best = np.argsort(-row)[:3]
        assert [each["class"] for each in line["predictions"]] == [str(i) for i in best]
        np.testing.assert_allclose([each["probability"] for each in line["predictions"]], row[best], atol=1e-5)


def test_predictions_in_words(place, capsys):
    model, digits = place / "runs" / "digits" / "stages" / "S1.safetensors", place / "digits.npy"
    lines = predicted(capsys, model, digits, "--top", 2)
    assert len(lines) == 7
    for i, line in enumerate(lines):
        assert re.fullmatch(rf"{re.escape(str(digits))}\[{i}\]: \d \(\d+\.\d%\), \d \(\d+\.\d%\)", line)
    assert len(predicted(capsys, model, digits, "--top", 99, "--json")) == 7  # of all ten classes


@pytest.mark.parametrize(("arguments", "name", "kind"), [
    (["--format", "csv"], None, "csv"),
    ([], "answers.csv", "csv"),
    (["--format", "jsonl"], "answers.csv", "jsonl"),
    ([], "answers.JSONL", "jsonl"),
    ([], "answers.txt", "text"),
])  # fmt: skip
def test_formats(place, tmp_path, capsys, arguments, name, kind):
    """The same answers in each; a file holds what standard output would."""
    command = [place / "runs" / "digits", place / "digits.npy", "--top", 2]
    lines = predicted(capsys, *command, *arguments, *([] if name is None else ["--out", tmp_path / name]))
    if name is not None:
        assert lines == []
        lines = (tmp_path / name).read_text().splitlines()
    answers = [json.loads(line) for line in predicted(capsys, *command, "--json")]
    assert len(answers) == 7
    if kind == "csv":
        header, *rows = csv.reader(lines)
        assert header == ["image", "class", "probability", "class_2", "probability_2"]
        for row, answer in zip(rows, answers, strict=True):
            assert row == [answer["image"], *(str(value) for each in answer["predictions"] for value in each.values())]
    elif kind == "jsonl":
        assert [json.loads(line) for line in lines] == answers
    else:
        assert [line.partition(": ")[0] for line in lines] == [answer["image"] for answer in answers]


def test_a_file_of_answers_of_which_some_cannot_be_given(place, tmp_path, capsys):
    """The others are in it, however odd their names, and the exit code says that some are not."""
    pillow = pytest.importorskip("PIL.Image")
    folder, out = tmp_path / "pictures", tmp_path / "answers.csv"
    folder.mkdir()
    names = ['a, "b"\nc.png', "\u30c7.png"]
    for name, digit in zip(names, np.load(place / "digits.npy")[..., 0], strict=False):
        pillow.fromarray(digit).save(folder / name)
    (folder / "damaged.png").write_bytes(b"\x89PNG")
    assert predict.main([str(place / "runs" / "digits"), str(folder), "--top", "1", "--out", str(out)]) == 2
    with out.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "class", "probability"]
    assert [row[0] for row in rows] == [str(folder / name) for name in names]
    *_, damaged, last = capsys.readouterr().err.splitlines()
    assert "damaged.png cannot be read" in damaged
    assert last == f"{out}: 2 images"
    assert predict.main([str(place / "runs" / "digits"), str(folder / "damaged.png"), "--out", str(out)]) == 2
    assert out.read_text() == "image,class,probability\n"


def test_a_picture(place, capsys, tmp_path, monkeypatch):
    pillow = pytest.importorskip("PIL.Image")
    digit = np.load(place / "digits.npy")[0, ..., 0]
    pillow.fromarray(digit).save(tmp_path / "digit.png")
    (line,) = predicted(capsys, place / "runs" / "digits", tmp_path / "digit.png", "--json")
    (first, *_) = predicted(capsys, place / "runs" / "digits", place / "digits.npy", "--json")
    assert same_predictions(line, first)
    for content, given in (((tmp_path / "digit.png").read_bytes(), 1), (b"no picture", 0)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert predict.main([str(place / "runs" / "digits"), "-", "--format", "csv"]) == (0 if given else 2)
        assert capsys.readouterr().out.count("\n-,") == given


@pytest.mark.parametrize(("arguments", "message"), [
    (["runs/digits"], "no images: name at least one after the model"),
    (["runs/digits", "digits.npy", "--top", "0"], "--top 0: choose at least 1"),
    (["runs/digits", "digits.npy", "--background", "grey"], "--background grey: choose white, black, or a colour such"),
    (["runs/digits", "digits.npy", "--device", "tpu"], "--device tpu: choose auto, cpu, gpu"),
    (["runs/digits", "digits.npy", "--json", "--format", "csv"], "--json and --format csv: choose one of them"),
    (["runs/digits", "digits.npy", "--out", "a.xls"], "--out a.xls: let its name end in one of .txt, .csv, .jsonl"),
    (["runs/digits", "digits.npy", "--out", "digits.npy"], "--out digits.npy is one of the images"),
    (["runs", "digits.npy"], "runs holds no stages/S1.safetensors"),
    (["runs", "digits.npy"], "; of the runs in it the newest is runs/digits"),
    ([".", "digits.npy"], "; of the runs in it the newest is runs/digits"),
    (["runs/none.safetensors", "digits.npy"], "cannot read runs/none.safetensors"),
    (["runs/digits/best.safetensors", "digits.npy"], "best.safetensors is no model that can be used"),
    (["runs/digits", "none.png"], "none.png cannot be read"),
    (["a.png", "runs/digits"], "a.png is no model, but a picture: name a run or its model first, then the images"),
    (["runs/digits", "runs/digits/config.json"], "runs/digits/config.json cannot be read"),
])  # fmt: skip
def test_what_cannot_be_predicted_is_one_line(arguments, message, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert predict.main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    [error] = [line for line in captured.err.splitlines() if not line.startswith("model: ")]
    assert error.startswith("error: ")
    assert captured.out == ""


def test_a_place_that_cannot_be_written(place, tmp_path, capsys):
    assert predict.main([str(place / "runs" / "digits"), str(place / "digits.npy"), "--out", "none/a.csv"]) == 4
    assert "error: cannot write none/a.csv: there is no folder none; choose a place" in capsys.readouterr().err


def test_one_damaged_picture_of_three(place, capsys, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    digits = np.load(place / "digits.npy")[..., 0]
    paths = [tmp_path / f"{name}.png" for name in ("one", "two", "three")]
    for path, digit in zip(paths, digits, strict=False):
        pillow.fromarray(digit).save(path)
    paths[1].write_bytes(paths[1].read_bytes()[:50])
    assert predict.main([str(place / "runs" / "digits"), *map(str, paths), "none.npy", "--json"]) == 2
    captured = capsys.readouterr()
    assert [json.loads(line)["image"] for line in captured.out.splitlines()] == [str(paths[0]), str(paths[2])]
    _, damaged, missing = captured.err.splitlines()
    assert damaged.startswith(f"error: {paths[1]} cannot be read")
    assert missing.startswith("error: none.npy cannot be read")


def test_digits_cut_out(place, capsys, tmp_path):
    """Transparent but for the strokes, they are what they were on the background that the model has learnt."""
    pillow = pytest.importorskip("PIL.Image")
    digit = np.load(place / "digits.npy")[0, ..., 0]
    cut_out = np.stack([np.full_like(digit, 255), digit], axis=-1)
    pillow.fromarray(cut_out).save(tmp_path / "cut.png")
    pillow.fromarray(digit).save(tmp_path / "flat.png")
    lines = predicted(
        capsys, place / "runs/digits", tmp_path / "cut.png", tmp_path / "flat.png", "--json", "--background", "black"
    )
    cut, flat = lines
    assert same_predictions(cut, flat)
    (white,) = predicted(capsys, place / "runs/digits", tmp_path / "cut.png", "--json")
    assert not same_predictions(white, flat)


# Exporting.


def test_export_with_a_check(place, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    for name in STAGES:
        out = tmp_path / f"{name}.onnx"
        model = place / "runs" / "digits" / "stages" / f"{name}.safetensors"
        assert export.main([str(model), str(out), "--check"]) == 0
        said = capsys.readouterr().out
        assert float(re.search(r"differ from incnet's by up to (\S+) of the largest", said)[1]) <= 1e-5
        images = np.load(place / "digits.npy")
        (found,) = onnxruntime.InferenceSession(out).run(["probabilities"], {"images": images})
        np.testing.assert_allclose(found, load_model(model).predict(images), atol=1e-5)


def test_a_model_that_differs_is_not_written(place, tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    monkeypatch.setitem(CONVERTERS, ReLU, CONVERTERS[Dropout])
    assert export.main([str(place / "runs" / "digits"), str(tmp_path / "m.onnx"), "--check"]) == 3
    assert "which is more than 1e-05" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_one_line(place, tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnx")
    run = str(place / "runs" / "digits")

    def refused(code, message, *arguments):
        assert export.main([*arguments]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1

    refused(4, "none/m.onnx: there is no folder", run, str(tmp_path / "none" / "m.onnx"))
    refused(2, "cannot read", str(tmp_path / "none"), str(tmp_path / "m.onnx"))
    refused(2, "m.pt: models are written as ONNX and in no other format", run, str(tmp_path / "m.pt"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    refused(2, 'onnx is missing; run: pip install "incnet[onnx]"', run, str(tmp_path / "m.onnx"))


# The page on using a model.


def test_the_example_of_the_page(place, monkeypatch, capsys):
    page = PAGE.read_text()
    code, _ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(place)
    exec(compile(code, "models.md", "exec"), {})
    summary = json.loads((place / "runs" / "digits" / "summary.json").read_text())
    validation, test = (float(number) for number in re.findall(r"\d\.\d+", capsys.readouterr().out))
    assert validation == pytest.approx(summary["stages"][1]["val_accuracy"], abs=1e-3)
    assert 0.3 < test < 1  # of ten classes, after five epochs


def test_the_commands_of_the_page(place, monkeypatch, capsys):
    """Each line of it is a command that works, on images of these names, and its last lines use what they leave."""
    pytest.importorskip("onnxruntime")
    pillow = pytest.importorskip("PIL.Image")
    page = PAGE.read_text()
    lines = [line.split("#")[0].split() for line in page.splitlines() if line.startswith("    python -m incnet.")]
    assert {line[2] for line in lines} == {"incnet.train", "incnet.predict", "incnet.export"}
    monkeypatch.chdir(place)
    for line in lines:
        for name in line[4:]:
            if name.endswith(".png"):
                pillow.fromarray(np.load("digits.npy")[0, ..., 0]).save(name)
        if line[2] != "incnet.train":
            assert {"incnet.predict": predict, "incnet.export": export}[line[2]].main(line[3:]) == 0, line
    assert "error" not in capsys.readouterr().err
    _, code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "models.md", "exec"), {})
    found = capsys.readouterr().out
    assert predict.main(["runs/digits/stages/S1-S2.safetensors", "one.png", "--top", "1"]) == 0
    assert capsys.readouterr().out == f"one.png: {found.replace(': ', ' (').strip()})\n"
