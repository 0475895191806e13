"""What the paper reports: its Table 2, accuracy on the CIFAR-10 test set (headed "error" there), in percent."""

from __future__ import annotations

from collections.abc import Sequence

from incnet.report.history import History

__all__ = ["paper_accuracy"]

TABLE_2 = {
    "vgg16": {"baseline": 90.06, "lookahead": 90.50, "random": 88.91},
    "resnet20": {"baseline": 87.81, "lookahead": 87.52, "random": 79.20},
    "resnet32": {"baseline": 88.93, "lookahead": 88.90, "random": 79.89},
    "resnet44": {"baseline": 89.40, "lookahead": 89.32, "random": 80.20},
    "resnet56": {"baseline": 89.51, "lookahead": 89.56, "random": 80.96},
}


# Sub-networks of its partition, by filters: those of every ResNet, and of VGG-16.
SUBNETWORKS = {"resnet": 3, "vgg16": 6}


def paper_accuracy(runs: Sequence[History], arm: str) -> float | None:
    """Return the paper's figure for one of its arms, or None where the runs of the arm compare with none.

    They do if they are finished, on CIFAR-10's whole training set at its own size, with all sub-networks of the paper's
    partition in.
    """
    finished = [run for run in runs if run.finished]
    if not finished or not all(map(_comparable, finished)):
        return None
    return TABLE_2.get(finished[0].setup.arch, {}).get(arm)


def _comparable(run: History) -> bool:
    setup = run.setup
    whole = next((count for family, count in SUBNETWORKS.items() if setup.arch.startswith(family)), None)
    at_its_size = setup.resize is None and setup.image_sizes is None
    as_it_is = setup.dataset == "cifar10" and setup.limit is None and at_its_size
    return as_it_is and setup.freeze is None and setup.partition == "filters" and run.epochs[-1].subnetworks == whole
