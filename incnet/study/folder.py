"""The folder of a study: its runs, what each of them is at, and what they must have in common."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from incnet.checked_json import from_json, parse_json
from incnet.config import Config, ConfigError
from incnet.networks.stored import StoredNetwork
from incnet.options import described, flag, making_no_other
from incnet.report.history import History
from incnet.report.reading import ReportError, read_history
from incnet.storage.files import replace_file, writing
from incnet.storage.folder import environment
from incnet.storage.lock import FolderInUseError, Lock
from incnet.study.options import Planned, Study, StudyError, run_name

__all__ = ["StudyFolder", "StudyRun"]

Status = Literal["new", "unfinished", "failed", "finished"]

# Options that make no other run.
FREE = making_no_other(Config) - {"stop"}
ALL_CHECKPOINTS = 10_000
PATIENCE = 60.0  # seconds in which a run that was told to stop has surely done so
_MAX_STUDY = 2**22  # bytes
_TABLES = {"table2.json", "table2.md", "budget.json", "budget.md", "timings.json"}
_OURS = {"runs", "logs", "networks", "figures", "study.json", "report.html", "lock"} | _TABLES


@dataclass
class StudyRun:
    """A run of a study, and what it is at.

    Attributes
    ----------
    epochs : int
        That are over.
    history : History or None
        What is in its folder; None before there is one.
    reason : str
        Why it failed, if it did.
    network : StoredNetwork or None
        What it trains, if that is a network of the user's own: once it has been made.
    """

    planned: Planned
    path: Path
    status: Status = "new"
    history: History | None = None
    reason: str = ""
    network: StoredNetwork | None = None

    @property
    def epochs(self) -> int:
        """Complete epochs."""
        return len(self.history.epochs) if self.history else 0

    def look(self) -> None:
        """Find out what the run is at.

        Raises
        ------
        StudyError
            If its files are damaged.
        """
        self.status, self.history, self.reason = "new", None, ""
        if not (self.path / "config.json").exists():
            return
        try:
            self.history = read_history(self.path, self.planned.arm)
        except ReportError as error:
            raise StudyError(f"{error}; move the folder away to begin that run again") from error
        self.status = "finished" if self.history.finished else "unfinished"

    def keep_checkpoints(self) -> None:
        """Let the run keep all of them: others are to begin there, some of which may be asked for later."""
        config = replace(self.planned.config, keep_checkpoints=ALL_CHECKPOINTS)
        self.planned = replace(self.planned, config=config)

    def check(self) -> None:
        """Raise StudyError if the folder holds a run with other options than those that are planned."""
        if self.history is None:
            return
        try:
            made = Config.from_json(self.history.options)
        except ConfigError as error:
            raise StudyError(f"{self.path / 'config.json'}: {error}; choose another --out") from error
        if differing := list(_differences(made, self.planned.config.as_network_of(made))):
            raise StudyError(
                f"{self.path} was made with {', '.join(differing)}; choose another --out, or these options"
            )


def _differences(made: Config, asked: Config) -> list[str]:
    """Options that would make another run."""
    found = []
    for name in (field.name for field in fields(Config)):
        ours, theirs = getattr(made, name), getattr(asked, name)
        left_open = Config.left_to_machine(name, ours) or Config.left_to_machine(name, theirs)
        if ours != theirs and not left_open and name not in FREE:
            found.append(f"{flag(name)} {ours} (asked for: {theirs})")
    return found


@dataclass(frozen=True)
class _Listed:
    """A run in study.json."""

    path: str
    arch: str
    arm: str
    seed: int


class StudyFolder:
    """The folder of one study, for this process alone in a ``with`` block.

    ==================  ==================================================================================
    runs/NAME           the run folders
    logs/NAME.log       what each run printed
    networks/           networks of the user's own, see :mod:`incnet.study.networks`
    study.json          the study's name, options and versions, and its runs: path, arch, arm, seed, status
    table2.json, .md    see :mod:`incnet.study.tables`
    budget.json, .md    of a study of budgets instead; see :mod:`incnet.study.budget`
    timings.json        what was measured for it, see :mod:`incnet.study.budget.seconds`
    figures/            as SVG and PNG
    report.html         see :mod:`incnet.report`
    ==================  ==================================================================================

    Parameters
    ----------
    study : Study
        Whose runs are looked at, without changing anything.

    Raises
    ------
    StudyError
        If the folder is another study's, holds runs of other options or something else, or is damaged.
    """

    def __init__(self, study: Study) -> None:
        self.study, self.path = study, study.folder
        self._stack = ExitStack()
        self.runs = [StudyRun(planned, self.path / "runs" / planned.name) for planned in study.runs()]
        self._check()
        for run in self.runs:
            run.look()
            run.check()

    def _check(self) -> None:
        """Check that the folder is new, or that of the same study with no more runs than are asked for."""
        if self.path.exists() and not self.path.is_dir():
            raise StudyError(f"--out {self.path} is a file; choose a folder")
        file = self.path / "study.json"
        if not file.exists():
            if self.path.exists() and (others := sorted({entry.name for entry in self.path.iterdir()} - _OURS)):
                raise StudyError(f"--out {self.path} holds {others[0]} and no study.json; choose a new folder")
            return
        try:
            with open(file, "rb") as opened:
                content = parse_json(opened.read(_MAX_STUDY))
            name, listed = content["name"], [_listed(run) for run in content["runs"]]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StudyError(f"{file} is damaged ({error!s:.120}); choose another --out") from error
        if name != self.study.name:
            raise StudyError(
                f"--out {self.path} holds the study {name!s:.40}; choose another one for {self.study.name}"
            )
        planned = {run.planned.name for run in self.runs}
        if lost := [run for run in listed if run_name(run.arch, run.arm, run.seed) not in planned]:
            raise StudyError(
                f"--out {self.path} holds runs of {lost[0].arch}, {lost[0].arm}, seed {lost[0].seed}, for which "
                "--archs, --arms and --seeds do not ask: they may grow but not shrink"
            )

    def __enter__(self) -> Self:
        with writing(self.path):
            for name in ("runs", "logs"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        try:
            lock = Lock(self.path / "lock")
        except FolderInUseError as error:
            raise StudyError(f"--out {self.path}: {error}; wait for it, or end it") from error
        self._stack.callback(lock.release)
        self._wait_for_runs()
        for run in self.runs:  # again: now nobody else changes them
            run.look()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _wait_for_runs(self) -> None:
        """Wait for runs of a study that was killed: they are about to save and stop."""
        end = time.monotonic() + PATIENCE
        for run in self.runs:
            while run.status != "finished" and (run.path / "lock").exists():
                try:
                    Lock(run.path / "lock").release()
                    break
                except FolderInUseError as error:
                    if time.monotonic() > end:
                        raise StudyError(f"{run.path}: {error}; wait for it, or end it") from error
                    time.sleep(0.2)

    def of(self, name: str) -> StudyRun:
        """Return the run of that name."""
        return next(run for run in self.runs if run.planned.name == name)

    @property
    def histories(self) -> Sequence[History]:
        """Of the finished runs."""
        return [run.history for run in self.runs if run.history and run.status == "finished"]

    def save(self, command: str) -> None:
        """Write ``study.json``."""
        facts = described(Study)
        names = [name for name in facts if facts[name].shown and name not in ("name", "dry_run", "from_runs")]
        options = {name: getattr(self.study, name) for name in names}
        self.write(
            "study.json",
            {
                "name": self.study.name,
                "command": command,
                "options": {name: str(value) if isinstance(value, Path) else value for name, value in options.items()},
                "versions": environment(),
                "runs": [
                    {
                        "path": run.path.relative_to(self.path).as_posix(),
                        "arch": run.planned.arch,
                        "arm": run.planned.arm,
                        "seed": run.planned.seed,
                        "status": run.status,
                    }
                    for run in self.runs
                ],
            },
        )

    def keep_network(self, network: StoredNetwork) -> Path:
        """Write a network of the user's own to a file of the folder, for a run to begin with; return which."""
        path = self.path / "networks" / f"{hashlib.sha256(network.content).hexdigest()[:16]}.safetensors"
        with writing(path.parent):
            path.parent.mkdir(exist_ok=True)
        replace_file(path, [network.content])
        return path

    def write(self, name: str, content: dict[str, Any] | str) -> None:
        """Write text, or an object as JSON, to a file of the folder, whole or not at all."""
        text = content if isinstance(content, str) else json.dumps(content, indent=2, allow_nan=False) + "\n"
        replace_file(self.path / name, [text.encode()])


def _listed(content: Any) -> _Listed:
    names = {field.name for field in fields(_Listed)}
    kept = {name: value for name, value in content.items() if name in names}
    run: _Listed = from_json(_Listed, kept, "runs")
    return run
