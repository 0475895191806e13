"""What a run makes for use outside of it: a model of every stage, files of weights, a summary."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from incnet import __version__
from incnet.config import Config
from incnet.deploy.model import Description, pack_model
from incnet.networks.description import Architecture
from incnet.run.images import RunImages
from incnet.run.state import RunState
from incnet.storage.checkpoint import save_weights
from incnet.storage.files import writing
from incnet.storage.folder import RunFolder
from incnet.training.evaluation import Evaluation
from incnet.user_code import short

__all__ = ["export_stage", "export_weights", "summary"]


def export_stage(state: RunState, config: Config, images: RunImages, folder: RunFolder) -> None:
    """Write the model of the stage in progress, as it was at its best; a stage without an epoch has none.

    A stage that is gone through again after an interruption writes the same file again.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    if state.best is None:
        return
    dataset, normalisation = images.dataset, images.train.normalisation
    description = Description(
        arch=short(config.arch),
        partition=config.partition,
        subnetworks=len(state.graph.subnetworks),
        input_shape=list(dataset.image_shape),
        resize=config.resize,
        classes=list(dataset.classes),
        mean=normalisation.mean.tolist(),
        std=normalisation.std.tolist(),
        dataset=dataset.name,
        val_accuracy=state.best.accuracy,
        params=state.stage.params,
        macs_inference=state.stage.macs_inference,
        incnet=__version__,
        shortcut=config.shortcut,
        network=Architecture.of(state.graph.subnetworks, state.graph.classifier),
    )
    folder.replace(description.file, pack_model(description, state.best_weights))


def export_weights(state: RunState, folder: RunFolder) -> None:
    """Write ``last.safetensors`` and, once the stage has had an epoch, ``best.safetensors``.

    Raises
    ------
    WriteError
        If they cannot be written.
    """
    with state.averaged():
        save_weights(folder.path / "last.safetensors", state.graph)
    best = folder.path / "best.safetensors"
    if state.best_weights:
        save_weights(best, state.best_weights)
    else:
        with writing(best):
            best.unlink(missing_ok=True)  # of an earlier stage, from when the run was last stopped


def summary(state: RunState, seconds: float, test: Evaluation | None, *, ended: bool) -> dict[str, Any]:
    """Content of ``summary.json``.

    Parameters
    ----------
    seconds : float
        That the run has taken.
    test : Evaluation or None
        On the test images; None for a run that was interrupted, or has none.
    ended : bool
        Whether the run has come to its end.
    """
    tested = {stage.name: stage.accuracy for stage in test.stages} if test else {}
    return {
        "test_accuracy": test.accuracy if test else None,
        "test_images": test.images if test else 0 if ended else None,
        "val_accuracy": state.best.accuracy if state.best else None,
        "epochs": state.epochs,
        "seconds": round(seconds, 3),
        "seconds_training": round(state.seconds_training, 3),
        "seconds_compiling": round(state.seconds_compiling, 3),
        "macs_training": state.ledger.total,
        "params": state.graph.num_parameters(),
        "stages": [asdict(stage) | {"test_accuracy": tested.get(stage.name)} for stage in state.stages],
    }
