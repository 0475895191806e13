import contextlib
import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from incnet.data.dataset import DataError
from incnet.data.idx import read_idx

SHAPE = (3, 4, 5)
ARRAY = np.arange(60, dtype=np.uint8).reshape(SHAPE)
CONTENT = struct.pack(">4B3I", 0, 0, 8, 3, *SHAPE) + ARRAY.tobytes()


@pytest.mark.parametrize(("name", "pack"), [("images", bytes), ("images.gz", gzip.compress)])
def test_reads(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(CONTENT))
    array = read_idx(tmp_path / name, SHAPE)
    np.testing.assert_array_equal(array, ARRAY)
    assert array.flags.owndata
    assert array.flags.writeable


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with , expected 00000803"),
        (b"\0\0\x0d\3" + CONTENT[4:], "starts with 00000d03"),
        (CONTENT[:9], r"holds an array of \(3,\), expected \(3, 4, 5\)"),
        (CONTENT[:-1], "holds 75 bytes, expected 76"),
        (CONTENT + b"!", "holds more than 76 bytes, expected 76"),
        (CONTENT.replace(b"\4", b"\7", 1), r"holds an array of \(3, 7, 5\), expected \(3, 4, 5\)"),
    ],
)
@pytest.mark.parametrize(("name", "pack"), [("images", bytes), ("images.gz", gzip.compress)])
def test_damaged(tmp_path, name, pack, content, message):
    (tmp_path / name).write_bytes(pack(content))
    with pytest.raises(DataError, match=message) as caught:
        read_idx(tmp_path / name, SHAPE)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("damage", [lambda packed: b"no gzip", lambda packed: packed[:-9], lambda packed: packed[:5]])
def test_damaged_gzip(tmp_path, damage):
    (tmp_path / "images.gz").write_bytes(damage(gzip.compress(CONTENT)))
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "images.gz", SHAPE)


def test_a_decompression_bomb_is_not_expanded(tmp_path):
    (tmp_path / "images.gz").write_bytes(gzip.compress(CONTENT + bytes(50_000_000), compresslevel=1))
    with pytest.raises(DataError, match="more than 76 bytes"):
        read_idx(tmp_path / "images.gz", SHAPE)


def test_missing(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "images", SHAPE)


@given(content=st.binary() | st.binary().map(lambda tail: CONTENT[:20] + tail), suffix=st.sampled_from(["", ".gz"]))
def test_any_bytes_give_an_array_or_a_data_error(tmp_path_factory, content, suffix):
    path = tmp_path_factory.getbasetemp() / f"fuzzed-idx{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert read_idx(path, (2, 2)).shape == (2, 2)
