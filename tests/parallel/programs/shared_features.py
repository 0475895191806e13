"""Cached features of ranks that share every batch: theirs are to be the rows that a process by itself would read.

Takes the cache, the bytes of memory and the folder for it, and the type of what is kept. Prints how many values were
compared, as JSON.
"""

import json
import sys
from contextlib import closing
from pathlib import Path

import numpy as np

from incnet.data.augment import Augmentation
from incnet.data.dataset import Normalisation, Split
from incnet.data.loader import Loader
from incnet.data.shard import Shard
from incnet.growth import features as module
from incnet.growth.features import Cache, LookaheadFeatures
from incnet.parallel.launch import connect
from incnet.storage.spill import SpillStore
from incnet.threads import use_threads
from tests.small_networks import grow, randomise

N, BATCH, EPOCHS = 22, 8, 5
module.PORTION = 10_000  # a few images at a time


def features(cache, memory, folder, communicator=None):
    rng = np.random.default_rng(0)
    graph = randomise(grow("resnet8", (8, 8, 3), fused=True), rng)
    graph.freeze_prefix(2)
    split = Split(rng.integers(0, 256, (N, 8, 8, 3), np.uint8), np.arange(N) % 10)
    shard = Shard(communicator.rank, communicator.size) if communicator else Shard()
    options = {"seed": 3, "prefetch": 0, "shard": shard}
    normalisation = Normalisation.fit(split)
    train = Loader(split, normalisation, BATCH, shuffle=True, augmentation=Augmentation(2, True), **options)
    validation = Loader(split.take(slice(9)), normalisation, 4, **options)
    name = f"rank{communicator.rank}-" if communicator else f"alone{shard}-"
    ranks = {"communicator": communicator} if communicator else {}
    return LookaheadFeatures(
        graph,
        train,
        validation,
        Cache.parse(cache),
        dtype=sys.argv[4],
        first=0,
        epochs=EPOCHS,
        store=SpillStore(memory, folder, name),
        **ranks,
    )


def copies(batches):
    with closing(batches):
        return [(x.copy(), labels.copy()) for x, labels in batches]


def main():
    cache, memory, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    use_threads(1)
    compared = 0
    with connect() as communicator:
        ours = features(cache, memory, folder, communicator)
        alone = features(cache, 2**30, folder)
        for epoch in range(EPOCHS):
            pairs = [(ours.train(epoch), alone.train(epoch)), (ours.validation(), alone.validation())]
            for found, wanted in pairs:
                found = copies(found)
                wanted = [
                    (x[part], labels[part])
                    for x, labels in copies(wanted)
                    if (part := Shard(communicator.rank, communicator.size).of(len(x))).stop > part.start
                ]
                for (x, labels), (wanted_x, wanted_labels) in zip(found, wanted, strict=True):
                    np.testing.assert_array_equal(x, wanted_x)
                    np.testing.assert_array_equal(labels, wanted_labels)
                    compared += x.size
        communicator.check_equal({"view": ours._views[0].kept}, "features")
        ours.close()
        alone.close()
        compared = communicator.allreduce_count(compared)
    if communicator.first:
        print(json.dumps(compared))


if __name__ == "__main__":
    main()
