"""When to stop: conditions on what a run has reached and what it has spent.

As Python objects, composed with ``&`` and ``|``, any callable among them::

    from incnet.stopping import accuracy, seconds

    Run(config, stop=(accuracy >= 0.88) | (seconds >= 3600) & (lambda progress: progress.epochs % 5 == 0))

As text, with the same meaning, ``&`` before ``|``, and parentheses; :func:`parse` reads it by recursive descent and
evaluates nothing::

    condition  = term { "|" term }
    term       = factor { "&" factor }
    factor     = "(" condition ")" | quantity comparison number
    comparison = ">=" | ">" | "<=" | "<"
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from incnet.units import FLOPS_PER_MAC

__all__ = [
    "QUANTITIES",
    "AllOf",
    "AnyOf",
    "Condition",
    "ConditionError",
    "Custom",
    "Progress",
    "Quantity",
    "Threshold",
    "accuracy",
    "as_condition",
    "epochs",
    "flops",
    "gain",
    "macs",
    "parameters",
    "parse",
    "reason_to_stop",
    "seconds",
]


@dataclass(frozen=True)
class Progress:
    """What a run has reached and spent at the end of an epoch.

    Attributes
    ----------
    accuracy : float
        Of the validation images, a fraction in [0, 1], after this epoch.
    epochs : int
        Complete epochs, look-ahead included.
    seconds : float
        Since the run began, as on a clock: with validation, and over all sessions of a run that was resumed. The one
        quantity that is not a function of options and seed.
    macs : int
        Multiply-adds of all training steps.
    parameters : int
        Of the network in use.
    gain : float or None
        Percentage points of best validation accuracy by which the stage is ahead of the one before, for each TFLOP
        (1e12) that its training took. None but at the end of a stage, and before the second one's.
    """

    accuracy: float
    epochs: int
    seconds: float
    macs: int
    parameters: int
    gain: float | None = None

    @property
    def flops(self) -> int:
        """Floating-point operations of all training steps: two for a multiply-add."""
        return FLOPS_PER_MAC * self.macs


class Condition:
    """Says, after each epoch, whether a run is to stop. Compose with ``&`` and ``|``."""

    def reason(self, progress: Progress) -> str | None:
        """Return why the run is to stop, or None if it is not."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        raise TypeError(f"{self} has no truth before a run: compose conditions with & and |, not with 'and' and 'or'")

    def __and__(self, other: Condition | Callable) -> Condition:
        return AllOf(_flat(AllOf, self, other))

    def __rand__(self, other: Callable) -> Condition:
        return AllOf(_flat(AllOf, other, self))

    def __or__(self, other: Condition | Callable) -> Condition:
        return AnyOf(_flat(AnyOf, self, other))

    def __ror__(self, other: Callable) -> Condition:
        return AnyOf(_flat(AnyOf, other, self))


def reason_to_stop(condition: Condition, progress: Progress) -> str | None:
    """Return why ``condition`` ends a run, or None. Conditions may be anybody's: a truth by itself is taken, too.

    Raises
    ------
    TypeError
        If it answers with what is neither a truth, text nor None.
    """
    return _in_words(condition.reason(progress), condition)


def _in_words(answer: object, condition: Condition) -> str | None:
    if not isinstance(answer, bool | np.bool_ | str | None):
        raise TypeError(
            f"the condition {condition} answered {answer!r:.80}, expected a truth, a reason in words or None"
        )
    if not answer:
        return None
    return str(answer) if isinstance(answer, str) else str(condition)


def as_condition(condition: Condition | Callable[[Progress], bool | str | None]) -> Condition:
    """Return a condition as it is, and any other callable as a :class:`Custom` one."""
    if isinstance(condition, Condition):
        return condition
    if not callable(condition):
        raise TypeError(f"{condition!r:.80} is neither a condition nor callable; a text goes into Config(stop=...)")
    return Custom(condition)


def _flat(kind: type[AllOf] | type[AnyOf], *conditions: Condition | Callable) -> tuple[Condition, ...]:
    """Conditions, those of the same kind replaced by their parts: ``a & (b & c)`` is ``a & b & c``."""
    return tuple(
        part
        for condition in map(as_condition, conditions)
        for part in (condition.parts if isinstance(condition, kind) else (condition,))
    )


COMPARISONS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


@dataclass(frozen=True)
class Threshold(Condition):
    """A quantity compared with a number. What is not known does not stop a run."""

    quantity: str
    comparison: str
    number: float

    def reason(self, progress: Progress) -> str | None:
        value = getattr(progress, self.quantity)
        if value is None or not COMPARISONS[self.comparison](value, self.number):
            return None
        return f"{self.quantity} {value:.6g} {self.comparison} {_spelt(self.number)}"

    def __str__(self) -> str:
        return f"{self.quantity}{self.comparison}{_spelt(self.number)}"


def _spelt(number: float) -> str:
    return repr(number).removesuffix(".0")


@dataclass(frozen=True)
class AllOf(Condition):
    """Stops when all of its parts do."""

    parts: tuple[Condition, ...]

    def reason(self, progress: Progress) -> str | None:
        reasons = [reason_to_stop(part, progress) for part in self.parts]
        return None if None in reasons else " and ".join(map(str, reasons))

    def __str__(self) -> str:
        return " & ".join(f"({part})" if isinstance(part, AnyOf) else str(part) for part in self.parts)


@dataclass(frozen=True)
class AnyOf(Condition):
    """Stops when one of its parts does; the first one that does is the reason."""

    parts: tuple[Condition, ...]

    def reason(self, progress: Progress) -> str | None:
        return next((reason for part in self.parts if (reason := reason_to_stop(part, progress)) is not None), None)

    def __str__(self) -> str:
        return " | ".join(map(str, self.parts))


@dataclass(frozen=True)
class Custom(Condition):
    """Stops when a function of :class:`Progress` returns something true; text is taken as the reason."""

    function: Callable[[Progress], bool | str | None]

    def reason(self, progress: Progress) -> str | None:
        return _in_words(self.function(progress), self)

    def __str__(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


@dataclass(frozen=True)
class Quantity:
    """Something that :class:`Progress` holds; compared with a number it is a :class:`Threshold`.

    Attributes
    ----------
    name : str
        The attribute's.
    least, most : float
        Numbers beyond which a comparison would have no sense.
    """

    name: str
    least: float = 0
    most: float = float("inf")

    def compared(self, comparison: str, number: float) -> Threshold:
        """Return the condition ``name comparison number``.

        Raises
        ------
        ValueError
            If the number is beyond what the quantity can be.
        """
        if not (self.least <= number <= self.most and abs(number) < float("inf")):
            raise ValueError(f"{self.name} is {MEANINGS[self.name]}; it is never {_spelt(number)}")
        return Threshold(self.name, comparison, float(number))

    def __ge__(self, number: float) -> Threshold:
        return self.compared(">=", number)

    def __gt__(self, number: float) -> Threshold:
        return self.compared(">", number)

    def __le__(self, number: float) -> Threshold:
        return self.compared("<=", number)

    def __lt__(self, number: float) -> Threshold:
        return self.compared("<", number)


accuracy = Quantity("accuracy", most=1)
epochs, seconds, macs, flops, parameters = map(Quantity, ("epochs", "seconds", "macs", "flops", "parameters"))
gain = Quantity("gain", least=-float("inf"))

QUANTITIES = {quantity.name: quantity for quantity in (accuracy, epochs, seconds, macs, flops, parameters, gain)}
MEANINGS = {
    "accuracy": "a fraction between 0 and 1",
    "epochs": "a number of epochs",
    "seconds": "a time in seconds",
    "macs": "a number of multiply-adds",
    "flops": "a number of floating-point operations",
    "parameters": "a number of parameters",
    "gain": "a finite number of points for each TFLOP",
}


# Text.

# What a text may have; people need far less, and a file could hold anything.
MOST_CHARACTERS, DEEPEST = 1000, 50

TOKEN = re.compile(
    r"(?P<name>[A-Za-z_]\w*)|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<sign>>=|<=|[<>&|()])", re.ASCII
)


class ConditionError(ValueError):
    """A text is no condition; a note shows it, with a caret at the wrong place."""

    def __init__(self, message: str, text: str, column: int) -> None:
        super().__init__(f"{message}, at character {column + 1}")
        shown = "".join(character if character.isprintable() else "?" for character in text)
        self.add_note(f"  {shown}\n  {' ' * column}^")


class Token(NamedTuple):
    """A word of a condition: its text, the kind of it, and the column where it begins."""

    text: str
    kind: str | None
    column: int


def parse(text: str) -> Condition:
    """Return the condition that ``text`` spells; ``str`` of it is a text for the same one.

    Raises
    ------
    ConditionError
        Pointing at the first place where no condition can be read.
    """
    if len(text) > MOST_CHARACTERS:
        raise ConditionError(f"a condition of more than {MOST_CHARACTERS} characters", text[:60], 0)
    return _Parser(text).whole()


class _Parser:
    """Reads a text from left to right; each method reads what the grammar's rule of its name says."""

    def __init__(self, text: str) -> None:
        self.text, self.depth = text, 0
        self.token = self._next(0)

    def _next(self, column: int) -> Token:
        while column < len(self.text) and self.text[column] == " ":
            column += 1
        if column == len(self.text):
            return Token("the end", None, column)
        match = TOKEN.match(self.text, column)
        if match is None:
            raise ConditionError(f"{self.text[column]!a} has no meaning here", self.text, column)
        return Token(match[0], match.lastgroup, column)

    def _take(self) -> Token:
        token = self.token
        self.token = self._next(token.column + len(token.text))
        return token

    def _expected(self, what: str) -> ConditionError:
        found = self.token.text if self.token.kind is None else repr(self.token.text)
        return ConditionError(f"expected {what}, found {found:.40}", self.text, self.token.column)

    def whole(self) -> Condition:
        condition = self.condition()
        if self.token.kind is not None:
            raise self._expected("& or | or the end")
        return condition

    def condition(self) -> Condition:
        terms = [self.term()]
        while self.token.text == "|":
            self._take()
            terms.append(self.term())
        return terms[0] if len(terms) == 1 else AnyOf(_flat(AnyOf, *terms))

    def term(self) -> Condition:
        factors = [self.factor()]
        while self.token.text == "&":
            self._take()
            factors.append(self.factor())
        return factors[0] if len(factors) == 1 else AllOf(_flat(AllOf, *factors))

    def factor(self) -> Condition:
        if self.token.text != "(":
            return self.comparison()
        if self.depth == DEEPEST:
            raise ConditionError(f"more than {DEEPEST} parentheses in one another", self.text, self.token.column)
        self.depth += 1
        self._take()
        condition = self.condition()
        if self.token.text != ")":
            raise self._expected("& or | or )")
        self._take()
        self.depth -= 1
        return condition

    def comparison(self) -> Condition:
        quantity = QUANTITIES.get(self.token.text)
        if quantity is None:
            raise self._expected(f"one of {', '.join(QUANTITIES)}" + (" or (" if self.token.kind != "name" else ""))
        self._take()
        if self.token.text not in COMPARISONS:
            raise self._expected(f"one of {', '.join(COMPARISONS)}")
        comparison = self._take().text
        if self.token.kind != "number":
            raise self._expected("a number")
        number = self.token
        self._take()
        try:
            return quantity.compared(comparison, float(number.text))
        except ValueError as error:
            raise ConditionError(str(error), self.text, number.column) from error
