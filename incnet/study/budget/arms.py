"""Which arm finished runs belong to, that no study has named: by their options, or by the name of their folder."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

from incnet.config import Config, ConfigError
from incnet.image_sizes import ImageSizes
from incnet.options import described, making_no_other
from incnet.report.history import History
from incnet.study.options import Study
from incnet.user_code import short

__all__ = ["Arms", "named_by_options"]

# Runs of each network's arms, by (data set, network) and arm.
Arms = dict[tuple[str, str], dict[str, list[History]]]

# Options that tell no arms apart, besides those of the machine.
_SAME = making_no_other(Config) | {"seed", "epochs"} | {n for n, facts in described(Config).items() if facts.by_machine}


def named_by_options(runs: Sequence[History], study: Study) -> Arms:
    """Return the runs by network and arm, those arms first that the study has, in their order.

    A run whose options, but seed and epochs, are those of one of the study's arms belongs to it; how image sizes are
    spelt does not matter, as long as each epoch has its own. Others with the same options are an arm of the name that
    their folders share: ``r20-wide`` of ``r20-wide-24-seed1``.

    Raises
    ------
    ConfigError
        If a run's options cannot be.
    """
    found: dict[tuple[str, str], dict[str, tuple[str, list[History]]]] = {}
    for run in runs:
        config = Config.from_json(run.options)
        arms = found.setdefault((config.dataset, short(config.arch)), {})
        arm = _arm(config, study)
        arms.setdefault(arm or _key(config), (arm or _name(run, study), []))[1].append(run)
    order = [*study.known_arms]
    return {
        network: dict(sorted(_unique(arms.values()).items(), key=lambda arm: (_place(arm[0], order), arm[0])))
        for network, arms in found.items()
    }


def _key(config: Config) -> str:
    return json.dumps([getattr(config, each.name) for each in fields(Config) if each.name not in _SAME], default=str)


def _arm(config: Config, study: Study) -> str | None:
    """Return the study's arm whose options a run has; None if there is none."""
    for arm in study.known_arms:
        try:
            planned = study.config(config.arch, arm, config.seed, config.epochs, dataset=config.dataset)
            planned = planned.as_network_of(config)
        except ConfigError:
            continue  # an arm that this network or so few epochs do not allow
        if _key(_spelt_out(planned)) == _key(_spelt_out(config)):
            return arm
    return None


def _spelt_out(config: Config) -> Config:
    """Return a configuration whose image sizes are given epoch by epoch."""
    if config.image_sizes is None:
        return config
    assert config.epochs is not None
    sizes = ImageSizes.parse(config.image_sizes, config.epochs)
    return replace(config, image_sizes=str([sizes.at(epoch) for epoch in range(config.epochs)]))


def _name(run: History, study: Study) -> str:
    name = re.sub(r"-\d+$", "", re.sub(r"-seed\d+", "", run.path.resolve().name)) or run.path.name
    return f"{name} (other options)" if name in study.known_arms else name


def _unique(arms: Iterable[tuple[str, list[History]]]) -> dict[str, list[History]]:
    """Return arms by name; of several with one name the second is ``NAME (2)``."""
    named: dict[str, list[History]] = {}
    seen = Counter[str]()
    for name, runs in arms:
        seen[name] += 1
        named[name if seen[name] == 1 else f"{name} ({seen[name]})"] = runs
    return named


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)
