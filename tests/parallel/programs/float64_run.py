"""``incnet.train`` in float64, where ranks and a single process differ so little that they decide alike."""

import sys
from functools import partial

import numpy as np

from incnet import train
from incnet.data.loader import Batch, Loader
from incnet.run import network


def main() -> int:
    prepare = Loader._prepare

    def in_float64(loader, plan, number, buffer):
        batch = prepare(loader, plan, number, buffer)
        return Batch(batch.x.astype(np.float64), batch.labels)

    Loader._prepare = in_float64
    network.build = partial(network.build, dtype=np.float64)
    network.make_classifier = partial(network.make_classifier, dtype=np.float64)
    return train.main()


if __name__ == "__main__":
    sys.exit(main())
