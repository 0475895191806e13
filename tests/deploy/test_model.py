"""Models in files: the same answers afterwards, on any backend, or a refusal that names the file."""

import copy
import json
import multiprocessing
import os
import pickle
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from incnet.backend import ops, use
from incnet.data.dataset import Normalisation
from incnet.deploy import Description, Model, ModelError, load_model, save_model
from incnet.deploy import model as module
from incnet.deploy.model import find_model
from incnet.storage.tensors import pack
from tests.deploy.products import pictures, stages

SHAPE = (12, 10, 1)


def last(arch="resnet8", shape=SHAPE, **options):
    return list(stages(arch, shape, **options))[-1]


@pytest.fixture
def file(tmp_path):
    """A model of one sub-network, in a file."""
    save_model(tmp_path / "S1.safetensors", *next(stages("resnet8", SHAPE)))
    return tmp_path / "S1.safetensors"


# There and back.


@pytest.mark.parametrize(("arch", "shape", "split", "up_to"), [
    ("resnet8", (12, 10, 1), "filters", None),
    ("resnet14", (8, 8, 3), "blocks", None),
    ("resnet14", (9, 7, 2), "2", None),
    ("resnet20", (9, 7, 2), "depth:3", None),
    ("vgg16-bn", (8, 6, 3), "depth", 1),
    ("vgg16", (8, 6, 3), "filters", 3),
    ("vgg16-bn", (20, 16, 1), "filters", 3),
])  # fmt: skip
@pytest.mark.usefixtures("backend")
def test_every_stage_answers_as_before(arch, shape, split, up_to, tmp_path):
    images = pictures(shape, 7)
    for description, weights in stages(arch, shape, split=split, up_to=up_to):
        path = tmp_path / f"{description.subnetworks}.safetensors"
        save_model(path, description, weights)
        model = load_model(path)
        assert model.description == description
        stage = "S1" if description.subnetworks == 1 else f"S1-S{description.subnetworks}"
        assert description.file == f"stages/{stage}.safetensors"
        assert repr(model) == f"<Model {arch} {stage}, digits, validation accuracy 0.750>"
        expected = by_the_book(description, weights, images)
        np.testing.assert_allclose(model.logits(images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def by_the_book(description, weights, images):
    """Normalise and run the textbook layers of the reference backend, one by one."""
    use("reference")
    network = description.graph()
    for name, parameter in network.named_parameters():
        parameter.data = weights[name]
    network.load_state({**network.state(), **weights})
    x = (images.astype(np.float64) - description.mean) / description.std
    if description.resize is not None:
        x = ops.resize_bilinear(x, (description.resize, description.resize))
    return network.forward(x.astype(np.float32))


@pytest.mark.usefixtures("backend")
def test_images_that_are_interpolated():
    description, weights = last("resnet8", (9, 7, 2), resize=25)
    images = pictures((9, 7, 2), 3)
    model = Model(description, weights)
    assert (model.image_shape, model.graph.input_shape) == ((9, 7, 2), (25, 25, 2))
    expected = by_the_book(description, weights, images)
    np.testing.assert_allclose(model.logits(images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_dense_layers_and_dropout_seeds(tmp_path):
    """The whole of VGG-16: the seeds of its dropout layers are not in the file, and it answers without them."""
    description, weights = last("vgg16", (8, 8, 1))
    seeds = {f"S6.dense{i}.dropout.seed": np.array([7], np.uint64) for i in (1, 2)}
    save_model(tmp_path / "m.safetensors", description, weights | seeds)
    assert not any("dropout" in name for name in load_file(tmp_path / "m.safetensors"))
    images = pictures((8, 8, 1), 2)
    model = load_model(tmp_path / "m.safetensors")
    expected = by_the_book(description, weights, images)
    np.testing.assert_allclose(model.logits(images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_probabilities():
    model = Model(*last(classes="odd"))
    images = pictures(SHAPE, 5)
    logits = model.logits(images).astype(np.float64)
    probabilities = model.predict(images)
    np.testing.assert_allclose(probabilities, np.exp(logits) / np.exp(logits).sum(axis=1)[:, None], rtol=1e-5)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (5, 3)
    assert model.classes == ["T-shirt/top", "ankle boot", "Käse"]


def test_large_logits_do_not_overflow():
    description, weights = last()
    weights["classifier.linear.bias"] = np.linspace(-1e4, 1e4, 10, dtype=np.float32)
    assert Model(description, weights).predict(pictures(SHAPE, 2))[:, -1].tolist() == [1, 1]


def test_many_images_are_taken_in_turns(monkeypatch):
    model = Model(*last())
    images = pictures(SHAPE, 11)
    together = model.logits(images)
    monkeypatch.setattr(module, "PIXELS_AT_A_TIME", 4 * 12 * 10 + 5)
    assert model.batch_size == 4
    np.testing.assert_allclose(model.logits(images), together, rtol=1e-5, atol=1e-5)
    assert model.logits(images[:0]).shape == model.predict(images[:0]).shape == (0, 10)


# The file.


def test_a_file_of_before_which_names_its_network(tmp_path):
    """Its checksum is over the fields that it has: those of later versions are none of them."""
    description, weights = last()
    described = {name: value for name, value in asdict(description).items() if name not in ("shortcut", "network")}
    header = {"model": described, "sha256": module.digest(described, weights)}
    (tmp_path / "old").write_bytes(b"".join(map(bytes, pack(weights, json.dumps(header)))))
    images = pictures(SHAPE, 3)
    old = load_model(tmp_path / "old")
    assert (old.description.network, old.description.shortcut) == (None, "A")
    np.testing.assert_array_equal(old.logits(images), Model(description, weights).logits(images))


def test_equal_models_make_equal_files(tmp_path):
    for name in ("a", "b"):
        save_model(tmp_path / name, *last())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_any_reader_of_safetensors_can_read_it(file):
    description, weights = next(stages("resnet8", SHAPE))
    with safe_open(file, framework="numpy") as content:
        header = json.loads(content.metadata()["state"])
        assert set(content.keys()) == set(weights)
        np.testing.assert_array_equal(
            content.get_tensor("classifier.linear.weight"), weights["classifier.linear.weight"]
        )
    assert header["model"] == asdict(description)


def test_normalisation_comes_back_exactly(tmp_path):
    fitted = Normalisation(np.array([1 / 3, np.pi], np.float32), np.array([0.1, 77.7], np.float32))
    description, weights = last("resnet8", (9, 9, 2))
    description = replace(description, mean=fitted.mean.tolist(), std=fitted.std.tolist())
    save_model(tmp_path / "m", description, weights)
    found = load_model(tmp_path / "m").normalisation
    assert (found.mean.tobytes(), found.std.tobytes()) == (fitted.mean.tobytes(), fitted.std.tobytes())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.usefixtures("backend")
def test_a_model_in_a_pickle(protocol):
    model, images = Model(*last(shape=(9, 7, 2), arch="vgg16", up_to=2)), pictures((9, 7, 2), 5)
    again = pickle.loads(pickle.dumps(model, protocol))
    assert again.description == model.description
    np.testing.assert_array_equal(again.logits(images), model.logits(images))
    ours, theirs = model.graph.state(), copy.deepcopy(model).graph.state()
    assert all(np.array_equal(ours[name], theirs[name]) and ours[name] is not theirs[name] for name in ours)


def test_a_pickle_has_the_weights_of_the_moment():
    model = Model(*last())
    name, parameter = next(iter(model.graph.named_parameters()))
    parameter.data[...] = 0.5
    again = pickle.loads(pickle.dumps(model))
    assert (dict(again.graph.named_parameters())[name].data == 0.5).all()


def test_processes_share_the_work():
    model, images = Model(*last()), pictures(SHAPE, 6)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = np.concatenate(list(pool.map(model.predict, [images[:4], images[4:]])))
    np.testing.assert_allclose(found, model.predict(images), rtol=0, atol=1e-5)


def test_the_last_stage_of_a_run_folder(tmp_path):
    (tmp_path / "stages").mkdir()
    for stage in ("S1", "S1-S2", "S1-S9", "S1-S10"):
        (tmp_path / "stages" / f"{stage}.safetensors").touch()
    (tmp_path / "stages" / "S1-S11.safetensors.tmp").touch()
    (tmp_path / "stages" / "mine.safetensors").touch()
    assert find_model(tmp_path) == tmp_path / "stages" / "S1-S10.safetensors"


# What is refused.


def refused(path, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_models(file, tmp_path):
    refused(tmp_path / "none.safetensors", "cannot read .*No such file")
    refused(tmp_path, r"holds no stages/S1\.safetensors")
    for name, content in {"text": b"hello", "empty": b"", "zeros": bytes(1000)}.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "no safetensors")
    (tmp_path / "weights").write_bytes(b"".join(map(bytes, pack({"conv.weight": np.zeros(3)}))))
    refused(tmp_path / "weights", "does not say what they are")
    (tmp_path / "checkpoint").write_bytes(b"".join(map(bytes, pack({"network/w": np.zeros(3)}, '{"schedule": {}}'))))
    refused(tmp_path / "checkpoint", "header has 'schedule', which is unknown")


def test_damage_anywhere_is_found(file):
    """Any flipped bit, at random in the header and in the arrays, and any truncation."""
    content = file.read_bytes()
    header = len(content[: 8 + int.from_bytes(content[:8], "little")].rstrip(b" "))
    rng = np.random.default_rng(0)
    for place in np.concatenate([rng.integers(0, header, 200), rng.integers(header + 64, len(content), 200)]):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        refused(file, "is no model that can be used")
    for length in rng.integers(0, len(content), 50):
        file.write_bytes(content[:length])
        refused(file, "is no model that can be used")


@pytest.mark.parametrize(("change", "message"), [
    ({"arch": "alexnet"}, "unknown architecture 'alexnet'"),
    ({"arch": "resnet21"}, "depth 21: choose 6n"),
    ({"arch": "resnet9998"}, "depth 9998: choose 6n .* at most 1202"),
    ({"arch": "resnet14"}, "in the file or in the network, but not in both"),
    ({"partition": "thirds"}, "choose 'filters', 'blocks', 'depth' or a number"),
    ({"partition": "7"}, "can be cut into 1 to 3 sub-networks"),
    ({"subnetworks": 0}, "0 of 3 sub-networks"),
    ({"subnetworks": 4}, "4 of 3 sub-networks"),
    ({"subnetworks": 2}, "in the file or in the network, but not in both"),
    ({"classes": ["a", "b"]}, r"in the network float32 \(\d+, 2\)|in the network float32 \(2,\)"),
    ({"mean": [1.0, 2.0]}, "mean and std of 2 channels for images of 1"),
    ({"mean": [1e300]}, "needs a finite value"),
    ({"std": [0.0]}, "must be positive"),
    ({"params": 1}, "1 parameters; the network has"),
])  # fmt: skip
def test_descriptions_that_do_not_fit(change, message):
    """Of files of before, which name their network, and do not describe its layers."""
    description, weights = last()
    with pytest.raises(ValueError, match=message):
        Model(replace(description, network=None, **change), weights)


@pytest.mark.parametrize(("change", "message"), [
    ({"input_shape": [8, 8]}, r"images of shape \[8, 8\]"),
    ({"input_shape": [8, 8, 0]}, "images of shape"),
    ({"input_shape": [8, 10**9, 1]}, "images of shape"),
    ({"resize": 0}, "interpolated to 0"),
    ({"resize": 10**6}, "interpolated to 1000000"),
    ({"classes": []}, "no classes"),
    ({"classes": ["\x1b[2J"]}, "the name"),
    ({"dataset": "a\nb"}, "the name"),
    ({"val_accuracy": 1.5}, "a validation accuracy of 1.5"),
    ({"params": -1}, "-1 parameters"),
    ({"arch": "\x1b[2J"}, "the name"),
    ({"subnetworks": 2}, "3 of 2 sub-networks"),
])  # fmt: skip
def test_impossible_descriptions(change, message):
    with pytest.raises(ValueError, match=message):
        Description(**(vars(last()[0]) | change))


def test_weights_that_are_not_finite(tmp_path):
    description, weights = last()
    weights["S1.block1_1.stem.norm.gamma"][3] = np.nan
    save_model(tmp_path / "m", description, weights)
    refused(tmp_path / "m", r"S1\.block1_1\.stem\.norm\.gamma is not finite")


def test_a_file_cannot_ask_for_more_memory_than_it_has():
    """A network of three thousand million parameters is described, and refused, without making one of them."""
    description = replace(last()[0], arch="vgg16", subnetworks=6, input_shape=[1024, 1024, 3], network=None)
    tracemalloc.start()
    assert description.graph().num_parameters() > 2e9
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_a_file_that_may_not_be_read(file):
    file.chmod(0)
    refused(file, "Permission denied")
