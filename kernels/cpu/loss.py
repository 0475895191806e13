"""Softmax followed by cross-entropy, row by row."""

import numpy as np

from ..reference.loss import check_labels
from .calls import opaque
from .emit import doubles, floats, integers, kernel, numbers
from .fallback import for_float32
from .memory import address, address_of_any, aligned_empty

__all__ = ["softmax_cross_entropy"]

FLOAT = 4  # bytes


@for_float32
@opaque
def softmax_cross_entropy(logits, labels):
    """Loss of ``logits`` (N, K) against integer ``labels`` (N,), with the gradient of its mean; see the reference.

    Returns ``totals`` (2,) float64, the sum of the losses and the number of correct rows, and ``dlogits`` (N, K).
    """
    check_labels(labels, logits.shape[1])
    logits, labels = np.ascontiguousarray(logits), np.ascontiguousarray(labels, np.int64)
    dlogits, totals = aligned_empty(logits.shape), np.zeros(2)
    cross_entropy(
        *logits.shape, address(logits), address_of_any(labels), address(dlogits), address_of_any(totals), threads=1
    )
    return totals, dlogits


@kernel
def cross_entropy(t, threads, arguments):
    N, K, logits, labels, dlogits, totals = numbers(arguments, 6)
    label, sums = integers(labels), doubles(totals)
    for n in range(N):
        row, gradient = floats(logits + FLOAT * n * K), floats(dlogits + FLOAT * n * K)
        best = 0
        for k in range(K):
            # The first NaN is the largest, as for np.argmax.
            if row[k] > row[best] or (row[k] != row[k] and row[best] == row[best]):
                best = k
        normaliser = 0.0
        for k in range(K):
            normaliser += np.exp(np.float64(row[k] - row[best]))
        for k in range(K):
            p = np.exp(np.float64(row[k] - row[best])) / normaliser
            gradient[k] = (p - (k == label[n])) / N
        sums[0] += np.log(normaliser) - (row[label[n]] - row[best])
        sums[1] += best == label[n]
