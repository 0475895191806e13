"""``incnet.train`` in float64, where ranks and a single process differ so little that they decide alike."""

import sys
from functools import partial

import numpy as np

from incnet import train
from incnet.data.loader import Batch, Loader
from incnet.parameter import Parameter
from incnet.run import network, run


def convert(layer):
    """Turn all that a layer has learnt, or is about to, into float64."""
    for each in layer.layers():
        for name, value in vars(each).items():
            if isinstance(value, Parameter):
                value.data = value.data.astype(np.float64)
            elif isinstance(value, np.ndarray) and value.dtype == np.float32:
                setattr(each, name, value.astype(np.float64))


def main() -> int:
    prepare = Loader._prepare

    def in_float64(loader, plan, number, buffer):
        batch = prepare(loader, plan, number, buffer)
        return Batch(batch.x.astype(np.float64), batch.labels)

    class Factory(network.NetworkFactory):
        def subnetworks(self):
            found = super().subnetworks()
            for subnetwork in found.values():  # networks of one's own are made in float32
                convert(subnetwork)
            return found

    Loader._prepare = in_float64
    run.NetworkFactory = Factory
    network.build = partial(network.build, dtype=np.float64)
    network.make_classifier = partial(network.make_classifier, dtype=np.float64)
    return train.main()


if __name__ == "__main__":
    sys.exit(main())
