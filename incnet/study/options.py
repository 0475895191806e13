"""Every option of a study: its own, and those that hold for all of its runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from incnet.checked_json import can_be_path
from incnet.config import Config, ConfigError
from incnet.names import ARCHITECTURES, DATASETS, did_you_mean
from incnet.options import decided, described, flag, going_with, option, with_origins
from incnet.study.designs import DESIGNS
from incnet.user_code import file_name, short

__all__ = ["Planned", "Study", "StudyError", "run_name"]

# Groups of options, beside those of a run.
STUDY, BUDGET = "study", "study of budgets"


class StudyError(Exception):
    """A study cannot be made as it is asked for."""


@dataclass(frozen=True)
class Planned:
    """A run of a study: which, and with which options.

    ``arch`` is what tables call the network; ``curve`` is the arm without its budget, in a study of budgets.
    """

    arch: str
    arm: str
    seed: int
    config: Config
    curve: str = ""

    @property
    def name(self) -> str:
        """Of its folder."""
        return run_name(self.arch, self.arm, self.seed)


def run_name(arch: str, arm: str, seed: int) -> str:
    """Return the name of the folder of a run."""
    return f"{file_name(arch)}-{arm}-seed{seed}"


@dataclass(frozen=True, kw_only=True)
class Study(Config):
    """Train networks in several arms, with several seeds, and compare what comes out.

    table2: accuracies. figure3: accuracy and cost over epochs. figure4: accuracy against parameters.
    figure5: images of 224 x 224, batches as large as --memory-limit. momentum: the two interpretations of the paper's
    "momentum 0.9". gamma: how much window and gamma matter. budget: what accuracy some epochs buy in each arm, and for
    what share of another arm's cost. Options that incnet train has as well hold for every run.

    Writes a folder with runs/, study.json, table2.json, table2.md (budget.json and budget.md), figures/ and
    report.html. A study that was interrupted goes on with the same command. Exits with 0; 1 if a run failed; 2 for bad
    input; 4 when the disk is full; 130, 143 or 129 when SIGINT, SIGTERM or SIGHUP stops it.

    Examples::

      incnet study table2 --out S --dry-run
      incnet study table2 --archs resnet20 --seeds 1 --jobs 2 --out S
      incnet study momentum --dask tcp://host:8786 --out /shared/S
      incnet study budget --budgets 12 24 --arms sgd fast --seeds 5 --measure
      incnet study budget --from-runs docs/results/runs --out table
    """

    name: Literal["table2", "figure3", "figure4", "figure5", "momentum", "gamma", "budget"] = option(
        "What to find out: table2, figure3, figure4, figure5, momentum, gamma or budget.", group=STUDY, positional=True
    )
    archs: tuple[str, ...] = option(
        "Networks; some may be your own, FILE.py:FUNCTION or MODULE:FUNCTION, which are run. Each is made once for a "
        "seed, and kept in the study's folder, for all of its arms.",
        (),
        group=STUDY,
        names=ARCHITECTURES,
        metavar="NAME",
        code=True,
        otherwise="those of the paper's table or figure; resnet20 for momentum, gamma and budget",
    )
    arms: tuple[str, ...] = option(
        "Arms to compare, of those that the study has.",
        (),
        group=STUDY,
        metavar="NAME",
        otherwise="all but those that the paper has not",
    )
    seeds: int = option("Runs of each arm of each network, with the seeds 0, 1, ...", 3, group=STUDY)
    out: Path | None = option(
        "Study folder: new, or that of the same study, to go on with.",
        None,
        group=STUDY,
        metavar="FOLDER",
        otherwise="studies/NAME",
        place=True,
    )
    jobs: int = option(
        "Runs at a time, each in a process of its own. On the CPU they share the cores unless --threads says "
        "otherwise.",
        1,
        group=STUDY,
    )
    dask: str | None = option(
        "Where to run instead: the address of a Dask scheduler, as tcp://host:8786, whose workers see the study's "
        "folder under the same path; or local:N for N workers on this machine. A lost worker's run goes on elsewhere.",
        None,
        group=STUDY,
        metavar="ADDRESS",
    )
    dry_run: bool = option(
        "Show what would run and about how long it would take, and change nothing.", False, group=STUDY
    )
    levels: tuple[float, ...] = option(
        "Validation accuracies, fractions, at which costs are compared, besides the highest that all runs reached.",
        (0.5, 0.6, 0.7, 0.8, 0.85, 0.9),
        group=STUDY,
    )
    budgets: tuple[int, ...] = option(
        "Epochs of the runs of each arm; a run whose epochs do not depend on their number is one of each on its way.",
        (10, 16, 24, 32, 40),
        group=BUDGET,
        metavar="N",
        goes_with=("name", ("budget",)),
    )
    against: tuple[str, ...] = option(
        "Arms whose curves the others are compared with.",
        (),
        group=BUDGET,
        metavar="NAME",
        otherwise="those that train the whole network on whole images: constant, decay and sgd",
        goes_with=("name", ("budget",)),
    )
    accuracy: Literal["validation", "test"] = option(
        "Which accuracy is compared: of the last epoch on the validation images, or of the end on the test images, "
        "which shorter runs on the way do not have.",
        "validation",
        group=BUDGET,
        goes_with=("name", ("budget",)),
    )
    measure: bool = option(
        "Measure the training steps, validations and recalibrations of all arms side by side, to give costs in "
        "seconds too. The machine should have nothing else to do meanwhile.",
        False,
        group=BUDGET,
    )
    from_runs: tuple[Path, ...] = option(
        "Train nothing: take finished runs from these folders, by their config.json, metrics.jsonl and summary.json.",
        (),
        group=BUDGET,
        metavar="FOLDER",
        otherwise="none; the runs are trained",
        place=True,
    )
    dataset: str = option(
        "What to learn: cifar10, cifar100, cifar100-coarse, mnist, fashion-mnist or digits; or images of one's own, a "
        "folder of pictures or a .npz file, as incnet train takes them.",
        "cifar10",
        group=STUDY,
        names=DATASETS,
        metavar="NAME",
    )

    # What a study decides for each run.
    arch: str = decided("resnet20")
    method: Literal["incremental", "baseline"] = decided("incremental")
    init: Literal["lookahead", "random", "identity", "lookahead+identity", "copy", "lookahead+copy"] = decided(
        "lookahead"
    )
    seed: int = decided(0)
    resume: Path | None = decided(None)
    trust: str | None = decided(None)
    # Names of the options that were asked for: a preset sets the others.
    given: tuple[str, ...] = decided((), compare=False)

    @classmethod
    def completed(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return options that are given, and their names: what a preset makes of them is a matter of each run."""
        return {**given, "given": tuple(given)}

    @property
    def folder(self) -> Path:
        """Of the study."""
        return self.out or Path("studies") / self.name

    @property
    def title(self) -> str:
        """What is studied, and on which images."""
        return f"{self.name} on {self.dataset if self.dataset in DATASETS else Path(self.dataset).stem}"

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
        self.check()
        archs, arms = self.archs or DESIGNS[self.name].archs, self._arms()
        runs = [
            run
            for seed in range(self.seeds)
            for arch in archs
            for arm in arms
            for run in (self._of_budgets(arch, arm, seed) if self.name == "budget" else [self._of(arch, arm, seed)])
        ]
        for name, (other, values) in going_with(Config).items():
            asked = getattr(self, name)
            if asked is not None and not any(getattr(run.config, name) == asked for run in runs):
                needed = f"{flag(other)} {' or '.join(values)}"
                raise StudyError(f"{flag(name)} {asked}: no arm has {needed}, which it goes with")
        return runs

    def check(self) -> None:
        """Raise StudyError if an option of the study is impossible."""
        for name in ("archs", "arms", "against"):
            if joined := [each for each in getattr(self, name) if "," in each]:
                raise StudyError(f"{flag(name)} {joined[0]}: separate names by spaces, {joined[0].replace(',', ' ')}")
        known = self.known_arms
        if unknown := [arm for arm in self.arms if arm not in known]:
            meant = did_you_mean(unknown[0], known)
            raise StudyError(f"--arms {unknown[0]}: the study {self.name} has {', '.join(known)}{meant}")
        for name in ("archs", "arms", "budgets", "against"):
            asked = getattr(self, name)
            if len(set(asked)) < len(asked):
                raise StudyError(f"{flag(name)} {' '.join(map(str, asked))}: name each only once")
        named: dict[str, str] = {}
        for arch in self.archs:
            if (other := named.setdefault(file_name(arch), arch)) != arch:
                raise StudyError(f"--archs {other} {arch}: both are called {file_name(arch)}; rename one")
        self._check_budgets()
        for name in ("seeds", "jobs"):
            if getattr(self, name) < 1:
                raise StudyError(f"{flag(name)} {getattr(self, name)}: choose at least 1")
        if self.dask is not None and not re.fullmatch(r"local:[1-9]\d{0,2}|\w+://.+|[^:]+:\d+", self.dask):
            raise StudyError(
                f"--dask {self.dask}: choose local:2, for example, or a scheduler's address, tcp://host:8786"
            )
        if not can_be_path(str(self.folder)):
            raise StudyError(f"--out {str(self.folder)!r:.200}: choose a path without control characters")
        if wrong := [level for level in self.levels if not 0 < level <= 1]:
            raise StudyError(f"--levels {wrong[0]}: choose fractions above 0 and up to 1")
        for field in fields(Config):
            set_by_arms = any(field.name in known[arm] for arm in self._arms())
            if set_by_arms and getattr(self, field.name) != field.default:
                asked = f"{flag(field.name)} {getattr(self, field.name)}"
                raise StudyError(f"{asked}: the arms of {self.name} set this option themselves; leave it out")

    def _check_budgets(self) -> None:
        if self.name != "budget":
            for name, field in ((each.name, each) for each in fields(self)):
                if described(Study)[name].group == BUDGET and getattr(self, name) != field.default:
                    raise StudyError(f"{flag(name)}: it goes with the study budget")
            return
        if self.epochs is not None:
            raise StudyError(f"--epochs {self.epochs}: the study budget takes --budgets, such as {self.epochs}")
        if not self.budgets or min(self.budgets) < 1:
            raise StudyError(f"--budgets {' '.join(map(str, self.budgets))}: choose numbers of epochs, at least 1")
        if unknown := [arm for arm in self.against if not self.from_runs and arm not in self._arms()]:
            raise StudyError(
                f"--against {unknown[0]}: choose among the arms, {', '.join(self._arms())}"
                f"{did_you_mean(unknown[0], self._arms())}"
            )

    @property
    def known_arms(self) -> dict[str, dict[str, Any]]:
        """Options of all arms that the study has, by name."""
        design = DESIGNS[self.name]
        return design.arms | design.more_arms

    def _arms(self) -> tuple[str, ...]:
        return self.arms or tuple(DESIGNS[self.name].arms)

    def _of(self, arch: str, arm: str, seed: int) -> Planned:
        return Planned(short(arch), arm, seed, self.config(arch, arm, seed))

    def _of_budgets(self, arch: str, arm: str, seed: int) -> list[Planned]:
        """Return a run for each budget of an arm; if shorter ones are on the way of longer ones, the longest alone."""
        budgets = sorted(self.budgets)
        longest = self.config(arch, arm, seed, budgets[-1])
        if longest.holds_shorter_runs:
            budgets = budgets[-1:]
        configs = {epochs: self.config(arch, arm, seed, epochs) for epochs in budgets}
        return [Planned(short(arch), f"{arm}-{epochs}", seed, config, arm) for epochs, config in configs.items()]

    def config(
        self, arch: str, arm: str, seed: int, epochs: int | None = None, *, dataset: str | None = None
    ) -> Config:
        """Return the options of one run, resolved; epochs and data set are those asked for, unless given here.

        Raises
        ------
        ConfigError
            If they cannot be.
        """
        common = {field.name: getattr(self, field.name) for field in fields(Config) if self._is_given(field)}
        common |= {} if epochs is None else {"epochs": epochs}
        of_arm = self.known_arms[arm]
        own = {"arch": arch, "seed": seed, "dataset": dataset or self.dataset, "out": None, "resume": None}
        given = common | of_arm | own
        try:
            completed = Config.completed(given)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        config = Config(**completed)
        pointless: dict[str, Any] = {
            name: None for name, (other, values) in going_with(Config).items() if getattr(config, other) not in values
        }
        try:
            resolved = replace(config, **pointless, set_by_preset=None).resolve()
            return replace(resolved, set_by_preset=config.set_by_preset)
        except ConfigError as error:
            preset = f"--preset {config.preset}" + (f" of the arm {arm}" if "preset" in of_arm else "")
            chosen = {name: (value, f"the arm {arm}") for name, value in of_arm.items()}
            chosen |= {} if epochs is None else {"epochs": (epochs, "--budgets")}
            chosen |= {name: (value, preset) for name, value in completed.items() if name not in given}
            raise ConfigError(with_origins(str(error), Config, chosen)) from error

    def _is_given(self, field: Field[Any]) -> bool:
        return field.name in self.given or getattr(self, field.name) != field.default
