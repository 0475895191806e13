"""Pickled batches of CIFAR, read by an interpreter that can build nothing else.

A pickle is a program for a small stack machine, and Python's own machine calls whatever function the program names. The
one here knows the instructions that dictionaries of lists, strings and uint8 arrays take in protocols 2 to 5 (the
official batches are in 2, and Python 3 writes 4 or 5), and carries out the calls by which NumPy describes such an array
itself: no function that a file names is ever looked up, let alone called.
"""

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import DataError

_MARK = object()


def read_pickled_dict(path: Path, max_bytes: int) -> dict[bytes, Any]:
    """Return the dictionary pickled in the file at `path`, with its text keys as bytes.

    Values are lists, tuples, integers, text, bytes, None, and arrays, uint8 and C-contiguous.

    Raises
    ------
    DataError
        The file is unreadable, larger than `max_bytes` or damaged, or would build anything else.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(f"{path} holds {size:,} bytes, expected at most {max_bytes:,}; fetch it again")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error
    try:
        result = _Machine().run(content)
        if not isinstance(result, dict):
            raise _Refused(f"a {type(result).__name__} instead of a dictionary")
        return {
            key.encode() if isinstance(key, str) else key: value.array if isinstance(value, _Array) else value
            for key, value in result.items()
        }
    except _Refused as refused:
        raise DataError(f"{path} pickles {refused}; only lists, text and uint8 arrays are read") from refused
    except Exception as error:  # a damaged program may fail at any instruction, and in any way
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} is not a complete pickle ({reason:.120}); fetch it again") from error


class _Refused(Exception):
    """The program asks for something that no batch of CIFAR needs."""


class _Array:
    """An array under construction: NumPy's pickles make an empty one and then set its state."""

    array: NDArray[np.uint8] | None = None

    def set_state(self, state: Any) -> None:
        version, shape, dtype, fortran_order, content = state
        if (version, dtype, fortran_order) != (1, _UINT8, False) or not isinstance(content, bytes):
            raise _Refused("an array that is not uint8 in C order")
        self.array = np.frombuffer(content, np.uint8).reshape(shape)


class _Uint8:
    """The dtype of every array here; its state says nothing more."""

    def set_state(self, state: Any) -> None:
        pass


_UINT8 = _Uint8()


def _reconstruct(kind: Any, shape: Any, typecode: Any) -> _Array:
    if kind is not _NDARRAY or shape != (0,) or typecode != b"b":
        raise _Refused("an array of another kind")
    return _Array()


def _dtype(name: Any, align: Any, copy: Any) -> _Uint8:
    if name not in ("u1", b"u1", "|u1", b"|u1"):
        raise _Refused("an array of another dtype")
    return _UINT8


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Array in one call, as NumPy writes it in protocol 5."""
    if dtype is not _UINT8 or order != "C" or not isinstance(content, bytes):
        raise _Refused("an array that is not uint8 in C order")
    array = _Array()
    array.array = np.frombuffer(content, np.uint8).reshape(shape)
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes, as Python 3 writes them for Python 2 to read."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("text in another encoding")
    return text.encode("latin1")


_NDARRAY = object()
_CALLS: dict[str, Callable[..., Any] | object] = {
    "numpy.core.multiarray _reconstruct": _reconstruct,
    "numpy._core.multiarray _reconstruct": _reconstruct,
    "numpy.core.numeric _frombuffer": _frombuffer,
    "numpy._core.numeric _frombuffer": _frombuffer,
    "numpy ndarray": _NDARRAY,
    "numpy dtype": _dtype,
    "_codecs encode": _encode,
}


class _Machine:
    """The stack and the memo of a pickle program; instructions are named as in `pickletools`."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.encoded_bytes = 0

    def run(self, program: bytes) -> Any:
        """Carry out `program` and return what it leaves on the stack."""
        for opcode, argument, _ in pickletools.genops(program):
            self.step(opcode.name, argument)
            if self.encoded_bytes > len(program):  # the same text encoded over and over
                raise _Refused("more text than the file holds")
        return self.stack.pop()

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "BININT" | "BININT1" | "BININT2" | "LONG1":
                stack.append(argument)
            case "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8" | "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8":
                stack.append(argument)
            case "BYTEARRAY8":  # what an array is made from in protocol 5
                stack.append(bytes(argument))
            case "BINSTRING" | "SHORT_BINSTRING":  # Python 2's str; pickletools shows its bytes as latin-1
                stack.append(argument.encode("latin1"))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(self.pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self.pop(int(name[-1]))))
            case "APPEND":
                self.extend(self.pop(1))
            case "APPENDS":
                self.extend(self.pop_to_mark())
            case "SETITEM":
                self.update(self.pop(2))
            case "SETITEMS":
                self.update(self.pop_to_mark())
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL":
                self.refer(argument)
            case "STACK_GLOBAL":
                module, attribute = self.pop(2)
                self.refer(f"{module} {attribute}")
            case "REDUCE":
                function, arguments = self.pop(2)
                if function not in (_reconstruct, _frombuffer, _dtype, _encode):
                    raise _Refused(f"a call of a {type(function).__name__}")
                stack.append(function(*arguments))
                self.encoded_bytes += len(stack[-1]) if function is _encode else 0
            case "BUILD":
                (state,) = self.pop(1)
                if not isinstance(stack[-1], _Array | _Uint8):
                    raise _Refused(f"a state for a {type(stack[-1]).__name__}")
                stack[-1].set_state(state)
            case _:
                raise _Refused(f"an instruction {name}")

    def refer(self, name: str) -> None:
        if name not in _CALLS:
            raise _Refused(f"a reference to {name!r:.80}")
        self.stack.append(_CALLS[name])

    def pop(self, count: int) -> list[Any]:
        """Remove the `count` topmost values and return them, the lowest first."""
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def pop_to_mark(self) -> list[Any]:
        """Remove the values above the topmost mark, and the mark, and return the values."""
        values: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise _Refused(f"items for a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(values)

    def update(self, keys_and_values: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise _Refused(f"items for a {type(self.stack[-1]).__name__}")
        keys, values = keys_and_values[::2], keys_and_values[1::2]
        if not all(isinstance(key, str | bytes) for key in keys):
            raise _Refused("a key that is not text")
        self.stack[-1].update(zip(keys, values, strict=True))
