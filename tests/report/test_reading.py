"""Reading run folders that nobody vouches for."""

import json

import pytest

from incnet.report.reading import ReportError, find_runs, read_history

from .folders import write_run


def rewrite(run, number, change):
    """Change the event on a line, from 1."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[number - 1] = change if isinstance(change, str) else json.dumps(json.loads(lines[number - 1]) | change)
    path.write_text("".join(line + "\n" for line in lines))


def test_a_run(run):
    history = read_history(run)
    assert (history.setup.arch, history.setup.window, len(history.epochs)) == ("resnet20", 3, 12)
    assert history.finished
    assert history.test_accuracy == pytest.approx(0.7)
    assert history.accuracy[:3] == pytest.approx([35, 40, 45])
    assert [stage.insert.subnetwork for stage in history.stages] == ["S1", "S2", "S3"]
    assert [(len(stage.epochs), stage.lookahead) for stage in history.stages] == [(4, 0), (4, 1), (4, 1)]
    assert [stage.val_accuracy for stage in history.stages] == pytest.approx([0.5, 0.7, 0.9])
    # S1: inserted at second 0, epochs end at 10, 20, 30 and 40; a window and an insertion follow, ten seconds each.
    assert [(stage.start, stage.end) for stage in history.stages] == [(0, 40), (60, 100), (120, 160)]


def test_a_baseline_is_one_stage(tmp_path):
    (stage,) = read_history(write_run(tmp_path / "run", method="baseline")).stages
    assert (stage.insert.subnetwork, len(stage.epochs)) == ("S3", 12)


def test_a_run_that_goes_on(tmp_path):
    run = write_run(tmp_path / "run", epochs=6, finished=False)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"event": "epoch", "epo')  # being written
    history = read_history(run)
    assert not history.finished
    assert len(history.epochs) == 6
    (run / "summary.json").write_text('{"test_accuracy": null}')  # it was stopped
    assert not read_history(run).finished
    (run / "summary.json").write_text('{"test_accuracy": 0.5}')  # it had ended, and goes on with more epochs
    assert not read_history(run).finished


def test_a_run_that_has_just_begun(run):
    for name in ("metrics.jsonl", "summary.json"):
        (run / name).unlink()
    history = read_history(run)
    assert (history.epochs, history.stages, history.seconds, history.val_accuracy) == ([], [], 0, None)


def test_events_of_other_versions(run):
    rewrite(run, 1, {"new": 1})
    rewrite(run, 2, {"macs_skipped": 5, "new": [1]})
    history = read_history(run)
    assert history.epochs[0].macs_skipped == 5
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"event": "something new", "seconds": 1}\n')
    assert read_history(run).events == history.events


def test_runs_without_a_ledger(tmp_path):
    history = read_history(write_run(tmp_path / "run", ledger=False))
    assert history.epochs[0].macs_skipped is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "line 2, is damaged: it is no JSON: expecting .* at column 2"),
        ("[1]", "line 2, is damaged: not an object"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "line 2"),
        ({"epoch": 2}, "epoch 2 in place of 1"),
        ({"epoch": True}, "epoch.epoch is True, expected int"),
        ({"val_accuracy": 1.5}, "val_accuracy 1.5 cannot be"),
        ({"val_accuracy": "<b>"}, "epoch.val_accuracy is '<b>', expected float"),
        ({"macs_training": -1}, "macs_training -1 cannot be"),
        ({"macs_training": 10**30}, "cannot be"),
        ({"epoch": 1, "macs_training": 2**61}, "line 3, is damaged: macs_training 60000000000 are fewer"),
        ({"seconds": None}, "epoch.seconds is None"),
        ({"seconds": -1}, "seconds -1.0 cannot be"),
        ({"seconds": 1e18, "event": "epoch"}, "line 3, is damaged: seconds 20.0 are fewer than on the line before"),
        ({"event": "stop", "epoch": 1, "reason": ""}, "epoch 1 in place of 0"),
        ({"event": "insert", "subnetwork": "a\nb", "init": "x"}, "subnetwork is 'a\\\\nb', which can be no name"),
        ({"event": "window", "slope": 1e300, "angle": 1.0, "grow": True, "reason": ""}, "slope 1e\\+300 cannot be"),
    ],
)
def test_a_damaged_line(run, change, message):
    rewrite(run, 2, change)
    with pytest.raises(ReportError, match=message) as caught:
        read_history(run)
    assert str(run / "metrics.jsonl") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "", "config.json is damaged"),
        ("config.json", "[]", "not an object"),
        ("config.json", "{}", "config is None, expected an object"),
        ("config.json", '{"config": {"dataset": "digits"}}', "config lacks arch"),
        ("summary.json", "{", "summary.json is damaged"),
        ("summary.json", "[]", "not an object"),
        ("summary.json", '{"test_accuracy": 7}', "test_accuracy 7.0 cannot be"),
    ],
)
def test_a_damaged_file(run, name, content, message):
    (run / name).write_text(content)
    with pytest.raises(ReportError, match=message):
        read_history(run)


@pytest.mark.parametrize(
    "options", [{"arch": "x" * 5000}, {"init": "x" * 100}, {"arch": "\x1b"}, {"window": 0}, {"epochs": 0}, {"seed": -1}]
)
def test_impossible_options(run, options):
    content = json.loads((run / "config.json").read_text())
    content["config"] |= options
    (run / "config.json").write_text(json.dumps(content))
    with pytest.raises(ReportError, match=r"config.json is damaged: .*be"):
        read_history(run)


def test_a_run_without_a_network(run):
    rewrite(run, 1, {"event": "something else"})
    with pytest.raises(ReportError, match="line 2, is damaged: no sub-network was inserted before it"):
        read_history(run)


def test_a_file_without_end(run, monkeypatch):
    monkeypatch.setitem(read_history.__globals__["MAX_BYTES"], "metrics.jsonl", 1000)
    with pytest.raises(ReportError, match="more than 1,000 bytes"):
        read_history(run)


def test_finding_runs(runs, tmp_path):
    names = ["baseline", "lookahead-0", "lookahead-1", "random"]
    assert [path.name for path, _ in find_runs([runs])] == names
    assert [path.name for path, _ in find_runs([tmp_path])] == names  # in its runs/
    assert find_runs([runs / "baseline", runs / "baseline"]) == [(runs / "baseline", None)]
    for nowhere in (tmp_path / "nothing", runs / "baseline" / "config.json"):
        with pytest.raises(ReportError, match="no folder"):
            find_runs([nowhere])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReportError, match="holds no run"):
        find_runs([tmp_path / "empty"])


def test_finding_the_runs_of_a_study(runs, tmp_path):
    listed = [
        {"path": "runs/baseline", "arm": "baseline", "arch": "resnet20", "seed": 0, "status": "finished"},
        {"path": "runs/lookahead-1", "arm": "fast", "arch": "resnet20", "seed": 1, "status": "finished"},
        {"path": "runs/later", "arm": "fast", "arch": "resnet20", "seed": 2, "status": "waiting"},
    ]
    (tmp_path / "study.json").write_text(json.dumps({"runs": listed}))
    assert find_runs([tmp_path]) == [(runs / "baseline", "baseline"), (runs / "lookahead-1", "fast")]
    for damage, message in [
        ({"runs": [listed[0] | {"path": "../elsewhere"}]}, "leads out of the study"),
        ({"runs": [listed[0] | {"path": 300 * "a"}]}, r"runs\[0\].path 'aaa.*: File name too long"),
        ({"runs": [{"path": "runs/baseline"}]}, r"runs\[0\] lacks arm"),
        ({"runs": [3]}, "expected an object"),
        ([], "no list of runs"),
    ]:
        (tmp_path / "study.json").write_text(json.dumps(damage))
        with pytest.raises(ReportError, match=message):
            find_runs([tmp_path])
