"""Many spoilt files for every reader: ``python -m tests.faults.fuzz --inputs 100000 [READER ...]``.

An input must be read or refused with a documented error, within ten seconds and 256 MiB, without running anything: an
audit hook ends the process at once if a program, a module of the file's choice or a connection is about to be opened.
With ``--atheris`` those of one reader are guided by coverage (pip install atheris).
"""

import argparse
import codecs
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

if "--atheris" in sys.argv:  # what it is to follow must be instrumented when it is first imported
    import atheris

    import incnet.kernels.cpu.augment  # noqa: F401  numba would not understand it instrumented

    with atheris.instrument_imports(
        include=["incnet.config", "incnet.data", "incnet.deploy", "incnet.checked_json", "incnet.training"]
    ):
        from . import readers as _instrumented  # noqa: F401

from .readers import DOCUMENTED, KINDS, MEMORY, TOKENS, Reader, readers, spoil

FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "exec"),
    *("socket.connect", "ctypes.dlopen", "compile"),
)


def forbid_execution() -> None:
    """From here on, end the process where anything would be run."""

    def hook(event: str, arguments: tuple) -> None:
        parsed = event == "compile" and arguments[1] == "<unknown>"  # a literal of NumPy's, which is not run
        if event in FORBIDDEN and not parsed:
            os.write(2, f"FAULT: a file made the reader call {event} {arguments!r:.200}\n".encode())
            os._exit(1)

    for codec in ("raw_unicode_escape", "ascii", "latin-1"):  # modules of Python's own, imported on first use
        codecs.lookup(codec)
    sys.addaudithook(hook)


def limit_memory() -> None:
    """Let the process have only so much more than it has."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + MEMORY, has + MEMORY))


def too_long(*_: object) -> None:
    raise TimeoutError("an input took more than ten seconds")


def edits(rng: random.Random) -> list:
    """Draw up to four changes."""
    return [
        (rng.choice(KINDS), rng.random(), rng.choice(TOKENS) if rng.random() < 0.6 else rng.randbytes(rng.randrange(9)))
        for _ in range(rng.randrange(1, 5))
    ]


def attempt(reader: Reader, content: bytes) -> str:
    """Let ``reader`` read ``content``. Returns "read" or the name of the documented error."""
    try:
        reader.read(content)
    except DOCUMENTED as error:
        outcome, message = type(error).__name__, str(error)
    else:
        outcome, message = "read", ""
    assert "\n" not in message, f"a message of several lines: {message}"
    return outcome


def fuzz(name: str, reader: Reader, inputs: int, seed: int) -> None:
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    slowest, begun = 0.0, time.monotonic()
    for number in range(inputs):
        content = spoil(rng.choice(reader.seeds), edits(rng))
        signal.alarm(10)
        start = time.perf_counter()
        try:
            outcomes[attempt(reader, content)] += 1
        except BaseException:
            Path(f"fault-{name}").write_bytes(content)
            print(f"FAULT: {name}, input {number}, kept in fault-{name}", file=sys.stderr)
            raise
        slowest = max(slowest, time.perf_counter() - start)
    signal.alarm(0)
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
    seconds = time.monotonic() - begun
    print(f"{name:10s} {inputs:,} inputs: {counts}; slowest {slowest * 1e3:.0f} ms; {seconds:.0f} s", flush=True)


def guided(reader: Reader, inputs: int, corpus: Path) -> None:
    """Let atheris choose the inputs; it ends the process, and has its own limits of time and memory."""
    corpus.mkdir()
    for i, seed in enumerate(reader.seeds):
        (corpus / str(i)).write_bytes(seed)
    limits = [f"-atheris_runs={inputs}", "-max_len=16384", "-timeout=60"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], lambda content: attempt(reader, content))
    forbid_execution()
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="READER")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("error")
    in_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as folder:
        known = readers(Path(folder))
        for reader in known.values():  # imports and compiles what is needed, before that is forbidden
            attempt(reader, reader.seeds[0])
        if options.atheris:
            guided(known[options.names[0]], options.inputs, Path(folder) / "corpus")
        signal.signal(signal.SIGALRM, too_long)
        limit_memory()
        forbid_execution()
        for name in options.names or known:
            fuzz(name, known[name], options.inputs, options.seed)


if __name__ == "__main__":
    main()
