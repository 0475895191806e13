"""What a reader opens to follow one training step as it really runs, and how large the parts of the code are.

    python -m bench.reading                    # the CPU backend, a step that is being recorded
    python -m bench.reading --device reference # the plain definitions

The files are those of this project in which a tracer sees a line run during one step of ResNet-20, kernels that numba
has compiled aside: what they do is in the same files as what calls them.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
import tyro

from incnet import backend
from incnet.graph import Graph
from incnet.models import build, make_classifier
from incnet.optim import RMSProp
from incnet.training.replay import Replay
from incnet.training.step import Step

TOP = Path(__file__).resolve().parent.parent
# The method, and the engine without kernels, which one person should be able to read.
METHOD = ("criterion", "schedule", "insertion", "identity")
ENGINE = ("backend", "parameter", "layer", "init", "optim", "graph", "fusion", "cost")


@dataclass(frozen=True)
class Reading:
    """Count the files and lines of one training step, and of each part of the code."""

    device: Literal["cpu", "reference"] = "cpu"
    """Whose step."""


def files_of_a_step(device: str) -> list[Path]:
    """Files in which a line runs during one training step, in order of their names."""
    from incnet.fusion import fuse

    backend.use(device)
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((8, 32, 32, 3), np.float32), rng.integers(0, 10, 8)
    graph = Graph((32, 32, 3), lambda shape: make_classifier(shape, 10, rng=rng))
    for name, subnetwork in build("resnet20", graph.input_shape, rng=rng).items():
        graph.insert(name, fuse(subnetwork))
    step = Replay(Step(graph, RMSProp()))
    for _ in range(2):  # compiles what it takes
        step.gradients(images, labels)
        step.update()
    step = Replay(Step(graph, RMSProp()))
    seen: set[str] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        seen.add(frame.f_code.co_filename)
        return None  # a call is enough: in every file that runs, something is called

    sys.settrace(trace)
    try:
        step.gradients(images, labels)
        step.update()
    finally:
        sys.settrace(None)
    found = {Path(name).resolve() for name in seen if Path(name).exists()}
    return sorted(path for path in found if path.is_relative_to(TOP) and "bench" not in path.parts)


def lines(path: Path) -> int:
    """Lines of a file."""
    return len(path.read_text().splitlines())


def sizes() -> dict[str, int]:
    """Lines of each folder, and of the parts that one person should be able to read."""
    found: Counter[str] = Counter()
    for folder in ("incnet", "kernels", "bench", "tests"):
        for path in (TOP / folder).rglob("*.py"):
            if not (folder == "incnet" and path.resolve() != path.absolute()):  # kernels, linked
                found[folder] += lines(path)
    layers = [*(TOP / "incnet/layers").glob("*.py"), *(TOP / "incnet/models").glob("*.py")]
    training = [TOP / "incnet/training" / f"{name}.py" for name in ("loop", "step", "replay")]
    engine = [TOP / "incnet" / f"{name}.py" for name in ENGINE]
    found["method"] = sum(lines(TOP / "incnet/growth" / f"{name}.py") for name in METHOD)
    found["engine without kernels"] = sum(lines(path) for path in [*engine, *layers, *training] if path.exists())
    found["reference kernels"] = sum(lines(path) for path in (TOP / "kernels/reference").glob("*.py"))
    return dict(found)


def main() -> None:
    """Print the counts as JSON."""
    options = tyro.cli(Reading, prog="python -m bench.reading")
    files = files_of_a_step(options.device)
    result = {
        "device": options.device,
        "files": len(files),
        "lines": sum(map(lines, files)),
        "lines of each": {str(path.relative_to(TOP)): lines(path) for path in files},
        "sizes": sizes(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
