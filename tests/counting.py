"""Which operations are called, and how often."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from incnet import backend
from incnet.kernels.shapes import checked

__all__ = ["counted"]


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the calls of ``ops`` in a ``with`` block: ``{"conv2d": 21, ...}``."""
    calls: Counter[str] = Counter()

    def counting(operation, function):
        def call(*args, **kwargs):
            calls[operation] += 1
            return checked(operation, function)(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "checked", counting)
        yield calls
