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
    """
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
