"""What a run makes for use outside of it: a model of every stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from incnet import __version__
from incnet.deploy.model import Description, pack_model

if TYPE_CHECKING:
    from incnet.growth.run import Run

__all__ = ["save_stage"]


def save_stage(run: Run) -> None:
    """Write the model of the stage in progress, as it was at its best; a stage without an epoch has none.

    A stage that is gone through again after an interruption writes the same file again.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    if run.best is None:
        return
    stage, dataset, normalisation = run.stages[-1], run.images.dataset, run.images.train.normalisation
    description = Description(
        arch=run.config.arch,
        partition=run.config.partition,
        subnetworks=len(run.graph.subnetworks),
        input_shape=list(dataset.image_shape),
        resize=run.config.resize,
        classes=list(dataset.classes),
        mean=normalisation.mean.tolist(),
        std=normalisation.std.tolist(),
        dataset=dataset.name,
        val_accuracy=run.best.accuracy,
        params=stage.params,
        macs_inference=stage.macs_inference,
        incnet=__version__,
    )
    run.folder.replace(description.file, pack_model(description, run.best_weights))
