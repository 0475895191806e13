"""The page, read as a browser would without having one."""

import json
import re
import shlex
import sys
from html.parser import HTMLParser

import pytest

from incnet.commandline import parse
from incnet.config import Config
from incnet.report import ReportError, write_report
from incnet.report.__main__ import main
from incnet.report.architecture import TIMES
from incnet.report.reading import read_history
from incnet.report.setup import commands

from .folders import write_evaluation, write_run

VOID = {"meta", "link", "br", "use", "path", "img"}


class Page(HTMLParser):
    """Elements, attributes and text of a page whose tags must match."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def count(self, tag):
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture
def report(tmp_path):
    def write(*folders):
        problems = write_report(list(folders), tmp_path / "report.html")
        return Page((tmp_path / "report.html").read_text(encoding="utf-8")), problems

    return write


def test_one_run(run, report):
    page, problems = report(run)
    assert problems == []
    assert "ResNet-20 on CIFAR-10" in page.words
    assert (
        "Look-ahead reaches 70.0 % test accuracy, grown over S1, S2 and S3, with 1.32 TFLOP of training" in page.words
    )
    assert page.count("figure") == page.count("figcaption") == 8
    assert page.count("svg") == 9  # the drawing of the network is there for wide and for narrow pages
    assert "in the paper, % 87.52" in page.words
    for reason in ("the reason at 4", "the reason at 8", "the budget of 12 epochs is used"):
        assert reason in page.words
    assert "S3 inserted: 20,000 parameters" in page.words
    assert "the stage before had had its 4 epochs" in page.words  # nothing but the limit ended S2
    assert "numpy 2.0.0" in page.words
    assert "Not finished" not in page.words


def test_the_page_needs_nothing_else(run, report):
    page, _ = report(run)
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"href", "xlink:href", "src"}:
                assert value.startswith(("#", "data:"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_arms_beside_the_paper(runs, report):
    page, _ = report(runs)
    assert "The baseline reaches 76.0 % test accuracy." in page.words
    assert "Look-ahead reaches 70.5 ± 0.7 %" in page.words
    assert "Not finished: random is after epoch 6 of at most 12." in page.words
    assert "87.81" in page.words
    assert "87.52" in page.words
    assert "79.20" not in page.words  # random is not finished
    assert page.count("svg") == 8 + 2
    # 60 % is the best that all have reached: random, in its six epochs.
    assert "FLOPs to 60.0 %" in page.words


def test_a_share_of_backward(run, report):
    page, _ = report(run)
    cells = [text for text in page.text if text in {"0", "12", "17"}]
    assert {"12", "17"} <= set(cells)  # 20 of 160 G, 40 of 240 G


def test_a_run_that_has_just_begun(tmp_path, report):
    run = write_run(tmp_path / "run", epochs=1, finished=False)
    (run / "metrics.jsonl").unlink()
    page, _ = report(run)
    assert "no epoch is over yet" in page.words
    assert page.count("svg") == 0


@pytest.mark.parametrize(
    ("reason", "told"), [("the reason at 12", "all sub-networks are in"), ("enough", "enough")], ids=["rule", "budget"]
)
def test_a_run_whose_last_stage_is_over_may_have_ended_for_another_reason(reason, told, tmp_path, report):
    run = write_run(tmp_path / "run")
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    *_, window, stop = events
    window["grow"], stop["reason"] = True, reason
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    page, _ = report(run)
    assert f"epoch 12 the reason at 12 epoch 12 end: {told}" in page.words


def test_text_from_files_stays_text(tmp_path, report):
    attack = "<script>alert(1)</script>"
    run = write_run(tmp_path / "run", arch="resnet20")
    config = json.loads((run / "config.json").read_text())
    config["config"] |= {"arch": attack, "partition": attack, f"<b {attack}": attack}
    config["environment"] |= {attack: attack, "numpy": [attack]}
    (run / "config.json").write_text(json.dumps(config))
    text = (run / "metrics.jsonl").read_text().replace("the reason at 4", attack).replace('"S2"', f'"{attack}"')
    (run / "metrics.jsonl").write_text(text)
    page, _ = report(run)
    assert page.count("script") == page.count("b") == 0
    assert page.words.count("alert(1)") > 5


def test_damaged_runs_are_left_out_and_named(runs, report, tmp_path, capsys):
    (runs / "baseline" / "metrics.jsonl").write_text("{\n")
    page, problems = report(runs)
    assert len(problems) == 1
    assert "Left out: " in page.words
    assert "metrics.jsonl, line 1, is damaged" in page.words
    assert main([str(runs), "--out", str(tmp_path / "r.html")]) == 2
    assert (tmp_path / "r.html").exists()
    assert "error: left out: " in capsys.readouterr().err
    with pytest.raises(ReportError, match="line 1, is damaged"):
        report(runs / "baseline")


def test_the_command(run, tmp_path, capsys):
    out, figures = tmp_path / "r.html", tmp_path / "figures"
    assert main([str(run), "--out", str(out), "--figures", str(figures)]) == 0
    assert "14 figures in " in capsys.readouterr().out
    assert len(list(figures.iterdir())) == 14
    assert main([str(tmp_path / "nowhere"), "--out", str(out)]) == 2
    assert "is no folder; give run folders" in capsys.readouterr().err
    assert main([str(run), "--out", str(tmp_path / "no folder" / "r.html")]) == 4
    assert f"there is no folder {tmp_path / 'no folder'}" in capsys.readouterr().err


def test_without_matplotlib(run, tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("incnet.report.")]:
        if name not in {"incnet.report.__main__", "incnet.report.reading", "incnet.report.history"}:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([str(run), "--out", str(tmp_path / "r.html")]) == 2
    assert 'pip install "incnet[report]"' in capsys.readouterr().err


def test_the_command_that_makes_a_run_again(tmp_path, report):
    """What the page says is parsed to the options that the run had."""
    run = write_run(tmp_path / "run", gamma=0.25, augment=False, seed=3, data_dir=None)
    page, _ = report(run)
    (command,) = re.findall(r"Commands python -m incnet.train (.*?--no-augment.*?) Made by", page.words)
    config = parse(Config, shlex.split(command), "incnet train").resolve()
    assert config.as_json() == json.loads((run / "config.json").read_text())["config"]


def test_the_command_of_a_run_of_before(tmp_path):
    """It says what was done then, where a run of now does otherwise; and the rate, where the optimizer's is another."""
    run = write_run(tmp_path / "run", optimizer="sgd", lr=1e-4)
    content = json.loads((run / "config.json").read_text())
    for later in ("average", "recalibrate", "warmup"):
        del content["config"][later]
    (run / "config.json").write_text(json.dumps(content))
    (command,) = commands([read_history(run)])
    config = parse(Config, shlex.split(command)[3:], "incnet train").resolve()
    assert (config.average, config.recalibrate, config.lr, config.optimizer) == (False, 0, 1e-4, "sgd")


def test_stages_with_their_intervals(tmp_path, report):
    page, _ = report(write_run(tmp_path / "run", tested=[0.947, 0.983, 0.978], test_images=359))
    assert "reaches 97.8 % test accuracy (95 % interval 95.7 to 98.9)" in page.words
    for cell in ("91.9 to 96.6", "96.4 to 99.2", "95.7 to 98.9"):
        assert cell in page.words
    assert (
        "do not tell two networks apart: S1, with 20 % of the parameters, and the most accurate one, S1-S2;"
        in page.words
    )


def test_what_is_said_of_smaller_networks(tmp_path, report):
    page, _ = report(write_run(tmp_path / "a", tested=[0.80, 0.90, 0.99], test_images=359))
    assert "on the test images: S1-S3; the interval of every smaller one lies below its own." in page.words
    page, _ = report(write_run(tmp_path / "b", tested=[0.99, 0.98, 0.98], test_images=359))
    assert "The most accurate network on the test images: S1, the smallest." in page.words


def test_differences_that_the_test_images_do_not_carry_are_not_claimed(tmp_path, report):
    write_run(tmp_path / "runs" / "a", method="baseline", tested=[0.98], test_images=359)
    write_run(tmp_path / "runs" / "b", tested=[0.90, 0.95, 0.975], test_images=359)
    page, _ = report(tmp_path / "runs")
    assert "reaches 97.5 %, 0.5 points below (the intervals overlap)" in page.words
    write_run(tmp_path / "runs" / "c", init="random", tested=[0.80, 0.85, 0.9], test_images=359)
    page, _ = report(tmp_path / "runs")
    assert "Random reaches 90.0 %, 8.0 points below, with" in page.words
    assert (
        "Times are those of each run, and not to be compared: some runs did not count compilation apart" in page.words
    )


def test_unbalanced_classes(tmp_path, report):
    run = write_run(tmp_path / "run")
    write_evaluation(run, [[90, 0, 0], [4, 6, 0], [0, 0, 0]])
    page, _ = report(run)
    assert "96 of 100 test images are right, 96.0 %" in page.words
    assert "balanced accuracy, the mean of the classes' recalls, is 80.0 %" in page.words
    assert "class 1 4 6" in page.words
    cells = [attributes["title"] for tag, attributes in page.elements if tag == "td" and "title" in attributes]
    assert "class 1: 4 of 10 taken for class 0, 40.0 %" in cells
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) == 2
    assert all(picture["src"].startswith("data:image/png;base64,") for picture in pictures)
    assert pictures[0]["alt"] == "test image 0: a class 0, taken for class 1 with probability 90.0 %"


def test_many_classes(tmp_path, report):
    run = write_run(tmp_path / "run")
    confusion = [[10 if i == j else 0 for j in range(100)] for i in range(100)]
    confusion[7][9], confusion[7][7] = 8, 2
    write_evaluation(run, confusion, mistakes=0)
    page, _ = report(run)
    assert "class 7 taken for class 9: 8 of 10" in page.words
    assert page.count("td") < 200


def test_a_damaged_test_is_named(tmp_path, report):
    run = write_run(tmp_path / "run")
    (run / "test.json").write_text('{"images": 1}')
    with pytest.raises(ReportError, match=r"test\.json is damaged: test lacks"):
        report(run)


def test_two_data_sets_are_one_network(tmp_path, report):
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", dataset="digits")
    page, _ = report(tmp_path / "runs")
    assert "ResNet-20 on CIFAR-10 and digits, 2 runs" in page.words
    assert "networks" not in page.words.split("incnet report")[0]


def test_the_network_and_its_phases(run, report):
    page, _ = report(run)
    assert f"conv 3{TIMES}3, 16 filters · batch norm · ReLU" in page.words
    assert f"2 {TIMES} residual block, 64 filters" in page.words
    assert "S1, epoch 5 (look-ahead): frozen. forward only; backpropagation stops above it" in page.words
    assert "S2, epoch 5 (look-ahead): trained." in page.words
    assert "S1, epochs 6 to 8: trained." in page.words
    assert "Look-ahead : an inserted sub-network is first trained alone" in page.words.replace("ahead:", "ahead :")
    assert "a line is fitted to the last 3 validation accuracies; when its angle is at most 0.5 times" in page.words


def test_an_unknown_network_is_drawn_without_layers(tmp_path, report):
    run = write_run(tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["config"]["arch"] = "of-my-own"
    (run / "config.json").write_text(json.dumps(config))
    page, _ = report(run)
    assert "S2, epoch 5 (look-ahead): trained." in page.words
    assert "residual block, 16" not in page.words


def test_published_folders_need_no_paths(tmp_path, report):
    """They hold the configuration, metrics and summary, and say nothing of where files lay."""
    run = write_run(tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    for paths in ({"out": None, "data_dir": None}, {"out": "\u202fsome where", "data_dir": "/secret"}):
        config["config"] |= paths
        (run / "config.json").write_text(json.dumps(config))
        page, problems = report(run)
        assert problems == []
        assert "secret" not in page.words
        assert "some where" not in page.words


@pytest.mark.parametrize("method", ["incremental", "baseline"])
def test_what_to_run_next(tmp_path, report, method):
    """The other method beside it, with the same options: the command says so when it is parsed."""
    page, _ = report(write_run(tmp_path / "run", method=method, gamma=0.25, seed=3))
    other = {"incremental": "baseline", "baseline": "incremental"}[method]
    (line,) = re.findall(
        rf"python -m incnet.train (cifar10[^$]*?--out run-{other}) python -m incnet.report run", page.words
    )
    config = parse(Config, shlex.split(line), "incnet train").resolve()
    made = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert {**config.as_json(), "out": None} == {**made, "method": other, "out": None}
