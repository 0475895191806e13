"""Command lines, and their help, from described options."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from incnet.commandline import help_text, parse
from incnet.config import Config
from incnet.options import option
from tests.test_options import KINDS


@dataclass(frozen=True)
class Some:
    """Do something.

    Examples::

      some thing --size 3
    """

    what: str = option("Which thing.", positional=True)
    files: tuple[Path, ...] = option("Files.", (), positional=True, metavar="FILE")
    size: Literal["auto"] | int | None = option("Size.", None, otherwise="that of the thing")
    rate: float = option("Rate.", 0.5, old_names=("pace",))
    kind: Literal["lookahead", "random"] = option("Kind.", "lookahead")
    loud: bool = option("Loud.", True)
    levels: tuple[float, ...] = option("Levels.", (0.5, 1.0))
    note: str | None = option("Note.", "some")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("thing", {}),
        ("thing a b", {"files": (Path("a"), Path("b"))}),
        ("--size 3 thing a --rate 1 b", {"size": 3, "rate": 1.0, "files": (Path("a"), Path("b"))}),
        ("thing --size=auto --no-loud", {"size": "auto", "loud": False}),
        ("thing --size none --note None", {"size": None, "note": None}),
        ("thing --levels 1 2.5 --kind random", {"levels": (1.0, 2.5), "kind": "random"}),
        ("thing --pace 2", {"rate": 2.0}),
        ("thing --rate -1", {"rate": -1.0}),
        ("thing --no-loud --loud", {"loud": True}),
    ],
)
def test_values(line, expected):
    assert parse(Some, line.split(), "some") == Some("thing", **expected)


def test_what_is_not_given_stays():
    begun = Some("thing", size=3, note=None)
    assert parse(Some, ["other", "--rate", "2"], "some", begun) == Some("other", size=3, rate=2.0, note=None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "WHAT is missing"),
        ("thing --siz 3", "unknown option --siz; did you mean --size?"),
        ("thing --kinds=random", "unknown option --kinds; did you mean --kind?"),
        ("thing --zzzzzz", "unknown option --zzzzzz\n"),
        ("thing --kind look-ahead", "--kind look-ahead: choose lookahead or random; did you mean lookahead?"),
        ("thing --size x", "--size x: choose auto or a whole number\n"),
        ("thing --rate x", "--rate x: choose a number\n"),
        ("thing --rate", "--rate: expected one argument"),
        ("thing --rate 1 --kind", "--kind: expected one argument"),
    ],
)
def test_what_cannot_be_understood(line, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(Some, line.split(), "some")
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert f"error: {message}" in captured.err
    assert "some --help" in captured.err
    assert not captured.out


def test_an_argument_too_many(capsys):
    with pytest.raises(SystemExit):
        parse(Config, ["digits", "again", "--seed", "3"], "incnet train")
    assert "error: again is one argument too many" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "resnet-20"}, "did you mean resnet20?"),
        ({"arch": "ResNet-26"}, "did you mean resnet26?"),
        ({"arch": "VGG-16-BN"}, "did you mean vgg16-bn?"),
        ({"dataset": "CIFAR-10"}, "did you mean cifar10?"),
        ({"dataset": "fashionmnist"}, "did you mean fashion-mnist?"),
    ],
)
def test_near_misses_of_names(arguments, message):
    with pytest.raises(Exception, match=re.escape(message)):
        Config(**arguments).resolve()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_help_fits_a_terminal(kind, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = help_text(kind, "incnet command")
    assert max(map(len, text.splitlines())) <= 80
    assert "None" not in text
    assert "Examples:\n\n  incnet " in text


def test_help(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit) as stopped:
        parse(Some, ["--help"], "some")
    assert stopped.value.code == 0
    assert capsys.readouterr().out == (
        "usage: some WHAT FILE ... [options]\n"
        "\n"
        "Do something.\n"
        "\n"
        "Examples:\n"
        "\n"
        "  some thing --size 3\n"
        "\n"
        "options:\n"
        "  WHAT                  Which thing.\n"
        "  FILE ...              Files.\n"
        "  --size {auto,N}       Size. Default: that of the thing.\n"
        "  --rate X              Rate. Default: 0.5.\n"
        "  --kind {lookahead,random}\n"
        "                        Kind. Default: lookahead.\n"
        "  --[no-]loud           Loud. Default: on.\n"
        "  --levels X ...        Levels. Default: 0.5 1.\n"
        "  --note TEXT           Note. Default: some.\n"
        "\n"
        "  -h, --help            Show this help.\n"
    )


def test_help_says_what_may_change():
    words = " ".join(help_text(Config, "incnet train").split())
    assert "With --resume, --epochs may grow, and --end, --stop, " in words
    assert "Default: 0.0001; 0.0003 for digits; 0.1 for sgd." in words
