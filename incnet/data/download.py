"""Fetching a file whose checksum is known, whatever the connection does."""

import http
import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath

import pooch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from incnet.terminal import Terminal

from .dataset import DataError

_CHUNK = 2**18
_WORTH_RETRYING = {408, 425, 429, 500, 502, 503, 504}  # HTTP states that pass


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server, and the MD5 sum that its publisher gives for it."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The last part of the address."""
        return PurePosixPath(self.url).name


@dataclass(frozen=True)
class Patience:
    """How long to put up with a bad connection.

    Parameters
    ----------
    attempts : int
        Requests in all.
    pause : float
        Seconds before the second request; each further pause is twice as long.
    timeout : float
        Seconds without an answer, or without a byte, after which a request counts as failed.
    """

    attempts: int = 5
    pause: float = 0.5
    timeout: float = 30.0


def fetch(file: RemoteFile, folder: Path, patience: Patience = Patience(), console: Console | None = None) -> Path:
    """Return `file` in `folder`, downloaded unless it is there already and whole.

    What has arrived is kept in a file ending in .part, and later attempts, or later runs, ask for the rest only. The
    file gets its name when it is complete and its checksum right.

    Parameters
    ----------
    file : RemoteFile
        What to fetch.
    folder : Path
        Made if it is missing.
    patience : Patience
        Retries and timeouts.
    console : Console, optional
        Where the progress bar is drawn; standard error if not given.

    Raises
    ------
    DataError
        The server refuses, all attempts fail, the checksum is wrong (the download is then deleted), or the folder
        cannot be written to.
    """
    download = _ResumingDownload(folder / f"{file.name}.part", patience, console or Terminal(stderr=True))
    by_hand = f"fetch {file.url} by hand, and pass its folder"
    try:
        return Path(pooch.retrieve(file.url, f"md5:{file.md5}", fname=file.name, path=folder, downloader=download))
    except _Failed as failed:
        raise DataError(f"{file.url} could not be fetched ({failed}); try again later, or {by_hand}") from failed
    except ValueError as error:  # pooch's word for a checksum that does not match, with both sums
        raise DataError(f"{error} Try again, or {by_hand}") from error
    except OSError as error:
        raise DataError(f"{folder} cannot be written to ({error}); {by_hand}") from error


class _Failed(Exception):
    """A request failed for good."""


class _Interrupted(Exception):
    """A request failed, but another one may not."""


@dataclass(frozen=True)
class _ResumingDownload:
    """A downloader, as pooch calls one, that goes on where the last request was cut off."""

    part: Path
    patience: Patience
    console: Console

    def __call__(self, url: str, output_file: str, _: object) -> None:
        columns = (BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(TextColumn("{task.description}"), *columns, console=self.console) as progress:
            task = progress.add_task(self.part.stem, total=None)
            for attempt in range(self.patience.attempts):
                try:
                    self._request(url, lambda done, total: progress.update(task, completed=done, total=total))
                    break
                except _Interrupted as reason:
                    if attempt + 1 == self.patience.attempts:
                        raise _Failed(f"{reason}, after {self.patience.attempts} attempts") from reason
                    time.sleep(self.patience.pause * 2**attempt)
        os.replace(self.part, output_file)

    def _request(self, url: str, report: Callable[[int, int | None], None]) -> None:
        """Ask for what the part lacks, and append what comes."""
        held = self.part.stat().st_size if self.part.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={held}-"} if held else {})
        try:
            with urllib.request.urlopen(request, timeout=self.patience.timeout) as response:
                start, total = _extent(response.status, response.headers)
                if start != held:  # a server that knows no ranges sends the whole file
                    held = 0
                if start != held:
                    self.part.unlink()
                    raise _Interrupted(f"the server sent bytes from {start:,} on, which nobody asked for")
                with self.part.open("ab" if held else "wb") as part:
                    while chunk := response.read(_CHUNK):
                        part.write(chunk)
                        held += len(chunk)
                        report(held, total)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                if error.headers.get("Content-Range") == f"bytes */{held}":
                    return  # nothing is lacking
                self.part.unlink()
            elif error.code not in _WORTH_RETRYING:
                raise _Failed(f"HTTP {error.code} {error.reason}{_by_proxy(url)}") from error
            raise _Interrupted(f"HTTP {error.code} {error.reason}{_by_proxy(url)}") from error
        except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError) as error:
            raise _Interrupted(f"{str(error) or type(error).__name__}{_by_proxy(url)}") from error
        if total is not None and held != total:
            raise _Interrupted(f"{held:,} of {total:,} bytes arrived")


def _by_proxy(url: str) -> str:
    """Say through which proxy an address is reached, without its password; nothing if it is reached directly."""
    address = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(address.scheme)
    if proxy is None or urllib.request.proxy_bypass(address.hostname or ""):
        return ""
    return f", through the proxy {proxy.rpartition('@')[2]} ({address.scheme}_proxy)"


def _extent(status: int, headers: Message) -> tuple[int, int | None]:
    """Return where in the file an answer's body starts, and how long the whole file is, if the server says so."""
    if status == http.HTTPStatus.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        if match is None:
            raise _Interrupted(f"the server sent a part of the file, Content-Range {headers.get('Content-Range')}")
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None
