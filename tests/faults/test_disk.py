"""Disks that are full, failing, slow or read-only: one line, one exit code, and everything saved before is intact.

``INCNET_DISK_CALLS`` is the number of calls of the system that are tried out.
"""

import errno
import os
import shutil
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest

from incnet import train as command
from incnet.storage import checkpoint as checkpoint_module
from incnet.storage import files

from .runs import ARGUMENTS, EVERY_STEP, outcome

CALLS = int(os.environ.get("INCNET_DISK_CALLS", "6"))
SHORT_RUN = (*ARGUMENTS, "--checkpoint-minutes", "0")
UNWRITABLE, BAD_INPUT = 4, 2


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert command.main([*SHORT_RUN, "--out", str(folder)]) == 0
    return outcome(folder)


class Disk:
    """Stands in for the calls that change a disk: counts them, and fails from a given one on."""

    def __init__(self, monkeypatch, fail_from=None, error=errno.ENOSPC):
        self.calls = 0
        for name in ("write", "fsync", "replace", "ftruncate", "mkdir"):
            monkeypatch.setattr(os, name, self.failing(getattr(os, name), fail_from, error))

    def failing(self, call, fail_from, error):
        def counted(*arguments, **options):
            self.calls += 1
            if fail_from is not None and self.calls >= fail_from:
                if call.__name__ == "write" and self.calls == fail_from:
                    call(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise OSError(error, os.strerror(error))
            return call(*arguments, **options)

        return counted


def test_a_disk_that_fails_from_any_call_on(expected, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        assert command.main([*SHORT_RUN, "--out", str(tmp_path / "counting")]) == 0
    rng = np.random.default_rng(0)
    moments = rng.choice(np.arange(1, disk.calls + 1), size=min(CALLS, disk.calls), replace=False)
    for moment in moments:
        folder = tmp_path / f"run{moment}"
        capsys.readouterr()
        with monkeypatch.context() as patch:
            Disk(patch, fail_from=moment, error=[errno.ENOSPC, errno.EIO][moment % 2])
            code = command.main([*SHORT_RUN, "--out", str(folder)])
        error = capsys.readouterr().err
        assert code in (UNWRITABLE, BAD_INPUT), f"call {moment}"
        assert error.startswith("error: "), error
        assert error.count("\n") == 1, error
        assert not list(folder.rglob("*.tmp"))
        begun = (folder / "config.json").exists()
        assert command.main(["--resume", str(folder)] if begun else [*SHORT_RUN, "--out", str(folder)]) == 0
        assert outcome(folder) == expected, f"call {moment}"
    with capsys.disabled():
        print(f"\nthe disk failed at {len(moments)} of {disk.calls} calls; every run could go on")


def test_no_room_for_cached_features(tmp_path, monkeypatch, capsys):
    """The first look-ahead ends the run; with more memory, or with room on the disk, it goes on."""
    arguments = (*SHORT_RUN, "--lookahead-cache", "fixed", "--lookahead-epochs", "2")
    assert command.main([*arguments, "--out", str(tmp_path / "undisturbed")]) == 0

    def full(descriptor, *_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    for remedy in ("memory", "disk"):
        folder = tmp_path / remedy
        capsys.readouterr()
        assert command.main([*arguments, "--cache-memory", "1kB", "--out", str(folder)]) == UNWRITABLE
        error = capsys.readouterr().err
        assert "No space left on device; make room, then go on with --resume" in error
        assert error.count("\n") == 1
        assert not list(folder.rglob("*.tmp"))
        if remedy == "disk":
            monkeypatch.undo()
        more = ("--cache-memory", "1GB") if remedy == "memory" else ()
        assert command.main(["--resume", str(folder), *more]) == 0
        assert outcome(folder) == outcome(tmp_path / "undisturbed")


def test_short_writes(expected, tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:60_000]))
    assert command.main([*SHORT_RUN, "--out", str(tmp_path / "run")]) == 0
    assert outcome(tmp_path / "run") == expected


def test_a_write_that_takes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda descriptor, content: 0)
    with pytest.raises(files.WriteError, match="5 bytes were not taken"):
        files.replace_file(tmp_path / "file", [b"hello"])
    assert list(tmp_path.iterdir()) == []


@contextmanager
def mounted(folder, options):
    """A small file system in memory."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("file systems can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(expected, tmp_path, capsys):
    """SpillStore for the beginning, not for the checkpoints of three sub-networks with their optimizer's state."""
    with mounted(tmp_path / "disk", "size=1M") as disk:
        folder = disk / "run"
        assert command.main([*SHORT_RUN, "--out", str(folder)]) == UNWRITABLE
        error = capsys.readouterr().err
        assert error.startswith("error: cannot write ")
        assert "No space left on device; make room, then go on with --resume" in error
        assert error.count("\n") == 1
        assert not list(folder.rglob("*.tmp"))
        assert list((folder / "checkpoints").glob("*.safetensors"))
        assert command.main(["--resume", str(folder)]) == UNWRITABLE
        subprocess.run(["mount", "-o", "remount,size=20M", str(disk)], check=True)
        assert command.main(["--resume", str(folder)]) == 0
        assert outcome(folder) == expected


def test_a_read_only_disk(tmp_path, capsys):
    """A file system, since root may write into any folder."""
    with mounted(tmp_path / "disk", "size=20M") as disk:
        assert command.main([*SHORT_RUN, "--epochs", "1", "--out", str(disk / "run")]) == 0
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for arguments in ([*SHORT_RUN, "--out", str(disk / "new")], ["--resume", str(disk / "run")]):
            capsys.readouterr()
            assert command.main(arguments) == BAD_INPUT
            error = capsys.readouterr().err
            assert "Read-only file system" in error
            assert error.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
def test_a_read_only_folder(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert command.main([*SHORT_RUN, "--out", str(tmp_path / "run")]) == BAD_INPUT
    assert "Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize("change", [shutil.rmtree, lambda folder: folder.rename(folder.with_name("moved"))])
def test_a_folder_that_is_gone(change, tmp_path, monkeypatch, capsys):
    """Somebody removes or renames it while the run goes on."""
    folder, replace_file = tmp_path / "run", checkpoint_module.replace_file

    def after_change(path, *arguments):
        if "epoch1" in path.name and folder.exists():
            change(folder)
        return replace_file(path, *arguments)

    monkeypatch.setattr(checkpoint_module, "replace_file", after_change)
    assert command.main([*ARGUMENTS, "--out", str(folder)]) == UNWRITABLE
    error = capsys.readouterr().err
    assert f"there is no folder {folder}" in error
    assert "; the folder was removed or renamed meanwhile" in error
    assert "make room" not in error
    if (tmp_path / "moved").exists():
        assert command.main(["--resume", str(tmp_path / "moved")]) == 0


def test_a_clock_that_jumps(tmp_path, monkeypatch):
    """The time of day goes back and forth by years; nothing depends on it."""
    assert command.main([*ARGUMENTS, *EVERY_STEP, "--out", str(tmp_path / "steady")]) == 0
    rng = np.random.default_rng(0)
    monkeypatch.setattr("time.time", lambda: float(rng.uniform(0, 4e9)))
    monkeypatch.setattr("time.time_ns", lambda: int(rng.integers(0, 4 * 10**18)))
    assert command.main([*ARGUMENTS, *EVERY_STEP, "--out", str(tmp_path / "run")]) == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "steady")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    seconds = [float(line.split('"seconds": ')[1].split(",")[0]) for line in lines]
    assert seconds == sorted(seconds)
    assert seconds[-1] < 600
