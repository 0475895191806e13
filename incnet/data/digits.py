"""scikit-learn's handwritten digits: 1,797 real ones, installed with the package, so that they are there offline."""

import numpy as np

from incnet.extras import install, why_not

from .dataset import DataError, Dataset, Split, split_validation

_TEST_FRACTION = 0.2
_TEST_SEED = 1797  # fixed: the data set has no test split of its own, and everybody should hold out the same one
_LARGEST = 16  # of the pixel values


def load_digits() -> Dataset:
    """Return the digits as 1,438 training and 359 test images of (8, 8, 1), pixels scaled from 0..16 to 0..255.

    The test split takes the same share of every class, and is the same on every call.

    Raises
    ------
    DataError
        scikit-learn is not installed.

    Notes
    -----
    Source: Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, doi:10.24432/C50P49.
    """
    try:
        from sklearn import datasets
    except Exception as error:
        missing = f"digits come with scikit-learn, which is missing; run: {install('demo')}"
        raise DataError(why_not("scikit-learn", error, missing)) from error
    digits = datasets.load_digits()
    images = np.rint(digits.images * (255 / _LARGEST)).astype(np.uint8)[..., np.newaxis]
    every = Split(images, digits.target.astype(np.int64))
    train, test = split_validation(every, _TEST_FRACTION, _TEST_SEED)
    return Dataset("digits", tuple("0123456789"), train, test, source="scikit-learn")
