"""The page, read as a browser would without having one."""

import json
import re
import shlex
import sys
from html.parser import HTMLParser

import pytest

from incnet import train
from incnet.report import ReportError, write_report
from incnet.report.__main__ import main

from .folders import write_run

VOID = {"meta", "link", "br", "use", "path"}


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
    assert page.count("svg") == page.count("figure") == page.count("figcaption") == 6
    assert "in the paper, % 87.52" in page.words
    for reason in ("the reason at 4", "the reason at 8", "the budget of 12 epochs is used"):
        assert reason in page.words
    assert "S3 comes in: 20,000 parameters" in page.words
    assert "the stage before had had its 4 epochs" in page.words  # nothing but the limit ended S2
    assert "numpy 2.0.0" in page.words
    assert "Not finished" not in page.words


def test_the_page_needs_nothing_else(run, report):
    page, _ = report(run)
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "img", "object", "embed", "base", "form"}
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
    for figure in ("87.81", "87.52", "79.20"):
        assert figure in page.words
    assert page.count("svg") == 7
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
    assert "12 figures in " in capsys.readouterr().out
    assert len(list(figures.iterdir())) == 12
    assert main([str(tmp_path / "nowhere"), "--out", str(out)]) == 2
    assert "is no folder; give run folders" in capsys.readouterr().err
    assert main([str(run), "--out", str(tmp_path / "no folder" / "r.html")]) == 4
    assert "No such file or directory" in capsys.readouterr().err


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
    (command,) = re.findall(r"python -m incnet.train (.*?--no-augment.*?) Made by", page.words)
    config = train.tyro.cli(train.Config, args=shlex.split(command)).resolve()
    assert config.as_json() == json.loads((run / "config.json").read_text())["config"]
