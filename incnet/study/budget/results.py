"""Tables and figures of a study of budgets, from its finished runs or from those in other folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from incnet import backend
from incnet.checked_json import parse_json
from incnet.config import Config
from incnet.extras import why_not
from incnet.networks.stored import NETWORK, StoredNetwork
from incnet.report import MISSING, read_runs
from incnet.report.arms import Network
from incnet.report.history import History
from incnet.run.images import load_data
from incnet.storage.files import replace_file, writing
from incnet.storage.folder import environment
from incnet.study.budget.arms import Arms, named_by_options
from incnet.study.budget.curves import Curve, curve_of
from incnet.study.budget.seconds import ROUNDS, Measurement, Timings
from incnet.study.budget.tables import as_markdown, as_tables, summarise
from incnet.study.options import Study, StudyError
from incnet.terminal import Terminal
from incnet.threads import use_threads
from incnet.timing.display import progress
from incnet.user_code import is_place, source_of

__all__ = ["tabulate", "write_results"]

# Arms that train the whole network on whole images: what saves must save against the best of them.
REFERENCES = ("constant", "decay", "sgd")
MOST_BYTES = 2**22


def tabulate(study: Study, terminal: Terminal) -> None:
    """Write the results of finished runs in the folders that ``--from-runs`` names.

    Raises
    ------
    ReportError, ConfigError
        If there are none, or their options are impossible.
    StudyError
        If nothing can be compared.
    """
    runs, problems = read_runs(study.from_runs)
    for problem in problems:
        terminal.say(f"warning: left out: {problem}")
    finished = [run for run in runs if run.finished]
    if not finished:
        raise StudyError(f"--from-runs: none of the {len(runs)} runs there is finished")
    with writing(study.folder):
        study.folder.mkdir(parents=True, exist_ok=True)
    write_results(named_by_options(finished, study), study, terminal)
    terminal.say(f"more in budget.md, budget.json and figures in {study.folder}")


def write_results(arms: Arms, study: Study, terminal: Terminal) -> None:
    """Write budget.json, budget.md and figures of finished runs to the study's folder, and show the tables."""
    timings = _timings(arms, study, terminal)
    networks = {network: _curves(groups, study, timings) for network, groups in arms.items()}
    against = _against(networks, study)
    rows = summarise(networks, against)
    content = {"study": study.name, "accuracy": study.accuracy, "measured": timings and timings.where, "networks": rows}
    _write(study.folder / "budget.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    _write(study.folder / "budget.md", as_markdown(rows, study.accuracy, timings.where if timings else ""))
    for table in as_tables(rows, study.accuracy):
        terminal.show(table)
    try:
        from incnet.study.budget.figure import write
    except Exception as error:
        terminal.say(f"warning: no figures: {why_not('what draws figures', error, f'drawing {MISSING} ({error})')}")
        return
    with writing(study.folder / "figures"):
        (study.folder / "figures").mkdir(exist_ok=True)
        for (dataset, arch), curves in networks.items():
            name = Network(dataset, arch, []).name
            write(curves, study.accuracy, study.folder / "figures" / f"{name}-budget")


def _curves(groups: dict[str, list[History]], study: Study, timings: Timings | None) -> list[Curve]:
    runs = [run for group in groups.values() for run in group]
    budgets = {*study.budgets, *(len(run.epochs) for run in runs)}
    clock = timings.seconds if timings else lambda run: None
    curves = [curve_of(name, group, budgets, study.accuracy, clock) for name, group in groups.items()]
    return [curve for curve in curves if curve.points]


def _against(networks: dict[tuple[str, str], list[Curve]], study: Study) -> Sequence[str]:
    known = {curve.name for curves in networks.values() for curve in curves}
    if unknown := [name for name in study.against if name not in known]:
        raise StudyError(f"--against {unknown[0]}: there are runs of {', '.join(sorted(known))}")
    return study.against or REFERENCES


# Seconds.


def _timings(arms: Arms, study: Study, terminal: Terminal) -> Timings | None:
    """Return what is measured now, if that is asked for, or was before; None for nothing."""
    file = study.folder / "timings.json"
    if study.measure:
        measured = _measure(arms, study, terminal)
        _write(file, json.dumps(measured.as_json(), indent=2) + "\n")
        return measured
    if not file.exists():
        return None
    try:
        with open(file, "rb") as opened:
            return Timings.from_json(parse_json(opened.read(MOST_BYTES)))
    except (OSError, ValueError) as error:
        raise StudyError(f"{file} is damaged ({error!s:.120}); remove it, or measure again by --measure") from error


def _measure(arms: Arms, study: Study, terminal: Terminal) -> Timings:
    device = backend.resolve(study.device)
    backend.use(device, convolution=study.convolution, tf32=study.tf32)
    threads = use_threads(study.threads)
    processor = environment()["processor"] if device == "cpu" else device.replace("cuda", "gpu")
    where = f"{processor}, {threads} thread{'s' if threads > 1 else ''}"
    found = []
    for dataset in dict.fromkeys(dataset for dataset, _ in arms):
        groups = [group for (name, _), arms_of in arms.items() if name == dataset for group in arms_of.values()]
        runs = [(Config.from_json(run.options), _network(run, study)) for group in groups for run in group]
        config, _ = runs[0]
        images = load_data(replace(config, data_dir=study.data_dir or config.data_dir))
        measurement = Measurement(runs, images)
        with progress(terminal, measurement.kinds, ROUNDS) as after_turn:
            found += measurement.take(after_turn=after_turn)
    return Timings(where, found)


def _network(run: History, study: Study) -> StoredNetwork | None:
    """Return the network of the user's own that a run has, as its folder keeps it: no code is run that it may name."""
    if not is_place(run.setup.arch):
        return None
    try:
        return StoredNetwork.of_run(run.path, [source_of(arch) for arch in study.archs if is_place(arch)])
    except OSError as error:
        raise StudyError(f"{run.path / NETWORK}: {error.strerror or error}") from error


def _write(path: Path, text: str) -> None:
    replace_file(path, [text.encode()])
