"""What each study compares: networks, and arms.

An arm is a dict of options of a run; see :class:`incnet.config.Config`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

__all__ = ["DESIGNS", "Design"]

Arms = dict[str, dict[str, Any]]

BASELINE: Arms = {"baseline": {"method": "baseline"}}
LOOKAHEAD: Arms = {"lookahead": {"method": "incremental", "init": "lookahead"}}
RANDOM: Arms = {"random": {"method": "incremental", "init": "random"}}
IDENTITY: Arms = {
    "identity": {"method": "incremental", "init": "identity"},
    "lookahead-identity": {"method": "incremental", "init": "lookahead+identity"},
}
CACHED: Arms = {"cached": LOOKAHEAD["lookahead"] | {"lookahead_cache": "fixed"}}
PERIODIC: Arms = {"periodic": LOOKAHEAD["lookahead"] | {"growth": "periodic"}}

GROWING = {"image_sizes": "16,24,32"}
BUDGET: Arms = {
    "constant": BASELINE["baseline"],
    "decay": BASELINE["baseline"] | {"lr_schedule": "linear", "lr_decay": 0.5},
    "sgd": {"preset": "fast", "image_sizes": None},
    "growing": BASELINE["baseline"] | GROWING,
    "fast": {"preset": "fast"},
}

FREEZE: Arms = {f"{arm}-freeze": BUDGET[arm] | {"freeze": "0.7,0.85"} for arm in ("fast", "sgd")}

# The interpretations of the paper's "momentum 0.9": a heavy ball on RMSProp's step, or the decay of its squared
# gradients.
READINGS = {"": {"rho": 0.9, "momentum": 0.9}, "-rho-alone": {"rho": 0.9, "momentum": 0.0}}
WINDOWS, GAMMAS = (3, 5, 10), (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Design:
    """What a study compares.

    Attributes
    ----------
    archs : tuple of str
        Networks, unless others are asked for.
    arms : dict of str to dict
        Options of each arm.
    more_arms : dict of str to dict
        Of arms that are part of it only when asked for.
    """

    archs: tuple[str, ...]
    arms: Arms
    more_arms: Arms = field(default_factory=dict)


DESIGNS = {
    "table2": Design(
        ("vgg16", "resnet20", "resnet32", "resnet44", "resnet56"),
        BASELINE | LOOKAHEAD | RANDOM,
        more_arms=CACHED | IDENTITY | PERIODIC,
    ),
    "figure3": Design(("vgg16", "resnet56"), BASELINE | LOOKAHEAD, more_arms=RANDOM | CACHED | IDENTITY | PERIODIC),
    "figure4": Design(("vgg16",), BASELINE | LOOKAHEAD, more_arms=RANDOM | CACHED | IDENTITY | PERIODIC),
    "figure5": Design(
        ("vgg16",),
        {
            "baseline": {"method": "baseline", "resize": 224},
            "lookahead": LOOKAHEAD["lookahead"] | {"resize": 224},
            "lookahead-batches": LOOKAHEAD["lookahead"] | {"resize": 224, "batch_size": "auto", "scale_lr": "linear"},
        },
    ),
    "budget": Design(("resnet20",), BUDGET, more_arms=FREEZE | LOOKAHEAD | RANDOM | PERIODIC),
    "momentum": Design(
        ("resnet20",),
        {
            arm + reading: options | READINGS[reading]
            for arm, options in (BASELINE | LOOKAHEAD).items()
            for reading in READINGS
        },
    ),
    "gamma": Design(
        ("resnet20",),
        BASELINE
        | {
            f"window{window}-gamma{gamma:g}": LOOKAHEAD["lookahead"] | {"window": window, "gamma": gamma}
            for window, gamma in product(WINDOWS, GAMMAS)
        },
    ),
}
