"""The wheel, built and installed by itself, outside of the repository: it has every file, and every command works."""

import email
import os
import re
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from incnet.data.catalogue import load_dataset

ROOT = Path(__file__).parents[1]
SOURCES = {"incnet": ROOT / "incnet", "incnet/kernels": ROOT / "kernels"}
SMALL = ("--arch", "resnet8", "--limit", "200", "--window", "2", "--lookahead-epochs", "1", "--epochs", "3")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    unwanted = shutil.ignore_patterns("__pycache__", "kernels")  # a link to the other folder, in an editable install
    shutil.copytree(ROOT / "incnet", folder / "source" / "incnet", ignore=unwanted)
    shutil.copytree(ROOT / "kernels", folder / "source" / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "./source"], folder)
    (path,) = folder.glob("incnet-*.whl")
    return path


def run(command, folder, **variables):
    """Run in ``folder``, without what points to the repository. Returns what is printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=folder, env=environment | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_file_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in SOURCES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "kernels" not in path.relative_to(folder).parts[:1]
    }
    assert found == expected
    assert {"incnet/py.typed", "incnet/report/page.html", "incnet/kernels/cuda/pool.cu"} <= found


def test_its_description_links_to_nothing_that_is_not_there(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = metadata.get_payload(decode=True).decode()
    links = re.findall(r"\]\(([^)]*)\)|^\[[^]]+\]: *(\S+)|(?:src|href)=[\"']([^\"']*)", description, re.M)
    assert [link for each in links for link in each if link and not link.startswith("https://")] == []
    assert "| docs/growing.md |" in description
    assert "<picture>" not in description
    assert "| [docs/growing.md](docs/growing.md) |" in (ROOT / "README.md").read_text()


def test_links_of_the_readme_lead_somewhere():
    for link in re.findall(r"\]\((?!https?:)([^)#]*)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).exists(), link


def test_every_command_works_in_a_new_environment(wheel, tmp_path):
    """What it depends on is taken from the environment of the tests, after its own packages."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    run(
        [sys.executable, "-m", "pip", "--quiet", "--python", python, "install", "--no-deps", "--no-index", wheel],
        tmp_path,
    )
    (own,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text("\n".join(site.getsitepackages()))

    def module(name, *arguments):
        return run([python, "-m", name, *map(str, arguments)], tmp_path, NUMBA_NUM_THREADS="1")

    where = run([python, "-c", "import incnet.kernels.cpu as cpu; print(cpu.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(own)

    assert "test accuracy" in module("incnet.train", "digits", *SMALL, "--out", "one")
    assert (tmp_path / "one" / "report.html").stat().st_size > 10_000
    module("incnet.report", "one", "--out", "page.html")
    assert "ResNet-8" in (tmp_path / "page.html").read_text()
    np.save(tmp_path / "digits.npy", load_dataset("digits").test.images[:3])
    assert len(module("incnet.predict", "one", "digits.npy").splitlines()) == 3
    assert "logits differ from incnet's by up to" in module("incnet.export", "one", "one.onnx", "--check")
    saved = module("incnet.savings", "--arch", "resnet8", "--batch-size", "2", "--rounds", "1", "--steps", "1")
    assert "S1" in saved
    assert "table2" in module("incnet.study", "--help")
