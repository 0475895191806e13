"""How a process finds out whether it is one of several."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from incnet import export, predict
from incnet import train as command
from incnet.communicator import Communicator
from incnet.parallel.launch import LAUNCHERS, LaunchError, connect, launched
from incnet.report import __main__ as report

from .mpiexec import needs_mpi


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for rank, (size, _) in LAUNCHERS.items():
        monkeypatch.delenv(rank, raising=False)
        monkeypatch.delenv(size, raising=False)


def test_alone_nothing_of_mpi_is_imported():
    program = "import sys, incnet.train, incnet.parallel.launch as l; l.connect(); print('mpi4py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
    assert type(connect()) is Communicator


@pytest.mark.parametrize("variable", LAUNCHERS)
def test_without_mpi4py_several_processes_are_refused(variable, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(variable, "0")
    monkeypatch.setenv(LAUNCHERS[variable][0], "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.delitem(sys.modules, "incnet.parallel.mpi", raising=False)
    assert command.main(["digits", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: started by mpiexec, but mpi4py cannot be used")
    assert 'pip install "incnet[mpi]"' in error
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


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"PMI_RANK": "1", "PMI_SIZE": "2", "PMI_FD": "9"}, (1, 2)),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4", "PMIX_RANK": "0"}, (0, 4)),
        ({"PMIX_RANK": "3", "PMIX_SERVER_URI41": "a;b"}, (3, None)),
        ({"PMIX_RANK": "3", "SLURM_STEP_NUM_TASKS": "8"}, (3, 8)),
        # A shell of a batch system, and what it starts.
        ({"PMIX_RANK": "0"}, None),
        ({"PMIX_RANK": "0", "PMIX_SERVER_URI41": "a;b", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"PMI_RANK": "0", "PMI_SIZE": "1", "PMI_FD": "9"}, None),
        ({"PMI_RANK": "0", "PMI_SIZE": "1", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}, (2, 4)),
        ({"PMI_RANK": "none"}, None),
    ],
)
def test_who_has_started_this_process(environment, expected, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == expected


@pytest.mark.parametrize("main", [export.main, predict.main, report.main])
def test_commands_of_one_process_leave_the_work_to_the_first(main, monkeypatch):
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    assert main(["no", "such", "arguments", "are", "looked", "at"]) == 0
    monkeypatch.setenv("PMI_RANK", "0")
    with pytest.raises(SystemExit):
        main(["--help"])


@needs_mpi
@pytest.mark.parametrize("variable", LAUNCHERS)
def test_a_process_by_itself_trains_alone_whatever_a_launcher_has_left(variable, tmp_path):
    arguments = ["digits", "--arch", "resnet8", "--limit", "100", "--epochs", "1", "--threads", "1", "--no-report"]
    done = subprocess.run(
        [sys.executable, "-m", "incnet.train", *arguments, "--out", str(tmp_path / "run")],
        env=os.environ | {variable: "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout


def test_the_core_needs_no_extra():
    """What an extra brings is imported in modules that nobody imports without need of it."""
    for package, modules in {"mpi4py": {"mpi.py"}, "cupy": {"nccl.py", "staged.py", "mpi.py", "memory.py"}}.items():
        root, statement = Path(command.__file__).parent, re.compile(rf"^\s*(from|import) {package}\b", re.M)
        assert {path.name for path in root.rglob("*.py") if statement.search(path.read_text())} == modules
