"""Compiled kernels find a place, wherever the package and the user's home lie."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILE = textwrap.dedent("""
    import numpy as np
    from incnet.kernels.cpu import bias_grad
    print(bias_grad(np.ones((3, 2), np.float32)))
""")
# Even for root, a folder is read-only then: CAP_DAC_OVERRIDE is taken from what the process starts.
POWERLESS = textwrap.dedent("""
    import ctypes, os, sys
    if os.getuid() == 0 and ctypes.CDLL(None).prctl(24, 1, 0, 0, 0):
        sys.exit("cannot drop the capability")
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
""")
NOBODY = textwrap.dedent("""
    import pwd
    def unknown(number): raise KeyError(number)
    pwd.getpwuid = unknown
""")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="drops a capability of Linux")


@pytest.fixture
def read_only(tmp_path):
    """A package and a home that cannot be written; returns what runs Python there, in a folder of its own."""
    package, home, here, scratch = (tmp_path / name for name in ("package", "home", "here", "scratch"))
    for folder in (home, here, scratch):
        folder.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(ROOT / "incnet", package / "incnet", ignore=ignored)
    shutil.copytree(ROOT / "kernels", package / "incnet" / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    folders = [home, *(Path(folder) for folder, _, _ in os.walk(package))]
    for folder in folders:
        folder.chmod(0o555)
    kept = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    given = {"PYTHONPATH": str(package), "HOME": str(home), "TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*arguments, **more):
        variables = {name: value for name, value in (kept | given | more).items() if value is not None}
        done = subprocess.run(
            [sys.executable, "-c", POWERLESS, *arguments], env=variables, cwd=here, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert not list(here.iterdir())
        return done

    yield run, scratch
    for folder in folders:
        folder.chmod(0o755)


def test_help_needs_no_kernels_and_leaves_nothing(read_only):
    run, scratch = read_only
    assert "--epochs" in run("-m", "incnet.train", "--help").stdout
    assert not list(scratch.iterdir())
    loaded = "import sys, incnet.train; print('incnet.kernels.cpu' in sys.modules, 'numba' in sys.modules)"
    assert run("-c", loaded).stdout == "False False\n"


def test_kernels_are_kept_in_a_temporary_folder(read_only):
    run, scratch = read_only
    assert run("-c", COMPILE).stdout == "[3. 3.]\n"
    (folder,) = scratch.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nb?")}
    assert kept
    assert run("-c", COMPILE).stdout == "[3. 3.]\n"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.nb?")} == kept


def test_not_in_a_folder_that_others_can_write(read_only):
    run, scratch = read_only
    (scratch / f"incnet-kernels-{os.getuid()}").mkdir(mode=0o777)
    (scratch / f"incnet-kernels-{os.getuid()}").chmod(0o777)
    assert run("-c", COMPILE).stdout == "[3. 3.]\n"
    assert not list(scratch.rglob("*.nb?"))  # another one, gone with its process


def test_the_users_choice_is_respected(read_only, tmp_path):
    run, scratch = read_only
    assert run("-c", COMPILE, NUMBA_CACHE_DIR=str(tmp_path / "chosen")).stdout == "[3. 3.]\n"
    assert list((tmp_path / "chosen").rglob("*.nbi"))
    assert not list(scratch.iterdir())


def test_nowhere_at_all(read_only):
    run, _ = read_only
    nowhere = "import tempfile\ndef none(): raise FileNotFoundError('no usable temporary folder')\n"
    done = run("-c", nowhere + "tempfile.gettempdir = none\n" + COMPILE)
    assert done.stdout == "[3. 3.]\n"
    assert done.stderr == "compiled kernels are not kept, since no folder can be written: no usable temporary folder\n"


def test_no_home_and_nobody(read_only):
    """No folder called ~ appears in the current one."""
    run, _ = read_only
    assert run("-c", NOBODY + COMPILE, HOME=None).stdout == "[3. 3.]\n"
    load = "from incnet.data.catalogue import load_dataset\nload_dataset('cifar10')"
    failing = f"try:\n  {load.replace(chr(10), chr(10) + '  ')}\nexcept Exception as error: print(error)"
    assert "no home folder to download it to" in run("-c", NOBODY + failing, HOME=None).stdout
