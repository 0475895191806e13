"""Softmax followed by cross-entropy, row by row."""

import numpy as np
from numba import njit

from ..reference.loss import check_labels
from .memory import aligned_empty
from .tape import whole

__all__ = ["softmax_cross_entropy"]


@whole
def softmax_cross_entropy(logits, labels):
    """Loss of ``logits`` (N, K) against integer ``labels`` (N,), with the gradient of its mean; see the reference.

    Returns ``totals`` (2,) float64, the sum of the losses and the number of correct rows, and ``dlogits`` (N, K).
    """
    check_labels(labels, logits.shape[1])
    dlogits = aligned_empty(logits.shape, logits.dtype)
    totals = np.zeros(2)
    _softmax_cross_entropy(np.ascontiguousarray(logits), labels, dlogits, totals)
    return totals, dlogits


@njit(cache=True)
def _softmax_cross_entropy(logits, labels, dlogits, totals):
    rows, classes = logits.shape
    for n in range(rows):
        best = np.argmax(logits[n])
        normaliser = 0.0
        for k in range(classes):
            normaliser += np.exp(np.float64(logits[n, k] - logits[n, best]))
        for k in range(classes):
            p = np.exp(np.float64(logits[n, k] - logits[n, best])) / normaliser
            dlogits[n, k] = (p - (k == labels[n])) / rows
        totals[0] += np.log(normaliser) - (logits[n, labels[n]] - logits[n, best])
        totals[1] += best == labels[n]
