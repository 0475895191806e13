import builtins
import contextlib
import os
import pathlib
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incnet.data.dataset import DataError
from incnet.data.pickled import read_pickled_dict

PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4) + 200
BATCH = {b"batch_label": b"one", b"labels": [0, 3, 255], b"data": PIXELS, b"filenames": [b"a.png", b"\xff.png", b"c"]}


def read(path, content):
    path.write_bytes(content)
    return read_pickled_dict(path, max_bytes=100_000)


def string(text):
    return b"U" + struct.pack("B", len(text)) + text


def python2_batch(pixels=PIXELS, module=b"numpy.core.multiarray"):
    """What Python 2 and NumPy 1 wrote, opcode by opcode: byte strings, and the old name of NumPy's module."""
    content = pixels.tobytes()
    rows, columns = pixels.shape
    array = b"c" + module + b"\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85" + string(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + string(b"u1") + b"K\x00K\x01\x87R(K\x03" + string(b"|")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01K%cK%c\x86" % (rows, columns) + dtype + b"\x89T" + struct.pack("<I", len(content)) + content + b"tb"
    return b"\x80\x02}(" + string(b"data") + array + state + string(b"labels") + b"](K\x00K\x03K\xffeu."


def assert_is_batch(found):
    assert found[b"labels"] == BATCH[b"labels"]
    np.testing.assert_array_equal(found[b"data"], PIXELS)


PROTOCOLS = [2, 3, 4, 5]
READ_ONLY = np.frombuffer(PIXELS.tobytes(), np.uint8)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("pixels", [PIXELS, np.tile(PIXELS - 200, (300, 20)), READ_ONLY])
def test_written_by_python_3(tmp_path, pixels, protocol):
    """Small and large arrays, and one that cannot be written to: each has instructions of its own."""
    found = read(tmp_path / "batch", pickle.dumps(BATCH | {b"data": pixels}, protocol=protocol))
    np.testing.assert_array_equal(found.pop(b"data"), pixels)
    assert found == {key: value for key, value in BATCH.items() if key != b"data"}


def test_protocol_5_of_numpy_1(tmp_path):
    content = pickle.dumps(BATCH, protocol=5).replace(b"\x13numpy._core.numeric", b"\x12numpy.core.numeric")
    assert_is_batch(read(tmp_path / "batch", content))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_object_twice(tmp_path, protocol):
    label, names = "a" * 300, ["x", "y"]
    again = {"data": PIXELS, "more": PIXELS, "label": label, "labels": [label, label], "names": names, "other": names}
    found = read(tmp_path / "batch", pickle.dumps(again, protocol=protocol))
    np.testing.assert_array_equal(found[b"more"], PIXELS)
    assert (found[b"labels"], found[b"other"]) == ([label, label], names)


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_written_by_python_2(tmp_path, module):
    content = python2_batch(module=module)
    assert_is_batch(pickle.loads(content, encoding="bytes"))  # the example is a real pickle
    assert_is_batch(read(tmp_path / "batch", content))


def test_text_keys_become_bytes(tmp_path):
    assert read(tmp_path / "batch", pickle.dumps({"labels": [1]})) == {b"labels": [1]}


def call(function, *arguments):
    class Exploit:
        def __reduce__(self):
            return function, arguments

    return Exploit()


@pytest.mark.parametrize("protocol", [0, *PROTOCOLS])
@pytest.mark.parametrize(
    "exploit",
    [
        call(os.system, "echo owned > owned"),
        call(builtins.eval, "1/0"),
        call(builtins.open, "owned", "w"),
        call(getattr, str, "join"),
        call(np.fromfile, "/etc/passwd"),
        np.array([print], dtype=object),
        np.arange(3.0),
        np.asfortranarray(PIXELS),
        np.ma.masked_array(PIXELS),
        pathlib.Path("owned"),
        frozenset({1}),
        {1, 2},
        1.5,
        print,
        Exception,
        pytest.param(1 << 10_000, id="long"),
    ],
)
def test_anything_else_is_refused(tmp_path, monkeypatch, exploit, protocol):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"pickles|not a complete pickle"):
        read(tmp_path / "batch", pickle.dumps({b"data": exploit}, protocol=protocol))
    assert not (tmp_path / "owned").exists()


ENCODE = b"c_codecs\nencode\n"
FROMBUFFER = b"\x8c\x13numpy._core.numeric\x8c\x0b_frombuffer\x93\x94"
DTYPE = b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02u1\x89\x88\x87R"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cos\nsystem\n" + string(b"true") + b"\x85R.", "reference to 'os system'"),
        (b"cnumpy\nload\n.", "reference to 'numpy load'"),
        (b"cnumpy\nndarray\nK\x05\x85R.", "a call of"),
        (b"cnumpy\nndarray\n}b.", "a state for"),
        (ENCODE + b"}b.", "a state for a function"),
        (ENCODE + b"X\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.", "another encoding"),
        (b"cnumpy\ndtype\n" + string(b"O") + b"K\x00K\x01\x87R.", "another dtype"),
        (b"\x8c\x02os\x8c\x06system\x93" + string(b"true") + b"\x85R.", "reference to 'os system'"),
        (b"\x8c\x05numpy\x8c\x04load\x93.", "reference to 'numpy load'"),
        (b"\x8c\x14numpy._core.numeric \x8c\x0b_frombuffer\x93.", "reference to"),
        (b"]\x94\x8c\x01a\x93.", "reference to"),
        (FROMBUFFER + b"(C\x01ah\x00K\x01\x85\x8c\x01CtR.", "an array that is not uint8"),
        (FROMBUFFER + b"(K\x05" + DTYPE + b"K\x01\x85\x8c\x01CtR.", "an array that is not uint8"),
        (FROMBUFFER + b"(C\x01a" + DTYPE + b"K\x01\x85\x8c\x01FtR.", "an array that is not uint8"),
        (b"K\x01K\x01\x97.", "instruction NEXT_BUFFER"),
        (b"(cos\nsystem\no.", "reference"),
        (b"(S'true'\nios\nsystem\n.", "instruction"),
        (b"K\x01K\x02a.", "items for a int"),
        (b"}K\x01K\x02s.", "a key that is not text"),
        (b"].", "a list instead of a dictionary"),
        (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\x00\x00\x00\x7f\x85" + string(b"b") + b"\x87R.",
            "kind",
        ),
    ],
)
def test_refused_programs(tmp_path, program, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path / "batch", b"\x80\x02" + program)


def test_one_text_encoded_many_times_is_refused(tmp_path):
    text = b"X" + struct.pack("<I", 1000) + b"a" * 1000 + b"q\x00X\x06\x00\x00\x00latin1q\x01"
    again = ENCODE + b"h\x00h\x01\x86R"
    with pytest.raises(DataError, match="more text than the file holds"):
        read(tmp_path / "batch", b"\x80\x02](" + text + again * 500 + b"e.")


def test_a_memo_of_billions_of_entries_takes_no_memory(tmp_path):
    assert read(tmp_path / "batch", b"\x80\x02}r\xff\xff\xff\xff.") == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("length", [0, 1, 2, 50, -1])
def test_truncated(tmp_path, length, protocol):
    with pytest.raises(DataError, match="not a complete pickle"):
        read(tmp_path / "batch", pickle.dumps(BATCH, protocol=protocol)[:length])


def test_array_that_does_not_fill_its_shape(tmp_path):
    content = pickle.dumps({b"data": PIXELS}, protocol=2).replace(b"K\x03K\x04\x86", b"K\x03K\x05\x86")
    with pytest.raises(DataError, match="not a complete pickle"):
        read(tmp_path / "batch", content)


def test_too_large(tmp_path):
    with pytest.raises(DataError, match="holds 100,001 bytes, expected at most 100,000"):
        read(tmp_path / "batch", bytes(100_001))


def test_missing(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_pickled_dict(tmp_path / "batch", 1)


VALID = [*(pickle.dumps(BATCH, protocol=protocol) for protocol in PROTOCOLS), python2_batch()]
OPCODES = st.sampled_from([bytes([code]) for code in range(256)])


@st.composite
def damaged(draw):
    """A valid pickle with a few bytes replaced, or a random program."""
    if draw(st.booleans()):
        return (
            draw(st.sampled_from([b"\x80\x02", b"\x80\x05"]))
            + b"".join(draw(st.lists(OPCODES | st.binary(max_size=8), max_size=30)))
            + b"."
        )
    content = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content)


@given(content=st.binary() | damaged())
@settings(max_examples=400, deadline=None)
def test_any_bytes_give_a_dictionary_or_a_data_error(tmp_path_factory, content):
    with contextlib.suppress(DataError):
        assert isinstance(read(tmp_path_factory.getbasetemp() / "fuzzed-pickle", content), dict)
