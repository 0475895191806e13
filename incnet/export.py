"""The command ``python -m incnet.export MODEL OUT.onnx``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from incnet.commandline import parse
from incnet.deploy.model import ModelError, load_model
from incnet.deploy.onnx_graph import TOLERANCE, OnnxError, difference, to_onnx
from incnet.options import option
from incnet.parallel.launch import is_first
from incnet.storage.files import WriteError, replace_file
from incnet.terminal import Terminal, command
from incnet.threads import use_threads

__all__ = ["Export", "main"]

DIFFERENT = 3
CHECKED_IMAGES = 16


@dataclass(frozen=True)
class Export:
    """Write a stage of a run as an ONNX model, which takes pixels: uint8 (N, H, W, C). Needs incnet[onnx].

    Exits with 0; 2 for a model that cannot be used; 3 if --check finds a difference; 4 if OUT cannot be written.

    Examples::

      incnet export runs/RUN digits.onnx --check
      incnet export runs/RUN/stages/S1.safetensors small.onnx
    """

    model: Path = option(
        "Model, from the folder stages of a run; or a run folder, for its last stage.", positional=True
    )
    out: Path = option("File to write; its name ends in .onnx.", positional=True)
    check: bool = option(
        "Before writing, run it with onnxruntime on random images and compare the logits with incnet's.", False
    )
    trust: str | None = option(
        "File FILE.py, or module, that is run to find the model's layers that are none of incnet's.",
        None,
        otherwise="a model that has such layers is refused, and nothing is run",
        metavar="{FILE.py,MODULE}",
    )


@command(refused=(ModelError, OnnxError), unwritable=(WriteError,))
def main(arguments: list[str] | None = None) -> int:
    """Export as the command line says. Returns the exit code."""
    if not is_first():
        return 0
    return export(parse(Export, arguments, prog="incnet export"))


def export(options: Export) -> int:
    """Export, check and write."""
    if options.out.suffix != ".onnx":
        raise OnnxError(f"{options.out}: models are written as ONNX and in no other format; let its name end in .onnx")
    use_threads(None)
    terminal = Terminal()
    model = load_model(options.model, options.trust or ())
    content = to_onnx(model).SerializeToString()
    if options.check:
        images = np.random.default_rng(0).integers(0, 256, (CHECKED_IMAGES, *model.image_shape), np.uint8)
        found = difference(content, model, images)
        said = f"logits differ from incnet's by up to {found:.1e} of the largest, on {CHECKED_IMAGES} random images"
        if not found <= TOLERANCE:
            wrong = f"error: {said}, which is more than {TOLERANCE:g}; {options.out} was not written"
            Terminal(stderr=True).say(wrong)
            return DIFFERENT
        terminal.say(said)
    replace_file(options.out, [content])
    described = model.description
    terminal.say(
        f"{options.out}: {described.arch}, {described.stage}, {described.params:,} parameters, "
        f"{described.macs_inference:,} multiply-adds per image, validation accuracy {described.val_accuracy:.2%}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
