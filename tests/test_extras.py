"""An optional package that is installed and cannot be loaded: the cause is said, and no installation recommended."""

import sys
from pathlib import Path

import pytest

from incnet import backend, train
from incnet.backend import DeviceError
from incnet.config import Config, ConfigError
from incnet.data import pictures
from incnet.data.dataset import DataError
from incnet.data.digits import load_digits
from incnet.deploy import onnx_graph
from incnet.deploy.onnx_graph import OnnxError
from incnet.extras import install, why_not
from incnet.report import ReportError, write_figures, write_report
from incnet.study import __main__ as study
from incnet.study.options import Study, StudyError
from incnet.terminal import Terminal

USES = {
    "PIL": (DataError, pictures.pillow_image),
    "onnx": (OnnxError, lambda: onnx_graph._import("onnx")),
    "onnxruntime": (OnnxError, lambda: onnx_graph._import("onnxruntime")),
    "sklearn": (DataError, load_digits),
    "distributed": (StudyError, lambda: study.make_executor(Study(name="table2", dask="local:2"), Terminal())),
    "tensorboard": (ConfigError, lambda: train._check_extras(Config(tensorboard=True))),
    "cupy": (DeviceError, lambda: backend.resolve("gpu")),
    "jinja2": (ReportError, lambda: write_report([], Path("report.html"))),
    "matplotlib": (ReportError, lambda: write_figures([], Path("figures"))),
}
# Modules of incnet that import them at their head.
USERS = ("incnet.study.dask", "incnet.report.page", "incnet.report.figures", "incnet.report.style")


class Broken:
    """Finds a package, and raises what loading it would."""

    def __init__(self, package, error):
        self.package, self.error = package, error

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.package:
            raise self.error


@pytest.mark.parametrize("error", [ImportError, OSError, AttributeError], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("package", USES)
def test_the_cause_is_said_in_a_line(package, error, monkeypatch):
    for name in list(sys.modules):
        if name.partition(".")[0] == package or name.startswith(USERS):
            monkeypatch.delitem(sys.modules, name)
    cause = error("libthing.so.8: cannot open shared object file:\n  No such file or directory")
    monkeypatch.setattr(sys, "meta_path", [Broken(package, cause), *sys.meta_path])
    expected, use = USES[package]
    with pytest.raises(expected) as caught:
        use()
    said = f"installed, but cannot be loaded ({error.__name__}: libthing.so.8: cannot open shared object file: No such"
    assert said in str(caught.value)
    assert "pip install" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_clashing():
    assert why_not("Thing", ModuleNotFoundError("No module named 'thing'", name="thing"), "missing") == "missing"
    clash = ModuleNotFoundError("No module named 'numpy.kern'", name="numpy.kern")
    assert why_not("Thing", clash, "missing").endswith("(ModuleNotFoundError: No module named 'numpy.kern')")


def test_the_command_that_installs_an_extra_can_be_pasted_into_any_shell():
    """Brackets stand for files in zsh, and single quotes for themselves in Windows' cmd."""
    assert install("demo") == 'pip install "incnet[demo]"'
    written = [path.read_text() for path in (Path(backend.__file__).parent).rglob("*.py")]
    assert not [text for text in written if "pip install incnet[" in text or "pip install 'incnet[" in text]
