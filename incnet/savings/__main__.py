"""The command ``python -m incnet.savings``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from incnet import backend
from incnet.commandline import parse
from incnet.config import Config, ConfigError
from incnet.extras import install, why_not
from incnet.graph import Graph
from incnet.names import ARCHITECTURES, counted
from incnet.optim import RMSProp
from incnet.options import option
from incnet.report.numbers import duration
from incnet.run.network import NetworkFactory, own_function
from incnet.savings.boundaries import Measured, measure, settings, step_memory
from incnet.savings.display import table
from incnet.savings.memory import available_bytes
from incnet.storage.files import WriteError, replace_file, writing
from incnet.storage.folder import environment
from incnet.terminal import Terminal, command
from incnet.threads import use_threads
from incnet.timing.display import progress
from incnet.user_code import short

__all__ = ["Savings", "main"]

IMAGE, CLASSES = (32, 32, 3), 10
FIGURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Savings:
    """Measure what freezing saves: a training step at every boundary of a network, on random images.

    Nothing is frozen, or S1, or S1 and S2, and so on; the backward pass stops at the boundary. 'cached' begins with the
    frozen sub-networks' features, as a look-ahead with --lookahead-cache does. Predicted is the time of the step with
    nothing frozen, in proportion to the multiply-adds. Exits with 0; 2 for bad input; 4 when a file cannot be written.

    Examples::

      incnet savings
      incnet savings --arch vgg16 --plot savings.png --json savings.json
      incnet savings --arch net.py:network
    """

    arch: str = option(
        "Network: resnet20, resnet32, resnet44, resnet56 (any 6n+2), vgg16 or vgg16-bn; or one of your own, "
        "FILE.py:FUNCTION or MODULE:FUNCTION, which is run. For images of 32x32 in colour, and 10 classes.",
        "resnet20",
        names=ARCHITECTURES,
        metavar="NAME",
        code=True,
    )
    partition: str = option(
        "Sub-networks: 'filters' (one for each width, as in the paper), 'blocks' (one each), or their number. A "
        "network of your own has those that its function returns.",
        "filters",
        names=("filters", "blocks"),
        metavar="{filters,blocks,N}",
    )
    batch_size: int | None = option(
        "Images in a step.", None, otherwise="128; 32 for vgg16, and for networks of your own without batch norm"
    )
    device: str = option(
        "Where to compute: auto, cpu or gpu.", "auto", names=("auto", "cpu", "gpu"), metavar="{auto,cpu,gpu}"
    )
    threads: int | None = option(
        "Threads that the CPU's kernels may use.",
        None,
        otherwise="one for each core that this process may run on",
    )
    rounds: int = option("Turns of each setting; a ratio is taken in each, and their median counts.", 8)
    steps: int = option("Steps of a turn.", 4)
    json: Path | None = option(
        "File for the numbers as JSON; - for standard output, without the table.", None, metavar="FILE"
    )
    plot: Path | None = option(
        "File for a figure: .png, .svg or .pdf. Needs matplotlib (incnet[report]).", None, metavar="FILE"
    )


@command(refused=(ConfigError, backend.DeviceError), unwritable=(WriteError,))
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what freezing saves, as the command line says.

    Returns
    -------
    int
        0; 2 for bad input; 4 for a file that cannot be written; 130 when interrupted.
    """
    options, start = parse(Savings, arguments, prog="incnet savings"), time.perf_counter()
    config, threads, graph = prepare(_config(options))
    assert isinstance(config.batch_size, int)
    parts = len(graph.subnetworks)
    title = f"{short(config.arch)} in {parts} sub-networks, batches of {config.batch_size}, on {_device()}"
    title += f", {threads} thread{'s' if threads > 1 else ''}" if backend.ops.name == "cpu" else ""
    terminal = Terminal(stderr=str(options.json) == "-")
    compared = len(settings(parts))
    with progress(terminal, compared, options.rounds) as after_turn:
        rows = measure(graph, config.batch_size, rounds=options.rounds, steps=options.steps, after_turn=after_turn)
    seconds = time.perf_counter() - start
    if str(options.json) != "-":
        terminal.show(table(title, list(graph.subnetworks), rows))
        terminal.say(_legend(rows, options, seconds))
    if options.json is not None:
        found = as_json(config, options, threads, rows, seconds)
        _write_json(found, options.json)
    if options.plot is not None:
        _write_figure(title, list(graph.subnetworks), rows, options.plot)
    return 0


def prepare(config: Config) -> tuple[Config, int, Graph]:
    """Choose device and threads, and make the network; return the configuration with what it left open, and both.

    Raises
    ------
    ConfigError
        If there is no such network, nothing to freeze in it, or no memory for its step.
    DeviceError
        If there is no such device.
    """
    backend.use(backend.resolve(config.device))
    threads = use_threads(config.threads)
    if config.threads not in (None, threads):
        raise ConfigError(f"--threads {config.threads}: there are {threads} here; choose at most that")
    networks = NetworkFactory(config, IMAGE, CLASSES, own_function(config))
    config, graph = networks.config, networks.graph()
    for name, subnetwork in networks.subnetworks().items():
        graph.insert(name, subnetwork)
    if len(graph.subnetworks) < 2:
        asked = f"--arch {short(config.arch)}" if networks.own else f"--partition {config.partition}"
        raise ConfigError(f"{asked}: one sub-network, and nothing to freeze; choose 2 or more")
    assert isinstance(config.batch_size, int)
    takes, free = step_memory(graph, RMSProp(), config.batch_size), available_bytes()
    if takes is not None and takes > free:
        raise ConfigError(
            f"--batch-size {config.batch_size}: a step takes {takes / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free; "
            "choose a smaller one"
        )
    return config, threads, graph


def _config(options: Savings) -> Config:
    """Check the options, by the rules of a run that would have them."""
    for name in ("rounds", "steps"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name} {getattr(options, name)}: choose at least 1")
    if options.plot is not None:
        if options.plot.suffix not in FIGURES:
            raise ConfigError(f"--plot {options.plot}: choose a name that ends in {', '.join(FIGURES)}")
        _check_matplotlib(options.plot)
    for name, path in (("json", options.json), ("plot", options.plot)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            reason = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
            raise ConfigError(f"--{name} {path}: {reason}; choose the name of a file")
        if path is not None and str(path) != "-":
            _check_writable(f"--{name} {path}", path.parent)
    return Config(
        "cifar10",
        arch=options.arch,
        partition=options.partition,
        batch_size=options.batch_size,
        device=options.device,
        threads=options.threads,
    ).resolve()


def _check_writable(asked: str, folder: Path) -> None:
    """Find out before anything is measured for it."""
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"{asked}: {error.strerror}; choose a place that can be written") from error


def _check_matplotlib(path: Path) -> None:
    try:
        import incnet.savings.figure  # noqa: F401
    except Exception as error:
        missing = f"--plot {path} needs matplotlib: {install('report')}"
        raise ConfigError(why_not("matplotlib", error, missing)) from error


def as_json(config: Config, options: Savings, threads: int, rows: Sequence[Measured], seconds: float) -> dict[str, Any]:
    """Everything that was measured, and where, as JSON values."""
    return {
        "arch": short(config.arch),
        "partition": config.partition,
        "batch_size": config.batch_size,
        "device": _device(),
        "threads": threads,
        "rounds": options.rounds,
        "steps": options.steps,
        "seconds": round(seconds, 1),
        "environment": environment(),
        "settings": [row.as_json() for row in rows],
    }


def _device() -> str:
    return backend.ops.name.replace("cuda", "gpu")


def _legend(rows: Sequence[Measured], options: Savings, seconds: float) -> str:
    kept = sorted({row.expected.feature_bytes for row in rows if row.setting.cached})
    least, most = kept[0] / 1e3, kept[-1] / 1e3
    memory = "Memory as the CPU's kernels take it: network, gradients, optimizer, activations, batch."
    if any(row.expected.memory is None for row in rows):
        memory = "What memory layers of your own take is not known beforehand."
    return (
        f"Medians of {counted(options.rounds, 'round')} of {counted(options.steps, 'step')} in turns, "
        "± half the interquartile range; "
        f"{duration(seconds)} in all. Predicted by multiply-adds. {memory} "
        f"Cached features take {least:,.1f} to {most:,.1f} kB per image."
    )


def _write_json(found: dict[str, Any], path: Path) -> None:
    text = json.dumps(found, indent=2) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
    else:
        replace_file(path, [text.encode()])


def _write_figure(title: str, subnetworks: Sequence[str], rows: Sequence[Measured], path: Path) -> None:
    from incnet.report.style import style
    from incnet.savings.figure import draw

    figure = draw(title, subnetworks, rows)
    with writing(path), style():
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    sys.exit(main())
