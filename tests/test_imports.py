"""What importing a module brings along, and who may import whom."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import incnet
from incnet import api

LISTED = """
import sys
import {module}
print(*sorted(name for name in sys.modules if name == "numba" or name.startswith("incnet.")))
"""


@pytest.mark.parametrize("module", ["incnet", "incnet.config", "incnet.stopping", "incnet.growth.criterion"])
def test_options_need_no_kernels(module):
    """Whoever reads options, a command line or the growth rules waits for neither numba nor kernels."""
    script = LISTED.format(module=module)
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert not [name for name in loaded if name == "numba" or name.startswith("incnet.kernels")], loaded


def test_public_names():
    """The package lists exactly what its API imports, and hands each out as the thing itself."""
    assert set(incnet.__all__) == {name for name in vars(api) if not name.startswith("__")}
    assert len(incnet.__all__) == len(set(incnet.__all__))
    assert set(incnet.__all__) <= set(dir(incnet))
    for name in incnet.__all__:
        assert getattr(incnet, name) is getattr(api, name)
        assert name == "Array" or name == "ops" or getattr(api, name).__doc__


def test_unknown_names():
    with pytest.raises(AttributeError, match="module 'incnet' has no attribute 'Grahp'"):
        incnet.Grahp  # noqa: B018


def test_type_checkers_see_the_public_names(tmp_path):
    """Also with the strictest settings, which take no name that a package happens to have imported."""
    program = tmp_path / "program.py"
    program.write_text("import incnet\nreveal_type(incnet.SGD(0.1).lr)\nincnet.Graph(3)\nincnet.Grahp\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", str(program)]
    said = subprocess.run([*command, f"--cache-dir={tmp_path}"], capture_output=True, text=True).stdout
    assert set(re.findall(r":(\d): (\w+):", said)) == {("2", "note"), ("3", "error"), ("4", "error")}, said
    assert "float" in said.splitlines()[0]


def test_imports_run_one_way(tmp_path):
    """The contracts of pyproject.toml, kept by the package as it is installed: kernels are a part of it only there."""
    script = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    contracts = Path(__file__).parents[1] / "pyproject.toml"
    command = [sys.executable, "-W", "ignore", "-c", script, "--no-cache", str(contracts)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
