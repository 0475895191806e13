"""A session: one process, or the ranks of one launch, at work on a run in its folder, from the command or from Python.

Whoever trains by these functions leaves a folder with everything in it that :class:`RunFolder` lists::

    run = Run(Config(dataset="digits"), rule=Saturated())
    summary = train_run(run, "runs/saturated")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from incnet import backend
from incnet.communicator import Communicator
from incnet.config import Config, ConfigError
from incnet.data.dataset import DataError
from incnet.names import counted
from incnet.networks.stored import NETWORK, StoredNetwork
from incnet.report.live import LiveReport
from incnet.run.export import export_stage, export_weights, summary
from incnet.run.run import Run
from incnet.run.start import FILE as START
from incnet.run.tensorboard import TensorBoard
from incnet.run.testing import evaluate_stages
from incnet.storage.folder import RunFolder, RunFolderError, environment
from incnet.storage.silent import SilentFolder
from incnet.threads import threads_in_use
from incnet.training.evaluation import Evaluation
from incnet.training.nonfinite import NonFiniteError
from incnet.training.progress import Display
from incnet.training.signals import Interrupted, StopSignals
from incnet.user_code import short

__all__ = [
    "begin",
    "device_in_use",
    "environment_before",
    "finish",
    "open_folder",
    "restart",
    "resume_run",
    "stored_network",
    "train_run",
]

Say = Callable[[str], None]


# In Python: a call for a run.


def train_run(run: Run, path: Path | str, display: Display | None = None, say: Say = print) -> dict[str, Any]:
    """Train ``run`` from its beginning, in a new folder, as ``python -m incnet.train`` does.

    Parameters
    ----------
    run : Run
        A new one.
    path : Path or str
        Of the folder, which is made. Nothing is ever overwritten.
    display : Display, optional
        Shows epochs and batches; open. Without one nothing is shown.
    say : callable
        Takes each line that is for the user: warnings, and where the report is.

    Returns
    -------
    dict
        Content of ``summary.json``: test accuracy, cost, and every stage; see docs/metrics.md.

    Raises
    ------
    RunFolderError
        If the folder is not empty, or cannot be made.
    ValueError
        If the run has been trained.
    Interrupted, NonFiniteError
        As :func:`finish` does; :func:`resume_run` goes on.
    WriteError
        If the disk is full.
    """
    _check_new(run)
    with begin(run, Path(path)) as folder, _telling_how_to_go_on(path):
        return finish(run, folder, display, say)


def resume_run(run: Run, path: Path | str, display: Display | None = None, say: Say = print) -> dict[str, Any]:
    """Go on with the run in a folder, from its newest whole checkpoint; returns what :func:`train_run` does.

    Parameters
    ----------
    run : Run
        A new one, with the configuration, and the rule, that the run was begun with. What may be another is what
        :meth:`Config.resumed_as` takes, and the condition to stop.
    path : Path or str
        Of the folder.
    display, say : optional
        As for :func:`train_run`.

    Raises
    ------
    ConfigError, DataError
        If it is another run.
    RunFolderError, CheckpointError
        If the folder is no run's, is in use or damaged.
    """
    _check_run(run)
    communicator, path = run.communicator, Path(path)
    with open_folder(communicator, path, lambda: RunFolder.reopen(path)) as folder:
        content = communicator.on_root(folder.read_config)
        communicator.on_root(lambda: _check_network(run, content))
        run.config = communicator.on_root(lambda: _resumed(content, run.config))
        if run.networks.own is not None:  # with the first weights that it had, wherever they came from
            stored = communicator.on_root(lambda: stored_network(folder, None))
            run.networks.own = replace(run.networks.own, content=stored.content)
        restart(run, folder, content, say)
        with _telling_how_to_go_on(path):
            return finish(run, folder, display, say)


def _check_run(run: object) -> None:
    if not isinstance(run, Run):
        raise TypeError(f"the run is a {type(run).__name__}: give a Run, as Run(Config(dataset='digits')) makes it")


def _check_new(run: Run) -> None:
    """Refuse a run that has been trained: what it did would not be in its new folder."""
    _check_run(run)
    if run.state.stages:
        raise ValueError(f"this run has been trained, {_so_far(run)}: make a new one, or go on with it by resume_run")


def _so_far(run: Run) -> str:
    return f"{counted(run.state.epochs, 'epoch')} and {counted(run.state.running.batches, 'batch', 'batches')}"


@contextmanager
def _telling_how_to_go_on(path: Path | str) -> Iterator[None]:
    """Let what ends a run early say, where Python shows it, how the run goes on."""
    try:
        yield
    except (Interrupted, NonFiniteError) as error:
        error.add_note(f"To go on: make the run anew, and call resume_run(run, {str(path)!r})")
        raise


# The parts of a session.


def _resumed(content: dict[str, Any], asked: Config) -> Config:
    begun = Config.from_json(content.get("config"))
    return begun.resumed_as(asked.as_network_of(begun))


def stored_network(folder: RunFolder, trust: str | None) -> StoredNetwork:
    """Return the network of the user's own that a run was begun with: nothing in the folder is run to make it.

    Parameters
    ----------
    trust : str or None
        File or module in which layers are that are none of incnet's.

    Raises
    ------
    RunFolderError
        If the folder holds none.
    """
    try:
        return StoredNetwork.of_run(folder.path, trust or ())
    except OSError as error:
        raise RunFolderError(f"cannot read {folder.path / NETWORK}: {error.strerror or error}") from error


def open_folder(communicator: Communicator, path: Path, opener: Callable[[], RunFolder]) -> RunFolder:
    """Open the run folder on rank 0; the others get one that keeps nothing."""
    opened: list[RunFolder] = []
    communicator.on_root(lambda: opened.append(opener()))
    return opened[0] if opened else SilentFolder(path)


@contextmanager
def begin(run: Run, path: Path) -> Iterator[RunFolder]:
    """Make the folder of a new run, and open it."""
    communicator = run.communicator
    with open_folder(communicator, path, lambda: RunFolder.create(path, _description(run))) as folder:
        if run.start is not None and communicator.first:
            folder.replace(START, [run.start.path.read_bytes()])
        if run.networks.own is not None:
            folder.replace(NETWORK, [run.networks.own.content])
        folder.log_session("begin", processes=communicator.names, environment=_environment(communicator))
        yield folder


def restart(run: Run, folder: RunFolder, content: dict[str, Any], say: Say) -> None:
    """Bring ``run`` to the newest whole checkpoint in ``folder``; say where that is, and what is another than before.

    Parameters
    ----------
    content : dict
        Of ``config.json``.
    """
    communicator = run.communicator
    described = _description(run)
    unknown = communicator.on_root(lambda: _check_same(run, described, content))
    checkpoint, damaged = communicator.on_every(lambda: run.resume(folder))
    described["config"]["out"] = content["config"].get("out")
    if described["config"] != content["config"] or unknown:
        folder.write("config.json", {**described, **content, "config": described["config"]})
    before, now = environment_before(content), _environment(communicator)
    for line in [*damaged, *unknown, *_changes(before, now)]:
        say(f"warning: {line}")
    name = checkpoint.name if checkpoint else None
    say(f"going on after {_so_far(run)}, from {name or 'the beginning'}")
    folder.log_session("resume", checkpoint=name, damaged=damaged, processes=communicator.names, environment=now)


def finish(run: Run, folder: RunFolder, display: Display | None = None, say: Say = print) -> dict[str, Any]:
    """Train ``run`` until it ends or is stopped; leave weights, models, summary and report in ``folder``.

    Returns
    -------
    dict
        Content of ``summary.json``.

    Raises
    ------
    Interrupted
        If SIGINT, SIGTERM or SIGHUP has come. All is left as it is then, with a checkpoint.
    NonFiniteError
        If the numbers diverged: in which epoch, at which learning rate. The last good epoch is left.
    """
    first = run.communicator.first
    if display:
        display.resume(run.state.epochs)
    stopped: Interrupted | NonFiniteError | None = None
    listeners = _listeners(run, folder, say) if first else []
    try:
        with StopSignals(run.communicator, display.announce if display else None) as signals:
            run.train(folder, display, signals, listeners)
    except Interrupted as interrupted:
        stopped = interrupted
    except NonFiniteError as error:
        schedule, lr = run.state.schedule, run.state.optimizer.lr
        where = f"epoch {schedule.epoch + 1} ({schedule.phase}), learning rate {lr:g}"
        stopped = NonFiniteError(f"{where}: {error}")
        run.resume(folder, between_epochs=True)
    run.end_broken_epoch()
    if first:
        export_weights(run.state, folder)
        export_stage(run.state, run.config, run.images, folder)
    test = _test(run, folder) if stopped is None else None
    content = summary(run.state, folder.seconds, test, ended=stopped is None)
    folder.write("summary.json", content)
    for listener in listeners:
        listener.close()
    folder.log_session("end", exit_code=stopped.exit_code if stopped else 0, epochs=run.state.epochs)
    if stopped is not None:
        raise stopped
    return content


def _test(run: Run, folder: RunFolder) -> Evaluation | None:
    """Test every stage, if there are test images. The graph then holds the last one's best weights."""
    if not len(run.images.dataset.test):
        return None
    return run.communicator.on_root(lambda: evaluate_stages(run.state, run.networks, run.images, folder))


def _listeners(run: Run, folder: RunFolder, say: Say) -> list[LiveReport | TensorBoard]:
    listeners: list[LiveReport | TensorBoard] = []
    if run.config.tensorboard:
        listeners.append(TensorBoard(folder))
    if run.config.report:
        listeners.append(LiveReport(folder.path, say))
    return listeners


# What a folder says of its run.


def _description(run: Run) -> dict[str, Any]:
    """Content of ``config.json``; what the configuration leaves to the machine, its environment says."""
    return {
        "config": run.config.as_json(),
        **({"objects": run.objects} if run.objects else {}),
        "network": _network(run),
        "data": {"sha256": run.images.digest()},
        **({"start": run.start.as_json()} if run.start is not None else {}),
        "environment": _environment(run.communicator),
    }


def _environment(communicator: Communicator) -> dict[str, str]:
    """Versions, machine, and what else decides how sums are divided and rounded."""
    sums = {"allreduce": communicator.carried_by} if communicator.carried_by else {}
    chosen = {"device": device_in_use(communicator), "threads": str(threads_in_use()), "ranks": str(communicator.size)}
    return environment() | chosen | sums


def device_in_use(communicator: Communicator) -> str:
    """Return the device as ``--device`` has it: of several ranks, each has another GPU of its machine."""
    device = backend.ops.name.replace("cuda", "gpu")
    return device.partition(":")[0] if communicator.local_size > 1 else device


def environment_before(content: dict[str, Any]) -> dict[str, Any]:
    """Return that of ``config.json``; earlier versions kept device and threads among the options, whoever chose.

    What is ``allreduce`` now, they called ``sums``.
    """
    options = content.get("config", {})
    kept = {name: str(options[name]) for name in ("device", "threads") if options.get(name) is not None}
    environment = content.get("environment", {})
    return kept | {"allreduce" if name == "sums" else name: value for name, value in environment.items()}


def _check_network(run: Run, content: dict[str, Any]) -> None:
    """Refuse a network of other layers than those that the run was begun with; earlier versions did not keep a sum."""
    if "network" in content and content["network"] != _network(run):
        raise ConfigError(
            f"{short(run.config.arch)} has other layers than the network that the run was begun with: go on with that "
            "one, or begin anew"
        )


def _network(run: Run) -> dict[str, str]:
    return {"sha256": run.networks.digest()}


def _check_same(run: Run, described: dict[str, Any], content: dict[str, Any]) -> list[str]:
    """Refuse a run that was begun with another rule or other images. Returns warnings of what cannot be known."""
    begun = content.get("objects", {})
    if "rule" in begun and "rule" not in run.objects:
        raise ConfigError(
            f"the run was begun in Python with a growth rule of its own, {begun['rule']!r:.80}, which no option brings "
            "back; go on there, by incnet.session.resume_run"
        )
    if "stop" in begun and "stop" not in run.objects and run.config.stop is None:
        raise ConfigError(
            f"the run was begun in Python with a condition to stop, {begun['stop']!r:.200}; choose one by --stop, "
            "or go on there, by incnet.session.resume_run"
        )
    if run.start is not None and content.get("start", {}).get("sha256") != run.start.sha256:
        raise ConfigError(f"{run.start.path} is another model than that which the run was begun with")
    _check_network(run, content)
    if "data" not in content:
        return ["config.json holds no checksum of the data: whether the images are the same is not known"]
    if content["data"] != described["data"]:
        raise DataError(f"{run.images.dataset.source} holds other images than those that the run was begun with")
    return []


def _changes(before: dict[str, Any], now: dict[str, str]) -> list[str]:
    return [
        f"{name!r:.40} was {before.get(name)!r:.80} and is {now.get(name)!r} now: results may differ in rounding"
        for name in sorted(now.keys() | before.keys())
        if now.get(name) != before.get(name)
        and name != "machine"
        and (name in before or name not in ("commit", "checkout"))  # which versions of before did not keep
    ]
