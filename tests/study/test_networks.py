"""Studies of networks of one's own: one network for all arms, whatever becomes of its code, which nobody else's is."""

import json
import shutil

import pytest

from incnet import train
from incnet.study import __main__ as command
from tests.faults.runs import outcome
from tests.run.test_own_networks import CODE, cut

QUICK = ("--dataset", "digits", "--seeds", "1", "--limit", "60", "--lookahead-epochs", "1", "--lr", "1e-3")
QUICK += ("--threads", "1", "--device", "cpu", "--no-report")
TABLE = ("table2", *QUICK, "--epochs", "3", "--arms", "baseline", "lookahead")
ELSEWHERE = """
def elsewhere(shape, rng):
    return {**network(shape, rng), 'head': layers.Half(12, 9, rng=rng)}
"""
EVIL = "from pathlib import Path\nPath('executed').touch()\n"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "write_figures", lambda folders, out: [])
    monkeypatch.setattr(command, "write_report", lambda folders, out: [])
    (tmp_path / "net.py").write_text(CODE)
    return tmp_path


class Here:
    """Carries runs out in this process; ``first`` is called before."""

    def __init__(self, first=lambda: None):
        self.first = first

    def execute(self, jobs, watch):
        self.first()
        for job in jobs:
            yield job, train.main(job.arguments, network=job.network)


def study(*arguments):
    return command.main([str(argument) for argument in arguments])


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


def test_a_study_goes_on_elsewhere_with_the_code_that_is_named_there(place, monkeypatch, capsys):
    assert study(*TABLE, "--archs", "net.py:with_a_class", "--jobs", "2", "--out", "study") == 0
    runs = [place / "study" / "runs" / f"net-with_a_class-{arm}-seed0" for arm in ("baseline", "lookahead")]
    assert (runs[0] / "network.safetensors").read_bytes() == (runs[1] / "network.safetensors").read_bytes()
    rows = json.loads((place / "study" / "table2.json").read_text())["rows"]
    assert [(row["arch"], row["n"]) for row in rows] == [("net.py:with_a_class", 1)] * 2
    whole = outcome(runs[1])
    cut(runs[1])
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    shutil.move(place / "net.py", elsewhere)
    (place / "net.py").write_text(EVIL)
    (place / "executed").unlink()
    monkeypatch.chdir(elsewhere)
    assert study(*TABLE, "--archs", "net.py:with_a_class", "--out", "../study") == 0
    assert "2 runs, 1 of them finished" in capsys.readouterr().out
    assert outcome(runs[1]) == whole
    assert not (place / "executed").exists()


def test_what_becomes_of_the_file_meanwhile_does_not_matter(place, monkeypatch):
    monkeypatch.setattr(command, "make_executor", lambda *_: Here((place / "net.py").unlink))
    assert study(*TABLE, "--archs", "net.py:network", "--seeds", "2", "--out", "study") == 0
    networks = {path.parent.name: path.read_bytes() for path in place.glob("study/runs/*/network.safetensors")}
    assert len(networks) == 4
    assert len(set(networks.values())) == 2  # one for a seed


def test_budgets(place, monkeypatch):
    """The shorter run of an arm whose rate falls begins where the longer one has been, with its network."""
    monkeypatch.setattr(command, "make_executor", lambda *_: Here())
    arguments = ("--budgets", "2", "4", "--arms", "constant", "decay", "--measure")
    assert study("budget", *QUICK, "--archs", "net.py:network", *arguments, "--out", "study") == 0
    sessions = (place / "study" / "runs" / "net-network-decay-2-seed0" / "sessions.jsonl").read_text()
    assert json.loads(sessions.splitlines()[0])["event"] == "branch"
    (network,) = json.loads((place / "study" / "budget.json").read_text())["networks"]
    assert network["arch"] == "net.py:network"
    assert study("budget", *QUICK, "--from-runs", "study", "--out", "again") == 0
    (found,) = json.loads((place / "again" / "budget.json").read_text())["networks"]
    assert [point["arm"] for point in found["points"]] == [point["arm"] for point in network["points"]]


def test_a_dry_run_changes_nothing(place, capsys):
    assert study(*TABLE, "--archs", "net.py:network", "resnet8", "--out", "study", "--dry-run") == 0
    assert "net.py:network" in capsys.readouterr().out
    assert not (place / "study").exists()


def test_another_network_than_before_is_refused(place, monkeypatch, capsys):
    monkeypatch.setattr(command, "make_executor", lambda *_: Here())
    assert study(*TABLE, "--archs", "net.py:network", "--out", "study") == 0
    (place / "net.py").write_text(CODE.replace("Linear(12, 12", "Linear(12, 13"))
    assert study(*TABLE, "--archs", "net.py:network", "--out", "study") == 2
    assert "was begun with a network of other layers than net.py:network makes now" in said(capsys)


@pytest.mark.parametrize(("archs", "message"), [
    (("net.py:netwrok",), "did you mean network?"),
    (("net.py:network", "other/net.py:network"), "both are called net-network; rename one"),
    (("net.py:network", "--subnetworks", "9"), "--subnetworks 9: net.py:network has 3; choose at most that"),
    (("net.py:network", "--partition", "2"), "--partition 2: leave it out"),
    (("net.py:elsewhere",), "'layers:Half' is not in what is trusted"),
])  # fmt: skip
def test_what_cannot_be_is_said_before_anything_is_trained(archs, message, place, capsys):
    (place / "layers.py").write_text("from incnet import Linear\n\nclass Half(Linear):\n    pass\n")
    (place / "net.py").write_text(f"{CODE}\nimport layers\n\n{ELSEWHERE}")
    assert study(*TABLE, "--archs", *archs, "--out", "study") == 2
    assert message in said(capsys)
    assert not (place / "study" / "runs").exists()


def test_the_runs_of_others_run_nothing(place, monkeypatch, capsys):
    """To measure the steps of a run its network is made: from data, and not by the code that its folder names."""
    arguments = ("digits", "--limit", "60", "--epochs", "1", "--threads", "1", "--device", "cpu", "--no-report")
    assert train.main([*arguments, "--arch", "net.py:network", "--out", "run"]) == 0
    (place / "net.py").write_text(EVIL)
    (place / "executed").unlink()
    measured = ("--from-runs", "run", "--measure", "--device", "cpu", "--threads", "1", "--out", "table")
    assert study("budget", *measured) == 0
    assert not (place / "executed").exists()
