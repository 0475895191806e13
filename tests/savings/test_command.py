"""The command, as a person runs it: the table in a terminal of 80 columns, the files, and what it refuses."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pexpect
import pyte
import pytest
from rich.console import Console
from setuptools import find_packages

from incnet.savings import __main__ as command
from incnet.savings.boundaries import Expected, Measured, Setting, settings
from incnet.savings.display import table
from incnet.timing.turns import Quartiles, Timing

QUICK = ["--arch", "resnet8", "--batch-size", "2", "--rounds", "2", "--steps", "1", "--device", "cpu", "--threads", "1"]


def test_in_a_terminal_of_80_columns():
    screen = pyte.Screen(80, 40)
    stream = pyte.ByteStream(screen)
    child = pexpect.spawn(sys.executable, ["-m", "incnet.savings", *QUICK], dimensions=(40, 80), timeout=300)
    stream.feed(child.read())
    child.close()
    lines = [line.rstrip() for line in screen.display if line.strip()]
    assert child.exitstatus == 0, lines
    assert lines[0] == "resnet8 in 3 sub-networks, batches of 2, on cpu, 1 thread"
    rows = [line.split() for line in lines if line.endswith("MB")]
    assert [row[0] for row in rows] == ["nothing", "S1", "cached", "S1-S2", "cached"]
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)  # what rich puts where it cuts


def test_a_wide_network_fits_80_columns(capsys):
    """Slow steps, large spreads, many sub-networks, much memory."""
    quartiles, timing = Quartiles(0.98, 0.5, 1.9), Timing(((12.3456, 23.4567, 98.7654),))
    expected = Expected(1.0, 0.999, 123_456_789_012, 123_456_789)
    rows = [Measured(setting, expected, timing, quartiles) for setting in settings(28)]
    console = Console(width=80, force_terminal=False)
    console.print(table("a title", [f"S{k}" for k in range(1, 29)], rows))
    text = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("23,457 ± 21,605 ms") == len(rows)
    assert text.count("123.46 GB") == len(rows)
    assert "S1-S27" in text


def test_files(tmp_path, capsys):
    numbers, plot = tmp_path / "found.json", tmp_path / "found.svg"
    assert command.main([*QUICK, "--json", str(numbers), "--plot", str(plot)]) == 0
    assert "S1-S2" in capsys.readouterr().out
    found = json.loads(numbers.read_text())
    assert set(found) == {
        "arch", "partition", "batch_size", "device", "threads", "rounds", "steps", "seconds", "environment", "settings",
    }  # fmt: skip
    assert (found["arch"], found["batch_size"], found["device"], found["rounds"]) == ("resnet8", 2, "cpu", 2)
    assert [Setting(row["frozen"], row["cached"]) for row in found["settings"]] == settings(3)
    for row in found["settings"]:
        assert set(row) == {
            "frozen", "cached", "skipped_of_backward", "predicted_ratio", "measured_ratio", "milliseconds",
            "memory_bytes", "feature_bytes_per_image",
        }  # fmt: skip
        for quartiles in (row["measured_ratio"], row["milliseconds"]):
            assert 0 < quartiles["lower"] <= quartiles["median"] <= quartiles["upper"]
        assert 0 < row["predicted_ratio"] <= 1
        assert 0 <= row["skipped_of_backward"] < 1
        assert row["memory_bytes"] > 0
    picture = plot.read_text()
    assert "<svg" in picture


NETWORK = """
from incnet import Conv2d, Layer, ReLU, Sequential


class Same(Layer):
    def forward(self, x, train=False):
        return x

    def backward(self, dy, need_dx=True):
        return dy


def network(shape, rng, last=ReLU):
    return {
        "the stem": Sequential({"conv": Conv2d(shape[2], 4, 3, rng=rng), "relu": ReLU()}),
        "middle": Sequential({"conv": Conv2d(4, 4, 3, rng=rng), "last": last()}),
        "top": Conv2d(4, 8, 3, rng=rng),
    }


def own(shape, rng):
    return network(shape, rng, Same)
"""


def test_a_network_of_ones_own(tmp_path, monkeypatch, capsys):
    """What a layer of one's own takes is not known beforehand: then there is no memory, in no place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK)
    quick = [*QUICK[2:], "--arch"]
    assert command.main([*quick, "net.py:network"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("net.py:network in 3 sub-networks, batches of 2, on cpu, 1 thread")
    rows = re.findall(r"^ *(\S.*?) {2,}.* MB *$", out, re.MULTILINE)
    assert rows == ["nothing", "the stem", "cached", "up to middle", "cached"]
    assert command.main([*quick, "net.py:own", "--plot", "own.svg", "--json", "own.json"]) == 0
    assert "MB" not in capsys.readouterr().out
    found = json.loads((tmp_path / "own.json").read_text())
    assert (found["arch"], {row["memory_bytes"] for row in found["settings"]}) == ("net.py:own", {None})
    assert "up to middle" in (tmp_path / "own.svg").read_text()


def test_json_alone_on_standard_output(capsys):
    assert command.main([*QUICK, "--partition", "2", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["frozen"] for row in found["settings"]] == [0, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "resnet21"], "depth 21"),
        (["--arch", "alexnet"], "choose one of resnet20"),
        (["--partition", "99"], "can be cut into 1 to 9"),
        (["--partition", "1"], "choose 2 or more"),
        (["--arch", "nowhere.py:network"], "cannot read"),
        (["--partition", "thirds"], "filters, blocks, depth"),
        (["--batch-size", "0"], "at least 1"),
        (["--batch-size", "50000000"], "GB are free; choose a smaller one"),
        (["--device", "gpu:99"], "--device gpu:99"),
        (["--device", "tpu"], "choose auto, cpu, gpu"),
        (["--threads", "0"], "at least 1"),
        (["--threads", "9999"], "choose at most that"),
        (["--rounds", "0"], "at least 1"),
        (["--steps", "-1"], "at least 1"),
        (["--plot", "found.gif"], ".png, .svg, .pdf"),
        (["--plot", "nowhere/found.png"], "there is no folder nowhere"),
        (["--json", "."], "is a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(arguments, message, capsys):
    device = [] if "--device" in arguments else ["--device", "cpu"]
    assert command.main([*arguments, *device]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


# What the wheel does not require is not there.
BARE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "matplotlib", "jinja2", "sklearn", "bench", "tests"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from incnet.savings.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_wheel_has_it_and_it_needs_no_extra(tmp_path):
    packages = find_packages(Path(__file__).parents[2], include=["incnet", "incnet.*"])
    assert {"incnet.savings", "incnet.timing"} < set(packages)
    done = subprocess.run([sys.executable, "-c", BARE, *QUICK], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "S1-S2" in done.stdout


@pytest.mark.parametrize("broken", [False, True])
def test_without_matplotlib_only_the_plot_is_missing(broken, monkeypatch, capsys):
    for name in ("incnet.savings.figure", "incnet.report.style", "matplotlib.figure"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    if broken:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # installed, but in parts
    else:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert command.main([*QUICK, "--plot", "found.png"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert ("matplotlib is installed, but cannot be loaded" if broken else 'pip install "incnet[report]"') in error


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_what_cannot_be_written_is_refused_before_anything_is_measured(option, tmp_path, monkeypatch, capsys):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(command, "TemporaryFile", refuse)
    assert command.main([*QUICK, option, str(tmp_path / "found.svg")]) == 2
    output = capsys.readouterr()
    assert not output.out
    assert f"{option} {tmp_path / 'found.svg'}: Permission denied; choose a place that can be written" in output.err


def test_a_full_disk_is_named(tmp_path, monkeypatch, capsys):
    def full(path, pieces):
        raise command.WriteError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(command, "replace_file", full)
    assert command.main([*QUICK, "--partition", "2", "--json", str(tmp_path / "found.json")]) == 4
    output = capsys.readouterr()
    assert "cannot write" in output.err
    assert "nothing" in output.out  # the table is not lost
