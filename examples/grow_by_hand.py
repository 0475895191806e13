"""Grow a ResNet-20 on handwritten digits by hand: what a run does, as a loop that can be read and changed.

    python examples/grow_by_hand.py

The digits come with scikit-learn (``pip install -e ".[demo]"``), nothing is downloaded; it takes some ten seconds.
"""

from __future__ import annotations

from itertools import islice

import numpy as np

import incnet

LOOKAHEAD_EPOCHS, EPOCHS, RECALIBRATION_BATCHES = 2, 3, 20


def main() -> float:
    """Train, printing each epoch. Returns the accuracy on the test images."""
    digits = incnet.load_dataset("digits")
    train, validation = incnet.split_validation(digits.train, 0.1, seed=0)
    normalisation = incnet.Normalisation.fit(train)
    batches = incnet.Loader(train, normalisation, 32, seed=0, shuffle=True, augmentation=incnet.Augmentation(1, False))
    judges = incnet.Loader(validation, normalisation, 256, seed=0)

    rng = np.random.default_rng(0)
    graph = incnet.Graph(digits.image_shape, lambda shape: incnet.make_classifier(shape, 10, rng=rng))
    optimizer = incnet.RMSProp(lr=1e-3)
    step = incnet.Replay(incnet.Step(graph, optimizer))
    epochs = iter(range(1, 1000))

    def learn(count: int) -> None:
        """Train what is not frozen for so many epochs, and look at the average of the weights after each."""
        average = incnet.WeightAverage()
        for epoch in islice(epochs, count):
            learned = incnet.train_epoch(step, batches.epoch(epoch), after_step=lambda: average.observe(graph))
            with average.applied(graph):
                incnet.recalibrate(graph, islice(batches.epoch(epoch), RECALIBRATION_BATCHES))
                judged = incnet.evaluate(graph, judges.epoch(0))
            print(f"epoch {epoch:2}  loss {learned.loss:.3f}  validation accuracy {judged.accuracy:.3f}")
        average.hand_on(graph)

    for name, subnetwork in incnet.build("resnet20", digits.image_shape, rng=rng).items():
        # Look-ahead: all that was there is frozen, and the new sub-network and the classifier learn on its features.
        first = not graph.subnetworks
        incnet.insert(graph, name, incnet.fuse(subnetwork), optimizer, lookahead=not first)
        print(f"\n{name} inserted: {graph!r}")
        if not first:
            learn(LOOKAHEAD_EPOCHS)
            graph.unfreeze()
            print("unfrozen")
        learn(EPOCHS)

    print(f"\n{graph}\n")
    tested = incnet.evaluate(graph, incnet.Loader(digits.test, normalisation, 256, seed=0).epoch(0))
    print(f"test accuracy {tested.accuracy:.3f}")
    return tested.accuracy


if __name__ == "__main__":
    main()
