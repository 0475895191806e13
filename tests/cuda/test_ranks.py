"""Ranks on GPUs, on the double of CuPy: the steps of one process, whatever carries the sums, and no copy but theirs."""

import json
import signal
import time

import pytest

from tests.faults.runs import EVERY_STEP, outcome
from tests.parallel.mpiexec import Ranks, needs_mpi, run, wait_until

from .one_rank import WAYS, state_after_steps
from .programs.faults import FAULTS

pytestmark = needs_mpi

# Network, fused or not, frozen sub-networks, what their batch norm uses.
CASES = (
    {"network": ("narrow", True, 0, "eval"), "on_device_too": True},
    {"network": ("narrow", True, 0, "eval"), "sync_bn": False},
    {"network": ("narrow", True, 2, "batch")},
    {"network": ("narrow", True, 2, "eval"), "sync_bn": False},
    {"network": ("dropout", False, 0, "eval")},
)
LATE, EARLY = {"early": False}, {"early": True}


def examine(size, cases, on="double"):
    with Ranks(size, "tests.cuda.programs.device_steps", on, json.dumps(cases)) as ranks:
        code, out, err = ranks.finish(60 if on == "double" else 300)  # on a GPU kernels are compiled first
    assert code == 0, err
    return json.loads(out)


@pytest.mark.parametrize("sums", WAYS)
@pytest.mark.parametrize(
    ("ranks", "cases"),
    [(2, [*(case | LATE for case in CASES), CASES[0] | EARLY, CASES[1] | EARLY]), (3, [CASES[1] | EARLY])],
    ids=["2", "3"],
)
def test_twenty_steps(ranks, cases, sums):
    found, sent = examine(ranks, [case | {"sums": sums} for case in cases]), {}
    for case, result in zip(cases, found, strict=True):
        assert all(result["differences"][on] < 1e-10 for on in result["differences"]), (case, result)
        if sums == "nccl":  # a replay
            assert (result["bytes_summed"], result["to_host"], result["to_device"]) == (result["claimed"], 0, 0), case
        else:
            assert result["bytes_staged"] == result["claimed"], case
            assert result["to_host"] == result["to_device"] > 1, case
        sent[case["network"], case.get("sync_bn", True)] = result["claimed"]
    if ranks == 2:  # what is frozen does not travel
        assert sent[CASES[3]["network"], False] < sent[CASES[1]["network"], False]


PLANTED = {
    "nobody_waits": [("nccl", False)],
    "begins_before_backward": [("nccl", True)],
    "another_stream": [("nccl", False)],
    "largest_instead_of_sum": [("nccl", False)],
    "another_type": [("nccl", False)],
    "first_half": [("nccl", False)],
    "gradients_without_share": [("nccl", False), ("staged", False)],
    "sums_before_the_copy": [("staged", False)],
    "never_copied_back": [("staged", False)],
    "memory_given_back_early": [("staged", True)],
    "copied_before_backward": [("staged", True)],
}


def test_a_seeded_fault_in_sums_is_seen():
    assert PLANTED.keys() == FAULTS.keys()
    cases = [
        {"network": CASES[0]["network"], "steps": 3, "fault": fault, "sums": sums, "early": early}
        for fault, where in PLANTED.items()
        for sums, early in where
    ]
    sound = [{**case, "fault": None} for case in cases[:1]]
    ours, *found = examine(2, sound + cases)
    assert ours["differences"]["reference"] < 1e-10
    for case, result in zip(cases, found, strict=True):
        assert "error" in result or result["differences"]["reference"] > 1e-6, (case, result)


@pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
@pytest.mark.parametrize("way", WAYS)
def test_one_rank_takes_the_steps_of_a_process_alone(way, early, device):
    expected = state_after_steps()
    device.early = early
    found = state_after_steps(way)
    assert all(found[name].tobytes() == array.tobytes() for name, array in expected.items())


# Whole runs.

PROGRAM = "tests.cuda.programs.device_run"
RUN = (
    *("digits", "--arch", "resnet8", "--window", 2, "--lookahead-epochs", 1, "--max-stage-epochs", 2, "--epochs", 5),
    *("--batch-size", 8, "--threads", 1, "--device", "gpu", "--no-report"),
)
APART, TOGETHER = {"GPUS": "2", "NCCL": "installed"}, {"GPUS": "1", "NCCL": "installed"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two ranks with a GPU each; what it has printed."""
    folder = tmp_path_factory.mktemp("ranks") / "run"
    code, out, err = run(2, PROGRAM, *RUN, "--out", folder, environment=APART)
    assert (code, err) == (0, "")
    return folder, out


def test_each_rank_takes_a_gpu_of_its_own(finished):
    folder, out = finished
    assert out.count("sums travel over NCCL 2.27.7, since every rank has a GPU of its own\n") == 1
    session = json.loads((folder / "sessions.jsonl").read_text().splitlines()[0])
    assert [name.partition(", ")[2] for name in session["processes"]] == ["GPU 0000:00:00.0", "GPU 0000:01:00.0"]
    content = json.loads((folder / "config.json").read_text())
    assert content["environment"]["allreduce"] == "NCCL 2.27.7"
    assert content["config"]["device"] == "gpu"


def test_ranks_that_share_a_gpu_stage_the_same_sums(finished, tmp_path):
    code, out, err = run(2, PROGRAM, *RUN, "--out", tmp_path / "run", environment=TOGETHER)
    assert (code, err) == (0, "")
    assert (
        "sums travel through page-locked host memory, and steps are launched one by one, since ranks 0 and 1 share"
        in out
    )
    assert outcome(tmp_path / "run") == outcome(finished[0])


def test_cached_features_are_shared_either_way(tmp_path):
    options = (*RUN, "--lookahead-cache", "fixed", "--lookahead-epochs", 2, "--max-stage-epochs", 3, "--epochs", 6)
    for folder, memory, environment in (("device", "1GB", APART), ("files", "0B", TOGETHER)):
        arguments = (*options, "--cache-memory", memory, "--out", tmp_path / folder)
        code, _, err = run(2, PROGRAM, *arguments, environment=environment)
        assert (code, err) == (0, "")
    found = outcome(tmp_path / "device")
    assert found == outcome(tmp_path / "files")
    assert any(event.get("macs_cached") for event in found["metrics"])


def test_a_killed_rank_ends_all_and_the_run_goes_on(finished, tmp_path):
    folder = tmp_path / "run"
    arguments = (*RUN, *EVERY_STEP, "--keep-checkpoints", 50, "--out", folder)
    with Ranks(2, PROGRAM, *arguments, environment=APART) as ranks:
        wait_until(lambda: list(folder.glob("checkpoints/*-epoch2-batch2*")))
        ranks.send(signal.SIGKILL, 1)
        start = time.monotonic()
        assert ranks.finish(20)[0] != 0
        assert time.monotonic() - start < 5
        wait_until(lambda: not ranks.processes(), 5)
    code, out, err = run(2, PROGRAM, "--resume", folder, environment=TOGETHER)
    assert code == 0, err
    assert "'allreduce' was 'NCCL 2.27.7' and is 'page-locked host memory' now" in out
    assert outcome(folder) == outcome(finished[0])


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("--allreduce", "nccl"), TOGETHER, "--allreduce nccl: ranks 0 and 1 share a GPU, which NCCL refuses"),
        (
            ("--allreduce", "nccl"),
            {"GPUS": "2", "NCCL": "missing"},
            "--allreduce nccl: CuPy finds no NCCL for ranks 0 and 1 (pip",
        ),
        (
            ("--device", "gpu:1"),
            APART,
            "--device gpu:1: 2 ranks of this machine would share that GPU; choose --device gpu",
        ),
        ((), {"GPUS": "2", "NCCL": "broken"}, "NCCL cannot connect the ranks (NCCL_ERROR_SYSTEM_ERROR: unhandled"),
        (("--device", "cpu", "--allreduce", "staged"), APART, "--allreduce staged: the ranks compute on CPUs"),
    ],
)
def test_bad_input_is_one_line_of_all_ranks(arguments, environment, message, tmp_path):
    code, _, err = run(2, PROGRAM, *RUN, *arguments, "--out", tmp_path / "run", environment=environment)
    assert code == 2
    assert message in err
    assert err.count("error:") == 1
    assert not (tmp_path / "run").exists()
