"""Draw series as rows of coloured braille: one pure function, min/max per pixel column first, dots second.

A cell has 2 x 4 dots and one colour: it shows its topmost layer only, so a line stays sharp over those behind it.

Shapes: C pixel columns (two per cell), R dot rows (four per cell), H rows and W columns of cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from giblet_tui.monitor.metric_columns import MinMax, Points, Range, reduced

Dash = Literal["solid", "dashed", "dotted", "dashdot"]
PATTERNS: dict[Dash, tuple[bool, ...]] = {
    "solid": (True,),
    "dashed": (True, True, True, True, False, False),
    "dotted": (True, False, False),
    "dashdot": (True, True, True, True, True, False, True, False),
}
BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint32)
BRAILLE, SPACE = 0x2800, 0x20


@dataclass(frozen=True)
class Layer:
    """A series and how it looks."""

    points: Points
    style: str
    """A name that the widget has a colour for."""
    dash: Dash = "solid"
    joined: bool = True
    """Whether it is a line rather than dots."""


class Mark(NamedTuple):
    """One character at a place in the data, drawn over every layer."""

    x: float
    y: float
    glyph: str
    style: str


class Run(NamedTuple):
    """Neighbouring cells of one style."""

    text: str
    style: str


Row = tuple[Run, ...]


def draw(
    layers: Sequence[Layer],
    x_range: Range,
    y_range: Range,
    width: int,
    height: int,
    marks: Sequence[Mark] = (),
    cursor: float | None = None,
) -> list[Row]:
    """Return `height` rows of `width` cells: layers from back to front, then the cursor's column, then marks.

    Both ranges must have a span above 0. What is outside them is cut off. Empty cells are spaces.
    """
    if width < 1 or height < 1:
        return [()] * max(0, height)
    glyph_HW = np.full((height, width), SPACE, np.uint32)
    owner_HW = np.full((height, width), -1, np.int32)
    for index, layer in enumerate(layers):
        envelope = reduced(layer.points, x_range, 2 * width, joined=layer.joined)
        code_HW = _codes(_dots(envelope, layer, y_range, 4 * height), height, width)
        drawn_HW = code_HW > 0
        glyph_HW[drawn_HW] = BRAILLE + code_HW[drawn_HW]
        owner_HW[drawn_HW] = index
    styles = [layer.style for layer in layers]
    if cursor is not None and x_range.contains(cursor):
        column = _cell(cursor, x_range, width)
        behind_H = owner_HW[:, column] < 0
        glyph_HW[behind_H, column] = ord("│")
        owner_HW[behind_H, column] = _named(styles, "cursor")
    for mark in marks:
        if x_range.contains(mark.x) and y_range.contains(mark.y):
            place = height - 1 - _cell(mark.y, y_range, height), _cell(mark.x, x_range, width)
            glyph_HW[place] = ord(mark.glyph)
            owner_HW[place] = _named(styles, mark.style)
    return [_row(glyph_HW[row], owner_HW[row], styles) for row in range(height)]


def _dots(envelope: MinMax, layer: Layer, y_range: Range, rows: int) -> NDArray[np.bool_]:
    """Return the R x C dots of one layer. A column reaches halfway to its neighbours, so a steep line has no gaps."""
    scale = (rows - 1) / y_range.span
    top_C = (y_range.last - envelope.high_C) * scale
    bottom_C = (y_range.last - envelope.low_C) * scale
    if layer.joined:
        top_C, bottom_C = _bridged(top_C, bottom_C)
    with np.errstate(invalid="ignore"):
        drawn_C = np.isfinite(top_C) & (bottom_C >= -0.5) & (top_C <= rows - 0.5)
    pattern = PATTERNS[layer.dash]
    drawn_C &= np.resize(np.array(pattern), len(drawn_C))
    first_C = np.where(drawn_C, np.rint(np.clip(top_C, 0, rows - 1)), rows)
    last_C = np.where(drawn_C, np.rint(np.clip(bottom_C, 0, rows - 1)), -1)
    row_R = np.arange(rows)[:, None]
    dots_RC: NDArray[np.bool_] = (row_R >= first_C) & (row_R <= last_C)
    return dots_RC


def _bridged(
    top_C: NDArray[np.float64], bottom_C: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stretch neighbouring columns towards each other where they do not overlap."""
    top, bottom = top_C.copy(), bottom_C.copy()
    with np.errstate(invalid="ignore"):
        falls = top_C[1:] > bottom_C[:-1] + 1
        middle = (top_C[1:] + bottom_C[:-1]) / 2
        bottom[:-1] = np.where(falls, np.maximum(bottom[:-1], middle), bottom[:-1])
        top[1:] = np.where(falls, np.minimum(top[1:], middle), top[1:])
        rises = bottom_C[1:] < top_C[:-1] - 1
        middle = (bottom_C[1:] + top_C[:-1]) / 2
        top[:-1] = np.where(rises, np.minimum(top[:-1], middle), top[:-1])
        bottom[1:] = np.where(rises, np.maximum(bottom[1:], middle), bottom[1:])
    return top, bottom


def _codes(dots_RC: NDArray[np.bool_], height: int, width: int) -> NDArray[np.uint32]:
    cells = dots_RC.reshape(height, 4, width, 2)
    codes_HW: NDArray[np.uint32] = np.einsum("hrwc,rc->hw", cells.astype(np.uint32), BITS)
    return codes_HW


def _row(glyph_W: NDArray[np.uint32], owner_W: NDArray[np.int32], styles: Sequence[str]) -> Row:
    text = glyph_W.astype("<u4").tobytes().decode("utf-32-le")
    borders = [0, *(np.flatnonzero(np.diff(owner_W)) + 1).tolist(), len(text)]
    return tuple(Run(text[a:b], styles[owner_W[a]] if owner_W[a] >= 0 else "") for a, b in pairwise(borders))


def _cell(value: float, span: Range, cells: int) -> int:
    return min(cells - 1, max(0, round((value - span.first) / span.span * (cells - 1))))


def _named(styles: list[str], name: str) -> int:
    if name not in styles:
        styles.append(name)
    return styles.index(name)
