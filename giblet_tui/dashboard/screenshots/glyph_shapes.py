"""Draw characters as shapes: few fonts have braille, blocks and state glyphs, and no two draw them alike. Pure.

A cell is 1 wide and 2 high, its origin in the upper left corner.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

BRAILLE, DOTS = 0x2800, 8
DOT_PLACES = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
"""Column and row of each bit of a braille pattern (Unicode 16, section 21.1)."""
DOT_RADIUS = 0.2
LIGHT, HEAVY = 0.1, 0.22
LEFT_EIGHTHS, LOWER_EIGHTHS = "▏▎▍▌▋▊▉█", "▁▂▃▄▅▆▇"
DASHES = {"─": (1, LIGHT), "━": (1, HEAVY), "╍": (2, HEAVY), "┅": (3, HEAVY)}
"""How many dashes a cell has, and their thickness."""
GAP = 0.18
MIDDLE = 1.0


class Box(NamedTuple):
    """A filled rectangle."""

    left: float
    top: float
    right: float
    bottom: float


class Disc(NamedTuple):
    """A circle."""

    x: float
    y: float
    radius: float
    ring: float = 0.0
    """Thickness of a ring; 0 for a filled circle."""
    half: bool = False
    """Whether the left half of a ring is filled."""


class Stroke(NamedTuple):
    """A line through points."""

    points: tuple[tuple[float, float], ...]
    thickness: float


Shape = Box | Disc | Stroke


@cache
def shapes(character: str) -> tuple[Shape, ...]:
    """Return the shapes of a character; nothing for one that a font draws."""
    code = ord(character) - BRAILLE
    if 0 <= code < 2**DOTS:
        places = (DOT_PLACES[bit] for bit in range(DOTS) if code >> bit & 1)
        return tuple(Disc(0.25 + column / 2, 0.25 + row / 2, DOT_RADIUS) for column, row in places)
    if character in LEFT_EIGHTHS:
        return (Box(0, 0, (LEFT_EIGHTHS.index(character) + 1) / 8, 2),)
    if character in LOWER_EIGHTHS:
        return (Box(0, 2 - (LOWER_EIGHTHS.index(character) + 1) / 4, 1, 2),)
    if character in DASHES:
        return _dashes(*DASHES[character])
    return OTHERS.get(character, ())


def _dashes(count: int, thickness: float) -> tuple[Shape, ...]:
    """Return `count` dashes in the middle of the cell; a single one has no gap to the next cell."""
    gap = GAP if count > 1 else 0.0
    wide, half = 1 / count, thickness / 2
    return tuple(Box(i * wide + gap / 2, MIDDLE - half, (i + 1) * wide - gap / 2, MIDDLE + half) for i in range(count))


_half = LIGHT / 2
OTHERS: dict[str, tuple[Shape, ...]] = {
    "╸": (Box(0, MIDDLE - HEAVY / 2, 0.5, MIDDLE + HEAVY / 2),),
    "▕": (Box(7 / 8, 0, 1, 2),),
    "│": (Box(0.5 - _half, 0, 0.5 + _half, 2),),
    "┤": (Box(0.5 - _half, 0, 0.5 + _half, 2), Box(0, MIDDLE - _half, 0.5, MIDDLE + _half)),
    "●": (Disc(0.5, 1.0, 0.4),),
    "○": (Disc(0.5, 1.0, 0.38, ring=0.1),),
    "◐": (Disc(0.5, 1.0, 0.38, ring=0.1, half=True),),
    "■": (Box(0.12, 0.6, 0.88, 1.36),),
    "✔": (Stroke(((0.08, 1.05), (0.36, 1.38), (0.92, 0.6)), 0.22),),
    "✓": (Stroke(((0.1, 1.05), (0.36, 1.36), (0.9, 0.62)), 0.12),),
    "✖": (Stroke(((0.14, 0.64), (0.86, 1.36)), 0.22), Stroke(((0.86, 0.64), (0.14, 1.36)), 0.22)),
}
