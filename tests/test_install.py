"""The README's installation, ``pip install -e``, as Python finds it from any folder."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from incnet import __version__

pytest.importorskip("setuptools", minversion="77", reason="setuptools is not installed, or too old")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with what an editable installation of a clone puts into site-packages."""
    place = tmp_path_factory.mktemp("install")
    clone, site = place / "incnet", place / "site"
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        clone.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, clone)
    ignored = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(ROOT / "incnet", clone / "incnet", ignore=ignored)
    shutil.copytree(ROOT / "kernels", clone / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    build = f"from setuptools import build_meta; print(build_meta.build_editable({str(place)!r}))"
    done = subprocess.run([sys.executable, "-c", build], cwd=clone, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(place / done.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(site)
    return site


@pytest.mark.parametrize("where", ["above the clone", "beside runs", "in the clone", "elsewhere"])
def test_a_folder_called_incnet_does_not_hide_the_package(where, site, tmp_path):
    clone = site.parent / "incnet"
    (tmp_path / "runs" / "incnet" / "first").mkdir(parents=True)
    folders = {"above the clone": clone.parent, "beside runs": tmp_path / "runs", "in the clone": clone}
    program = (
        f"import sys, site; sys.path.insert(0, ''); site.addsitedir({str(site)!r}); import incnet.kernels\n"
        "print(incnet.__version__, incnet.__file__, incnet.kernels.__file__)"
    )
    # -S: without the site-packages of this Python, in which another copy may be installed.
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", program], cwd=folders.get(where, tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    version, package, kernels = done.stdout.split()
    assert version
    assert Path(package).resolve() == clone / "incnet" / "__init__.py"
    assert Path(kernels).resolve() == clone / "kernels" / "__init__.py"


def test_the_version_stands_in_one_place(site):
    (metadata,) = site.glob("incnet-*.dist-info/METADATA")
    assert f"\nVersion: {__version__}\n" in metadata.read_text()
    assert re.findall(r"^version = .*", (ROOT / "pyproject.toml").read_text(), re.MULTILINE) == [
        'version = { attr = "incnet.__version__" }'
    ]
    assert __version__ not in (ROOT / "CITATION.cff").read_text().replace("cff-version: 1.2.0", "")
