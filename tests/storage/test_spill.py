"""Large arrays in memory and in files."""

import errno
import os

import numpy as np
import pytest

from incnet.storage.files import TEMPORARY, WriteError
from incnet.storage.spill import SpillStore


@pytest.fixture(params=[True, False], ids=["reserved", "written"])
def reserving(request, monkeypatch):
    """With and without the call that reserves room on the disk, which not every system has."""
    if not request.param:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)


def test_in_memory_up_to_the_limit_and_then_in_files(tmp_path, reserving):
    room = SpillStore(1000, tmp_path)
    arrays = [room.array((10, size), np.float16) for size in (30, 25, 20, 1)]
    assert [isinstance(array, np.memmap) for array in arrays] == [False, True, False, True]
    assert all(array.shape[0] == 10 and array.dtype == np.float16 for array in arrays)
    assert sorted(path.stat().st_size for path in tmp_path.iterdir()) == [20, 500]
    for value, array in enumerate(arrays):
        array[...] = value
    assert [float(array.min()) for array in arrays] == [float(array.max()) for array in arrays] == [0, 1, 2, 3]
    assert all(path.suffix == TEMPORARY for path in tmp_path.iterdir())
    room.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_larger_than_one_write(tmp_path, reserving):
    room = SpillStore(0, tmp_path)
    array = room.array((3, 2**20 + 1), np.uint8)
    array[...] = 7
    assert array.sum() == 7 * array.size
    room.close()


def test_a_full_disk_is_found_when_the_array_is_made(tmp_path, monkeypatch):
    def full(descriptor, *_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    room = SpillStore(0, tmp_path)
    with pytest.raises(WriteError, match=r"cannot write .*array1.tmp: No space left on device"):
        room.array((10,), np.float32)
    assert list(tmp_path.iterdir()) == []
    room.close()
