"""Every option of a study: its own, and those that hold for all of its runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import tyro

from incnet.config import Config
from incnet.records import can_be_path
from incnet.study.designs import DESIGNS

__all__ = ["Planned", "Study", "StudyError"]


# Options that hold only for runs with another one.
GO_WITH = {"memory_limit": ("batch_size", "auto"), "period": ("growth", "periodic")}


class StudyError(Exception):
    """A study cannot be made as it is asked for."""


@dataclass(frozen=True)
class Planned:
    """A run of a study: which, and with which options."""

    arch: str
    arm: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.arch}-{self.arm}-seed{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Study(Config):
    """Train networks in several arms, with several seeds, and compare what comes out.

    table2: accuracies. figure3: accuracy and cost over epochs. figure4: accuracy against parameters.
    figure5: images of 224 x 224, batches as large as --memory-limit. momentum: the two
    readings of the paper's "momentum 0.9". gamma: how much window and gamma matter. Options that
    python -m incnet.train has as well hold for every run.

    Writes a folder with runs/, study.json, table2.json, table2.md, figures/ and report.html. A study that was
    interrupted goes on with the same command. Exits with 0; 1 if a run failed; 2 for bad input; 4 when the disk takes
    no more; 130 or 143 when SIGINT or SIGTERM stops it.
    """

    name: tyro.conf.Positional[Literal["table2", "figure3", "figure4", "figure5", "momentum", "gamma"]]
    """What to find out."""

    archs: tuple[str, ...] = ()
    """Networks. Default: those of the paper's table or figure; resnet20 for momentum and gamma."""

    arms: tuple[str, ...] = ()
    """Arms to compare, of those that the study has. Default: all but those that the paper has not."""

    seeds: int = 3
    """Runs of each arm of each network, with the seeds 0, 1, ..."""

    out: Path | None = None
    """Study folder: new, or that of the same study, to go on with. Default: studies/NAME."""

    jobs: int = 1
    """Runs at a time, each in a process of its own. On the CPU they share the cores unless --threads says otherwise."""

    dask: str | None = None
    """Where to run instead: the address of a Dask scheduler, as tcp://host:8786, whose workers see the study's folder
    under the same path; or local:N for N workers on this machine. A lost worker's run goes on elsewhere."""

    dry_run: bool = False
    """Show what would run and about how long it would take, and change nothing."""

    levels: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9)
    """Validation accuracies, fractions, at which costs are compared, besides the highest that all runs reached."""

    dataset: str = "cifar10"
    """What to learn: cifar10, cifar100, cifar100-coarse, fashion-mnist or digits."""

    # What a study decides for each run.
    arch: tyro.conf.Fixed[str] = "resnet20"
    method: tyro.conf.Fixed[Literal["incremental", "baseline"]] = "incremental"
    init: tyro.conf.Fixed[str] = "lookahead"  # type: ignore[assignment]
    seed: tyro.conf.Fixed[int] = 0
    resume: tyro.conf.Fixed[Path | None] = None

    @property
    def folder(self) -> Path:
        """Of the study."""
        return self.out or Path("studies") / self.name

    @property
    def runs_here(self) -> int:
        """Runs at a time on this machine, which share its cores."""
        kind, _, count = (self.dask or "").partition(":")
        return int(count) if kind == "local" else self.jobs

    def runs(self) -> list[Planned]:
        """Return the runs that the study takes, seed by seed, so that all arms soon have one.

        Raises
        ------
        StudyError
            If an option of the study is impossible.
        ConfigError
            If one of the runs' options is.
        """
        self._check_study()
        archs, arms = self.archs or DESIGNS[self.name].archs, self._arms()
        runs = [
            Planned(arch, arm, seed, self._config(arch, arm, seed))
            for seed in range(self.seeds)
            for arch in archs
            for arm in arms
        ]
        for option, (other, value) in GO_WITH.items():
            asked = getattr(self, option)
            if asked is not None and not any(getattr(run.config, option) == asked for run in runs):
                names = [name.replace("_", "-") for name in (option, other)]
                raise StudyError(f"--{names[0]} {asked}: no arm has --{names[1]} {value}, which it goes with")
        return runs

    def _check_study(self) -> None:
        known = self._known_arms()
        if unknown := [arm for arm in self.arms if arm not in known]:
            raise StudyError(f"--arms {unknown[0]}: the study {self.name} has {', '.join(known)}")
        for option in ("archs", "arms"):
            asked = getattr(self, option)
            if len(set(asked)) < len(asked):
                raise StudyError(f"--{option} {' '.join(asked)}: name each only once")
        for option in ("seeds", "jobs"):
            if getattr(self, option) < 1:
                raise StudyError(f"--{option} {getattr(self, option)}: choose at least 1")
        if self.dask is not None and not re.fullmatch(r"local:[1-9]\d{0,2}|\w+://.+|[^:]+:\d+", self.dask):
            raise StudyError(
                f"--dask {self.dask}: choose local:2, for example, or a scheduler's address, tcp://host:8786"
            )
        if not can_be_path(str(self.folder)):
            raise StudyError(f"--out {str(self.folder)!r:.200}: choose a path without control characters")
        if wrong := [level for level in self.levels if not 0 < level <= 1]:
            raise StudyError(f"--levels {wrong[0]}: choose fractions above 0 and up to 1")
        for field in fields(Config):
            decided = any(field.name in known[arm] for arm in self._arms())
            if decided and getattr(self, field.name) != field.default:
                option = f"--{field.name.replace('_', '-')} {getattr(self, field.name)}"
                raise StudyError(f"{option}: the arms of {self.name} set this option themselves; leave it out")

    def _known_arms(self) -> dict[str, dict[str, Any]]:
        design = DESIGNS[self.name]
        return design.arms | design.more_arms

    def _arms(self) -> tuple[str, ...]:
        return self.arms or tuple(DESIGNS[self.name].arms)

    def _config(self, arch: str, arm: str, seed: int) -> Config:
        """Options of one run, resolved."""
        common = {field.name: getattr(self, field.name) for field in fields(Config)}
        own = {"arch": arch, "seed": seed, "out": None, "resume": None}
        asked = common | self._known_arms()[arm] | own
        for option, (other, value) in GO_WITH.items():
            if asked[other] != value:
                asked[option] = None
        return Config(**asked).resolve()


def as_arguments(config: Config) -> Iterator[str]:
    """Yield the arguments of ``python -m incnet.train`` that give ``config``: those that are not the default."""
    yield config.dataset
    for field in fields(Config):
        value = getattr(config, field.name)
        if field.name != "dataset" and value != field.default:
            yield from as_option(field.name, value)


def as_option(name: str, value: Any) -> Iterator[str]:
    """Yield the arguments that give an option its value."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        yield f"--{option}" if value else f"--no-{option}"
    else:
        yield from (f"--{option}", str(value))
