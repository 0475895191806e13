"""The course of a run: insertions, windows, retries and the end, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from incnet.names import counted, up_to
from incnet.report.arms import Arm
from incnet.report.history import Epoch, Event, Freeze, History, Insert, Rollback, Stop, Verdict, Window
from incnet.report.numbers import duration

__all__ = ["Course", "Step", "course"]

INITIALISATION = {
    "lookahead": "look-ahead begins",
    "random": "initialised at random",
    "identity": "initialised as the identity",
    "lookahead+identity": "initialised as the identity; look-ahead begins",
    "copy": "copied from the blocks below",
    "lookahead+copy": "copied from the blocks below; look-ahead begins",
}


@dataclass(frozen=True)
class Step:
    """A decision: when it fell, of which kind (watch, grow, insert, freeze, rollback or stop), and why."""

    when: str
    kind: str
    text: str


@dataclass(frozen=True)
class Course:
    """All decisions of a run.

    Attributes
    ----------
    title, gist : str
        Which run; in a few words, what happened.
    """

    title: str
    gist: str
    steps: list[Step]


def course(arm: Arm, run: History) -> Course:
    """Tell the course of ``run``, one of ``arm``."""
    stages = run.stages
    grown = [f"{stage.insert.subnetwork} after epoch {stage.insert.epoch}" for stage in stages[1:]]
    end = f"{counted(len(run.epochs), 'epoch')} in {duration(run.seconds)}"
    return Course(f"{arm.label}, seed {run.setup.seed}", ", ".join([*grown, end]), list(_steps(run)))


def _steps(run: History) -> Iterator[Step]:
    """Tell all events but epochs; what a rule says is told with what came of it."""
    decisions = [timed.event for timed in run.events if not isinstance(timed.event, Epoch)]
    fired = False
    for event, follows in zip_longest(decisions, decisions[1:]):
        match event:
            case Window() | Verdict():
                fired = event.grow and _follows_from(event, follows)
                kind, text = "grow" if fired else "watch", event.reason
                if event.grow and not (fired or isinstance(follows, Stop)):
                    text += "; the stage goes on all the same"
            case Insert():
                kind, text = "insert", _insertion(run, event, fired=fired)
                fired = False
            case Freeze():
                names = up_to(run.stages[-1].subnetworks[: event.subnetworks])
                kind, text = "freeze", f"{names} frozen for good, with averaged weights"
            case Rollback():
                kind = "rollback"
                text = f"back to here from epoch {event.failed_epoch}, learning rate {event.lr:g}: {event.reason}"
            case Stop():
                kind, text = "stop", "end: all sub-networks are in" if fired else f"end: {event.reason}"
        yield Step(f"epoch {event.epoch}" if event.epoch else "start", kind, text)


def _follows_from(verdict: Verdict | Window, follows: Event | None) -> bool:
    """Whether what came next came of a verdict: the budget may be used, and a condition hold, in the same epoch."""
    match follows:
        case Insert():
            return follows.epoch == verdict.epoch
        case Stop():
            return follows.reason == verdict.reason
        case _:
            return False


def _insertion(run: History, insert: Insert, *, fired: bool) -> str:
    macs = f"{insert.macs_inference / 1e6:.2f} M MACs per image"
    size = f"{insert.subnetwork} inserted: {insert.params:,} parameters, {macs}"
    if insert.epoch == 0:
        return f"{size}; with the weights of a trained model" if insert.init == "trained" else size
    size += f"; {INITIALISATION.get(insert.init, insert.init)}"
    if fired:
        return size  # the line before says why
    ended = [stage for stage in run.stages if stage.insert.epoch < insert.epoch][-1]
    return f"{size}; the stage before had had its {counted(len(ended.epochs), 'epoch')}"
