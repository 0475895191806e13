"""What the paper reports: its Table 2, accuracy on the CIFAR-10 test set (headed "error" there), in percent."""

from __future__ import annotations

__all__ = ["paper_accuracy"]

TABLE_2 = {
    "vgg16": {"baseline": 90.06, "lookahead": 90.50, "random": 88.91},
    "resnet20": {"baseline": 87.81, "lookahead": 87.52, "random": 79.20},
    "resnet32": {"baseline": 88.93, "lookahead": 88.90, "random": 79.89},
    "resnet44": {"baseline": 89.40, "lookahead": 89.32, "random": 80.20},
    "resnet56": {"baseline": 89.51, "lookahead": 89.56, "random": 80.96},
}


def paper_accuracy(dataset: str, arch: str, arm: str) -> float | None:
    """Return the paper's figure for one of its arms, or None where it has none."""
    return TABLE_2.get(arch, {}).get(arm) if dataset == "cifar10" else None
