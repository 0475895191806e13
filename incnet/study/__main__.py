"""The command ``python -m incnet.study``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from incnet import backend
from incnet.commandline import origins, parse
from incnet.config import Config, ConfigError
from incnet.data.dataset import DataError
from incnet.extras import install, why_not
from incnet.options import as_arguments, with_origins
from incnet.report import ReportError, write_figures, write_report
from incnet.report.history import History
from incnet.run.images import load_data
from incnet.storage.files import WriteError
from incnet.study.budget import results as budget
from incnet.study.budget.arms import Arms
from incnet.study.budget.branches import Branch, begin_branch, plan_branches
from incnet.study.display import StudyDisplay, plan_table, results_table
from incnet.study.estimate import Estimator
from incnet.study.executor import Executor, Job, Outcome, Processes
from incnet.study.folder import FREE, StudyFolder, StudyRun
from incnet.study.networks import settle_networks
from incnet.study.options import Study, StudyError
from incnet.study.tables import as_markdown, summarise
from incnet.terminal import BAD_INPUT, UNWRITABLE, Terminal, command
from incnet.threads import available_threads, use_threads
from incnet.training.signals import StopSignals
from incnet.user_code import source_of

__all__ = ["main"]

PROGRAM, NAME = "python -m incnet.study", "incnet study"
FAILED = 1


@command()
def main(arguments: list[str] | None = None) -> int:
    """Study what the command line says.

    Returns
    -------
    int
        0; 1 if a run failed; 2 for bad input; 4 for a full disk; 130, 143 or 129 for a study that was
        stopped by SIGINT, SIGTERM or SIGHUP.
    """
    study = parse(Study, arguments, NAME)
    terminal, errors = Terminal(), Terminal(stderr=True)
    given = f"{PROGRAM} {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
    try:
        if study.from_runs:
            study.check()
            budget.tabulate(study, terminal)
            return 0
        folder = StudyFolder(study)
        if study.dry_run:
            return show_plan(folder, terminal)
        return carry_out(folder, make_executor(study, terminal), given, terminal)
    except (ConfigError, DataError, ReportError, StudyError, backend.DeviceError) as error:
        errors.say(f"error: {with_origins(str(error), Study, origins(Study, arguments, NAME))}")
        return BAD_INPUT
    except WriteError as error:
        errors.say(f"error: {error}; {error.remedy}, then give the same command again")
        return UNWRITABLE


def make_executor(study: Study, terminal: Terminal) -> Executor:
    """Return what carries the study's runs out."""
    if study.dask is None:
        return Processes(study.jobs)
    try:
        from incnet.study.dask import DaskCluster
    except Exception as error:
        missing = f"it needs Dask ({error}): {install('dask')}"
        raise StudyError(f"--dask {study.dask}: {why_not('Dask', error, missing)}") from error
    return DaskCluster(study.dask, terminal.say)


# A dry run.


def show_plan(folder: StudyFolder, terminal: Terminal) -> int:
    """Show what would run and about how long it would take; change nothing."""
    study = folder.study
    backend.use(backend.resolve(study.device), convolution=study.convolution)
    use_threads(study.threads)
    dataset = load_data(folder.runs[0].planned.config, download=False)
    settle_networks(folder.runs, dataset)
    estimates: dict[tuple[str, str], tuple[float, float]] = {}
    pace: dict[str, float] = {}
    for run in folder.runs:
        arch, arm = run.planned.arch, run.planned.arm
        if run.status == "finished" or (arch, arm) in estimates:
            continue
        estimator = Estimator(run.planned.config, dataset, run.network)
        if measured := _measured_seconds(folder, arch, arm):
            estimates[arch, arm] = estimator.ledger.total, measured
        else:
            macs = estimator.ledger.total
            pace.setdefault(arch, estimator.seconds_per_mac())
            estimates[arch, arm] = macs, macs * pace[arch]
    terminal.show(plan_table(folder.runs, estimates))
    terminal.say(
        "MACs are those of a learning curve that rises steadily: the slope-angle rule does not fire, and stages share "
        "the epochs. Times are those of training steps, one run at a time, as measured in finished runs of the arm, "
        "else in a few steps; validation comes on top."
    )
    return 0


def _measured_seconds(folder: StudyFolder, arch: str, arm: str) -> float | None:
    """Return the mean of the finished runs of an arm, if there are any."""
    finished = _groups(folder)[arch, arm]
    seconds = [run.epochs[-1].seconds_training for run in finished]
    known = [value for value in seconds if value is not None]
    return sum(known) / len(known) if known else None


# The study itself.


def carry_out(folder: StudyFolder, executor: Executor, given: str, terminal: Terminal) -> int:
    """Train what is not finished, then write tables, figures and report. Returns the exit code."""
    study = folder.study
    device = backend.resolve(study.device)
    settle_networks(folder.runs, load_data(folder.runs[0].planned.config))  # errors and downloads come once, and now
    display = StudyDisplay(terminal)
    with folder, StopSignals(announce=display.announce) as signals:
        folder.save(given)
        todo = [run for run in folder.runs if run.status != "finished"]
        place = f"{study.jobs} at a time on {device}" if study.dask is None else f"on Dask, {study.dask}"
        terminal.say(
            f"{study.title}: {len(folder.runs)} runs, {len(folder.runs) - len(todo)} of them "
            f"finished; {place}; in {folder.path}"
        )
        shared = device == "cpu" and study.runs_here > 1
        threads = available_threads(study.runs_here) if shared else None
        branches = plan_branches([run.planned for run in folder.runs]) if study.name == "budget" else {}
        for trunk in {branch.trunk for branch in branches.values()}:
            folder.of(trunk).keep_checkpoints()

        def watch() -> bool:
            for run in todo:
                display.follow(run)
            return signals.received is None

        with display:
            for wave in (False, True):  # trunks, then their branches
                now = [run for run in todo if (run.planned.name in branches) == wave and signals.received is None]
                for run in now:
                    begin(folder, run, branches)
                jobs = [make_job(folder, run, threads) for run in now]
                for job, outcome in executor.execute(jobs, watch) if jobs else ():
                    run = folder.of(job.name)
                    look_again(run, outcome, job, stopped=signals.received is not None)
                    display.end(run)
                    folder.save(given)
        write_results(folder, terminal)
        if signals.received is not None:
            terminal.say("stopped; the same command goes on")
            return 128 + signals.received
    return FAILED if any(run.status == "failed" for run in folder.runs) else 0


def begin(folder: StudyFolder, run: StudyRun, branches: Mapping[str, Branch]) -> None:
    """Begin a run as a branch of another one, if it is to be one and can."""
    branch = branches.get(run.planned.name)
    if branch is not None and run.status == "new":
        trunk = folder.of(branch.trunk)
        if begin_branch(trunk.path, branch.epochs, run.planned.config, run.path):
            run.look()


def make_job(folder: StudyFolder, run: StudyRun, threads: int | None) -> Job:
    """Return what begins a run, or goes on with it."""
    network = None
    if run.network is not None and run.status == "new":
        network = folder.keep_network(run.network)
    log = folder.path / "logs" / f"{run.planned.name}.log"
    return Job(run.planned.name, arguments(run), log, threads, network)


def arguments(run: StudyRun) -> list[str]:
    """Return the arguments of ``python -m incnet.train`` that begin a run, or go on with it."""
    config = run.planned.config
    if run.status == "new":  # beside a preset, which sets what is left out, nothing is
        left_out = vars(Config()) if config.preset is None else {}
        return [*as_arguments(Config, vars(replace(config, out=run.path)), left_out)]
    assert run.history is not None
    begun = Config.from_json(run.history.options)
    asked = {name: getattr(config, name) for name in sorted(FREE - {"out", "resume", "preset"})}
    asked = {name: value for name, value in asked.items() if value is not None}
    if run.network is not None:  # what was named on this study's command line is trusted, and not what the folder says
        asked["trust"] = source_of(config.arch)
    return ["--resume", str(run.path), *as_arguments(Config, asked, vars(begun))]


def look_again(run: StudyRun, outcome: Outcome, job: Job, *, stopped: bool) -> None:
    """Find out how a run ended."""
    try:
        run.look()
    except StudyError as error:
        run.status, run.reason = "failed", str(error)
        return
    if run.status != "finished" and not stopped:
        run.status, run.reason = "failed", outcome if isinstance(outcome, str) else _last_words(outcome, job.log)


def _last_words(code: int, log: Path) -> str:
    """Say how a process ended, with the error that its log ends with."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    except OSError as error:
        return f"exit code {code}, and there is no log ({error}): does its process see the study's folder?"
    said = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])
    return f"exit code {code}: {said.removeprefix('error: '):.300} ({log})"


def write_results(folder: StudyFolder, terminal: Terminal) -> None:
    """Write tables, figures and report of what is finished, and show the results."""
    study = folder.study
    if not folder.histories:
        return
    if study.name == "budget":
        budget.write_results(_curves(folder), study, terminal)
    else:
        rows = summarise(_groups(folder), study.levels)
        folder.write("table2.json", {"study": study.name, "dataset": study.dataset, "rows": rows})
        folder.write("table2.md", as_markdown(study.title, rows))
        terminal.show(results_table(rows))
    try:
        write_figures([folder.path], folder.path / "figures")
        for problem in write_report([folder.path], folder.path / "report.html"):
            terminal.say(f"warning: left out of the report: {problem}")
        table = "budget.md" if study.name == "budget" else "table2.md"
        terminal.say(f"more in {table}, figures and report.html in {folder.path}")
    except ReportError as error:
        terminal.say(f"warning: no figures and no report: {error}")


def _groups(folder: StudyFolder) -> dict[tuple[str, str], Sequence[History]]:
    """Return the finished runs of each network and arm."""
    groups: dict[tuple[str, str], list[History]] = {}
    archs = dict.fromkeys(run.planned.arch for run in folder.runs)
    for run in folder.runs:
        group = groups.setdefault((run.planned.arch, run.planned.arm), [])
        if run.status == "finished" and run.history is not None:
            group.append(run.history)
    return {key: groups[key] for arch in archs for key in groups if key[0] == arch}


def _curves(folder: StudyFolder) -> Arms:
    """Return the finished runs of each network and arm, whatever their budgets."""
    arms: Arms = {}
    for run in folder.runs:
        if run.status == "finished" and run.history is not None:
            groups = arms.setdefault((run.planned.config.dataset, run.planned.arch), {})
            groups.setdefault(run.planned.curve, []).append(run.history)
    return arms


if __name__ == "__main__":
    sys.exit(main())
