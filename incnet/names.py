"""Names that options choose among: data sets and architectures. They can be listed without loading either."""

from __future__ import annotations

__all__ = ["ARCHITECTURES", "DATASETS", "DEEPEST"]

DATASETS = ("digits", "cifar10", "cifar100", "cifar100-coarse", "fashion-mnist")
# Besides them resnetN, for any other N = 6n + 2 up to the deepest of its paper: a bound for what a file can ask for.
ARCHITECTURES = ("resnet20", "resnet32", "resnet44", "resnet56", "vgg16", "vgg16-bn")
DEEPEST = 1202
