import gzip
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incnet.data.archive import extract_folder
from incnet.data.dataset import DataError


def member(name, content=b"x", kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def write_archive(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def test_unpacks_beside_itself(tmp_path):
    folder = member("images", kind=tarfile.DIRTYPE)
    archive = write_archive(tmp_path / "a.tar.gz", folder, member("images/one", b"1"), member("images/deep/two", b"2"))
    assert extract_folder(archive, "images") == tmp_path / "images"
    assert (tmp_path / "images" / "one").read_bytes() == b"1"
    assert (tmp_path / "images" / "deep" / "two").read_bytes() == b"2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "images"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (member("/etc/evil"), "leads out of it"),
        (member("../evil"), "leads out of it"),
        (member("images/../../evil"), "leads out of it"),
        (member("images\\..\\evil"), "leads out of it"),
        (member("C:/evil"), "leads out of it"),
        (member("images/link", kind=tarfile.SYMTYPE, target="/etc/passwd"), "neither a file nor a folder"),
        (member("images/link", kind=tarfile.LNKTYPE, target="images/one"), "neither a file nor a folder"),
        (member("images/device", kind=tarfile.CHRTYPE), "neither a file nor a folder"),
        (member("images/pipe", kind=tarfile.FIFOTYPE), "neither a file nor a folder"),
        (member("images/one", b"again"), "cannot be unpacked"),
    ],
)
def test_refused(tmp_path, bad, message):
    archive = write_archive(tmp_path / "sub.tar.gz", member("images/one"), bad)
    with pytest.raises(DataError, match=message):
        extract_folder(archive, "images")
    assert [path.name for path in tmp_path.iterdir()] == ["sub.tar.gz"]


def test_too_many_members(tmp_path):
    archive = write_archive(tmp_path / "a.tar.gz", *(member(f"images/{i}") for i in range(65)))
    with pytest.raises(DataError, match="more than 64 members"):
        extract_folder(archive, "images")


def test_too_many_bytes(tmp_path):
    archive = write_archive(tmp_path / "a.tar.gz", member("images/one", bytes(50_000)))
    with pytest.raises(DataError, match="more than 40,000 bytes"):
        extract_folder(archive, "images", max_bytes=40_000)


def test_a_size_that_the_archive_does_not_have(tmp_path):
    info, _ = member("images/one")
    info.size = 10**12
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf() + bytes(1024)))
    with pytest.raises(DataError, match="is damaged"):
        extract_folder(tmp_path / "a.tar.gz", "images")


def test_folder_is_not_in_it(tmp_path):
    with pytest.raises(DataError, match="holds no folder images"):
        extract_folder(write_archive(tmp_path / "a.tar.gz", member("pictures/one")), "images")


@pytest.mark.parametrize("length", [0, 10, 60, -9])
def test_truncated(tmp_path, length):
    archive = write_archive(tmp_path / "a.tar.gz", member("images/one", bytes(range(256)) * 4))
    archive.write_bytes(archive.read_bytes()[:length])
    with pytest.raises(DataError, match="is damaged"):
        extract_folder(archive, "images")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@given(content=st.binary(max_size=1500), packed=st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_bytes_give_a_data_error(tmp_path_factory, content, packed):
    archive = tmp_path_factory.getbasetemp() / "fuzzed.tar.gz"
    archive.write_bytes(gzip.compress(content, 1) if packed else content)
    with pytest.raises(DataError):
        extract_folder(archive, "images")
