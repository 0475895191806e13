"""Completion, as bash does it."""

import shutil
import subprocess

import pytest

from incnet.completion import main

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_incnet
echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    file = tmp_path_factory.mktemp("completion") / "incnet"
    with pytest.MonkeyPatch.context() as patch, open(file, "w") as out:
        patch.setattr("sys.stdout", out)
        assert main(["bash"]) == 0
    return file


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], "train"),
        (["train", "--lookahead-"], "--lookahead-epochs --lookahead-cache"),
        (["train", "--optimizer", ""], "rmsprop sgd"),
        (["train", "--preset", ""], "fast paper"),
        (["train", "--arch", "vgg"], "vgg16 vgg16-bn"),
        (["train", "cifar100"], "cifar100 cifar100-coarse"),
        (["train", "--no-aug"], "--no-augment"),
        (["study", "fig"], "figure3 figure4 figure5"),
        (["study", "--arch"], "--archs"),
        (["predict", "--de"], "--device"),
        (["completion", ""], "bash zsh tcsh"),
        # As the help has them: not turned off where they are off, and by no old name.
        (["study", "--no-d"], ""),
        (["train", "--sums"], ""),
        (["train", "--confi"], "--config"),
    ],
)
def test_bash(script, words, expected):
    done = subprocess.run(["bash", "-c", ASK, "-", script, "incnet", *words], capture_output=True, text=True)
    assert done.stdout.split() == expected.split(), done.stderr


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells(shell, capsys):
    assert main([shell]) == 0
    assert "--lookahead-cache" in capsys.readouterr().out
