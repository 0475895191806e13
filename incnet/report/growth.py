"""A drawing of a network that grows: its sub-networks with their layers, and when each was trained or frozen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from markupsafe import Markup

from incnet.report.architecture import CLASSIFIER, Part, parts
from incnet.report.history import Epoch, Freeze, History

__all__ = ["GrowthDrawing", "Phase", "draw_growth", "phases"]

MOST_PARTS = 30  # of more sub-networks, none can be told from the next
# Lengths in units of the drawing, which are pixels where the page has room for it.
LINE, PAD, BAR, GAP, AXIS = 17, 9, 26, 10, 34
CHARACTER = 6.4  # width that a letter of the labels takes at most

State = Literal["trained", "frozen", "absent"]


@dataclass(frozen=True)
class Phase:
    """Epochs, ``first`` to ``last``, in which the same sub-networks were trained: ``subnetworks`` less ``frozen``."""

    first: int
    last: int
    subnetworks: int
    lookahead: bool
    frozen: int

    def state(self, index: int, *, classifier: bool = False) -> State:
        """Return what the sub-network of this index, from 0, or the classifier was in this phase."""
        if classifier:
            return "trained"
        if index >= self.subnetworks:
            return "absent"
        return "frozen" if index < self.frozen else "trained"


@dataclass(frozen=True)
class GrowthDrawing:
    """The same drawing for wide pages and for narrow ones, as SVG elements."""

    wide: Markup
    narrow: Markup


def phases(run: History) -> list[Phase]:
    """Return the phases of a run, in order."""
    found, frozen = (
        [],
        {timed.event.epoch: timed.event.subnetworks for timed in run.events if isinstance(timed.event, Freeze)},
    )

    def kind(epoch: Epoch) -> tuple[int, bool, int]:
        lookahead = epoch.phase == "lookahead"
        for_good = max((count for after, count in frozen.items() if after < epoch.epoch), default=0)
        return epoch.subnetworks, lookahead, epoch.subnetworks - 1 if lookahead else for_good

    for (subnetworks, lookahead, count), group in groupby(run.epochs, key=kind):
        epochs = [epoch.epoch for epoch in group]
        found.append(Phase(epochs[0], epochs[-1], subnetworks, lookahead, count))
    return found


def draw_growth(run: History) -> GrowthDrawing | None:
    """Draw a run; None before its first epoch, and for more sub-networks than a drawing can hold."""
    network, course = parts(run), phases(run)
    if not course or len(network) > MOST_PARTS or any(phase.subnetworks >= len(network) for phase in course):
        return None
    return GrowthDrawing(
        Markup("").join(_svg(network, course, width=1080, beside=430)),
        Markup("").join(_svg(network, course, width=358, beside=0)),
    )


def _svg(network: Sequence[Part], course: Sequence[Phase], *, width: int, beside: int) -> Iterator[Markup]:
    """Draw a row for each part: its layers, and a bar over the epochs, to the right of ``beside`` or below."""
    heads = LINE + 4
    tops, top = [], heads
    for part in network:
        tops.append(top)
        text = LINE * (1 + len(part.layers)) + 2 * PAD
        top += (max(text, BAR) if beside else text + BAR) + GAP
    height = top + AXIS - GAP
    bars = _Bars(course, left=beside, width=width - beside)
    yield Markup('<svg class="growth" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        width, height, "The network and its training: what was trained and what was frozen in each phase"
    )
    yield from _hatch(wide=bool(beside))
    if beside:
        yield from bars.heads(heads - 7)
    for index, (part, y) in enumerate(zip(network, tops, strict=True)):
        text = LINE * (1 + len(part.layers)) + 2 * PAD
        box = (beside - 28) if beside else width
        yield from _box(part, y, box, text)
        if index + 1 < len(network) and not part.interleaved:
            below = tops[index + 1]
            yield Markup('<path class="flow" d="M{} {}V{}"/>').format(22, y + text, below)
        yield from bars.row(network, index, y if beside else y + text, text if beside else BAR, wide=bool(beside))
    yield from bars.axis(height - AXIS + GAP)
    yield Markup("</svg>")


def _hatch(*, wide: bool) -> Iterator[Markup]:
    yield Markup(
        '<defs><pattern id="{}" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="ice" width="7" height="7"/><path class="ice-line" d="M0 0V7"/></pattern></defs>'
    ).format(_hatch_id(wide))


def _hatch_id(wide: bool) -> str:
    return "frozen-wide" if wide else "frozen-narrow"


def _box(part: Part, y: float, width: float, height: float) -> Iterator[Markup]:
    kind = "part classifier" if part.name == CLASSIFIER else "part"
    yield Markup('<rect class="{}" x="0.5" y="{}" width="{}" height="{}" rx="6"/>').format(
        kind, y + 0.5, width - 1, height - 1
    )
    yield Markup('<text class="name" x="12" y="{}">{}</text>').format(y + PAD + 13, part.name)
    for k, line in enumerate(part.layers, start=1):
        yield Markup('<text class="layer" x="12" y="{}">{}</text>').format(y + PAD + 13 + LINE * k, line)


class _Bars:
    """Epochs from left to right."""

    def __init__(self, course: Sequence[Phase], *, left: float, width: float) -> None:
        self.course, self.left, self.width, self.epochs = course, left, width, course[-1].last

    def x(self, epochs: int) -> float:
        """Abscissa of the end of so many epochs."""
        return round(self.left + self.width * epochs / self.epochs, 2)

    def heads(self, y: float) -> Iterator[Markup]:
        """Name the phases, as far as there is room."""
        for phase in self.course:
            left, right = self.x(phase.first - 1), self.x(phase.last)
            name = "look-ahead" if phase.lookahead else "training"
            if len(name) * CHARACTER <= right - left:
                yield Markup('<text class="phase" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                    round((left + right) / 2, 2), y, name
                )

    def row(self, network: Sequence[Part], index: int, y: float, height: float, *, wide: bool) -> Iterator[Markup]:
        """Draw what a part was in each phase."""
        part = network[index]
        for phase in self.course:
            state = phase.state(index, classifier=part.name == CLASSIFIER)
            left, right = self.x(phase.first - 1), self.x(phase.last)
            if state == "absent":
                yield Markup('<path class="absent" d="M{} {}H{}"/>').format(left, y + height / 2, right)
                continue
            fill = Markup(' style="fill: url(#{})"').format(_hatch_id(wide)) if state == "frozen" else ""
            yield Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="3"{}>').format(
                state, left + 1, y + 3, max(0.5, right - left - 2), height - 6, fill
            )
            yield Markup("<title>{}</title></rect>").format(self._told(part, phase, state))
            if len(state) * CHARACTER <= right - left - 6:
                yield Markup('<text class="{} state" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                    state, round((left + right) / 2, 2), y + height / 2 + 4, state
                )

    def _told(self, part: Part, phase: Phase, state: State) -> str:
        when = f"epoch {phase.first}" if phase.first == phase.last else f"epochs {phase.first} to {phase.last}"
        how = {
            "trained": "forward and backward; its weights are trained",
            "frozen": "its weights stay; what lies above hands it gradients that it hands on"
            if part.interleaved
            else "forward only; backpropagation stops above it",
            "absent": "",
        }[state]
        return f"{part.name}, {when}{' (look-ahead)' if phase.lookahead else ''}: {state}. {how}"

    def axis(self, y: float) -> Iterator[Markup]:
        """Number the epochs at which something changed, as far as there is room."""
        last = -100.0
        ends = [0, *(phase.last for phase in self.course)]
        for epochs in ends:
            x = self.x(epochs)
            anchor = "start" if epochs == 0 else "end" if epochs == self.epochs else "middle"
            if x - last < 26 or (epochs != self.epochs and self.x(self.epochs) - x < 60 and epochs):
                continue
            label = f"epoch {epochs}" if epochs == self.epochs else str(epochs)
            yield Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, label)
            last = x
