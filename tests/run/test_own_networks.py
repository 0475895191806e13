"""Networks of one's own: grown, interrupted, resumed, used when the code is gone; what is wrong with them, at once."""

import json
import os
import re
import signal
import sys

import numpy as np
import pytest

from incnet import export, predict
from incnet.config import Config, ConfigError
from incnet.deploy import ModelError, load_model
from incnet.layer import Layer
from incnet.layers import BatchNorm2d, Conv2d, LeakyReLU, MaxPool2d, ReLU, Sequential
from incnet.report.architecture import parts
from incnet.report.reading import read_history
from incnet.report.setup import command, setups
from incnet.run.run import Run
from incnet.session import resume_run, train_run
from incnet.train import main
from incnet.training.progress import Display
from incnet.training.signals import Interrupted
from tests.faults.runs import outcome

QUICK = ("digits", "--limit", "120", "--epochs", "5", "--lookahead-epochs", "1", "--max-stage-epochs", "2")
QUICK += ("--lr", "1e-3", "--no-report", "--threads", "1", "--device", "cpu")
CODE = """
from pathlib import Path

from incnet import BatchNorm2d, Conv2d, Dropout, Flatten, Layer, Linear, ReLU, Sequential

with Path("executed").open("a") as file:
    file.write("x")


def network(input_shape, rng):
    height, width, channels = input_shape
    stem = {"conv": Conv2d(channels, 4, 3, stride=2, padding=1, bias=False, rng=rng), "norm": BatchNorm2d(4)}
    first = Linear(4 * ((height + 1) // 2) * ((width + 1) // 2), 12, rng=rng)
    first.weight.data *= 0.5  # first weights of one's own
    return {
        "stem": Sequential({**stem, "relu": ReLU()}),
        "dense": Sequential({"flatten": Flatten(), "linear": first, "relu": ReLU(), "dropout": Dropout(0.2, rng=rng)}),
        "top": Sequential({"linear": Linear(12, 12, rng=rng), "relu": ReLU()}),
    }


class Twice(Layer):
    def __init__(self, times):
        super().__init__()
        self.times = times

    def forward(self, x, train=False):
        return x * x.dtype.type(self.times)

    def backward(self, dy, need_dx=True):
        return dy * dy.dtype.type(self.times)


def with_a_class(input_shape, rng):
    subnetworks = network(input_shape, rng)
    subnetworks["dense"] = Sequential({**subnetworks["dense"].children(), "twice": Twice(2)})
    return subnetworks
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(CODE)
    return tmp_path


def train(*arguments):
    return main([str(argument) for argument in arguments])


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


def cut(run):
    """Leave the run as it was an epoch before its end, as if it had been killed then."""
    max((run / "checkpoints").iterdir()).unlink()
    for path in (run / "summary.json", run / "last.safetensors", run / "test.json"):
        path.unlink()


# The whole way.


@pytest.mark.parametrize("options", [(), ("--init", "lookahead+identity"), ("--lookahead-cache", "fixed")])
def test_resumed_when_the_file_is_gone_it_is_the_same_to_the_bit(options, place):
    assert train(*QUICK, *options, "--arch", "net.py:network", "--out", "run") == 0
    whole = outcome(place / "run")
    assert [line["subnetwork"] for line in whole["metrics"] if line["event"] == "insert"] == ["stem", "dense", "top"]
    cut(place / "run")
    (place / "net.py").unlink()
    (place / "executed").unlink()
    assert train("--resume", "run") == 0
    assert outcome(place / "run") == whole
    assert not (place / "executed").exists()


def test_what_is_said_goes_by_the_names_that_the_user_gave(place, capsys):
    assert train(*QUICK, "--freeze", "0.3", "--arch", "net.py:network", "--out", "run") == 0
    out = capsys.readouterr().out
    epochs = re.findall(r"^epoch +\d+  (.*?) +(look-ahead|train) ", out, re.M)
    assert [name for name, _ in epochs] == ["stem", "stem", "up to dense", "up to dense", "up to top"]
    assert "stem frozen for good" in out
    assert re.findall(r"^ +(.*?) {2,}[\d,]+ +\d\.\d\d M ", out, re.M) == ["stem", "up to dense", "up to top"]
    assert re.search(r"^test accuracy .* \(up to top, best validation weights\)$", out, re.M)
    assert export.main(["run", "own.onnx"]) == 0
    assert "net.py:network, up to top," in capsys.readouterr().out


def test_the_rate_goes_by_the_batch_size_that_suits_the_network(place):
    scaled = ("--batch-size", "16", "--scale-lr", "linear", "--epochs", "1")
    assert train(*QUICK, *scaled, "--arch", "net.py:network", "--out", "run") == 0
    (inserted, *_) = outcome(place / "run")["metrics"]
    assert inserted["lr"] == 0.5e-3
    assert json.loads((place / "run" / "config.json").read_text())["config"]["defaults_of"] == "resnet20"


def test_stages_are_used_when_the_file_is_gone(place, capsys):
    assert train(*QUICK, "--arch", "net.py:network", "--out", "run") == 0
    (place / "net.py").unlink()
    np.save("x.npy", np.zeros((2, 8, 8, 1), np.uint8))
    assert predict.main(["run", "x.npy", "--top", "1"]) == 0
    for stage, names in (("S1", ["stem"]), ("S1-S2", ["stem", "dense"])):
        model = load_model(place / "run" / "stages" / f"{stage}.safetensors")
        assert list(model.graph.subnetworks) == names
        assert model.description.arch == "net.py:network"
    assert str(place) not in json.dumps(model.description.network.subnetworks)
    assert train(*QUICK, "--arch", "resnet8", "--start-from", "run", "--out", "other") == 2
    assert "S1-S3.safetensors, net.py:network: nothing fits, since the model has no S1" in said(capsys)


def test_a_class_of_ones_own_is_found_where_the_user_says(place, capsys):
    assert train(*QUICK, "--arch", "net.py:with_a_class", "--out", "run") == 0
    whole = outcome(place / "run")
    cut(place / "run")
    (place / "executed").unlink()
    assert train("--resume", "run") == 2
    assert "names a class that is none of incnet's, 'net:Twice'; if you trust it" in said(capsys)
    with pytest.raises(ModelError, match="'net:Twice'"):
        load_model("run")
    assert not (place / "executed").exists()
    assert train("--resume", "run", "--trust", "net.py") == 0
    assert outcome(place / "run") == whole
    assert "trust" not in (place / "run" / "config.json").read_text().replace('"trust": null', "")


def test_a_module_and_a_baseline(place):
    assert train(*QUICK, "--arch", "net:network", "--method", "baseline", "--epochs", "2", "--out", "run") == 0
    assert json.loads((place / "run" / "summary.json").read_text())["stages"][0]["name"] == "top"
    assert "net" not in sys.path
    sys.modules.pop("net")


def test_the_name_of_the_run_folder(place):
    assert train(*QUICK, "--epochs", "1", "--arch", place / "net.py:network") == 0
    assert [path.name.rpartition("-incremental")[0] for path in (place / "runs").iterdir()] == ["digits-net-network"]


# From Python.


def small(shape, rng):
    return {
        "S1": Sequential({"conv": Conv2d(shape[2], 4, 3, rng=rng), "relu": ReLU()}),
        "S2": Conv2d(4, 6, 3, rng=rng),
    }


def normed(shape, rng):
    return {"S1": Sequential({"conv": Conv2d(shape[2], 4, 3, rng=rng), "norm": BatchNorm2d(4)})}


def config(**options):
    return Config(limit=120, epochs=4, lookahead_epochs=1, report=False, threads=1, device="cpu", **options)


def test_in_python(place):
    class Stopping(Display):
        def event(self, event):
            if event.event == "epoch" and event.epoch == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    train_run(Run(config(), network=small), "whole", say=lambda line: None)
    with pytest.raises(Interrupted), Stopping(4) as display:
        train_run(Run(config(), network=small), "run", display, say=lambda line: None)
    resume_run(Run(config(), network=lambda shape, rng: small(shape, rng)), "run", say=lambda line: None)
    assert outcome(place / "run") == outcome(place / "whole")
    with pytest.raises(ConfigError, match="has other layers than the network that the run was begun with"):
        resume_run(Run(config(), network=normed), "run", say=lambda line: None)


def test_defaults_are_resnets_with_batch_norm_and_vggs_without():
    options = {"dataset": "cifar10", "optimizer": "rmsprop"}
    found = Config(arch="net:network", **options).resolve()
    assert (found.batch_size, found.momentum, found.lr) == (None, None, 1e-4)
    for like, batch_norm in (("resnet20", True), ("vgg16", False)):
        expected, settled = Config(arch=like, **options).resolve(), found.for_network(batch_norm=batch_norm)
        assert (settled.batch_size, settled.momentum) == (expected.batch_size, expected.momentum)
        assert Config.from_json(settled.as_json()) == settled
    assert Run(config(batch_size=16), network=normed).config.batch_size == 16


# What is wrong is said in a line, before anything is trained.


HELPERS = """from incnet import *; import numpy as np; import time


def helper():
    def f(): raise RuntimeError('too bad')
    f()


def with_a(layer, rng):
    return {'S1': Sequential({'c': Conv2d(1, 4, 3, rng=rng), 'h': layer})}


class Half(Layer):
    def __init__(self, factor=2):
        super().__init__()


class Wide(ReLU):
    def output_shape(self, shape):
        return (*shape[:-1], 9)


class Deaf(Layer):
    def forward(self, x, train=False):
        return x

    def backward(self, dy, need_dx=True):
        raise ValueError("no way")
"""


@pytest.mark.parametrize(("body", "message"), [
    ("return 1 / 0", "net.py:f, LAST: ZeroDivisionError: division by zero"),
    ("return Conv2d(1, 2)", "net.py:f, LAST: TypeError: Conv2d.__init__() missing"),
    ("return helper()", "net.py:f, line 5: RuntimeError: too bad"),
    ("raise SystemExit(0)", "net.py:f, LAST: SystemExit: 0"),
    ("pass", "it returns None, expected sub-networks by name"),
    ("return []", "it returns [], expected sub-networks by name"),
    ("return {}", "it returns {}, expected sub-networks by name"),
    ("return {1: ReLU()}", "a layer cannot be called 1"),
    ("return {'S1.x': ReLU()}", "a layer cannot be called 'S1.x'"),
    ("return {'classifier': ReLU()}", "a sub-network is called classifier"),
    ("return {'S1': Conv2d}", "S1 is <class 'incnet.layers.conv.Conv2d'>, expected a layer"),
    ("return {'S1': ReLU()}", "S1 has no trainable layer"),
    ("c = Conv2d(1, 1, 1, rng=rng); return {'S1': c, 'S2': c}", "S2 and S1 are the same layer"),
    ("return {'S1': Conv2d(3, 4, 3, rng=rng)}", "S1: Conv2d expects images of 3 channels"),
    ("return {'S1': Sequential({'a': Conv2d(1, 4, 9, rng=rng)})}", "S1.a: a window of 9 x 9 pixels does not fit"),
    (
        "return {'S1': Conv2d(1, 4, 3, rng=rng), 'S2': Sequential({'x': Conv2d(5, 4, 3, rng=rng)})}",
        "S2.x: Conv2d expects images of 5 channels",
    ),
    ("return {'S1': Conv2d(1, 4, 3, rng=rng, dtype='float64')}", "S1.weight is float64: networks are trained in"),
    ("return {'S1': Conv2d(1, 4, 3, rng=np.random.default_rng())}", "draw it from rng alone"),
    ("return {'S1': Conv2d(1, int(time.time_ns() % 999 + 1), 3, rng=rng)}", "another network each time"),
    ("return with_a(Half(), rng)", "what makes this Half cannot be written down"),
    ("return with_a(Wide(), rng)", "S1.h: forward gives float32 (2, 6, 6, 4) for 2 images, expected float32"),
    ("return with_a(Deaf(), rng)", "net.py:f: S1.h, line 28: ValueError: no way"),
])  # fmt: skip
def test_functions_that_make_no_network(body, message, place, capsys):
    code = f"{HELPERS}\n\ndef f(shape, rng):\n    {body}\n"
    (place / "net.py").write_text(code)
    assert train(*QUICK, "--arch", "net.py:f", "--out", "run") == 2
    found = said(capsys)
    message = message.replace("LAST", f"line {len(code.splitlines())}")
    assert found.startswith("error: --arch net.py:f")
    assert message in found
    assert not (place / "run").exists()


@pytest.mark.parametrize(("arch", "message"), [
    ("gone.py:network", "cannot read {place}/gone.py: No such file or directory"),
    ("nets.py:network", "cannot read {place}/nets.py: No such file or directory; did you mean net.py?"),
    ("net.py:nothing", "nothing is not there in {place}/net.py"),
    ("net.py:Netwrok", "Netwrok is not there in {place}/net.py; did you mean network?"),
    ("net.py:Path.x", "choose one of resnet20"),
    ("net.py:file", "file is no function in {place}/net.py"),
    ("nomodule:network", "there is no module nomodule"),
    ("brokn:network", "there is no module brokn; did you mean broken?"),
    ("package.inne:network", "there is no module package.inne; did you mean package.inner?"),
    ("net.py", "choose one of resnet20, resnet32, resnet44, resnet56, vgg16, vgg16-bn, or a network of your own"),
    ("broken.py:network", "broken.py, line 1: SyntaxError"),
])  # fmt: skip
def test_places_where_no_function_is(arch, message, place, capsys):
    (place / "broken.py").write_text("def network(:\n")
    (place / "package").mkdir()
    (place / "package" / "inner.py").touch()
    assert train(*QUICK, "--arch", arch, "--out", "run") == 2
    assert message.format(place=place) in said(capsys)


@pytest.mark.parametrize(("options", "message"), [
    (("--partition", "blocks"), "--partition blocks: leave it out: a network of your own is cut into the sub-networks"),
    (("--partition", "2"), "--partition 2: leave it out"),
    (("--subnetworks", "4"), "--subnetworks 4: net.py:network has 3; choose at most that"),
    (("--trust", "net.py"), "--trust net.py: choose --resume with it"),
    (("--shortcut", "B"), "--shortcut B: choose A"),
    (("--dense-init", "normal"), "--dense-init normal: choose he"),
])  # fmt: skip
def test_options_that_do_not_go_with_it(options, message, capsys):
    assert train(*QUICK, "--arch", "net.py:network", *options) == 2
    assert message in said(capsys)


@pytest.mark.parametrize(("second", "message"), [
    (lambda rng: LeakyReLU(), None),
    (lambda rng: MaxPool2d(2), None),
    (lambda rng: Odd(), r"S2: how channels are carried through Odd\(\) is not known"),
])  # fmt: skip
def test_identity_where_its_forms_are_known(second, message):
    def network(shape, rng):
        return {
            "S1": Sequential({"conv": Conv2d(1, 4, 3, rng=rng), "relu": ReLU()}),
            "S2": Sequential({"conv": Conv2d(4, 6, 3, padding=1, rng=rng), "x": second(rng)}),
        }

    def run():
        return Run(config(init="identity"), network=network)

    if message is None:
        run()
    else:
        with pytest.raises(ConfigError, match=message):
            run()


class Odd(Layer):
    def forward(self, x, train=False):
        return x

    def backward(self, dy, need_dx=True):
        return dy


@pytest.mark.parametrize(("subnetworks", "message"), [
    (lambda rng: {"a": Conv2d(1, 4, 3, rng=rng), "b": Conv2d(4, 4, 3, rng=rng)}, "a ends with Conv2d.*only outputs of"),
    (
        lambda rng: {
            "a": Sequential({"conv": Conv2d(1, 4, 3, rng=rng), "relu": ReLU()}),
            "b": Conv2d(4, 3, 3, rng=rng),
        },
        r"b: 4 channels cannot be carried through Conv2d\(4, 3, 3\): it makes fewer",
    ),
])  # fmt: skip
def test_identity_is_refused_at_the_beginning(subnetworks, message):
    with pytest.raises(ConfigError, match=message):
        Run(config(init="lookahead+identity"), network=lambda shape, rng: subnetworks(rng))


# What looks at runs, and what looks ahead of them.


def test_a_report_has_its_layers_and_no_folders(place):
    assert train(*QUICK, "--epochs", "1", "--arch", "net.py:with_a_class", "--out", "run") == 0
    run = read_history(place / "run")
    assert [(part.name, part.layers) for part in parts(run)] == [
        ("stem", ("conv 3\N{MULTIPLICATION SIGN}3, 4 filters · batch norm · ReLU",)),
        ("dense", ("dense, 12 nodes · ReLU · dropout 0.2 · Twice",)),
        ("top", ("dense, 12 nodes · ReLU",)),
        ("classifier", ("pooling · dense",)),
    ]
    assert "--arch net.py:with_a_class" in command(run)
    assert str(place) not in command(run) + str(setups([run]))


def test_a_class_whose_memory_is_not_known(place, capsys):
    auto = ("--batch-size", "auto", "--memory-limit", "200MB")
    assert train(*QUICK, *auto, "--epochs", "1", "--arch", "net.py:network", "--out", "run") == 0
    assert train(*QUICK, *auto, "--arch", "net.py:with_a_class") == 2
    assert "--batch-size auto: what Twice takes is not known beforehand; choose a number" in said(capsys)


# Folders that somebody else has written.


def test_a_foreign_folder_runs_nothing(place, capsys):
    assert train(*QUICK, "--epochs", "1", "--arch", "net.py:network", "--out", "run") == 0
    (place / "evil.py").write_text("from pathlib import Path\nPath('executed').touch()\n")
    written = json.loads((place / "run" / "config.json").read_text())
    written["config"]["arch"] = str(place / "evil.py:network")
    (place / "executed").unlink()
    (place / "run" / "config.json").write_text(json.dumps(written))
    assert train("--resume", "run", "--epochs", "2") == 0
    with pytest.raises(SystemExit, match="2"):
        train("--config", "run/config.json")
    assert "is made by code" in said(capsys)
    written["config"]["trust"] = "evil.py"
    (place / "run" / "config.json").write_text(json.dumps(written))
    assert train("--resume", "run", "--epochs", "3") == 2
    assert not (place / "executed").exists()


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped", "another"])
def test_a_folder_whose_network_is_damaged(damage, place, capsys):
    assert train(*QUICK, "--epochs", "1", "--arch", "net.py:network", "--out", "run") == 0
    file = place / "run" / "network.safetensors"
    content = bytearray(file.read_bytes())
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[-9] ^= 1
        file.write_bytes(content)
    elif damage == "another":
        Run(config(), network=small)
        file.write_bytes(Run(config(), network=small).networks.own.content)
    assert train("--resume", "run", "--epochs", "2") == 2
    expected = {"gone": "cannot read", "cut": "no safetensors", "flipped": "damaged", "another": "other layers"}
    assert expected[damage] in said(capsys)


def test_the_options_of_another_run_with_the_code_named_again(place):
    assert train(*QUICK, "--epochs", "1", "--arch", "net.py:network", "--out", "run") == 0
    assert train("--config", "run/config.json", "--arch", "net.py:network", "--seed", "1", "--out", "other") == 0
    assert json.loads((place / "other" / "config.json").read_text())["config"]["seed"] == 1
