"""Growth rules of somebody's own: whether a run can ask them, and what they may answer."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from incnet.checked_json import to_json
from incnet.growth.criterion import GrowthRule, Verdict

__all__ = ["as_rule", "as_verdict"]


def as_rule(rule: Any) -> GrowthRule:
    """Return ``rule``, which may be anybody's, if a run can ask it.

    Raises
    ------
    TypeError
        If it is a class, or lacks one of the four methods of :class:`GrowthRule`.
    """
    if isinstance(rule, type):
        raise TypeError(f"the growth rule is the class {rule.__name__}: give an object of it, as {rule.__name__}()")
    methods = ("restart", "observe", "state", "restore")
    if missing := [name for name in methods if not callable(getattr(rule, name, None))]:
        raise TypeError(
            f"the growth rule {rule!r:.80} has no method {missing[0]}: derive its class from GrowthRule, and give it "
            "observe(accuracy, epoch)"
        )
    return rule


def as_verdict(answer: Any, rule: object) -> Verdict | None:
    """Return what ``rule``, which may be anybody's, answered in Python's own types, which a log and a checkpoint hold.

    Raises
    ------
    TypeError
        If the answer is no :class:`Verdict`, truth or None, or something is in the verdict that does not belong there.
    """
    name = type(rule).__name__
    if isinstance(answer, bool | np.bool_):
        answer = Verdict(True, name) if answer else None
    if answer is None:
        return None
    if not isinstance(answer, Verdict):
        raise TypeError(f"the growth rule {name} answered {answer!r:.80}, expected a Verdict, True, False or None")
    values = {each.name: to_json(getattr(answer, each.name), f"the verdict's {each.name}") for each in fields(answer)}
    if not isinstance(values["grow"], bool) or not isinstance(values["reason"], str | None):
        raise TypeError(f"the growth rule {name} answered {answer!r:.200}, expected a truth and a reason in words")
    return replace(answer, **values | {"reason": values["reason"] or name})
