"""What a test run has shown of the CUDA kernels, in one line: on most machines what needs a GPU is skipped."""

import re
from pathlib import Path

import pytest

from incnet.kernels import reference

from .emulator import KERNEL

__all__ = ["pytest_terminal_summary"]


def pytest_terminal_summary(terminalreporter):
    """Count over the reports of all processes."""
    reports = [
        report for each in terminalreporter.stats.values() for report in each if isinstance(report, pytest.TestReport)
    ]
    properties = [pair for report in reports if report.when == "teardown" for pair in report.user_properties]
    executed = [launch for name, value in properties if name == "executed" for launch in value]
    waiting = sum(report.skipped and "gpu" in report.keywords for report in reports)
    if not executed:
        return
    caught = [report for report in reports if report.when == "call" and report.passed]
    faults = sum("test_a_seeded_fault_is_caught" in report.nodeid for report in caught)
    terminalreporter.section("CUDA kernels")
    terminalreporter.line(
        f"{len({name for name, *_ in executed})} of {len(kernels())} kernels executed on the CPU in "
        f"{len({schedule for _, schedule, _ in executed})} schedules, "
        f"{len({name for name, _, checked in executed if checked})} of them with every access checked; "
        f"{sum(value for name, value in properties if name == 'cubins')} cubins; {faults} seeded faults caught; "
        f"{waiting} tests skipped that need a GPU"
    )


def kernels() -> set[str]:
    """Names of all kernels in the sources."""
    folder = Path(reference.__file__).parents[1] / "cuda"
    return {name for path in folder.glob("*.cu") for name in re.findall(KERNEL, path.read_text(encoding="utf-8"))}
