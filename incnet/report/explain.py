"""A sentence each on what the page speaks of, for somebody who has not read the paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from incnet.report.arms import Network
from incnet.report.history import Setup

__all__ = ["explanations"]

MOST_VALUES = 3
LOOKAHEAD = (
    "an inserted sub-network is first trained alone, with the classifier, on what the frozen sub-networks below it "
    "compute, so that it fits what is there already; backpropagation stops at the frozen part, which saves its time."
)


def explanations(network: Network) -> Iterator[tuple[str, str]]:
    """Yield a term and what it means, for each that the network's runs need."""
    growing = [run for arm in network.arms if arm.grows for run in arm.counted]
    if growing:
        yield (
            "Incremental training",
            "the network is cut into sub-networks; training begins with the first one and a classifier, and the next "
            "one is inserted between them when a rule says so.",
        )
    if any(run.setup.init.startswith("lookahead") for run in growing):
        yield "Look-ahead", LOOKAHEAD
    if growing:
        yield "Growth rule", " Or: ".join(_rules([run.setup for run in growing]))


def _rules(setups: Sequence[Setup]) -> Iterator[str]:
    """Yield a sentence for each kind of rule."""
    kinds: dict[str, list[Setup]] = {}
    for setup in setups:
        kinds.setdefault(setup.growth, []).append(setup)
    for kind, those in kinds.items():
        match kind:
            case "slope-angle":
                windows = _values(setup.window for setup in those)
                gammas = _values(setup.gamma for setup in those)
                yield (
                    f"a line is fitted to the last {windows} validation accuracies; when its angle is at most {gammas} "
                    "times that of the window before, the learning curve flattens, and the network grows."
                )
            case "periodic":
                yield "the network grows every so many epochs, whatever the learning curve says."
            case "plateau":
                patience = _values(setup.patience for setup in those)
                yield f"the network grows when {patience} epochs in a row gave no better validation accuracy."
            case _:
                yield "one of the user's own; the reason that it gave for each decision is below."


def _values(values: Iterable[float]) -> str:
    """Name what an option is; of many values the first and the last."""
    names = [f"{value:g}" for value in sorted(set(values))]
    return " or ".join(names) if len(names) <= MOST_VALUES else f"{names[0]} to {names[-1]} (by arm)"
