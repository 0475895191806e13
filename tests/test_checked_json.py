"""JSON that nobody vouches for."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pytest

from incnet.checked_json import from_json, parse_json


@dataclass
class Part:
    name: str
    sizes: list[int]


@dataclass
class Whole:
    part: Part
    kind: Literal["a", "b"]
    ratio: float
    place: Path | None
    flag: bool


GOOD = {"part": {"name": "x", "sizes": [1, 2]}, "kind": "a", "ratio": 1, "place": "p/q", "flag": True}


def test_a_record():
    whole = from_json(Whole, GOOD, "it")
    assert whole == Whole(Part("x", [1, 2]), "a", 1.0, Path("p/q"), True)
    assert type(whole.ratio) is float
    assert asdict(from_json(Whole, GOOD | {"place": None}, "it"))["place"] is None


@pytest.mark.parametrize(
    "name", [b"caf\xe9", "実験\u3000一".encode(), "9.41\u202fAM".encode(), "\u0645\u06cc\u200c\u062e".encode()]
)
def test_every_name_that_a_folder_can_have(name):
    path = Path(os.fsdecode(name))
    assert from_json(Path, parse_json(json.dumps(str(path)).encode()), "it") == path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": None}, "it.part is None, expected an object"),
        ({"part": {"name": "x"}}, "it.part lacks sizes"),
        ({"part": {"name": "x", "sizes": [1, True]}}, r"it.part.sizes\[1\] is True, expected int"),
        ({"part": {"name": "x", "sizes": {}}}, "it.part.sizes is {}, expected a list"),
        ({"kind": "c"}, "it.kind is 'c', expected one of 'a', 'b'"),
        ({"kind": ["a"]}, "it.kind is"),
        ({"ratio": "1"}, "it.ratio is '1', expected float"),
        ({"ratio": 10**400}, "it.ratio is inf, expected a finite number"),
        ({"ratio": float("inf")}, "it.ratio is inf"),
        ({"place": 3}, "it.place is 3, expected str"),
        ({"place": "\ud800"}, "can be no path"),
        ({"place": "a\nb"}, "can be no path"),
        ({"place": "\x9b31m"}, "can be no path"),
        ({"flag": 1}, "it.flag is 1, expected bool"),
        ({"more": 1}, "it has 'more', which is unknown"),
    ],
)
def test_anything_else_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        from_json(Whole, GOOD | change, "it")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"{", "it is no JSON: expecting .* at column 2"),
        (b'{\n"a": 1,\n}', "it is no JSON: .* at line [23], column"),
        (b"NaN", "NaN is no JSON"),
        (b"[-Infinity]", "-Infinity is no JSON"),
        (b"\xff", "it is no text in UTF-8"),
        (b"[" * 10**6, "nested too deeply"),
        (b"1" * 10**5, "digits"),
    ],
    ids=range(9),
)
def test_what_is_no_json(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)
