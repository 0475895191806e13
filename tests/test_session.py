"""Runs from Python: their folders are as complete as those of the command, and either goes on with the other's."""

import json
import os
import re
import signal

import numpy as np
import pytest

from incnet import predict
from incnet import train as command
from incnet.config import Config, ConfigError
from incnet.data.dataset import DataError, Dataset, Split
from incnet.growth.criterion import Verdict, Window
from incnet.layers import Conv2d
from incnet.report.reading import read_history
from incnet.run.run import Run
from incnet.session import resume_run, train_run
from incnet.stopping import Condition, accuracy
from incnet.storage.folder import RunFolder
from incnet.training.nonfinite import NonFiniteError
from incnet.training.progress import Display
from incnet.training.signals import Interrupted
from tests.faults.runs import ARGUMENTS, outcome

OPTIONS = {"arch": "resnet8", "limit": 200, "window": 2, "lookahead_epochs": 1, "epochs": 6, "report": False}


def small(**options):
    return Config(**OPTIONS | options).resolve()


class EveryOther:
    """Grow with the second epoch of a stage."""

    def restart(self): ...
    def restore(self, state): ...
    def state(self):
        return None

    def observe(self, accuracy, epoch):
        return Verdict(epoch >= 2, "every other epoch")


class Stopping(Display):
    """Send this process a signal after so many epochs."""

    def __init__(self, epochs):
        super().__init__(6)
        self.after = epochs

    def event(self, event):
        if event.event == "epoch" and event.epoch == self.after:
            os.kill(os.getpid(), signal.SIGTERM)


def interrupt(path, **given):
    with pytest.raises(Interrupted) as stopped, Stopping(3) as display:
        train_run(Run(small(), **given), path, display)
    assert stopped.value.__notes__ == [f"To go on: make the run anew, and call resume_run(run, {str(path)!r})"]


def content(path, name="config.json"):
    return json.loads((path / name).read_text())


def names(folder):
    """Files in a run folder; checkpoints without their checksums, since the clock is in them."""
    return {re.sub(r"-[0-9a-f]{32}", "", str(path.relative_to(folder))) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def by_command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "command"
    assert command.main([*ARGUMENTS, "--report", "--out", str(folder)]) == 0
    return folder


def test_a_folder_is_as_complete_as_that_of_the_command(by_command, tmp_path, capsys):
    summary = train_run(Run(small(threads=1, device="cpu", report=True)), tmp_path / "run")
    assert summary == content(tmp_path / "run", "summary.json")
    assert names(tmp_path / "run") == names(by_command)
    assert outcome(tmp_path / "run") == outcome(by_command)
    ours, theirs = content(tmp_path / "run"), content(by_command)
    assert ours | {"config": None} == theirs | {"config": None}
    assert {name for name in theirs["config"] if ours["config"][name] != theirs["config"][name]} == {"out"}
    assert "report.html" in capsys.readouterr().out


@pytest.mark.parametrize("given", [{}, {"rule": EveryOther()}], ids=["options", "rule"])
def test_an_interrupted_run_is_resumed(given, tmp_path, capsys, monkeypatch):
    train_run(Run(small(), **given), tmp_path / "whole")
    interrupt(tmp_path / "run", **given)
    assert {"last.safetensors", "summary.json"} <= names(tmp_path / "run")
    shown = []
    monkeypatch.setattr(Display, "resume", lambda self, epochs: shown.append(epochs))
    with Display(6) as display:
        resume_run(Run(small(), **given), tmp_path / "run", display)
    assert shown == [3]
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert "going on after 3 epochs and 0 batches" in capsys.readouterr().out
    sessions = [json.loads(line) for line in (tmp_path / "run" / "sessions.jsonl").read_text().splitlines()]
    assert [session["event"] for session in sessions] == ["begin", "end", "resume", "end"]
    assert [session["exit_code"] for session in sessions if session["event"] == "end"] == [143, 0]


def test_the_command_goes_on_with_a_run_from_python(by_command, tmp_path):
    interrupt(tmp_path / "run")
    assert command.main(["--resume", str(tmp_path / "run")]) == 0
    assert outcome(tmp_path / "run") == outcome(by_command)


def test_the_command_says_which_object_it_has_not(tmp_path, capsys):
    interrupt(tmp_path / "rule", rule=EveryOther())
    assert command.main(["--resume", str(tmp_path / "rule")]) == 2
    assert "begun in Python with a growth rule of its own, 'EveryOther'" in capsys.readouterr().err

    def enough(progress):
        return progress.epochs >= 5

    interrupt(tmp_path / "stop", stop=enough)
    assert command.main(["--resume", str(tmp_path / "stop")]) == 2
    assert "with a condition to stop, 'enough'; choose one by --stop" in capsys.readouterr().err
    assert command.main(["--resume", str(tmp_path / "stop"), "--stop", "epochs>=4"]) == 0
    assert content(tmp_path / "stop", "summary.json")["epochs"] == 4


def test_another_run_is_refused(tmp_path):
    interrupt(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"--lr 0.5: the run was begun with 0.0003"):
        resume_run(Run(small(lr=0.5)), tmp_path / "run")
    changed = content(tmp_path / "run") | {"data": {"sha256": "0"}}
    (tmp_path / "run" / "config.json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match="holds other images"):
        resume_run(Run(small()), tmp_path / "run")


def test_a_folder_without_a_checksum_says_that_it_has_none(tmp_path, capsys):
    """Of :class:`RunFolder` itself, which is told what config.json is to hold."""
    with RunFolder.create(tmp_path / "run", {"config": small().as_json()}) as folder:
        Run(small()).train(folder)
    assert command.main(["--resume", str(tmp_path / "run")]) == 0
    assert "config.json holds no checksum of the data" in capsys.readouterr().out
    assert content(tmp_path / "run", "summary.json")["test_accuracy"] > 0
    assert command.main(["--resume", str(tmp_path / "run")]) == 0
    assert "no checksum" not in capsys.readouterr().out


def test_numbers_that_diverge_leave_the_last_good_epoch(tmp_path):
    with pytest.raises(NonFiniteError, match=r"epoch 1 \(train\), learning rate 1e\+30"):
        train_run(Run(small(lr=1e30)), tmp_path / "run")
    assert content(tmp_path / "run", "summary.json")["epochs"] == 0
    assert "last.safetensors" in names(tmp_path / "run")


def test_predict_says_which_stage_it_takes(by_command, tmp_path, capsys):
    interrupt(tmp_path / "run")
    capsys.readouterr()
    images = tmp_path / "digits.npy"
    np.save(images, np.zeros((1, 8, 8, 1), np.uint8))
    assert predict.main([str(tmp_path / "run"), str(images)]) == 0
    assert f"S1-S2, the last stage so far of {tmp_path / 'run'}, which has not ended" in capsys.readouterr().err
    assert predict.main([str(by_command), str(images)]) == 0
    assert f"S1-S3, the last stage of {by_command}\n" in capsys.readouterr().err


# Objects that compute with NumPy, as people's do.


class Numeric:
    """A rule whose state, truths and numbers are NumPy's."""

    def __init__(self, verdict):
        self.verdict, self.shown = verdict, np.zeros(2, np.int64)

    def restart(self):
        self.shown[:] = 0

    def state(self):
        return {"shown": self.shown, "last": np.float32(0.5), "pair": (np.bool_(True), None)}

    def restore(self, state):
        assert state["last"] == 0.5
        assert state["pair"] == [True, None]
        self.shown = np.array(state["shown"])

    def observe(self, accuracy, epoch):
        self.shown += 1
        return self.verdict(self.shown[0] >= 2)


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (lambda grow: Verdict(grow, None), "Numeric"),
        (lambda grow: Verdict(grow, np.str_("two epochs")), "two epochs"),
        (lambda grow: grow, "Numeric"),
        (lambda grow: Window(grow, "two epochs", np.float32(0.25), np.float64(14), None), "two epochs"),
    ],
)
def test_a_rule_may_compute_with_numpy(verdict, reason, tmp_path):
    rule = Numeric(verdict)
    interrupt(tmp_path / "run", rule=rule)
    resume_run(Run(small(), rule=rule), tmp_path / "run")
    events = [timed.event for timed in read_history(tmp_path / "run").events]
    grown = [(event.epoch, event.reason) for event in events if getattr(event, "grow", False)]
    assert grown[0] == (2, reason)


@pytest.mark.parametrize("answer", [0.7, "grow", (True, "enough"), Verdict("yes", "enough"), Verdict(True, 5)])
def test_a_rule_that_answers_something_else_is_told_at_once(answer, tmp_path):
    with pytest.raises(TypeError, match="the growth rule Numeric answered"):
        train_run(Run(small(), rule=Numeric(lambda grow: answer)), tmp_path / "run")


def test_a_rule_whose_state_no_file_can_hold_is_told_before_the_first_epoch(tmp_path):
    rule = EveryOther()
    rule.state = lambda: {"curve": {1.0, 2.0}}
    with pytest.raises(TypeError, match=r"the state of the growth rule EveryOther.curve is \{1.0, 2.0\}"):
        train_run(Run(small(), rule=rule), tmp_path / "run")
    assert "epoch" not in (tmp_path / "run" / "metrics.jsonl").read_text().replace('"epoch": 0', "")


def enough(progress):
    return np.greater_equal(progress.epochs, 2)


class Own(Condition):
    def reason(self, progress):
        return enough(progress)

    def __str__(self):
        return "Own"


@pytest.mark.parametrize(
    ("stop", "reason"),
    [(enough, "enough"), (Own(), "Own"), (Own() & enough, "Own and enough"), ((accuracy > 0.999) | Own(), "Own")],
)
def test_a_condition_may_compute_with_numpy(stop, reason, tmp_path):
    assert train_run(Run(small(), stop=stop), tmp_path / "run")["epochs"] == 2
    assert read_history(tmp_path / "run").events[-1].event.reason == reason


def test_a_condition_that_answers_something_else_is_told_at_once(tmp_path):
    with pytest.raises(TypeError, match=r"the condition <lambda> answered 0.5, expected a truth"):
        train_run(Run(small(), stop=lambda progress: 0.5), tmp_path / "run")


def test_options_may_be_numpy_numbers(tmp_path):
    options = {"epochs": np.int64(1), "lr": np.float32(1e-3), "augment": np.bool_(False), "data_dir": str(tmp_path)}
    config = Config(**OPTIONS | options | {"data_dir": None}).resolve()
    train_run(Run(config), tmp_path / "run")
    assert Config.from_json(content(tmp_path / "run")["config"]).lr == config.lr
    assert Config("cifar10", **OPTIONS | options).resolve().data_dir == tmp_path


@pytest.mark.parametrize("option", [{"epochs": 2.5}, {"epochs": "2"}, {"init": "none"}, {"augment": None}, {"lr": 1j}])
def test_an_option_that_no_resumed_run_would_take_is_refused_at_once(option):
    with pytest.raises(ConfigError, match=f"--{next(iter(option))} is "):
        Config(**option).resolve()


# What a run is made of.


def test_a_configuration_need_not_be_resolved():
    run = Run(Config(**OPTIONS))
    assert run.config == Run(small()).config
    assert repr(run) == "<Run: resnet8 in 3 sub-networks, incremental, digits, 0 of 6 epochs>"


def test_what_is_left_open_is_filled_in_for_data_set_and_network_together(rng):
    def plain(input_shape, rng):  # no batch norm
        return {"S1": Conv2d(input_shape[2], 8, 3, rng=rng)}

    images, labels = rng.integers(0, 256, (40, 8, 8, 1), np.uint8), np.arange(40) % 2
    dataset = Dataset("own", ("a", "b"), Split(images, labels), Split(images[:4], labels[:4]))
    config, vgg = Run(Config(), dataset, network=plain).config, Config("cifar10", arch="vgg16").resolve()
    assert (config.momentum, config.batch_size, config.epochs) == (vgg.momentum, vgg.batch_size, vgg.epochs)


@pytest.mark.parametrize(("given", "message"), [
    ({"config": {"dataset": "digits"}}, r"the configuration is a dict: give a Config"),
    ({"dataset": "digits"}, r"the data set is a str: give a Dataset, or the name of one as Config\(dataset=...\)"),
    ({"rule": EveryOther}, r"the class EveryOther: give an object of it, as EveryOther\(\)"),
    ({"rule": "plateau"}, "the growth rule 'plateau' has no method restart: derive its class from GrowthRule"),
    ({"stop": "accuracy>=0.9"}, r"neither a condition nor callable; a text goes into Config\(stop=...\)"),
])  # fmt: skip
def test_what_no_run_is_made_of_is_named_at_once(given, message):
    with pytest.raises(TypeError, match=message):
        Run(**{"config": small()} | given)


def test_a_run_that_has_been_trained_is_not_trained_again(tmp_path):
    """Its second folder would hold what came out, and nothing of how."""
    run = Run(small(epochs=1))
    train_run(run, tmp_path / "first")
    with pytest.raises(ValueError, match="this run has been trained, 1 epoch and 0 batches: make a new one"):
        train_run(run, tmp_path / "second")
    assert not (tmp_path / "second").exists()
    with pytest.raises(TypeError, match="the run is a Config: give a Run"):
        train_run(small(), tmp_path / "third")
