"""The command ``incnet doctor``, or ``python -m incnet.doctor``."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from incnet import backend
from incnet.commandline import parse
from incnet.doctor.findings import Finding
from incnet.doctor.kernels import check_im2col, check_kernels
from incnet.doctor.machine import caches, extras, processor, versions
from incnet.doctor.steps import check_steps
from incnet.names import counted
from incnet.options import option
from incnet.terminal import Terminal, command
from incnet.threads import use_threads

__all__ = ["Doctor", "main"]

WRONG = 1
INDENT, WIDEST = 22, 100
MARKS = {"fact": "", "good": "ok", "missing": "-", "wrong": "!!"}


@dataclass(frozen=True)
class Doctor:
    """Look whether incnet works on this machine: what is installed, each kernel against its definition, training steps.

    Exits with 0; 1 if something is wrong; 2 for a device that is not there. Takes some seconds, once kernels are
    compiled.

    Examples::

      incnet doctor
      incnet doctor --device gpu --json > doctor.json
    """

    device: str = option(
        "What to look at: auto, cpu or gpu.", "auto", names=("auto", "cpu", "gpu"), metavar="{auto,cpu,gpu}"
    )
    threads: int | None = option(
        "Threads that the CPU's kernels may use.", None, otherwise="one for each core that this process may run on"
    )
    json: bool = option("Print what was found as a JSON object.", False)


@command(answers=True, refused=(backend.DeviceError,))
def main(arguments: Sequence[str] | None = None) -> int:
    """Look at everything. Returns the exit code."""
    options = parse(Doctor, arguments, prog="incnet doctor")
    backend.use(backend.resolve(options.device))
    use_threads(options.threads)
    return examine(options)


def examine(options: Doctor) -> int:
    """Look, and say what was found as soon as it is; return the exit code."""
    terminal, start = Terminal(quiet=options.json), time.perf_counter()
    sections: dict[str, Callable[[], Iterable[Finding]]] = {
        "versions": versions,
        "machine": lambda: processor(backend.ops.name),
        "folders": caches,
        "optional packages": extras,
        f"kernels of {backend.ops.name}": check_kernels,
        "convolution by im2col": check_im2col,
        f"training on {backend.ops.name}": check_steps,
    }
    found: dict[str, list[Finding]] = {}
    for name, look in sections.items():
        terminal.say(name)
        found[name] = [*look()]
        terminal.say("\n".join(_entry(finding, min(terminal.width, WIDEST)) for finding in found[name]))
    wrong = [finding for section in found.values() for finding in section if finding.state == "wrong"]
    verdict = f"{counted(len(wrong), 'problem')}, marked !!" if wrong else "all is well"
    terminal.say(f"{verdict}; {time.perf_counter() - start:.0f} s")
    if options.json:
        content = {name: [asdict(finding) for finding in section] for name, section in found.items()}
        print(json.dumps({"device": backend.ops.name, "well": not wrong, "found": content}, indent=2))
    return WRONG if wrong else 0


def _entry(finding: Finding, width: int) -> str:
    """Return the lines of a finding: mark, name, and beside them what was found."""
    told = finding.value + (f"; {finding.remedy}" if finding.remedy else "")
    lines = textwrap.wrap(told, width - INDENT, break_long_words=False, break_on_hyphens=False)
    return f"{MARKS[finding.state]:>2} {finding.name:{INDENT - 3}}" + f"\n{'':{INDENT}}".join(lines)


if __name__ == "__main__":
    sys.exit(main())
