"""When to grow: the slope-angle rule of the paper's section 3 and Figure 2, and others that can stand in its place.

A rule sees the learning curve of one stage after the other, an epoch at a time, and says when a stage is over. Anything
with the four methods of :class:`GrowthRule` will do.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Protocol

from incnet.checked_json import from_json
from incnet.names import counted

__all__ = ["GrowthRule", "Periodic", "Plateau", "SlopeAngle", "Verdict", "Window", "slope"]

# Accuracy units for which one unit and one epoch are drawn equally long; an angle depends on that choice.
UNITS = {"percent": 100.0, "fraction": 1.0}


@dataclass(frozen=True)
class Verdict:
    """What a rule decided.

    Attributes
    ----------
    grow : bool
        Whether the stage is over.
    reason : str
        Why, in words.
    epoch : int
        Of the run; the schedule fills it in.
    """

    event: ClassVar[str] = "verdict"
    grow: bool
    reason: str
    epoch: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class Window(Verdict):
    """What one window of epochs showed, and what follows from it.

    Attributes
    ----------
    slope : float
        Of the fitted line, in accuracy units for each epoch.
    angle : float
        Between the line and the x-axis, in degrees.
    ratio : float or None
        This angle over the previous window's; None for the first window of a stage, and where that one is not positive.
    """

    event: ClassVar[str] = "window"
    slope: float
    angle: float
    ratio: float | None = None


class GrowthRule(Protocol):
    """Ends the stages of a run. A class derived from this one that remembers nothing needs :meth:`observe` alone."""

    def restart(self) -> None:
        """Begin a new stage: nothing that was observed before counts any more."""
        return None

    def observe(self, accuracy: float, epoch: int) -> Verdict | bool | None:
        """Take an epoch's validation accuracy, a fraction; return what was decided, or None for nothing worth a word.

        True by itself ends the stage, False is nothing worth a word. ``epoch`` counts those of the stage from 1. Epochs
        of look-ahead are counted but not shown, so the first one that a rule sees may be the fourth. Whatever is
        decided is logged, and may be overruled, as a :class:`incnet.growth.schedule.Schedule` says of a stage's epochs.
        """

    def state(self) -> Any:
        """Return all that the rule remembers of its stage, as JSON values, for a checkpoint; None if it is nothing."""
        return None

    def restore(self, state: Any) -> None:
        """Go on where another rule with the same parameters was.

        Raises
        ------
        ValueError
            If it cannot have been there; ``state`` comes from an untrusted file.
        """
        if state is not None:
            name = type(self).__name__
            raise ValueError(f"state.schedule.rule is {state!r:.80}, expected null: {name} remembers nothing")


@dataclass(frozen=True)
class SlopeAngleState:
    """What a :class:`SlopeAngle` remembers: accuracies of the window in progress, angle of the stage's last one."""

    accuracies: list[float] = field(default_factory=list)
    previous: float | None = None


@dataclass
class SlopeAngle(GrowthRule):
    """Stop a stage when the learning curve has flattened: ``angle_i <= gamma * angle_(i-1)``.

    Every ``window`` epochs a line is fitted to the last ``window`` validation accuracies; ``angle_i`` is its angle with
    the x-axis. The rule compares two windows of one stage, so it cannot fire before the second one, except where
    the angle is zero or negative: then there is no improvement left, and the stage is over.

    Parameters
    ----------
    window : int
        Epochs in a window, at least 2.
    gamma : float
        Threshold in (0, 1].
    unit : {"percent", "fraction"}
        Accuracy unit that is drawn as long as one epoch.
    """

    window: int = 5
    gamma: float = 0.5
    unit: str = "percent"
    seen: SlopeAngleState = field(default_factory=SlopeAngleState, init=False)

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ValueError(f"window {self.window}: a line needs at least 2 epochs")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma {self.gamma}: choose a number above 0 and up to 1")
        if self.unit not in UNITS:
            raise ValueError(f"accuracy unit {self.unit!r}: choose one of {', '.join(UNITS)}")

    def restart(self) -> None:
        self.seen = SlopeAngleState()

    def state(self) -> Any:
        return asdict(self.seen)

    def restore(self, state: Any) -> None:
        seen: SlopeAngleState = from_json(SlopeAngleState, state, "state.schedule.rule")
        if len(seen.accuracies) >= self.window:
            raise ValueError(f"{len(seen.accuracies)} accuracies in an unfinished window of {self.window} epochs")
        self.seen = seen

    def observe(self, accuracy: float, epoch: int) -> Window | None:
        accuracies = [*self.seen.accuracies, accuracy]
        if len(accuracies) < self.window:
            self.seen = replace(self.seen, accuracies=accuracies)
            return None
        steepness = slope([value * UNITS[self.unit] for value in accuracies])
        angle, before = math.degrees(math.atan(steepness)), self.seen.previous
        self.seen = SlopeAngleState(previous=angle)
        ratio = angle / before if before is not None and before > 0 else None
        if angle <= 0:
            grow, reason = True, f"no improvement left: angle {angle:.1f} deg"
        elif before is None:
            grow, reason = False, f"first window of the stage: angle {angle:.1f} deg"
        elif ratio is None:
            grow, reason = False, f"angle {angle:.1f} deg after {before:.1f} deg"
        else:
            grow = ratio <= self.gamma
            reason = f"angle {angle:.1f} deg {'<=' if grow else '>'} gamma {self.gamma:g} x {before:.1f} deg"
        return Window(grow, reason, steepness, angle, ratio)


def slope(values: list[float]) -> float:
    """Slope of the least-squares line through (0, values[0]), (1, values[1]), ..."""
    mean = sum(values) / len(values)
    centred = [x - (len(values) - 1) / 2 for x in range(len(values))]
    return sum(x * (y - mean) for x, y in zip(centred, values, strict=True)) / sum(x**2 for x in centred)


@dataclass
class Periodic(GrowthRule):
    """Stop a stage after ``period`` epochs, look-ahead included, whatever its learning curve.

    Where the look-ahead lasts as long or longer, one epoch of training follows it.

    Parameters
    ----------
    period : int
        Epochs, at least 1.
    """

    period: int

    def __post_init__(self) -> None:
        if self.period < 1:
            raise ValueError(f"period {self.period}: choose at least 1 epoch")

    def observe(self, accuracy: float, epoch: int) -> Verdict | None:
        if epoch < self.period:
            return None
        return Verdict(True, f"epoch {epoch} of the stage, period {self.period}")


@dataclass(frozen=True)
class PlateauState:
    """What a :class:`Plateau` remembers: the stage's best accuracy so far, a fraction, and the epochs since."""

    best: float | None = None
    waited: int = 0


@dataclass
class Plateau(GrowthRule):
    """Stop a stage when ``patience`` epochs in a row gave no new best validation accuracy.

    Parameters
    ----------
    patience : int
        Epochs, at least 1.
    min_delta : float
        By how much, as a fraction, an accuracy has to be above the best one to be the new best.

    Notes
    -----
    The usual rule of early stopping; see Prechelt (1998), Early Stopping - But When?, doi:10.1007/3-540-49430-8_3.
    """

    patience: int = 5
    min_delta: float = 0.001
    seen: PlateauState = field(default_factory=PlateauState, init=False)

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience {self.patience}: choose at least 1 epoch")
        if not 0 <= self.min_delta < 1:
            raise ValueError(f"min_delta {self.min_delta}: choose a fraction of at least 0 and below 1")

    def restart(self) -> None:
        self.seen = PlateauState()

    def state(self) -> Any:
        return asdict(self.seen)

    def restore(self, state: Any) -> None:
        seen: PlateauState = from_json(PlateauState, state, "state.schedule.rule")
        if seen.waited < 0 or (seen.best is None and seen.waited):
            raise ValueError(f"{seen.waited} epochs since the best accuracy, {seen.best}")
        self.seen = seen

    def observe(self, accuracy: float, epoch: int) -> Verdict | None:
        best, waited = self.seen.best, self.seen.waited + 1
        if best is None or accuracy > best + self.min_delta:
            best, waited = accuracy, 0
        self.seen = PlateauState(best, waited)
        if waited < self.patience:
            return None
        return Verdict(True, f"{counted(waited, 'epoch')} without a better accuracy than {best:.2%}")
