"""``incnet.train`` where the rank in ``FAILING_RANK`` raises an exception in the second epoch, as a bug would."""

import os
import sys

from incnet import train
from incnet.training.replay import Replay

STEPS = 8


def main() -> int:
    gradients, calls = Replay.gradients, 0

    def fail(step, images, labels):
        nonlocal calls
        calls += 1
        if calls == STEPS and os.environ["PMI_RANK"] == os.environ["FAILING_RANK"]:
            raise ZeroDivisionError("a bug")
        return gradients(step, images, labels)

    Replay.gradients = fail
    return train.main()


if __name__ == "__main__":
    sys.exit(main())
