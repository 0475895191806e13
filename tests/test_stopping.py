"""Conditions that stop a run: as objects, as text, and at work."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incnet import train as command
from incnet.config import Config, ConfigError
from incnet.cost import Ledger
from incnet.run.run import Run
from incnet.run.stage import Stage
from incnet.stopping import (
    QUANTITIES,
    AllOf,
    AnyOf,
    ConditionError,
    Progress,
    Quantity,
    Threshold,
    accuracy,
    epochs,
    flops,
    gain,
    parse,
    seconds,
)
from incnet.storage.folder import RunFolder
from tests.faults.runs import ARGUMENTS, history

NOW = Progress(accuracy=0.5, epochs=10, seconds=60.0, macs=500, parameters=1000, gain=None)


def holds(condition, **changes):
    return condition.reason(replace(NOW, **changes)) is not None


# Conditions.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy>=0.5", True),
        ("accuracy>0.5", False),
        ("accuracy<=0.5", True),
        ("accuracy<0.5", False),
        ("epochs>=10", True),
        ("seconds>60.5", False),
        ("macs<=500", True),
        ("flops>=1000", True),
        ("flops>1000", False),
        ("parameters<1e3", False),
    ],
)
def test_thresholds(text, expected):
    assert holds(parse(text)) == expected


@pytest.mark.parametrize("comparison", [">=", ">", "<=", "<"])
def test_a_gain_that_is_not_known_does_not_stop_a_run(comparison):
    assert not holds(parse(f"gain{comparison}0.1"))


def test_a_gain_that_is_known():
    assert holds(gain < 0.1, gain=0.05)
    assert holds(gain < 0.1, gain=-3.0)
    assert not holds(gain < 0.1, gain=0.2)


def test_a_gain_is_in_points_for_each_tflop():
    before = Stage("S1", params=10, macs_inference=1, batch_size=8, val_accuracy=0.60)
    after = Stage("S2", 20, 2, 8, val_accuracy=0.65, ledger=Ledger(forward=10**12, weight_grad=10**12, input_grad=0))
    assert after.gain_over(before) == pytest.approx(5 / 4)


def test_and_binds_more_than_or():
    for condition in (
        parse("accuracy>=0.9 & epochs>=10 | seconds>=60"),
        (accuracy >= 0.9) & (epochs >= 10) | (seconds >= 60),
    ):
        assert holds(condition)
        assert not holds(condition, seconds=1)
    assert not holds(parse("accuracy>=0.9 & (epochs>=10 | seconds>=60)"))


def test_reasons_say_what_held():
    condition = (accuracy >= 0.88) | (epochs >= 10) & (seconds > 5)
    assert condition.reason(NOW) == "epochs 10 >= 10 and seconds 60 > 5"
    assert condition.reason(replace(NOW, accuracy=0.8812345678)) == "accuracy 0.881235 >= 0.88"


def test_any_callable():
    def even(progress):
        return progress.epochs % 2 == 0

    for condition in (even | (accuracy > 0.9), (accuracy > 0.9) | even, even & (epochs > 0), (epochs > 0) & even):
        assert holds(condition)
        assert not holds(condition, epochs=11)
    assert (even | (accuracy > 0.9)).reason(NOW) == "even"
    assert ((lambda progress: "enough is enough") | (accuracy > 0.9)).reason(NOW) == "enough is enough"
    with pytest.raises(TypeError, match="3 is neither a condition nor callable"):
        (accuracy > 0.9) | 3


def test_python_has_no_and_and_or():
    with pytest.raises(TypeError, match=r"accuracy>=0.9 has no truth before a run: compose conditions with & and \|"):
        assert accuracy >= 0.9 or epochs >= 3


@pytest.mark.parametrize("number", [88, -0.1, float("nan"), float("inf")])
def test_impossible_accuracies(number):
    with pytest.raises(ValueError, match="accuracy is a fraction between 0 and 1; it is never"):
        accuracy >= number  # noqa: B015


# Text.

NUMBERS = st.floats(0, 1e300) | st.integers(0, 10**20).map(float)


def thresholds():
    def make(quantity: Quantity, comparison, number):
        return quantity.compared(comparison, number % 1 if quantity is accuracy else number)

    return st.builds(make, st.sampled_from(list(QUANTITIES.values())), st.sampled_from([">=", ">", "<=", "<"]), NUMBERS)


CONDITIONS = st.recursive(
    thresholds(), lambda inner: st.builds(lambda a, b, both: a & b if both else a | b, inner, inner, st.booleans())
)


@given(CONDITIONS)
def test_what_is_spelt_is_read(condition):
    assert parse(str(condition)) == condition


@given(CONDITIONS, st.data())
def test_spaces_and_parentheses_do_not_matter(condition, data):
    words = str(condition).replace("(", " ( ").replace(")", " ) ").split(" ")
    loose = "".join(word + data.draw(st.sampled_from(["", " ", "   "])) for word in words)
    assert parse(f"(({loose}))") == condition


@given(st.text() | st.text("accuracyepochs()&|<>= .0123456789e+-", max_size=40))
def test_only_the_documented_error_comes_out(text):
    refused = None
    try:
        condition = parse(text)
    except ConditionError as error:
        refused = error
    if refused is None:
        assert parse(str(condition)) == condition
    else:
        assert "\n" not in str(refused)
        shown, caret = refused.__notes__[0].split("\n")
        assert shown.isprintable()
        assert caret.strip(" ") == "^"
        assert len(caret) <= len(shown) + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "^expected one of accuracy, .* or (, found the end"),
        ("accuracy>=0.88 | secnds>=3600", "                 ^expected one of accuracy, epochs, .*, found 'secnds'"),
        ("accuracy>=88", "          ^accuracy is a fraction between 0 and 1; it is never 88"),
        ("accuracy = 0.8", "         ^'=' has no meaning here"),
        ("accuracy 0.8", "         ^expected one of >=, >, <=, <, found '0.8'"),
        ("accuracy>=", "          ^expected a number, found the end"),
        ("accuracy>=0.8.8", "             ^expected & or | or the end, found '.8'"),
        ("accuracy>=0.8 &", "               ^expected one of"),
        ("(accuracy>=0.8", "              ^expected & or | or ), found the end"),
        ("accuracy>=0.8)", "             ^expected & or | or the end, found ')'"),
        ("accuracy>=0.8 epochs>3", "              ^expected & or | or the end, found 'epochs'"),
        ("epochs>-1", "       ^epochs is a number of epochs; it is never -1"),
        ("gain<1e999", "     ^gain is a finite number"),
        ("accuracy>=0.8 and epochs>3", "              ^expected & or |"),
        ("__import__('os')", "^expected one of accuracy"),
        ("epochs>1\x1b[2J", r"        ^'\x1b' has no meaning here"),
        ("(" * 51, " " * 50 + "^more than 50 parentheses"),
        ("epochs>1 |" * 101, "^a condition of more than 1000 characters"),
    ],
)
def test_errors_point_at_the_wrong_place(text, message):
    with pytest.raises(ConditionError) as caught:
        parse(text)
    column, _, words = message.partition("^")
    assert caught.value.__notes__[0].split("\n")[1] == f"  {column}^"
    for part in words.split(".*"):
        assert part in str(caught.value)


def test_parts_of_one_kind_are_one():
    a, b, c = accuracy >= 0.5, epochs >= 3, seconds >= 4
    assert (a & (b & c)) == ((a & b) & c) == AllOf((a, b, c)) == parse("accuracy>=.5 & (epochs>=3 & seconds>=4)")
    assert str((a | b) & c) == "(accuracy>=0.5 | epochs>=3) & seconds>=4"
    assert parse("flops>=1e15 | epochs>3") == AnyOf((flops >= 1e15, Threshold("epochs", ">", 3.0)))


def test_the_command_line_shows_the_place(capsys, tmp_path):
    assert command.main(["digits", "--stop", "accuracy>=0.88 | secnds>=3600", "--out", str(tmp_path / "run")]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.startswith("error: --stop: expected one of accuracy, ")
    assert second[third.index("^") :] == "secnds>=3600"
    assert not (tmp_path / "run").exists()


def test_a_condition_of_a_file_is_refused_in_one_line():
    with pytest.raises(ConfigError) as caught:
        Config.from_json(Config().resolve().as_json() | {"stop": "accuracy>=2\x1b"})
    assert "\n" not in str(caught.value)
    assert all(line.isprintable() for note in caught.value.__notes__ for line in note.split("\n"))


# At work.


def events(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def train(folder, *arguments):
    assert command.main([*ARGUMENTS, *map(str, arguments), "--out", str(folder)]) == 0
    return events(folder)


@pytest.mark.parametrize(
    ("condition", "epochs", "reason"),
    [
        ("epochs>=3", 3, "epochs 3 >= 3"),
        ("accuracy>=0.1 & epochs>1", 2, "accuracy "),
        ("seconds>=1e-9", 1, "seconds "),
        ("parameters>10000", 3, "parameters "),  # with the second of three sub-networks
        ("gain<1e9", 4, "gain "),  # the first stage has none before it, and the second takes two epochs more
        ("gain>1e9 | accuracy>=1", 6, "the budget of 6 epochs is used"),
    ],
)
def test_a_run_stops(condition, epochs, reason, tmp_path):
    log = train(tmp_path / "run", "--stop", condition)
    assert sum(event["event"] == "epoch" for event in log) == epochs
    assert log[-1]["event"] == "stop"
    assert log[-1]["reason"].startswith(reason)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["test_accuracy"] > 0


def test_flops_are_those_of_the_ledger(tmp_path):
    macs = [event["macs_training"] for event in train(tmp_path / "whole") if event["event"] == "epoch"]
    log = train(tmp_path / "run", "--stop", f"flops>={2 * macs[3]}")
    assert sum(event["event"] == "epoch" for event in log) == 4


def test_a_run_that_has_stopped_goes_on_under_another_condition(tmp_path):
    train(tmp_path / "run", "--stop", "epochs>=3")
    assert command.main(["--resume", str(tmp_path / "run")]) == 0
    assert [event["event"] for event in events(tmp_path / "run")].count("epoch") == 3
    assert command.main(["--resume", str(tmp_path / "run"), "--stop", "epochs>=5"]) == 0
    train(tmp_path / "straight", "--stop", "epochs>=5")
    assert history(tmp_path / "run") == history(tmp_path / "straight")


def test_a_callable_stops_a_run_from_python(tmp_path):
    config = Config(arch="resnet8", limit=200, epochs=9, threads=1).resolve()
    seen = []

    def enough(progress):
        seen.append(progress)
        return progress.epochs == 2 and "enough"

    with RunFolder.create(tmp_path / "run", {"config": config.as_json()}) as folder:
        Run(config, stop=enough).train(folder)
        last = events(folder.path)[-2]
    assert [progress.epochs for progress in seen] == [1, 2]
    assert events(tmp_path / "run")[-1]["reason"] == "enough"
    assert (seen[-1].accuracy, seen[-1].macs) == (last["val_accuracy"], last["macs_training"])
    assert seen[-1].parameters == last["params"]
