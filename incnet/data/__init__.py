"""Data sets, their normalisation and augmentation, and the loader that serves them in batches."""

from .augment import Augmentation
from .catalogue import DATASETS, load_dataset
from .dataset import DataError, Dataset, Normalisation, Split, split_validation
from .loader import Batch, Loader

__all__ = [
    "DATASETS",
    "Augmentation",
    "Batch",
    "DataError",
    "Dataset",
    "Loader",
    "Normalisation",
    "Split",
    "load_dataset",
    "split_validation",
]
