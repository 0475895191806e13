"""Named arrays and a text in one file, in the safetensors format: names, shapes and numbers, nothing that could run.

The file is eight bytes with the length of the header, little-endian; the header, JSON padded with spaces; then the
arrays one after the other, C-contiguous. Source: https://github.com/huggingface/safetensors#format.

It is read by the safetensors library. Writing is done here, array by array: the library would first copy all of
them into one block of memory, and would not bring it to the disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from incnet.checked_json import parse_json

__all__ = ["digest", "pack", "read_text", "unpack"]

_DTYPES = {"float32": "F32", "float64": "F64", "uint64": "U64", "int64": "I64"}
_ALIGNMENT = 64  # bytes: where the first array starts
_LONGEST_HEADER = 2**24  # bytes, far above what a network of a thousand layers takes: a bound for memory


def pack(arrays: Mapping[str, np.ndarray], text: str = "") -> Iterator[Any]:
    """Yield the content of a file that holds ``arrays`` and ``text``, in pieces, without copying an array.

    Equal arrays make equal files: they are in the order of their names.
    """
    blocks = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    header: dict[str, Any] = {"__metadata__": {"state": text}} if text else {}
    end = 0
    for name, block in blocks.items():
        start, end = end, end + block.nbytes
        header[name] = {"dtype": _DTYPES[block.dtype.name], "shape": block.shape, "data_offsets": (start, end)}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-(8 + len(encoded)) % _ALIGNMENT)
    yield len(encoded).to_bytes(8, "little") + encoded
    for block in blocks.values():
        yield block.reshape(-1).view(np.uint8)


def unpack(content: bytes) -> tuple[dict[str, np.ndarray], str]:
    """Return the arrays and the text of a file's ``content``.

    Raises
    ------
    ValueError
        If it is not a file of this format.
    """
    text = read_text(BytesIO(content))
    try:
        return load(content), text
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"it is no safetensors file: {error!s:.200}") from error


def read_text(file: BinaryIO) -> str:
    """Return the text of a file that is open at its beginning, without looking at the arrays.

    Raises
    ------
    ValueError
        If it is not a file of this format.
    """
    length = int.from_bytes(file.read(8), "little")
    if length > _LONGEST_HEADER:
        raise ValueError("it is no safetensors file")
    try:
        text = parse_json(file.read(length)).get("__metadata__", {}).get("state", "")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"it is no safetensors file: {error!s:.200}") from error
    if not isinstance(text, str):
        raise ValueError(f"its state is {text!r:.80}, expected a text")
    return text


def digest(described: Any, arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 sum over JSON values, as they are written, and arrays."""
    found = hashlib.sha256(json.dumps(described).encode())
    for name in sorted(arrays):
        found.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return found.hexdigest()
