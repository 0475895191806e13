"""Several ranks on this machine, started by the ``mpiexec`` of the ``mpich`` package, and gone when a test is over."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT = 300  # seconds, on a busy machine
MARK = "INCNET_TEST_RANKS"


def find() -> str | None:
    """Path of ``mpiexec``: the one beside this Python, else the system's."""
    return shutil.which("mpiexec", path=Path(sys.executable).parent) or shutil.which("mpiexec")


needs_mpi = pytest.mark.skipif(
    find() is None or importlib.util.find_spec("mpi4py") is None, reason="mpi4py or mpiexec is not installed"
)


class Ranks:
    """``mpiexec -n SIZE python -m MODULE ...``; in a ``with`` block, at the end of which every process is gone."""

    def __init__(self, size: int, module: str, *arguments: object, environment: dict[str, str] | None = None) -> None:
        # fork: all ranks are here, no ssh. Loopback alone: they talk to nobody else.
        options = ["-launcher", "fork", "-iface", "lo", "-n", str(size)]
        # Every process inherits the mark. Sessions and groups do not tell: the launcher gives each rank its own.
        self.mark = f"{MARK}={uuid.uuid4()}"
        self.process = subprocess.Popen(
            [find(), *options, sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | dict([self.mark.split("=")]) | {"COLUMNS": "200"} | (environment or {}),
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        for number in self.processes():
            os.kill(number, signal.SIGKILL)
        self.process.communicate()

    def processes(self) -> dict[int, int | None]:
        """Numbers of all living processes that were started, with the rank of those that have one."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:  # it has ended, or is somebody else's
                continue
            if self.mark in environment:
                rank = next((entry[9:] for entry in environment if entry.startswith("PMI_RANK=")), None)
                found[int(folder.name)] = None if rank is None else int(rank)
        return found

    def send(self, number: signal.Signals, rank: int) -> None:
        """Send a signal to one rank."""
        os.kill(next(process for process, its in self.processes().items() if its == rank), number)

    def finish(self, seconds: float = TIMEOUT) -> tuple[int, str, str]:
        """Wait; return exit code, output and errors."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


def run(size: int, module: str, *arguments: object, **options) -> tuple[int, str, str]:
    """Start ranks and wait for them; return exit code, output and errors."""
    with Ranks(size, module, *arguments, **options) as ranks:
        return ranks.finish()


def wait_until(condition, seconds: float = TIMEOUT) -> None:
    """Wait until ``condition()`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
