"""Event files, read back with TensorBoard's own reader."""

import json
import sys
from dataclasses import fields

import numpy as np
import pytest

from incnet import train as command
from incnet.run.run import Run
from incnet.run.tensorboard import TensorBoard
from incnet.storage.files import WriteError
from incnet.storage.folder import RunFolder
from incnet.training.events import Epoch, Insert, Rollback, as_json
from tests.faults.runs import ARGUMENTS

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as Server

CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "images_per_second", "subnetworks", "params")
CURVES += ("macs_inference", "macs_training")


def accumulated(folder, reader=EventAccumulator):
    accumulator = reader(str(folder / "tensorboard"), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def curve(accumulator, name):
    """Steps and values of a scalar; the server's reader has it as a tensor."""
    if isinstance(accumulator, EventAccumulator):
        return tuple(zip(*[(event.step, event.value) for event in accumulator.Scalars(name)], strict=True))
    events = accumulator.Tensors(name)
    return tuple(zip(*[(event.step, event.tensor_proto.float_val[0]) for event in events], strict=True))


def texts(accumulator, name):
    return [event.tensor_proto.string_val[0].decode() for event in accumulator.Tensors(name)]


def metrics(folder, kind):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == kind]


def agrees(folder, accumulator=None):
    """Compare every curve with the metrics."""
    accumulator = accumulator or accumulated(folder)
    epochs = metrics(folder, "epoch")
    for name in CURVES:
        steps, values = curve(accumulator, name)
        assert steps == tuple(epoch["epoch"] for epoch in epochs), name
        assert values == pytest.approx([np.float32(epoch[name]) for epoch in epochs]), name
    inserted = [f"subnetwork: {event['subnetwork']}, init: {event['init']}" for event in metrics(folder, "insert")]
    assert [text.split(", params")[0] for text in texts(accumulator, "insert")] == inserted
    return len(epochs)


def test_a_run(tmp_path):
    folder = tmp_path / "run"
    assert command.main([*ARGUMENTS, "--tensorboard", "--out", str(folder)]) == 0
    accumulator = accumulated(folder)
    assert agrees(folder, accumulator) == 6
    assert len(metrics(folder, "insert")) == 3
    windows = metrics(folder, "window")
    steps, angles = curve(accumulator, "angle")
    assert steps == tuple(window["epoch"] for window in windows)
    assert angles == pytest.approx([window["angle"] for window in windows])
    assert f"reason: {windows[0]['reason']}" in texts(accumulator, "window")[0]
    assert texts(accumulator, "stop") == ["reason: the budget of 6 epochs is used"]
    times = [event.wall_time for event in accumulator.Scalars("val_loss")]
    took = np.diff([epoch["seconds"] for epoch in metrics(folder, "epoch")])
    assert np.diff(times) == pytest.approx(took, abs=0.1)


class Enough(Exception):
    """Ends a run as a crash would."""


def test_a_run_that_is_resumed_has_each_epoch_once(tmp_path, monkeypatch):
    """A reader that is open all the time, and one that begins afterwards."""
    folder = tmp_path / "run"
    event = TensorBoard.event

    def crash(self, what):
        event(self, what)
        if isinstance(what, Insert) and what.subnetwork == "S3":
            raise Enough  # the checkpoint of the epoch before comes before insertion and window

    with monkeypatch.context() as patch:
        patch.setattr(TensorBoard, "event", crash)
        with pytest.raises(Enough):
            command.main([*ARGUMENTS, "--tensorboard", "--out", str(folder)])
    reader = accumulated(folder, Server)
    assert len(texts(reader, "insert")) == 3
    assert command.main(["--resume", str(folder)]) == 0
    reader.Reload()
    assert agrees(folder, reader) == agrees(folder) == 6
    assert command.main(["--resume", str(folder)]) == 0
    assert agrees(folder) == 6
    assert sorted(path.stat().st_size > 0 for path in (folder / "tensorboard").iterdir()) == [False, True]


@pytest.fixture
def folder(tmp_path):
    with RunFolder.create(tmp_path / "run", {}) as folder:
        yield folder


def epoch(number):
    return Epoch(**{field.name: number for field in fields(Epoch)})


def test_a_run_that_is_rolled_back(folder):
    board = TensorBoard(folder)
    lengths = []
    for number in (1, 2, 3):
        folder.log(as_json(epoch(number)))
        board.event(epoch(number))
        lengths.append(folder.metrics.length)
    reader = accumulated(folder.path, Server)
    folder.metrics.cut(lengths[1])
    rollback = Rollback(2, 3, 1, 0.1, "loss is nan")
    for event in (rollback, epoch(3)):
        folder.log(as_json(event))
        board.event(event)
    board.close()
    reader.Reload()
    for seen in (reader, accumulated(folder.path)):
        assert curve(seen, "val_loss")[0] == (1, 2, 3)
        assert texts(seen, "rollback") == ["failed_epoch: 3, retry: 1, lr: 0.1, reason: loss is nan"]


def test_a_clock_that_is_set_back(folder, monkeypatch):
    """A TensorBoard that is open reads files in the order of their names, and never goes back."""
    names = []
    for now in (2 * 10**18, 10**18, 10**18, 5):
        monkeypatch.setattr("time.time_ns", lambda now=now: now)
        TensorBoard(folder).close()
        names.append(max(path.name for path in (folder.path / "tensorboard").iterdir() if path.stat().st_size))
    assert names == sorted(set(names))
    assert len(names) == 4


def test_a_run_that_goes_back_at_its_end(folder):
    board = TensorBoard(folder)
    folder.log(as_json(epoch(1)))
    length = folder.metrics.length
    folder.log(as_json(epoch(2)))
    board.event(epoch(2))
    assert curve(accumulated(folder.path), "val_loss")[0] == (1, 2)
    folder.metrics.cut(length)
    board.close()
    assert curve(accumulated(folder.path), "val_loss")[0] == (1,)


def test_a_full_disk(folder, monkeypatch):
    board = TensorBoard(folder)
    folder.log(as_json(epoch(1)))

    def full(descriptor, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("incnet.run.tensorboard.write_all", full)
    with pytest.raises(WriteError, match="No space left"):
        board.event(epoch(1))


def test_without_tensorboard(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr(Run, "train", lambda *_: pytest.fail("it trains"))
    assert command.main([*ARGUMENTS, "--tensorboard", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == 'error: --tensorboard: it needs TensorBoard: pip install "incnet[tensorboard]"\n'
    assert not (tmp_path / "run").exists()
