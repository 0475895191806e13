"""A network as a table: its sub-networks and what they are made of, their sizes, and what is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from incnet.layer import Layer, Shape
from incnet.layers.sequential import Sequential

__all__ = ["summary"]


class Row(NamedTuple):
    """Cells of a line."""

    name: str
    output: str
    parameters: str
    macs: str
    note: str


def summary(parts: Iterable[tuple[str, Layer]], shape: Shape) -> str:
    """Return a table of ``parts``, layers in a row with their names, for an input of ``shape``, without the batch axis.

    Below each part stands what it is a chain of, if it is one. Multiply-adds (MACs) are those of the forward pass, for
    one image.
    """
    rows = [Row("", "output", "parameters", "MACs", "")]
    macs = size = trained = 0
    for name, part in parts:
        rows.append(_row(name, part, shape, _state(part)))
        if isinstance(part, Sequential):
            rows += _inner_rows(part, shape)
        macs, size, trained = macs + part.macs(shape), size + part.num_parameters(), trained + _trained(part)
        shape = part.output_shape(shape)
    rows.append(Row("total", _shape(shape), f"{size:,}", _millions(macs), f"{trained:,} parameters trained"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _inner_rows(chain: Sequential, shape: Shape) -> Iterator[Row]:
    partly = 0 < _trained(chain) < chain.num_parameters()
    for name, layer in chain.children().items():
        made_of = " ".join(layer.children()) if isinstance(layer, Sequential) else repr(layer)
        state = f", {_state(layer)}" if partly and layer.num_parameters() else ""
        yield _row(f"  {name}", layer, shape, f"{made_of}{state}")
        shape = layer.output_shape(shape)


def _row(name: str, layer: Layer, shape: Shape, note: str) -> Row:
    output, parameters = _shape(layer.output_shape(shape)), f"{layer.num_parameters():,}"
    return Row(name, output, parameters, _millions(layer.macs(shape)), note)


def _line(row: Row, widths: list[int]) -> str:
    name, output, parameters, macs, _ = widths
    sizes = f"{row.parameters:>{parameters}}  {row.macs:>{macs}}"
    return f"{row.name:{name}}  {row.output:{output}}  {sizes}  {row.note}".rstrip()


def _trained(layer: Layer) -> int:
    return sum(parameter.data.size for _, parameter in layer.named_parameters(frozen=False))


def _state(layer: Layer) -> str:
    trained = _trained(layer)
    if not trained:
        return "frozen"
    return "trainable" if trained == layer.num_parameters() else "partly frozen"


def _shape(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _millions(macs: int) -> str:
    return f"{macs / 1e6:,.2f} M"
