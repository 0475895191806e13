"""The schedule of growth: decides which sub-networks are in, what is frozen, and when the next one is inserted.

A :class:`Schedule` sees one validation accuracy an epoch and answers with decisions; it trains nothing itself. Its
state is a handful of numbers, so that the method can be read, tested and restored apart from everything else.

    S1 in | train ... rule fires | S2 in, prefix frozen | look-ahead | unfrozen, train ... | S3 in ... | stop
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from incnet.checked_json import to_json
from incnet.growth.criterion import GrowthRule, Verdict
from incnet.growth.own_rule import as_verdict
from incnet.names import counted

__all__ = ["Decision", "Finish", "Grow", "Schedule", "ScheduleState", "Unfreeze"]


@dataclass(frozen=True)
class Grow:
    """Insert the next sub-network."""

    reason: str


@dataclass(frozen=True)
class Unfreeze:
    """The look-ahead is over: train everything."""


@dataclass(frozen=True)
class Finish:
    """The run is over."""

    reason: str


Decision = Verdict | Grow | Unfreeze | Finish


@dataclass(frozen=True)
class ScheduleState:
    """All that a :class:`Schedule` remembers; see its attributes. What ``rule`` may be is the rule's own business."""

    inserted: int
    phase: Literal["train", "lookahead"]
    epoch: int
    stage_epochs: int
    stage_limit: int
    rule: Any


@dataclass
class Schedule:
    """Decide after each epoch how a run goes on.

    Parameters
    ----------
    subnetworks : int
        K.
    budget : int
        Epochs of the whole run, look-ahead included.
    rule : GrowthRule
        Ends a stage.
    lookahead : int
        Epochs of look-ahead after each insertion; 0 for none.
    min_stage_epochs : int
        Epochs that a stage lasts at least, its look-ahead included: a rule that fires earlier is overruled.
    max_stage_epochs : int or None
        Epochs that a stage lasts at most, its look-ahead included. None for an equal share of what is left of the
        budget when the stage begins, so that every sub-network gets its turn. Either way a stage has its least epochs,
        and one in which everything is trained.
    end : {"rule", "budget"}
        Whether the rule ends the last stage too, or only the budget does; the rule is then not asked any more.
    inserted : int
        Sub-networks that are in. A baseline begins with all of them.
    first_frozen : int
        Of those, how many are frozen in a look-ahead with which the run begins, since they are trained already; 0 for
        none.

    Attributes
    ----------
    phase : {"train", "lookahead"}
        What the coming epoch is.
    epoch, stage_epochs : int
        Epochs of the run, and of the stage, that are over.
    stage_limit : int
        Epochs that the stage in progress lasts at most.
    """

    subnetworks: int
    budget: int
    rule: GrowthRule
    lookahead: int = 0
    min_stage_epochs: int = 0
    max_stage_epochs: int | None = None
    end: str = "rule"
    inserted: int = 1
    first_frozen: int = 0
    phase: Literal["train", "lookahead"] = "train"
    epoch: int = 0
    stage_epochs: int = 0
    finished: bool = False

    def __post_init__(self) -> None:
        self._inserted_first = self.inserted
        if self.first_frozen:
            self.phase = "lookahead"
        self.stage_limit = self._limit()

    def state(self) -> ScheduleState:
        """Return what :meth:`restore` takes."""
        rule = to_json(self.rule.state(), f"the state of the growth rule {type(self.rule).__name__}")
        return ScheduleState(self.inserted, self.phase, self.epoch, self.stage_epochs, self.stage_limit, rule)

    def restore(self, state: ScheduleState) -> None:
        """Go on where another schedule with the same parameters, or a smaller budget, was.

        With a larger budget the stage in progress keeps its share; later ones share all that is then left.

        Raises
        ------
        ValueError
            If it cannot have been there.
        """
        if not (self.inserted <= state.inserted <= self.subnetworks and state.stage_limit >= 1):
            raise ValueError(f"{state.inserted} of {self.subnetworks} sub-networks, a stage of {state.stage_limit}")
        if not (0 <= state.stage_epochs <= state.epoch < self.budget):
            raise ValueError(f"epoch {state.stage_epochs} of a stage, {state.epoch} of {self.budget}")
        if state.phase == "lookahead" and not (state.stage_epochs < self.lookahead and self.frozen(state.inserted)):
            raise ValueError(f"a look-ahead of {self.lookahead} epochs after {state.stage_epochs}")
        self.rule.restore(state.rule)
        self.inserted, self.phase = state.inserted, state.phase
        self.epoch, self.stage_epochs = state.epoch, state.stage_epochs
        self.stage_limit = state.stage_limit if self.max_stage_epochs is None else self._limit()

    def observe(self, accuracy: float, stop: Callable[[bool], str | None] | None = None) -> list[Decision]:
        """Take the validation accuracy, a fraction, of the epoch that has just ended; return what is to be done.

        Parameters
        ----------
        stop : callable, optional
            Takes whether the stage is over; returns why the run is to end here and now, or None.
        """
        self.epoch += 1
        self.stage_epochs += 1
        decisions: list[Decision] = []
        over: str | None = None  # why the stage is
        if self.phase == "lookahead":
            if self.stage_epochs >= self.lookahead:
                self.phase = "train"
                decisions.append(Unfreeze())
        elif verdict := self._ask_rule(accuracy):
            decisions.append(verdict)
            over = verdict.reason if verdict.grow else None
        if not over and not self.last and self.phase == "train" and self.stage_epochs >= self.stage_limit:
            over = f"the stage has had its {counted(self.stage_limit, 'epoch')}"
        if stop and (reason := stop(over is not None)):
            decisions.append(self._finish(reason))
        elif self.epoch >= self.budget:
            decisions.append(self._finish(f"the budget of {counted(self.budget, 'epoch')} is used"))
        elif over:
            decisions.append(self._finish(over) if self.last else self._grow(over))
        return decisions

    @property
    def needed(self) -> int:
        """Epochs that the rest of the run takes if each stage is as short as can be."""
        return sum(self._shortest(inserted) for inserted in range(self.inserted, self.subnetworks + 1))

    def frozen(self, inserted: int) -> int:
        """How many sub-networks are frozen in the look-ahead of the stage of so many; 0 if it has none."""
        if inserted > self._inserted_first:
            return inserted - 1 if self.lookahead else 0
        return self.first_frozen

    @property
    def phase_epochs(self) -> int:
        """Epochs of the phase in progress that are over: of the look-ahead, or of training everything since then."""
        looked_ahead = self.phase == "train" and self.frozen(self.inserted) > 0
        return self.stage_epochs - (self.lookahead if looked_ahead else 0)

    @property
    def last(self) -> bool:
        """Whether all sub-networks are in."""
        return self.inserted == self.subnetworks

    def _ask_rule(self, accuracy: float) -> Verdict | None:
        if self.last and self.end == "budget":
            return None
        verdict = as_verdict(self.rule.observe(accuracy, self.stage_epochs), self.rule)
        if verdict and verdict.grow and self.stage_epochs < self.min_stage_epochs:
            reason = f"{verdict.reason}, but the stage lasts at least {counted(self.min_stage_epochs, 'epoch')}"
            verdict = replace(verdict, grow=False, reason=reason)
        return verdict and replace(verdict, epoch=self.epoch)

    def _grow(self, reason: str) -> Grow:
        self.inserted += 1
        self.phase = "lookahead" if self.lookahead else "train"
        self.stage_epochs = 0
        self.rule.restart()
        self.stage_limit = self._limit()
        return Grow(reason)

    def _finish(self, reason: str) -> Finish:
        self.finished = True
        return Finish(reason)

    def _limit(self) -> int:
        stages_left = self.subnetworks - self.inserted + 1
        limit = (self.budget - self.epoch) // stages_left if self.max_stage_epochs is None else self.max_stage_epochs
        return max(limit, self._shortest(self.inserted))

    def _shortest(self, inserted: int) -> int:
        """Epochs that the stage of so many sub-networks has at least, if the budget allows."""
        return max(self.min_stage_epochs, 1 + (self.lookahead if self.frozen(inserted) else 0))
