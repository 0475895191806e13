"""Training in a terminal, as a person sees it."""

import re

import pytest

from incnet import train
from incnet.training.events import Insert
from incnet.training.loop import Metrics
from incnet.training.progress import Display

from .screen import Inside, Session

SMALL = ("--limit", "200", "--lookahead-epochs", "1", "--arch", "resnet8", "--threads", "1")
SHORT = ("digits", *SMALL, "--epochs", "3", "--no-report")
TRAIN = ("python", "-m", "incnet.train", "digits", *SMALL)

EPOCH = re.compile(r"epoch +\d+  S1\S* +\S+ +loss \d\.\d{4}")
BARS = re.compile(r"^epochs +\d+/\d+ .*\nS1\S* (train|look-ahead) +\d+/\d+ [━╸╺]{8,} loss \d\.\d{4}", re.MULTILINE)
COLOUR = re.compile(rb"\x1b\[[\d;]*3[0-7][;m]")


def epochs(screen):
    return [row for row in screen.rows if EPOCH.match(row)]


def test_the_command_in_a_terminal_of_80_columns(tmp_path):
    """What the first bars did to it: an epoch whose number of batches was not known yet ended every run."""
    with Session([*TRAIN, "--epochs", "4"], cwd=tmp_path) as session:
        assert session.wait() == 0
    session.check()
    assert any(re.search(r"^epochs +\d/4 [━╸╺]+ .* left", frame, re.MULTILINE) for frame in session.frames)
    assert session.rows[0] == "digits from scikit-learn: 180 training, 20 validation, 359 test images"
    assert [row.split()[1] for row in epochs(session)] == ["1", "2", "3", "4"]
    assert re.search(r"^report: runs/digits-resnet8-incremental-\S+/report.html$", session.text, re.MULTILINE)
    assert re.search(r"test accuracy \d+\.\d\d% \(S1-S3, best validation weights\)", session.rows[-1])
    assert not re.search("[━╸╺]", session.text)  # no bar stays behind


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 200])
def test_what_is_shown_fits_the_width(columns, tmp_path, monkeypatch):
    with Inside(monkeypatch, columns) as screen:
        assert train.main([*SHORT, "--out", str(tmp_path / "run")]) == 0
    screen.check()
    rows = [row for row in screen.rows if re.match(r"epoch +\d+  S1", row)]
    assert len(rows) == 3
    for row in rows:
        assert ("loss" in row, "accuracy" in row, "images/s" in row) == (columns >= 60, columns >= 80, columns >= 120)
    if columns >= 60:
        assert all(re.search(r"validation +\d+\.\d\d%", row) for row in rows)
        assert re.search(r"network +parameters +MACs/image +epochs +validation", screen.text)
        assert re.search(r"S1-S2 +[\d,]+ +\d\.\d\d M +2 +\d+\.\d\d%", screen.text)


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 200])
def test_bars_fit_the_width(columns, monkeypatch):
    """With as many digits as a long run has, at each moment of an epoch; what there is no room for is left out."""
    with Inside(monkeypatch, columns) as screen, Display(200) as display:
        display.subnetworks = ("S1", "S2", "S3")
        display.resume(99)
        display.bars.refresh()
        display.stage(3, "lookahead", 1407)
        display.bars.refresh()
        for done in (1, 11, 21):
            display.batch(done, Metrics(loss=10.1234, accuracy=1.0, images=100))
            display.bars.refresh()
        display.images_per_second = 12345.6
        display.bars.refresh()
        display.announce("SIGINT: finishing the step")
        display.bars.refresh()
    assert "…" not in "".join(screen.frames)
    frames = "\n".join(screen.frames)
    assert re.search(r"^epochs +99/200 [━╸╺]", frames, re.MULTILINE) or columns < 60
    assert re.search(r"^S1-S3 look-ahead +21/1407 ([━╸╺]{16,} )?loss 10\.1234", frames, re.MULTILINE) or columns < 60
    assert columns < 60 or re.search(r" (-:--:--|\d+:\d\d:\d\d) left( |$)", frames, re.MULTILINE)
    assert "\nSIGINT: finishing the step" in frames
    assert ("accuracy 100.0%" in frames, "elapsed" in frames) == (columns >= 80, columns >= 80)
    assert ("12,346 images/s" in frames) == (columns >= 120)
    assert not screen.text  # they leave nothing behind


def test_numbers_are_whole_where_a_table_is_too_wide(monkeypatch):
    stage = {"params": 14362, "macs_inference": 890000, "epochs": 2, "val_accuracy": 0.9167}
    stages = [{"name": "S1", **stage}, {"name": "S2", **stage, "epochs": 0, "val_accuracy": 0.0}]
    for columns in (80, 40):
        with Inside(monkeypatch, columns) as screen, Display(3) as display:
            display.subnetworks = ["S1", "S2"]
            display.table(stages)
        screen.check()
        rows = [" ".join(row.split()) for row in screen.rows if row.strip()]
        if columns == 80:
            assert rows[-2:] == ["S1 14,362 0.89 M 2 91.67%", "S1-S2 14,362 0.89 M 0 -"]
        else:
            assert rows[1:6] == ["S1", "parameters 14,362", "MACs/image 0.89 M", "epochs 2", "validation 91.67%"]


def test_insertions_in_a_row_are_one_line(monkeypatch):
    with Inside(monkeypatch) as screen, Display(3) as display:
        display.subnetworks = ["S1", "S2", "S3"]
        for name, parameters in (("S1", 10), ("S2", 200), ("S3", 3000)):
            display.event(Insert(0, name, "random", parameters, 1_000_000, 32, 0.1))
        display.stage(3, "train", 10)
        display.say("and so on")
    assert screen.text.count("insert") == 1
    assert screen.text.index("insert S1-S3 (random): 3,000 parameters") < screen.text.index("and so on")


def test_a_second_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    """It may come while the first one's work is saved."""

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("incnet.session.export_weights", interrupted)
    assert train.main([*SHORT, "--out", str(tmp_path / "run")]) == 130
    assert f"interrupted; go on with --resume {tmp_path / 'run'}" in " ".join(capsys.readouterr().err.split())


def test_why_a_stage_ended_is_said_once(tmp_path, monkeypatch):
    """By its share of the epochs, and by the rule, which has said so itself."""
    with Inside(monkeypatch) as screen:
        assert train.main([*SHORT, "--out", str(tmp_path / "share")]) == 0
        assert train.main([*SHORT, "--growth", "periodic", "--out", str(tmp_path / "rule")]) == 0
    assert "           the stage has had its 1 epoch, grow\n           insert S2 (lookahead)" in screen.text
    assert len(re.findall("period 1, grow\n           insert S2", screen.text)) == 1
    assert "epoch 2 of the stage, period 1\n           stop: the budget of 3 epochs is used" in screen.text


@pytest.mark.parametrize(
    "environment",
    [{"TERM": "dumb", "COLUMNS": ""}, {"JPY_PARENT_PID": "1", "FORCE_COLOR": "1", "TERM": "xterm-color"}],
    ids=["dumb", "a cell with !"],
)
def test_what_cannot_draw_lines_anew_gets_each_line_once(environment, tmp_path, monkeypatch):
    with Inside(monkeypatch, columns=60, environment=environment) as screen:
        assert train.main([*SHORT, "--out", str(tmp_path / "run")]) == 0
    screen.check()
    assert not re.search(rb"\r(?!\n)|\x1b\[\d*[AK]", screen.raw)
    assert len(epochs(screen)) == 3


def test_colours_only_where_they_are_wanted(tmp_path, monkeypatch):
    for name, environment in {"with": {}, "without": {"NO_COLOR": "1"}}.items():
        with Inside(monkeypatch, environment=environment) as screen:
            assert train.main([*SHORT, "--out", str(tmp_path / name)]) == 0
        screen.check()
        assert bool(COLOUR.search(screen.raw)) == (name == "with")


def test_ctrl_c_a_long_path_going_on_and_a_window_that_shrinks(tmp_path):
    folder = tmp_path / "-".join(["a-folder-with-a-long-name"] * 5)
    command = [*TRAIN, "--epochs", "300", "--end", "budget", "--no-report", "--out", str(folder)]
    with Session(command, cwd=tmp_path) as session:
        session.wait_until(lambda: "epoch   2 " in session.text)
        session.press("\x03")
        assert session.wait() == 130
    session.check()
    assert f"run folder\n{folder}\n" in "\n".join(session.lines)
    assert f"stopped by SIGINT; go on with --resume\n{folder}\n" in "\n".join(session.lines)
    assert "^C" not in session.text
    last = int(epochs(session)[-1].split()[1])
    with Session(["python", "-m", "incnet.train", "--resume", str(folder)], 120, cwd=tmp_path) as session:
        session.wait_until(lambda: BARS.search(session.frames[-1] if session.frames else ""))
        assert int(re.search(r"epochs +(\d+)/300 ", session.text)[1]) >= last
        session.resize(60, 24)
        session.wait_until(lambda: re.search(r"^epochs +\d+/300 [━╸╺]+ \S+ left$", session.frames[-1], re.MULTILINE))
        session.press("\x03")
        assert session.wait() == 130
    assert "Traceback" not in session.text
    assert "going on after" in session.text
