"""``incnet.train`` on a few images and the double of CuPy: ``GPUS`` of them; ``NCCL`` installed, missing or broken."""

import os
import sys

import numpy as np

from incnet import train
from incnet.data.dataset import Dataset, Split
from incnet.run import images
from tests.cuda import strict_cupy
from tests.cuda.strict_nccl import NcclError


def few_images(*_, **__):
    rng = np.random.default_rng(0)
    split = [Split(rng.integers(0, 256, (n, 6, 6, 1), dtype=np.uint8), np.arange(n) % 3) for n in (30, 6)]
    return Dataset("digits", ("a", "b", "c"), *split, "nowhere")


def refuse(*_):
    raise NcclError("NCCL_ERROR_SYSTEM_ERROR: unhandled system error")


def main() -> int:
    images.load_dataset = few_images
    with strict_cupy.installed(int(os.environ["GPUS"]), nccl=os.environ["NCCL"] != "missing"):
        if os.environ["NCCL"] == "broken":
            sys.modules["cupy.cuda.nccl"].NcclCommunicator = refuse
        return train.main()


if __name__ == "__main__":
    sys.exit(main())
