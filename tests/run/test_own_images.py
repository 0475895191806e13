"""Images of one's own: a folder of pictures or arrays, by the command and from Python, under any name."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from incnet.config import Config, ConfigError
from incnet.data import Augmentation, DataError, Dataset, Split
from incnet.data.digits import load_digits
from incnet.deploy import load_model
from incnet.predict import main as predict
from incnet.report.arms import networks
from incnet.report.headline import headline
from incnet.report.reading import read_history
from incnet.run.run import Run
from incnet.session import resume_run, train_run
from incnet.train import main

QUICK = ["--arch", "resnet8", "--no-report", "--epochs"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def few():
    """Three classes of the digits, 60 images to train on."""
    train = load_digits().train
    return train.take(np.flatnonzero(train.labels < 3)[:60])


@pytest.fixture
def folder(few, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    for i, (pixels, label) in enumerate(zip(few.images, few.labels, strict=True)):
        place = tmp_path / "pets" / ("два", "三", "zwölf")[label]
        place.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(pixels[..., 0]).save(place / f"{i:02}.png")
    return tmp_path / "pets"


def weights(run):
    return (run / "last.safetensors").read_bytes()


def test_a_folder_is_learnt_resumed_after_it_was_moved_and_predicted(folder, tmp_path, capsys):
    (folder / "zwölf" / "x.png").write_bytes(b"nothing")
    assert main(["pets", *QUICK, "2", "--out", "whole"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "8 x 8 pixels" in said
    assert "x.png" in said
    assert "augmentation: shift:1" in said
    assert (
        "49 training images are 1 batch of 128 an epoch; more, smaller steps learn faster: --batch-size 8 makes 7"
        in said
    )
    assert main(["pets", *QUICK, "1", "--out", "cut"]) == 0
    shutil.move(folder, tmp_path / "moved")
    assert main(["--resume", "cut", "--epochs", "2"]) == 2
    assert "pass --data-dir" in " ".join(capsys.readouterr().err.split())
    assert main(["--resume", "cut", "--epochs", "2", "--data-dir", "moved"]) == 0
    assert json.loads((tmp_path / "cut" / "summary.json").read_text())["epochs"] == 2
    model = load_model(tmp_path / "cut")
    assert (model.classes, model.description.dataset) == (["zwölf", "два", "三"], "moved")


def write_kinds(folder):
    """Digits in five classes named in five scripts, as pictures of ten kinds, beside what is none, or damaged."""
    pillow = pytest.importorskip("PIL.Image")
    train, turned = load_digits().train, pillow.Exif()
    turned[0x0112] = 6
    kinds = [
        lambda im, at: pillow.merge("LA", (pillow.new("L", im.size), im)).save(at.with_suffix(".png")),
        lambda im, at: im.rotate(90, expand=True).save(at.with_suffix(".jpg"), exif=turned),
        lambda im, at: im.save(at.with_suffix(".bmp")),
        lambda im, at: pillow.fromarray(np.asarray(im).astype(np.uint16) * 257).save(at.with_suffix(".png")),
        lambda im, at: im.convert("CMYK").save(at.with_suffix(".tiff")),
        lambda im, at: im.convert("RGB").quantize(8).save(at.with_suffix(".gif")),
    ]
    for label, name in enumerate(("zero", "один", "二", "ثلاثة", "τέσσερα")):
        (folder / name).mkdir(parents=True)
        for i, pixels in enumerate(train.images[train.labels == label][:12, ..., 0]):
            kinds[i % len(kinds)](pillow.fromarray(pixels).resize((11, 8)), folder / name / f"{name} {i}")
        (folder / name / "damaged.jpg").write_bytes((folder / name / f"{name} 1.jpg").read_bytes()[:99])
        (folder / name / "notes.txt").write_text("no picture")
        (folder / name / ".hidden.png").write_bytes(b"")


def test_pictures_of_all_kinds_are_learnt_interrupted_resumed_and_predicted(tmp_path, capsys):
    write_kinds(tmp_path / "写真")
    assert main(["写真", *QUICK, "2", "--image-size", "8", "--out", "whole"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "in colour" in said
    assert said.count("damaged.jpg") == 5
    whole = weights(tmp_path / "whole")
    sorted((tmp_path / "whole" / "checkpoints").iterdir())[-1].unlink()
    assert main(["--resume", "whole"]) == 0
    assert weights(tmp_path / "whole") == whole
    assert (
        predict(["whole", *(f"写真/{place.name}" for place in sorted(Path("写真").iterdir())), "--out", "a.csv"]) == 2
    )
    assert capsys.readouterr().err.count("damaged.jpg cannot be read") == 5
    with open("a.csv", encoding="utf-8", newline="") as file:
        images = {Path(row["image"]) for row in csv.DictReader(file)}
    expected = {path for path in Path("写真").rglob("* *") if path.is_file()}
    assert (images, len(images)) == (expected, 60)


def test_a_folder_interrupted_and_resumed_is_the_same_to_the_bit(folder, tmp_path):
    config = Config(dataset="pets", arch="resnet8", epochs=2, report=False).resolve()
    train_run(Run(config), "whole", say=lambda line: None)
    path = tmp_path / "whole"
    whole = weights(path)
    newest = sorted((path / "checkpoints").iterdir())[-1]
    newest.unlink()
    resume_run(Run(config), "whole", say=lambda line: None)
    assert weights(path) == whole


def test_other_pictures_are_no_resumption(folder, tmp_path, capsys):
    assert main(["pets", *QUICK, "1", "--out", "cut"]) == 0
    next(folder.rglob("*.png")).unlink()
    assert main(["--resume", "cut", "--epochs", "2"]) == 2
    assert "holds other images" in " ".join(capsys.readouterr().err.split())


def test_arrays_without_test_images(few, tmp_path, capsys):
    own = f"mine-{'x' * 100}.npz"  # longer than any name of a data set
    np.savez(own, x_train=few.images[..., 0], y_train=few.labels)
    assert main([own, *QUICK, "1", "--out", "run"]) == 0
    assert "no test images" in " ".join(capsys.readouterr().out.split())
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["test_accuracy"], summary["test_images"], summary["epochs"]) == (None, 0, 1)
    (network,) = networks([read_history(tmp_path / "run")])
    assert network.arms[0].runs[0].finished
    assert re.match(r"Look-ahead reaches \d+\.\d % validation accuracy, ", headline(network))


def test_a_dataset_of_any_name_with_numbered_classes(few):
    dataset = Dataset("my own", (0, 1, 2), few, few.take(slice(0)))
    run = Run(Config(arch="resnet8", epochs=1, report=False), dataset)
    assert (run.config.dataset, run.config.lr, run.images.augmentation) == ("my own", 1e-4, Augmentation(1, False))
    assert train_run(run, "run", say=lambda line: None)["test_accuracy"] is None
    assert load_model("run").classes == ["0", "1", "2"]
    again = Run(Config(arch="resnet8", epochs=2, report=False), dataset)
    assert resume_run(again, "run", say=lambda line: None)["epochs"] == 2


def test_the_command_says_where_such_a_run_goes_on(few, capsys):
    run = Run(Config(arch="resnet8", epochs=1, report=False), Dataset("my own", ("a", "b", "c"), few, few))
    train_run(run, "run", say=lambda line: None)
    assert main(["--resume", "run", "--epochs", "2"]) == 2
    assert "incnet.session.resume_run" in " ".join(capsys.readouterr().err.split())


def test_augmentation_of_its_own_or_by_option(few):
    dataset = Dataset("a", ("a", "b", "c"), few, few, augmentation=Augmentation(2, True))
    for options, expected in [
        ({}, Augmentation(2, True)),
        ({"augmentation": "shift:3"}, Augmentation(3, False)),
        ({"augmentation": "shift+mirror"}, Augmentation(2, True)),
        ({"augmentation": "none"}, Augmentation(0, False)),
        ({"augment": False, "augmentation": "shift"}, None),
    ]:
        assert Run(Config(arch="resnet8", **options), dataset).images.augmentation == expected
    with pytest.raises(ConfigError, match="--augmentation 'turn': choose none"):
        Run(Config(augmentation="turn"), dataset)


@pytest.mark.parametrize("classes", [("a", "b", "a"), ("a", "b\n", "c"), ("a", "b", ""), ("a", "b", 1.5)])
def test_class_names_that_no_model_could_hold(classes, few):
    with pytest.raises(DataError):
        Dataset("a", classes, few, few)


def test_one_class_is_nothing_to_learn(few):
    ones = Split(few.images, 0 * few.labels)
    with pytest.raises(DataError, match="all 54 training images are of a: there must be another class beside it"):
        Run(Config(arch="resnet8"), Dataset("own", ("a", "b"), ones, ones))


def test_a_validation_part_of_its_own(few):
    validation = Split(few.images[:9], few.labels[:9])
    images = Run(Config(arch="resnet8"), Dataset("a", ("a", "b", "c"), few, few, validation=validation)).images
    assert (len(images.train.split), len(images.validation.split)) == (60, 9)


def test_options_of_before_go_on_as_they_were():
    options = Config().resolve().as_json()
    new = {"augmentation", "image_size", "channels", "background", "damaged"}
    old = {name: value for name, value in options.items() if name not in new}
    assert Config.from_json(old) == Config().resolve()
