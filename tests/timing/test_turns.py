"""Turns: who is asked when, and what becomes of the seconds."""

import pytest

from incnet.timing.turns import Quartiles, Timing, take_turns, time_steps


def test_settings_take_turns():
    asked, after = [], []

    def turn(name):
        asked.append(name)
        return [1.0, 2.0] if name == "a" else [3.0]

    timings = take_turns({"a": lambda: turn("a"), "b": lambda: turn("b")}, 3, lambda: after.append(len(asked)))
    assert asked == ["a", "b"] * 3
    assert after == [1, 2, 3, 4, 5, 6]
    assert timings == {"a": Timing(((1.0, 2.0),) * 3), "b": Timing(((3.0,),) * 3)}


def test_a_ratio_is_taken_within_each_round():
    """A machine that slows down from round to round changes seconds, not ratios."""
    drift = (1.0, 2.0, 8.0)
    whole = Timing(tuple((4 * d, 4 * d, 9 * d) for d in drift))
    frozen = Timing(tuple((3 * d, 1 * d, 3 * d) for d in drift))
    assert frozen.ratio_to(whole) == Quartiles(0.75, 0.75, 0.75)
    assert whole.seconds.median == 9.0


def test_quartiles():
    assert Quartiles.of([4.0, 1.0, 3.0, 2.0, 5.0]) == Quartiles(3.0, 2.0, 4.0)
    assert Quartiles.of([7.0]).times(1e3) == Quartiles(7e3, 7e3, 7e3)


def test_every_step_is_taken_and_timed():
    taken = []
    seconds = time_steps(lambda: taken.append(1), 5)
    assert len(taken) == len(seconds) == 5
    assert min(seconds) >= 0


@pytest.mark.parametrize("missing", [(), ((1.0,),)])
def test_rounds_that_do_not_match_are_refused(missing):
    with pytest.raises(ValueError, match="zip"):
        Timing(((1.0,),) * 2).ratio_to(Timing(missing))
