"""Run folders and studies, read and checked: the files are untrusted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from incnet.checked_json import from_json, parse_json
from incnet.config import Config
from incnet.options import making_no_other
from incnet.report.history import (
    Epoch,
    Event,
    Freeze,
    History,
    Insert,
    Rollback,
    Setup,
    StageSummary,
    Stop,
    Summary,
    Timed,
    Verdict,
    Window,
)
from incnet.training.evaluation import Evaluation, unpack_evaluation
from incnet.user_code import short

__all__ = ["ReportError", "find_runs", "read_history", "without_copies"]

# Bounds on what is read into memory, far above what a run writes.
MAX_BYTES = {
    "metrics.jsonl": 2**26,
    "config.json": 2**20,
    "summary.json": 2**20,
    "test.json": 2**26,
    "study.json": 2**22,
}
MAX_NAME, MAX_PATH = 80, 4096  # letters; data set and network may be paths of files
# And on the numbers in it; what is not named here is a count or a time.
MAX_COUNT = 2**62
FRACTION = (0, 1)
ANY_FLOAT32 = (0, 1e39)  # of a run that diverges, too
BOUNDS = {
    "lr": ANY_FLOAT32,
    "train_loss": ANY_FLOAT32,
    "val_loss": ANY_FLOAT32,
    "train_accuracy": FRACTION,
    "val_accuracy": FRACTION,
    "test_accuracy": FRACTION,
    "slope": (-100, 100),
    "angle": (-90, 90),
}
EVENTS: dict[str, type[Event]] = {kind.event: kind for kind in (Epoch, Window, Verdict, Insert, Freeze, Rollback, Stop)}


class ReportError(Exception):
    """A folder holds no run, or one of its files is damaged."""


# Finding runs.


@dataclass(frozen=True)
class _StudyRun:
    path: Path
    arm: str


def find_runs(folders: list[Path]) -> list[tuple[Path, str | None]]:
    """Return the run folders in ``folders``, with the arm that a study names for each.

    A folder is a run's; or a study's, with a study.json that lists runs; or holds run folders, or ``runs/`` with some.

    Raises
    ------
    ReportError
        If a folder is none of these, or a study.json is damaged.
    """
    found: list[tuple[Path, str | None]] = []
    for folder in folders:
        if not folder.is_dir():
            raise ReportError(f"{folder} is no folder; give run folders, studies, or a folder that holds runs")
        if (folder / "config.json").exists():
            found.append((folder, None))
            continue
        inside = list(_study(folder)) if (folder / "study.json").exists() else list(_inside(folder))
        if not inside:
            raise ReportError(f"{folder} holds no run: there is no config.json in it or in the folders below it")
        found += inside
    return _once(found)


def _inside(folder: Path) -> Iterator[tuple[Path, None]]:
    for path in sorted([*folder.glob("*/config.json"), *folder.glob("runs/*/config.json")]):
        yield path.parent, None


def _once(found: Iterable[tuple[Path, str | None]]) -> list[tuple[Path, str | None]]:
    """Leave out what is another folder by another name; a folder's own name is kept rather than that of a link."""
    named: dict[Path, tuple[Path, str | None]] = {}
    for path, arm in found:
        before, known = named.setdefault(path.resolve(), (path, arm))
        named[path.resolve()] = (path if before.is_symlink() else before, known or arm)
    return list(named.values())


def without_copies(runs: Sequence[History]) -> list[History]:
    """Leave out copies of runs, of each run all but the furthest: a run counts once.

    Two folders hold one run if options and seed are the same, and everything up to the end of the first epoch happened
    at the same time, to a millisecond.
    """
    furthest: dict[str, History] = {}
    for run in runs:
        until = next((i for i, timed in enumerate(run.events) if isinstance(timed.event, Epoch)), len(run.events))
        options = {name: value for name, value in run.options.items() if name not in making_no_other(Config)}
        key = repr((json.dumps(options, sort_keys=True), run.events[: until + 1] or run.path))
        furthest[key] = max(furthest.get(key, run), run, key=lambda run: (len(run.events), run.arm is not None))
    return list(furthest.values())


def _study(folder: Path) -> Iterator[tuple[Path, str]]:
    """Runs of a study that have begun."""
    content = _read_json(folder / "study.json")
    runs = content.get("runs") if isinstance(content, dict) else None
    if not isinstance(runs, list):
        raise ReportError(f"{folder / 'study.json'}: it has no list of runs")
    for i, record in enumerate(runs):
        try:
            run = _select(_StudyRun, record, f"runs[{i}]")
            _check_name(run.arm, f"runs[{i}].arm")
        except ValueError as error:
            raise ReportError(f"{folder / 'study.json'}: {error!s:.200}") from error
        path = folder / run.path
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ReportError(f"{folder / 'study.json'}: runs[{i}].path {str(run.path)!r:.80} leads out of the study")
        try:
            has_begun = (path / "config.json").exists()
        except OSError as error:  # its name is too long
            named = f"runs[{i}].path {str(run.path)!r:.80}"
            raise ReportError(f"{folder / 'study.json'}: {named}: {error.strerror}") from error
        if has_begun:
            yield path, run.arm


# Reading a run.


def read_history(path: Path, arm: str | None = None) -> History:
    """Read the run folder ``path``, finished or not.

    Raises
    ------
    ReportError
        If a file is missing or damaged: which one, where, and how. A last line that is not complete is no damage: its
        run was killed, or is about to complete it.
    """
    config = _read_json(path / "config.json")
    if not isinstance(config, dict):
        raise ReportError(f"{path / 'config.json'} is damaged: not an object")
    options, environment = config.get("config"), config.get("environment", {})
    try:
        setup = _select(Setup, options, "config")
        setup = replace(setup, arch=short(setup.arch))
        _check_setup(setup)
        if not isinstance(environment, dict):
            raise ValueError("environment is not an object")
    except ValueError as error:
        raise ReportError(f"{path / 'config.json'} is damaged: {error!s:.200}") from error
    assert isinstance(options, dict)
    events, summary = _read_events(path / "metrics.jsonl"), _read_summary(path / "summary.json")
    ended = summary.test_accuracy is not None  # else test.json is of an earlier end, from which the run went on
    evaluation = _read_evaluation(path / "test.json") if ended else None
    return History(path, setup, options, environment, events, summary, evaluation, arm)


def _check_setup(setup: Setup) -> None:
    for name in ("dataset", "arch"):
        _check_name(getattr(setup, name), f"config.{name}", MAX_PATH)
    for name in ("method", "init", "growth", "angle_unit", "partition"):
        _check_name(getattr(setup, name), f"config.{name}")
    _check_bounds(vars(setup))
    if setup.epochs < 1 or setup.window < 2:
        raise ValueError(f"{setup.epochs} epochs and windows of {setup.window} cannot be")


def _read_events(path: Path) -> list[Timed]:
    events: list[Timed] = []
    epochs, begun, spent = 0, False, 0
    lines = _read(path).split(b"\n") if path.exists() else [b""]
    for number, line in enumerate(lines[:-1], start=1):  # after the last newline there is nothing, or a part of a line
        try:
            timed = _event(parse_json(line))
            if timed is None:
                continue
            if timed.seconds < (events[-1].seconds if events else 0):
                raise ValueError(f"seconds {timed.seconds} are fewer than on the line before")
            begun = begun or isinstance(timed.event, Insert)
            if isinstance(timed.event, Epoch):
                epochs += 1
                if timed.event.macs_training < spent:
                    raise ValueError(
                        f"macs_training {timed.event.macs_training} are fewer than those of the epoch before"
                    )
                spent = timed.event.macs_training
            if timed.event.epoch != epochs:
                raise ValueError(f"epoch {timed.event.epoch} in place of {epochs}")
            if not begun:
                raise ValueError("no sub-network was inserted before it")
        except ValueError as error:
            raise ReportError(f"{path}, line {number}, is damaged: {error!s:.200}") from error
        events.append(timed)
    return events


def _event(content: Any) -> Timed | None:
    """Return the event on a line, or None for one of a kind that the report does not show."""
    if not isinstance(content, dict):
        raise ValueError("not an object")
    kind = EVENTS.get(str(content.get("event")))
    if kind is None:
        return None
    event = _select(kind, content, kind.event)
    seconds = from_json(float, content.get("seconds"), f"{kind.event}.seconds")
    _check_bounds({**vars(event), "seconds": seconds})
    if isinstance(event, Insert):
        _check_name(event.subnetwork, "insert.subnetwork")
    return Timed(seconds, event)


def _check_bounds(values: dict[str, Any]) -> None:
    for name, value in values.items():
        low, high = BOUNDS.get(name, (0, MAX_COUNT))
        if isinstance(value, int | float) and not low <= value <= high:
            raise ValueError(f"{name} {value!s:.40} cannot be")


def _read_summary(path: Path) -> Summary:
    if not path.exists():
        return Summary()
    content = _read_json(path)
    try:
        if not isinstance(content, dict) or not isinstance(content.get("stages", []), list):
            raise ValueError("not an object with a list of stages")
        stages = [_select(StageSummary, stage, f"stages[{i}]") for i, stage in enumerate(content.get("stages", []))]
        summary: Summary = replace(_select(Summary, {**content, "stages": []}, "summary"), stages=stages)
        for record in (summary, *stages):
            _check_bounds(vars(record))
    except ValueError as error:
        raise ReportError(f"{path} is damaged: {error!s:.200}") from error
    return summary


def _read_evaluation(path: Path) -> Evaluation | None:
    if not path.exists():
        return None
    try:
        return unpack_evaluation(_read(path))
    except ValueError as error:
        raise ReportError(f"{path} is damaged: {error!s:.200}") from error


def _select(kind: Any, content: Any, name: str) -> Any:
    """Return a ``kind`` from the keys of ``content`` that it has; what has a default may be missing."""
    if isinstance(content, dict):
        defaults = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
        names = {field.name for field in fields(kind)}
        content = defaults | {key: value for key, value in content.items() if key in names}
    return from_json(kind, content, name)


def _check_name(name: str, what: str, longest: int = MAX_NAME) -> None:
    if not (0 < len(name) <= longest and name.isprintable()):
        raise ValueError(f"{what} is {name!r:.80}, which can be no name")


def _read_json(path: Path) -> Any:
    try:
        return parse_json(_read(path))
    except ValueError as error:
        raise ReportError(f"{path} is damaged: {error!s:.200}") from error


def _read(path: Path) -> bytes:
    limit = MAX_BYTES[path.name]
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) > limit:
        raise ReportError(f"{path} is damaged: more than {limit:,} bytes")
    return content
