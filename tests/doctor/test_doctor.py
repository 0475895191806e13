"""What ``incnet doctor`` sees, and what it must not overlook."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from incnet import backend
from incnet.doctor import __main__ as doctor
from incnet.doctor import kernels, machine, steps
from incnet.doctor.cases import cases, more_cases
from incnet.doctor.findings import Finding
from incnet.kernels import cpu
from incnet.kernels.shapes import OPERATIONS


@pytest.fixture
def quick(monkeypatch):
    """A doctor who looks at few kernels."""
    few = [case for case in cases(np.float32, np.random.default_rng(0)) if case.kernel in ("linear", "add", "relu")]
    monkeypatch.setattr(doctor, "check_kernels", lambda: kernels.check_kernels(iter(few)))


def test_every_kernel_has_a_case():
    rng = np.random.default_rng(0)
    listed = {case.kernel for case in [*cases(np.float32, rng), *more_cases(rng)]}
    assert listed | {"factored_weight_grad"} == set(OPERATIONS)  # that one is the weight gradient, in factors


def test_all_is_well(quick, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert doctor.main(["--device", "cpu"]) == 0
    said = capsys.readouterr().out
    for words in (
        "ok kernels",
        "3 of 3 agree",
        "ok training",
        "30 steps with look-ahead",
        "vector extensions",
        "all is well",
    ):
        assert words in said
    assert "!!" not in said.partition("all is well")[0]
    assert max(len(line) for line in said.splitlines() if "/" not in line) <= 80


def test_json(quick, capsys):
    assert doctor.main(["--device", "cpu", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["well"]
    assert {"name": "kernels", "state": "good"}.items() <= content["found"]["kernels of cpu"][-1].items()


def test_lists_seeds_and_types():
    found = [*kernels.check_kernels(more_cases(np.random.default_rng(0)))]
    assert [finding.state for finding in found] == ["good"], found


def test_im2col():
    (found,) = kernels.check_im2col()
    assert found.state == "good"
    assert "3 of 3 agree" in found.value
    assert backend.ops.convolution == "auto"


@pytest.mark.parametrize("fault", ["rounds", "raises", "lacks"])
def test_a_kernel_that_is_wrong_is_named(quick, fault, capsys, monkeypatch):
    right = cpu.linear

    def wrong(*arguments):
        if fault == "raises":
            raise MemoryError("no room")
        if fault == "lacks":
            return ()
        return right(*arguments) * np.float32(1.0001)

    monkeypatch.setattr(cpu, "linear", wrong)
    monkeypatch.setattr(doctor, "check_steps", lambda: [])
    monkeypatch.setattr(doctor, "check_im2col", lambda: [])
    assert doctor.main(["--device", "cpu"]) == 1
    said = capsys.readouterr().out
    assert "!! linear" in said
    expected = {"rounds": "error 1.0e-04", "raises": "MemoryError: no room", "lacks": "ValueError: zip()"}
    assert expected[fault] in " ".join(said.split())
    assert "2 of 3 agree" in said
    assert "2 problems, marked !!" in said


def test_training_that_goes_another_way():
    found = steps.losses()
    assert steps.compared(found, found).state == "good"
    for step, factor, state in (
        (0, 1 + 1e-4, "wrong"),
        (29, 1 + 1e-4, "good"),
        (29, 1.1, "wrong"),
        (3, np.nan, "wrong"),
    ):
        other = found.copy()
        other[step] *= factor
        assert steps.compared(other, found).state == state
        assert state == "good" or f"step {step + 1}:" in steps.compared(other, found).value
    assert backend.ops.name == "cpu"


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (ModuleNotFoundError("No module named 'cupy'", name="no_such_cupy"), "missing", 'pip install "incnet[cuda13]"'),
        (ImportError("libcuda.so.1: no version information"), "wrong", "libcuda.so.1"),
        (RuntimeError("damaged"), "wrong", "damaged"),
    ],
)
def test_optional_packages(error, state, words, monkeypatch):
    real = importlib.import_module

    def broken(name, *rest):
        if name == "cupy":
            raise error
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", broken)
    (found,) = (finding for finding in machine.extras() if finding.name == "CuPy")
    assert found.state == state
    assert words in found.value


def test_caches(monkeypatch):
    monkeypatch.setattr("incnet.kernels.cpu.cache.is_writable", lambda folder: False)
    monkeypatch.setenv("INCNET_DATA", "/no/such/folder")
    assert [finding.state for finding in machine.caches()] == ["wrong", "wrong"]
    monkeypatch.undo()
    monkeypatch.delenv("INCNET_DATA", raising=False)
    (kept, _) = machine.caches()
    assert kept == Finding("compiled kernels", kept.value, "good")
    assert Path(kept.value).is_dir()


def test_a_device_that_is_not_there(capsys):
    assert doctor.main(["--device", "gpus"]) == 2
    assert "error: --device gpus: choose auto, cpu, gpu" in capsys.readouterr().err
