"""The run folder: what was asked for, what happened, what came out, and what it takes to go on."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from incnet import __version__
from incnet.checked_json import parse_json
from incnet.storage.checkpoint import Checkpoints, is_beginning
from incnet.storage.files import TEMPORARY, remove_temporary, replace_file, sync_folder, writing
from incnet.storage.jsonl import JsonLines
from incnet.storage.lock import FolderInUseError, Lock

__all__ = ["RunFolder", "RunFolderError", "check_unused", "checkout", "environment", "new_folder"]

_MAX_CONFIG = 2**20  # bytes; config.json takes two thousand


class RunFolderError(Exception):
    """A run folder cannot be made, opened or read."""


class RunFolder:
    """The folder of one run, for this process alone as long as it is open.

    ===================  ======================================================================================
    config.json          the options, resolved; a checksum of the data; versions; there from the beginning
    start.safetensors    with --start-from: the model that the run began with
    metrics.jsonl        the run's events, the same ones however often it was interrupted
    sessions.jsonl       when a process began or took up the run, where, from which checkpoint, how it ended
    network.safetensors  of a network of the user's own: its layers and first weights, from which it is resumed
    checkpoints/         see :class:`incnet.storage.checkpoint.Checkpoints`
    stages/              a model of every stage at its best, see :mod:`incnet.deploy`; written when the stage ends
    test.json            how every stage did on the test images, see :mod:`incnet.training.evaluation`
    report.html          a page on the run; see :class:`incnet.report.live.LiveReport`
    tensorboard/         with --tensorboard; see :class:`incnet.run.tensorboard.TensorBoard`
    best.safetensors     weights, written when the run ends or stops, as are last.safetensors and summary.json
    lock                 see :class:`incnet.storage.lock.Lock`
    ===================  ======================================================================================

    Made by :meth:`create` or :meth:`reopen`; used in a ``with`` block.
    """

    def __init__(self, path: Path, option: str) -> None:
        self.path, self._option = path, option
        try:
            self._lock = Lock(path / "lock")
        except FolderInUseError as error:
            raise RunFolderError(f"{option} {path}: {error}; wait for it, or end it") from error
        except OSError as error:
            raise self._unusable(error) from error
        self.metrics: JsonLines | None = None
        self.sessions: JsonLines | None = None
        self._start = time.monotonic()

    @classmethod
    def create(cls, path: Path, content: dict[str, Any]) -> Self:
        """Make a folder with ``content`` as its config.json. Nothing that a run has learnt is ever overwritten.

        What a run has left that failed or was killed before it had learnt anything is removed.

        Raises
        ------
        RunFolderError
            If the folder holds anything, or cannot be written.
        WriteError
            If the disk is full.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            check_unused(path)
            folder = cls(path, "--out")
            try:
                check_unused(path)  # again: now nobody else can begin in it
                _remove_unused(path)
                folder.write("config.json", content)
                sync_folder(path.parent)
                folder._open()
            except BaseException:
                folder.close()
                raise
        except OSError as error:
            raise RunFolderError(
                f"--out {path}: {error.strerror or error}; choose a folder that can be written"
            ) from error
        return folder

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Open a folder that :meth:`create` has made.

        Raises
        ------
        RunFolderError
            If it is none, is in use, or cannot be written.
        """
        if not (path / "config.json").is_file():
            raise RunFolderError(f"--resume {path}: {_why_no_run(path)}")
        folder = cls(path, "--resume")
        try:
            folder._open()
        except BaseException:
            folder.close()
            raise
        return folder

    def _open(self) -> None:
        remove_temporary(self.path)
        remove_temporary(self.path / "stages")
        self.metrics = JsonLines(self.path / "metrics.jsonl")
        self.sessions = JsonLines(self.path / "sessions.jsonl")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the logs and let others in."""
        for log in (self.metrics, self.sessions):
            if log is not None:
                log.close()
        self._lock.release()

    @property
    def seconds(self) -> float:
        """Time that the run has taken, in all its sessions, less what was lost; by a clock that nobody sets."""
        return time.monotonic() - self._start

    @seconds.setter
    def seconds(self, elapsed: float) -> None:
        self._start = time.monotonic() - elapsed

    def log(self, event: dict[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``: an event, with the seconds since the run began."""
        assert self.metrics is not None
        self.metrics.append({"event": event["event"], "seconds": round(self.seconds, 3), **event})

    def log_session(self, what: str, **details: Any) -> None:
        """Append one line to ``sessions.jsonl``, with the time of day."""
        assert self.sessions is not None
        self.sessions.append({"event": what, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **details})

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write ``content`` as an indented JSON file, whole or not at all."""
        self.replace(name, [(json.dumps(content, indent=2, allow_nan=False) + "\n").encode()])

    def replace(self, name: str, pieces: Iterable[Any]) -> None:
        """Write ``pieces``, bytes-like, as a file, whole or not at all; its folder is made if need be."""
        path = self.path / name
        with writing(path.parent):
            path.parent.mkdir(exist_ok=True)
        replace_file(path, pieces)

    def read_config(self) -> dict[str, Any]:
        """Return the content of ``config.json``: an object of objects, not looked into any further.

        Raises
        ------
        RunFolderError
            If it is none, or larger than 1 MiB.
        """
        path = self.path / "config.json"
        try:
            with open(path, "rb") as file:
                text = file.read(_MAX_CONFIG + 1)
            if len(text) > _MAX_CONFIG:
                raise ValueError(f"more than {_MAX_CONFIG:,} bytes")
            content = parse_json(text)
            if not isinstance(content, dict) or not all(isinstance(part, dict) for part in content.values()):
                raise ValueError("not an object of objects")
        except OSError as error:
            raise self._unusable(error) from error
        except ValueError as error:
            raise RunFolderError(f"{path} is no configuration ({error!s:.200})") from error
        return content

    def checkpoints(self, keep: int) -> Checkpoints:
        """Return the run's checkpoints, of which the newest ``keep`` are kept."""
        return Checkpoints(self.path / "checkpoints", keep)

    def _unusable(self, error: OSError) -> RunFolderError:
        return RunFolderError(
            f"{self._option} {self.path}: {error.strerror or error}; choose a folder that can be written"
        )


def _why_no_run(path: Path) -> str:
    if not path.exists():
        return "there is no such folder"
    if not path.is_dir():
        return "this is a file; name the run folder that it is in"
    return f"no run folder, since it holds no config.json{newest_inside(path)}"


def newest_inside(path: Path) -> str:
    """Return words for the end of an error: which run is the newest in a folder of runs, or a study; "" for none."""
    runs = [file for pattern in ("*/config.json", "runs/*/config.json") for file in path.glob(pattern)]
    newest = max(runs, key=lambda file: file.stat().st_mtime, default=None)
    return f"; of the runs in it the newest is {newest.parent}" if newest else ""


# What a run leaves that has not come as far as to learn anything; the checkpoint is that of its beginning.
_BEGUN = {"lock", "config.json", "sessions.jsonl", "metrics.jsonl", "checkpoints", "tensorboard"}
_BEGUN |= {"report.html", "summary.json", "last.safetensors", "start.safetensors", "network.safetensors"}


def check_unused(path: Path) -> None:
    """Raise RunFolderError if a folder holds what may not be lost, or is a file; it need not be there."""
    try:
        used = path.exists() and not _learnt_nothing(path)
    except OSError as error:
        raise RunFolderError(f"--out {path}: {error.strerror or error}; choose a folder that can be written") from error
    if used:
        raise RunFolderError(
            f"--out {path}: the folder is not empty; choose a new one, nothing is overwritten, "
            f"or go on with the run in it by --resume {shlex.quote(str(path))}"
        )


def _learnt_nothing(path: Path) -> bool:
    """Whether a folder holds nothing, or no more than a run that failed or was killed before its first epoch left."""
    if any(entry.name not in _BEGUN and entry.suffix != TEMPORARY for entry in path.iterdir()):
        return False
    if not all(is_beginning(entry) for entry in path.glob("checkpoints/*")):
        return False
    metrics = path / "metrics.jsonl"
    return not metrics.exists() or b'"event": "epoch"' not in metrics.read_bytes()


def _remove_unused(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != "lock":
            entry.unlink()


def new_folder(parent: Path, name: str) -> Path:
    """Make a folder of this name or the next free one: nobody else gets the same, however many runs begin at once.

    Raises
    ------
    RunFolderError
        If it cannot be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        path, number = parent / name, 1
        while True:
            try:
                path.mkdir()
                return path
            except FileExistsError:
                number += 1
                path = parent / f"{name}-{number}"
    except OSError as error:
        raise RunFolderError(
            f"{parent / name}: {error.strerror or error}; choose an --out that can be written"
        ) from error


def checkout(root: Path = Path(__file__).parents[2]) -> dict[str, str]:
    """Return the commit that the code is checked out at, and whether it is ``clean`` or has ``changes``.

    Nothing, where the code is not in a checkout of its own, or there is no Git.
    """
    if not (root / ".git").exists():
        return {}
    # A hook, or a shell in another repository, may have set variables that point there.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    variables["GIT_OPTIONAL_LOCKS"] = "0"  # only look
    command = ["git", "-C", str(root), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return {}
    head, *lines = done.stdout.splitlines()
    changed = any(not line.startswith("#") for line in lines)
    return {"commit": head.removeprefix("# branch.oid "), "checkout": "changes" if changed else "clean"}


def environment() -> dict[str, str]:
    """Versions of what computes, and the kind of machine."""
    import llvmlite.binding

    found = {
        "incnet": __version__,
        **checkout(),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "processor": llvmlite.binding.get_host_cpu_name(),
    }
    for package in ("numpy", "numba", "cupy-cuda13x", "cupy-cuda12x"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
