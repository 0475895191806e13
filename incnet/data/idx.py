"""The IDX format of MNIST and its relatives: a magic number, the dimensions, the values.

All integers are big-endian. The magic number is two zero bytes, the type of the values (8: uint8) and the number of
dimensions; each dimension takes four bytes. Source: LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .dataset import DataError

_UINT8 = 8


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read the uint8 array of `shape` that the file at `path` must hold; a name ending in .gz is decompressed.

    No more is decompressed than an array of that shape takes.

    Raises
    ------
    DataError
        The file is unreadable or damaged, or holds another type, shape or number of bytes.
    """
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, _UINT8, len(shape), *shape)
    expected = len(header) + math.prod(shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error
    found = content[: len(header)]
    if found[:4] != header[:4]:
        raise DataError(f"{path} starts with {found[:4].hex()}, expected {header[:4].hex()}: no IDX file of this kind")
    if found != header:
        dimensions = struct.unpack(f">{len(found[4:]) // 4}I", found[4 : 4 + len(found[4:]) // 4 * 4])
        raise DataError(f"{path} holds an array of {dimensions}, expected {shape}")
    if len(content) != expected:
        size = f"{len(content):,} bytes" if len(content) < expected else f"more than {expected:,} bytes"
        raise DataError(f"{path} holds {size}, expected {expected:,}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape).copy()
