"""What TF32 does to the cases of kernels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from incnet.doctor.cases import Case


def products(listed: Iterable[Case]) -> Iterator[Case]:
    """Those cases that are computed by the matrix product, which TF32 changes."""
    return (case for case in listed if re.match("conv2d|norm_conv2d|linear|fused|masked", case.kernel))


def in_tf32(value: np.ndarray) -> np.ndarray:
    """A float32 array rounded to what TF32 can hold."""
    return ((value.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
