"""Run folders made up for tests: small, with every kind of event, and numbers that can be checked by hand."""

import json
from collections.abc import Sequence
from pathlib import Path

from incnet.config import Config
from incnet.training.evaluation import Evaluation, Mistake, StageTest, pack_evaluation

# Three stages; what an epoch of each costs, in MACs: forward, full backward, backward in look-ahead.
STAGES = {
    "S1": (1_000, 100, 10e9, 20e9, 0),
    "S2": (5_000, 200, 20e9, 40e9, 20e9),
    "S3": (20_000, 300, 30e9, 60e9, 20e9),
}


def write_run(
    folder: Path,
    *,
    seed: int = 0,
    method: str = "incremental",
    epochs: int = 12,
    gain: float = 0.05,
    finished: bool = True,
    ledger: bool = True,
    tested: Sequence[float] = (),
    test_images: int | None = None,
    compiling: float | None = None,
    **options,
) -> Path:
    """Write a run of four epochs a stage, the first of which is look-ahead from S2 on; a baseline has one stage.

    ``tested`` are the test accuracies of its stages, where they were tested; else the last one alone was.
    """
    options = {"dataset": "cifar10", **options}
    config = Config(method=method, seed=seed, epochs=12, window=3, lookahead_epochs=1, **options)
    folder.mkdir(parents=True)
    content = {"config": config.resolve().as_json(), "environment": {"incnet": "0.1.0", "numpy": "2.0.0"}}
    (folder / "config.json").write_text(json.dumps(content))
    events = list(_events(method, epochs, gain, ledger))
    if finished:
        events.append({"event": "stop", "epoch": epochs, "reason": f"the budget of {epochs} epochs is used"})
        accuracy = tested[-1] if tested else 0.4 + gain * epochs / 2 + seed / 100
        stages = [{"name": name, "test_accuracy": value} for name, value in zip(STAGES, tested, strict=False)]
        summary = {"test_accuracy": accuracy, "test_images": test_images, "stages": stages}
        (folder / "summary.json").write_text(json.dumps(summary | {"seconds_compiling": compiling}))
    lines = [json.dumps({"seconds": float(10 * i)} | event) for i, event in enumerate(events)]
    (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def _events(method, epochs, gain, ledger):
    spent = {"macs_forward": 0, "macs_weight_grad": 0, "macs_input_grad": 0, "macs_skipped": 0}
    if method == "baseline":
        for name in STAGES:
            yield _insert(0, name)
    for epoch in range(1, epochs + 1):
        k, within = (2, 1) if method == "baseline" else divmod(epoch - 1, 4)
        name = list(STAGES)[min(k, 2)]
        lookahead = k > 0 and within == 0
        if method != "baseline" and within == 0:
            yield _insert(epoch - 1, name)
        params, macs, forward, full, partial = STAGES[name]
        backward = partial if lookahead else full
        spent["macs_forward"] += int(forward)
        spent["macs_weight_grad"] += int(backward / 2)
        spent["macs_input_grad"] += int(backward / 2)
        spent["macs_skipped"] += int(full - backward)
        total = spent["macs_forward"] + spent["macs_weight_grad"] + spent["macs_input_grad"]
        accuracy = min(1.0, 0.3 + gain * epoch)
        yield {
            **{"event": "epoch", "epoch": epoch, "phase": "lookahead" if lookahead else "train", "subnetworks": k + 1},
            **{"train_loss": 1.0, "train_accuracy": accuracy, "val_loss": 1.0, "val_accuracy": accuracy},
            **{"images_per_second": 100.0, "macs_inference": macs, "macs_training": total, "params": params},
            **(spent | {"seconds_training": 2.5 * epoch} if ledger else {}),
        }
        if method != "baseline" and within == 3:
            slope = 100 * gain
            yield {
                **{"event": "window", "epoch": epoch, "slope": slope, "angle": 45.0, "ratio": None, "grow": epoch == 4},
                "reason": f"the reason at {epoch}",
            }


def _insert(epoch, name):
    params, macs, *_ = STAGES[name]
    init = "lookahead" if epoch else "random"
    return {
        "event": "insert",
        "epoch": epoch,
        "subnetwork": name,
        "init": init,
        "params": params,
        "macs_inference": macs,
    }


def write_evaluation(folder: Path, confusion: list[list[int]], *, mistakes: int = 2) -> Evaluation:
    """Write the test of a run's last stage; its mistakes are pictures of one pixel."""
    classes = [f"class {i}" for i in range(len(confusion))]
    stage = StageTest("S3", "0" * 64, 0.5, confusion)
    wrong = [Mistake(i, 0, 1, 0.9 - i / 100, [1, 1, 3], "AQID") for i in range(mistakes)]
    evaluation = Evaluation(sum(map(sum, confusion)), classes, [stage], wrong)
    (folder / "test.json").write_bytes(pack_evaluation(evaluation))
    return evaluation
