"""PyTorch's threads would spin beside the others: one is faster for networks of this size."""

import contextlib

with contextlib.suppress(ImportError):
    import torch

    torch.set_num_threads(1)
