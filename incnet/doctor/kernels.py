"""Each kernel of the backend in use against its definition."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from incnet import backend
from incnet.backend import asarray, asnumpy, ops
from incnet.doctor.cases import Case, cases, error, more_cases, results, truth
from incnet.doctor.findings import Finding
from incnet.kernels import reference
from incnet.kernels.im2col import Im2col

__all__ = ["check_im2col", "check_kernels"]

TOLERANCE = 2e-5  # of float32, relative to the result in double precision


def check_kernels(listed: Iterator[Case] | None = None) -> Iterator[Finding]:
    """Yield what is wrong with kernels, or that nothing is; each is called with several shapes."""
    rng = np.random.default_rng(0)
    worst: dict[str, tuple[float, str]] = {}
    count = 0
    for case in chain(cases(np.float32, rng), more_cases(rng)) if listed is None else listed:
        count += 1
        off, what = _error(case)
        if off >= worst.get(case.kernel, (0.0, ""))[0]:
            worst[case.kernel] = off, what or f"error {off:.1e}, with {case.name}"
    wrong = {kernel: what for kernel, (off, what) in worst.items() if off > TOLERANCE}
    for kernel, what in wrong.items():
        yield Finding(kernel, what, "wrong", "run it again; if it stays, report it with this page")
    largest = max((off for off, _ in worst.values() if off <= TOLERANCE), default=0.0)
    right = f"{len(worst) - len(wrong)} of {len(worst)} agree with their definitions, in {count} calls"
    yield Finding("kernels", f"{right}; largest relative error {largest:.1e}", "wrong" if wrong else "good")


def check_im2col() -> Iterator[Finding]:
    """Yield the same of convolution by im2col, which is put together from other kernels."""
    device = backend.ops.name
    backend.use(device, convolution="im2col")
    try:
        listed = cases(np.float32, np.random.default_rng(0))
        yield from check_kernels(case for case in listed if hasattr(Im2col, case.kernel))
    finally:
        backend.use(device)


def _own(array: np.ndarray) -> Any:
    """Return a copy where the kernels are: they change some arrays in place."""
    return asarray(array.copy())


def _error(case: Case) -> tuple[float, str]:
    """Return the error of a call, infinite if it fails or its bits should be those of the definition and are not."""
    expected: list[Any] = truth(case, reference)
    try:
        found = results(case, ops, _own, asnumpy)
        off = max(error(got, wanted) for got, wanted in zip(found, expected, strict=True))
    except Exception as failure:  # whatever a kernel that is broken may raise
        return float("inf"), f"{type(failure).__name__}: {failure!s:.200}"
    return (float("inf"), f"other bits, with {case.name}") if case.exact and off else (off, "")
