"""When to grow: the slope-angle rule of the paper's section 3 and Figure 2."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["RuleState", "SlopeAngle", "Window", "slope"]

# Accuracy units for which one unit and one epoch are drawn equally long; an angle depends on that choice.
UNITS = {"percent": 100.0, "fraction": 1.0}


@dataclass(frozen=True)
class Window:
    """What one window of epochs showed, and what follows from it.

    Attributes
    ----------
    slope : float
        Of the fitted line, in accuracy units for each epoch.
    angle : float
        Between the line and the x-axis, in degrees.
    ratio : float or None
        This angle over the previous window's; None for the first window of a stage, and where that one is not positive.
    grow : bool
        Whether the stage is over.
    reason : str
        Why, in words.
    """

    slope: float
    angle: float
    ratio: float | None
    grow: bool
    reason: str


@dataclass(frozen=True)
class RuleState:
    """All that a :class:`SlopeAngle` remembers; see its attributes."""

    accuracies: list[float]
    previous: float | None
    epochs: int


@dataclass
class SlopeAngle:
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
    least : int
        Epochs that a stage lasts at least.

    Attributes
    ----------
    accuracies : list of float
        Fractions in [0, 1]: those of the window in progress.
    previous : float or None
        Angle of the stage's last complete window.
    epochs : int
        Epochs of the stage that were observed.
    """

    window: int = 5
    gamma: float = 0.5
    unit: str = "percent"
    least: int = 0
    accuracies: list[float] = field(default_factory=list)
    previous: float | None = None
    epochs: int = 0

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ValueError(f"window {self.window}: a line needs at least 2 epochs")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma {self.gamma}: choose a number above 0 and up to 1")
        if self.unit not in UNITS:
            raise ValueError(f"accuracy unit {self.unit!r}: choose one of {', '.join(UNITS)}")

    def restart(self) -> None:
        """Begin a new stage: earlier windows no longer count."""
        self.accuracies, self.previous, self.epochs = [], None, 0

    def state(self) -> RuleState:
        """Return what :meth:`restore` takes."""
        return RuleState(list(self.accuracies), self.previous, self.epochs)

    def restore(self, state: RuleState) -> None:
        """Go on where another object with the same parameters was.

        Raises
        ------
        ValueError
            If it cannot have been there.
        """
        if not len(state.accuracies) <= min(self.window - 1, state.epochs):
            raise ValueError(f"{len(state.accuracies)} accuracies in a window of {self.window} epochs")
        self.accuracies, self.previous, self.epochs = list(state.accuracies), state.previous, state.epochs

    def observe(self, accuracy: float) -> Window | None:
        """Take one epoch's validation accuracy, a fraction in [0, 1]; return the window that it completes, if any."""
        self.accuracies.append(accuracy)
        self.epochs += 1
        if len(self.accuracies) < self.window:
            return None
        steepness = slope([value * UNITS[self.unit] for value in self.accuracies])
        angle = math.degrees(math.atan(steepness))
        window = self._judge(steepness, angle)
        self.accuracies, self.previous = [], angle
        return window

    def _judge(self, steepness: float, angle: float) -> Window:
        before = self.previous
        ratio = angle / before if before is not None and before > 0 else None
        if angle <= 0:
            grow, reason = True, f"no improvement left: angle {angle:.1f} deg"
        elif ratio is None:
            grow, reason = False, f"first window of the stage: angle {angle:.1f} deg"
        elif ratio <= self.gamma:
            grow, reason = True, f"angle {angle:.1f} deg <= gamma {self.gamma:g} x {before:.1f} deg"
        else:
            grow, reason = False, f"angle {angle:.1f} deg > gamma {self.gamma:g} x {before:.1f} deg"
        if grow and self.epochs < self.least:
            grow, reason = False, f"{reason}, but the stage lasts at least {self.least} epochs"
        return Window(steepness, angle, ratio, grow, reason)


def slope(values: list[float]) -> float:
    """Slope of the least-squares line through (0, values[0]), (1, values[1]), ..."""
    middle = (len(values) - 1) / 2
    mean = sum(values) / len(values)
    return sum((x - middle) * (y - mean) for x, y in enumerate(values)) / sum(
        (x - middle) ** 2 for x in range(len(values))
    )
