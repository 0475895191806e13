"""The command ``python -m incnet.predict MODEL IMAGE...``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from incnet import backend
from incnet.colours import parse_colour
from incnet.commandline import parse
from incnet.data.dataset import DataError
from incnet.data.folder import pictures_in
from incnet.deploy.images import read_images
from incnet.deploy.model import Model, ModelError, load_model
from incnet.options import option
from incnet.parallel.launch import is_first
from incnet.records import parse_json
from incnet.terminal import Terminal, command
from incnet.threads import use_threads

__all__ = ["Predict", "main"]

BAD_INPUT = 2


@dataclass(frozen=True)
class Predict:
    """Name what images show.

    Pictures are turned upright, put on a background where they are transparent, made grey for models of one channel,
    scaled until the smaller side fits and cut to the middle. An image that cannot be read is named, and the others are
    answered. Exits with 0, or 2 if the model or any image cannot be used.

    Examples::

      incnet predict runs/RUN one.png two.png
      incnet predict runs/RUN pictures/
      incnet predict runs/RUN/stages/S1.safetensors one.png --top 1 --json
    """

    model: Path = option(
        "Model, from the folder stages of a run; or a run folder, for its last stage, which is then named.",
        positional=True,
    )
    images: tuple[Path, ...] = option(
        "Pictures (PNG, JPEG, ...: pip install incnet[images]), folders of them, or .npy files of uint8 (H, W, C) or "
        "(N, H, W, C).",
        (),
        positional=True,
        metavar="IMAGE",
    )
    top: int = option("Classes that are named for each image.", 3)
    json: bool = option(
        "Print a JSON object a line: the image's name, and its predictions, each with class and probability.", False
    )
    background: str = option(
        "Colour behind what is transparent in a picture: white, black, or #rrggbb. Choose that of the images which the "
        "model has learnt from.",
        "white",
        names=("white", "black"),
        metavar="COLOUR",
    )
    device: str = option(
        "Where to compute: auto, cpu, gpu or reference.",
        "auto",
        names=("auto", "cpu", "gpu", "reference"),
        metavar="{auto,cpu,gpu,reference}",
    )


@command(answers=True)
def main(arguments: list[str] | None = None) -> int:
    """Predict as the command line says. Returns the exit code."""
    if not is_first():
        return 0
    options = parse(Predict, arguments, prog="incnet predict")
    errors = Terminal(stderr=True)
    try:
        if options.top < 1:
            raise DataError(f"--top {options.top}: choose at least 1")
        if not options.images:
            raise DataError("no images: name at least one after the model")
        try:
            background = parse_colour(options.background)
        except ValueError as error:
            raise DataError(f"--background {options.background}: {error}") from error
        backend.use(backend.resolve(options.device))
        use_threads(None)
        model = load_model(options.model)
        if options.model.is_dir():
            errors.say(f"model: {_which_stage(model, options.model)}")
        images = Images(options.images, model.image_shape, background)
        for answer in predictions(model, images, options.top):
            print(json.dumps(answer) if options.json else in_words(answer))
    except (ModelError, DataError, backend.DeviceError) as error:
        errors.say(f"error: {error}")
        return BAD_INPUT
    return BAD_INPUT if images.unreadable else 0


def _which_stage(model: Model, folder: Path) -> str:
    """Say which stage of a run ``model`` is, and whether there may be a later one."""
    stage = model.description.stage
    try:
        *_, last = (folder / "metrics.jsonl").read_bytes().splitlines()
        ended = parse_json(last)["event"] == "stop"
    except (OSError, ValueError, TypeError, KeyError):  # no such file, or a line that is being written
        ended = False
    return (
        f"{stage}, the last stage of {folder}"
        if ended
        else f"{stage}, the last stage so far of {folder}, which has not ended"
    )


class Images:
    """The images of several files, each with its name; of those that cannot be read, the reasons.

    Attributes
    ----------
    unreadable : int
        Files that could not be read so far. Each is named as it is come to.
    """

    def __init__(self, paths: Iterable[Path], shape: tuple[int, int, int], background: tuple[int, int, int]) -> None:
        self._paths, self._shape, self._background = paths, shape, background
        self.unreadable = 0

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for path in self._paths:
            inside = pictures_in(path) if path.is_dir() else [path]
            if not inside:
                self._leave_out(f"{path} holds no pictures")
            for file in inside:
                try:
                    yield from read_images(file, self._shape, self._background)
                except DataError as error:
                    self._leave_out(error)

    def _leave_out(self, reason: object) -> None:
        print(f"error: {reason}", file=sys.stderr)
        self.unreadable += 1


def predictions(model: Model, images: Iterable[tuple[str, NDArray[np.uint8]]], top: int) -> Iterator[dict]:
    """Yield, for each image, its name and the ``top`` most probable classes, the best first."""
    images = iter(images)
    while batch := list(islice(images, model.batch_size)):
        probabilities = model.predict(np.stack([pixels for _, pixels in batch]))
        for (name, _), row in zip(batch, probabilities, strict=True):
            best = np.argsort(-row, kind="stable")[:top]
            named = [{"class": model.classes[i], "probability": round(float(row[i]), 6)} for i in best]
            yield {"image": name, "predictions": named}


def in_words(answer: dict) -> str:
    """One line: ``three.png: 3 (98.1%), 8 (1.2%)``."""
    named = (f"{each['class']} ({each['probability']:.1%})" for each in answer["predictions"])
    return f"{answer['image']}: {', '.join(named)}"


if __name__ == "__main__":
    sys.exit(main())
