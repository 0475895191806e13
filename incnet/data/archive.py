"""Unpacking an untrusted .tar.gz."""

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

from .dataset import DataError

_MAX_BYTES = 512 * 2**20  # decompressed; CIFAR takes under 300 MiB in every layout
_MAX_MEMBERS = 64
_CHUNK = 2**20


def extract_folder(archive: Path, folder: str, max_bytes: int = _MAX_BYTES) -> Path:
    """Unpack `folder` from a .tar.gz beside the archive, and return where it is.

    The folder appears when it is complete: what is cut short leaves nothing behind.

    Raises
    ------
    DataError
        The archive is damaged, holds a link, a device or a path that leads out of it, has more than 64 members, takes
        more than `max_bytes` or lacks the folder; or the place beside it cannot be written to.
    """
    destination = archive.parent / folder
    try:
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=f".{folder}-") as staging:
            tar, unpacked = Path(staging) / "tar", Path(staging) / "unpacked"
            _decompress(archive, tar, max_bytes)
            _unpack(archive, tar, unpacked)
            if not (unpacked / folder).is_dir():
                raise DataError(f"{archive} holds no folder {folder}; fetch it again")
            if not destination.is_dir():  # else another process was faster
                os.rename(unpacked / folder, destination)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{archive} is damaged ({error}); fetch it again") from error
    except OSError as error:
        reason = f"{archive} cannot be unpacked beside itself ({error})"
        raise DataError(f"{reason}; unpack it where you can write, and pass that folder") from error
    return destination


def _decompress(archive: Path, tar: Path, max_bytes: int) -> None:
    """Write the decompressed archive to `tar`, so that nothing read from there can be larger than `max_bytes`."""
    total = 0
    with gzip.open(archive) as source, tar.open("xb") as target:
        while chunk := source.read(_CHUNK):
            total += len(chunk)
            if total > max_bytes:
                raise DataError(f"{archive} takes more than {max_bytes:,} bytes; do not trust it")
            target.write(chunk)


def _unpack(archive: Path, tar: Path, destination: Path) -> None:
    """Write the files of `tar` below `destination`, once each member's kind and path have been checked."""
    with tarfile.open(tar, "r:") as members:
        for count, member in enumerate(members, start=1):
            if count > _MAX_MEMBERS:
                raise DataError(f"{archive} holds more than {_MAX_MEMBERS} members; do not trust it")
            if not (member.isreg() or member.isdir()) or member.issparse() or member.size < 0:
                raise DataError(f"{archive} holds {member.name!r}, neither a file nor a folder; do not trust it")
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
                raise DataError(f"{archive} holds {member.name!r}, a path that leads out of it; do not trust it")
            source = members.extractfile(member)
            if source is not None:
                target = destination / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, _CHUNK)
