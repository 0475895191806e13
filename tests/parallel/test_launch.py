"""How a process finds out whether it is one of several."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from incnet import train as command
from incnet.parallel.communicator import Communicator
from incnet.parallel.launch import LAUNCHERS, LaunchError, connect
from incnet.threads import use_threads

from .mpiexec import needs_mpi


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in {*LAUNCHERS, *filter(None, LAUNCHERS.values())}:
        monkeypatch.delenv(name, raising=False)


def test_alone_nothing_of_mpi_is_imported():
    program = "import sys, incnet.train, incnet.parallel.launch as l; l.connect(); print('mpi4py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
    assert type(connect()) is Communicator


@pytest.mark.parametrize("variable", LAUNCHERS)
def test_without_mpi4py_several_processes_are_refused(variable, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(variable, "0")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.delitem(sys.modules, "incnet.parallel.mpi", raising=False)
    assert command.main(["digits", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: started by mpiexec, but mpi4py cannot be used")
    assert "pip install 'incnet[mpi]'" in error
    assert not (tmp_path / "run").exists()


@needs_mpi
def test_another_librarys_launcher_is_refused():
    # As if Open MPI's mpiexec had started two processes, each of which has MPICH and so believes to be alone.
    environment = {**os.environ, "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}
    program = "from incnet.parallel.launch import *\ntry: connect()\nexcept LaunchError as e: print(e)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment).stdout
    assert out.startswith("mpiexec has started 2 processes, but mpi4py's MPI library (")
    assert "sees 1" in out
    assert issubclass(LaunchError, Exception)


def test_ranks_divide_the_cores_that_they_share():
    try:
        cores = use_threads(None)
        assert use_threads(None, 2) == max(1, cores // 2)
        assert use_threads(None, 1000) == 1
        assert use_threads(1, 1) == 1
    finally:
        use_threads(1)


def test_the_core_needs_no_extra():
    """What an extra brings is imported in modules that nobody imports without need of it."""
    for package, modules in {"mpi4py": {"mpi.py"}, "cupy": {"nccl.py", "staged.py", "mpi.py"}}.items():
        root, statement = Path(command.__file__).parent, re.compile(rf"^\s*(from|import) {package}\b", re.M)
        assert {path.name for path in root.rglob("*.py") if statement.search(path.read_text())} == modules
