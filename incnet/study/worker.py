"""A run of a study: ``python -m incnet.train`` in a process that saves and stops when the study's is gone."""

from __future__ import annotations

import ctypes
import signal
import sys
from pathlib import Path

from incnet import train
from incnet.study.executor import NETWORK

__all__ = ["main"]

PR_SET_PDEATHSIG = 1  # of Linux, see prctl(2)


def main() -> int:
    """Train as the command line says. Returns the exit code of :func:`incnet.train.main`."""
    if hasattr(signal, "pthread_sigmask"):  # a worker of Dask, whose child this may be, is kept from the terminal's
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    match sys.argv[1:]:
        case [option, file, *arguments] if option == NETWORK:
            return train.main(arguments, network=Path(file))
        case arguments:
            return train.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
