"""Tests have the same names in every process: the processes that share them compare the names before the first runs."""

import os
import subprocess
import sys

TOMORROW = """
import sys, time
import pytest
now = time.time
time.time = lambda: now() + 86_400
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def test_no_name_depends_on_the_time_or_on_hashes(request):
    names = {item.nodeid for item in request.session.items}
    files = sorted({name.split("::")[0] for name in names})
    other_hashes = {**os.environ, "PYTHONHASHSEED": "29" if os.environ.get("PYTHONHASHSEED") != "29" else "31"}
    command = [sys.executable, "-c", TOMORROW, *files]
    done = subprocess.run(command, cwd=request.config.rootpath, env=other_hashes, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert not sorted(names - set(done.stdout.splitlines()))[:10]
