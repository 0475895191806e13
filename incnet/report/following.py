"""What to run next, beside the runs of a report, and how."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from incnet.report.arms import Arm, Network
from incnet.report.history import History
from incnet.report.setup import command

__all__ = ["Suggestion", "suggestions"]

ENOUGH_SEEDS = 3


@dataclass(frozen=True)
class Suggestion:
    """What to do, why, and the commands, for a shell in the folder that holds the run folders."""

    what: str
    commands: list[str]


def suggestions(network: Network, *, live: bool = False) -> Iterator[Suggestion]:
    """Yield what is lacking: ends of runs, the other method beside, more seeds; and what the networks are good for."""
    arm = next((arm for arm in network.arms if arm.grows), network.arms[0])
    run = arm.counted[0]
    stopped = [run for run in network.runs if not run.finished]
    if stopped and not live:
        yield Suggestion(
            "Go on with what is not finished:", [_line("train", "--resume", r.path.name) for r in stopped[:3]]
        )
    if not any(not arm.grows for arm in network.arms):
        yield _beside(
            run, "baseline", "The baseline beside it: the whole network from the start, all else being equal."
        )
    elif not any(arm.grows for arm in network.arms):
        yield _beside(run, "incremental", "Incremental training beside it, all else being equal.")
    if len({run.setup.seed for run in arm.runs}) < ENOUGH_SEEDS:
        yield _seeds(arm)
    if run.finished:
        name = shlex.quote(run.path.name)
        yield Suggestion(
            "Use the networks: a file for each stage in the run's folder stages; a run folder stands for its last one.",
            [f"python -m incnet.predict {name} PICTURE.png", f"python -m incnet.export {name} MODEL.onnx"],
        )


def _beside(run: History, method: str, what: str) -> Suggestion:
    out = f"{run.path.name}-{method}"
    return Suggestion(
        what, [command(run, method=method, out=out), _line("report", run.path.name, out, "--out", "comparison.html")]
    )


def _seeds(arm: Arm) -> Suggestion:
    run, seeds = arm.counted[0], {run.setup.seed for run in arm.runs}
    if run.arm is not None:
        return Suggestion("More seeds: the study's command, which is in its study.json, with a larger --seeds.", [])
    fresh = [seed for seed in range(ENOUGH_SEEDS + max(seeds)) if seed not in seeds][: ENOUGH_SEEDS - len(seeds)]
    which = "one seed tells" if len(seeds) == 1 else f"{len(seeds)} seeds tell"
    return Suggestion(
        f"More seeds: {which} little about what another one would give. The report has their mean and deviation.",
        [command(run, seed=seed, out=f"{run.path.name}-seed{seed}") for seed in fresh],
    )


def _line(module: str, *arguments: str) -> str:
    return shlex.join(["python", "-m", f"incnet.{module}", *arguments])
