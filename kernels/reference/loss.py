"""Softmax followed by cross-entropy, in one numerically safe function."""

import numpy as np

__all__ = ["softmax_cross_entropy"]


def softmax_cross_entropy(logits, labels):
    """Loss of ``logits`` (N, K) against integer ``labels`` (N,), with its gradient.

    With p = softmax(logits) and t the one-hot labels::

        loss = mean over n of -log p[n, label[n]]          d loss / d logits = (p - t) / N

    Returns
    -------
    totals : (2,) float64
        Sum of the losses, and number of rows whose largest logit (the first, if several are equal) is the label's.
    dlogits : (N, K)
        Gradient of the *mean* loss.

    Raises
    ------
    IndexError
        A label is not in 0 .. K - 1.
    TypeError
        Labels are not integers.
    """
    check_labels(labels, logits.shape[1])
    n = len(labels)
    rows = np.arange(n)
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    normaliser = exponentials.sum(axis=1, keepdims=True)
    losses = np.log(normaliser[:, 0]) - shifted[rows, labels]
    correct = np.count_nonzero(logits.argmax(axis=1) == labels)
    dlogits = exponentials / normaliser
    dlogits[rows, labels] -= 1
    dlogits /= n
    return np.array([losses.sum(dtype=np.float64), correct], np.float64), dlogits


def check_labels(labels, classes):
    """Raise IndexError unless all labels are in 0 .. classes - 1, and TypeError unless they are integers."""
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels are {labels.dtype}, which are no integers: convert them with astype")
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise IndexError(f"labels {labels.min()} to {labels.max()} of {classes} classes")
