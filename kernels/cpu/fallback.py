"""What operations do with arrays that their kernels do not take."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import reference
from .calls import opaque

__all__ = ["for_float32"]


def for_float32(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate an operation on float32; arrays of another floating type go to its definition, as one opaque call."""
    definition = opaque(getattr(reference, operation.__name__))

    @functools.wraps(operation)
    def chosen(*arguments: Any, **options: Any) -> Any:
        arrays = (each for each in arguments if isinstance(each, np.ndarray) and each.dtype.kind == "f")
        suited = all(array.dtype == np.float32 for array in arrays)
        return operation(*arguments, **options) if suited else definition(*arguments, **options)

    return chosen
