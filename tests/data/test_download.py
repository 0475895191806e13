import hashlib
import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from rich.console import Console

from incnet.data.dataset import DataError
from incnet.data.download import Patience, RemoteFile, fetch

CONTENT = np.random.default_rng(0).bytes(1_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
QUICK = Patience(attempts=3, pause=0.001, timeout=5)


class Server(HTTPServer):
    """Serves CONTENT under any path; each request takes the next of `faults`, and is answered properly after them."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults = []
        self.ranges = []  # header of each request
        self.knows_ranges = True
        self.url = f"http://127.0.0.1:{self.server_port}/images.gz"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.ranges.append(wanted)
        fault = server.faults.pop(0) if server.faults else None
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.knows_ranges else 0
        if isinstance(fault, int):
            self.send_response(fault)
            self.end_headers()
        elif start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
        else:
            self.send_response(206 if wanted and server.knows_ranges else 200)
            if wanted and server.knows_ranges:
                shift = 1 if fault == "another range" else 0
                self.send_header("Content-Range", f"bytes {start + shift}-{len(CONTENT) - 1}/{len(CONTENT)}")
            if fault != "no length":
                self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start : start + 300_000] if fault == "cut off" else CONTENT[start:])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server, folder, md5=MD5, console=None):
    return fetch(RemoteFile(server.url, md5), folder, QUICK, console or Console(file=io.StringIO()))


def assert_whole(path, folder):
    assert path == folder / "images.gz"
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]


def test_fetches_once(server, tmp_path):
    folder = tmp_path / "new" / "folder"
    assert_whole(get(server, folder), folder)
    assert_whole(get(server, folder), folder)
    assert server.ranges == [None]


def test_shows_progress(server, tmp_path):
    drawn = io.StringIO()
    get(server, tmp_path, console=Console(file=drawn, force_terminal=True, width=120))
    assert "images.gz" in drawn.getvalue()
    assert "1.0/1.0 MB" in drawn.getvalue()


def test_a_damaged_copy_is_replaced(server, tmp_path):
    (tmp_path / "images.gz").write_bytes(b"damaged")
    assert_whole(get(server, tmp_path), tmp_path)


def test_wrong_checksum(server, tmp_path):
    with pytest.raises(DataError) as caught:
        get(server, tmp_path, md5="0" * 32)
    assert "0" * 32 in str(caught.value)
    assert MD5 in str(caught.value)
    assert server.url in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("state", [429, 500, 503])
def test_retries_what_may_pass(server, tmp_path, state):
    server.faults = [state, state]
    assert_whole(get(server, tmp_path), tmp_path)
    assert server.ranges == [None] * 3


def test_gives_up(server, tmp_path):
    server.faults = [503] * 9
    with pytest.raises(DataError, match="HTTP 503 Service Unavailable, after 3 attempts"):
        get(server, tmp_path)
    assert len(server.ranges) == 3


@pytest.mark.parametrize("state", [403, 404])
def test_does_not_retry_a_refusal(server, tmp_path, state):
    server.faults = [state] * 9
    with pytest.raises(DataError, match=f"could not be fetched .HTTP {state} .* by hand"):
        get(server, tmp_path)
    assert len(server.ranges) == 1


def test_resumes_within_a_run(server, tmp_path):
    server.faults = ["cut off", "cut off"]
    assert_whole(get(server, tmp_path), tmp_path)
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-"]


def test_resumes_in_a_later_run(server, tmp_path):
    server.faults = ["cut off", 404]
    with pytest.raises(DataError, match="HTTP 404"):
        get(server, tmp_path)
    assert (tmp_path / "images.gz.part").read_bytes() == CONTENT[:300_000]
    assert_whole(get(server, tmp_path), tmp_path)
    assert server.ranges[-1] == "bytes=300000-"


def test_truncated_for_good(server, tmp_path):
    server.knows_ranges = False
    server.faults = ["cut off"] * 9
    with pytest.raises(DataError, match="300,000 of 1,000,000 bytes arrived, after 3 attempts"):
        get(server, tmp_path)


@pytest.mark.parametrize("part", [CONTENT[:10], CONTENT, CONTENT + b"more"])
@pytest.mark.parametrize("knows_ranges", [True, False])
def test_starts_from_a_part(server, tmp_path, part, knows_ranges):
    server.knows_ranges = knows_ranges
    (tmp_path / "images.gz.part").write_bytes(part)
    assert_whole(get(server, tmp_path), tmp_path)


def test_another_part_than_asked_for(server, tmp_path):
    (tmp_path / "images.gz.part").write_bytes(CONTENT[:10])
    server.faults = ["another range"]
    assert_whole(get(server, tmp_path), tmp_path)
    assert server.ranges == ["bytes=10-", None]


def test_a_server_that_tells_no_length(server, tmp_path):
    server.faults = ["no length"]
    assert_whole(get(server, tmp_path), tmp_path)


def test_nobody_answers(server, tmp_path):
    with HTTPServer(("127.0.0.1", 0), Handler) as other:
        url = f"http://127.0.0.1:{other.server_port}/images.gz"
    with pytest.raises(DataError, match=r"refused.*after 3 attempts"):
        fetch(RemoteFile(url, MD5), tmp_path, QUICK, Console(file=io.StringIO()))


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be written to"):
        get(server, tmp_path / "file" / "folder")


def test_a_proxy_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://somebody:secret@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    file = RemoteFile("http://example.org/images.gz", MD5)
    with pytest.raises(DataError, match=r"through the proxy 127\.0\.0\.1:9 \(http_proxy\)") as caught:
        fetch(file, tmp_path, QUICK, Console(quiet=True))
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DataError) as caught:
        fetch(RemoteFile("http://127.0.0.1:9/images.gz", MD5), tmp_path, QUICK, Console(quiet=True))
    assert "proxy" not in str(caught.value)
