"""Draw the brain maps of a run in cells of a terminal: three projections of a glass brain in half blocks.

X Y Z the grid of the record: right, anterior, superior. H W pixel rows and columns; a cell has two pixels.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.records import BrainMap, BrainRecord

RGB = tuple[int, int, int]
OUTSIDE, NO_VALUE, FIRST = 0, 1, 2
GAP = 2
"""Empty pixel columns between projections."""
LARGEST_BYTES = 4_000_000
VIRIDIS: tuple[RGB, ...] = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
CATEGORIES: tuple[RGB, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (213, 94, 0), (0, 114, 178), (240, 228, 66),
)  # fmt: skip
"""Okabe and Ito (2008)."""
GLASS: dict[bool, RGB] = {True: (58, 58, 58), False: (208, 208, 208)}
"""Colour of the brain without a value on a dark and on a light background."""
CURSOR: dict[bool, RGB] = {True: (255, 255, 255), False: (0, 0, 0)}
KEY_CELLS = 24
"""Cells of the scale of a map of values."""
SHADES = " .:-=+*#%@"
"""Characters for terminals without colours, weakest first; the brain without a value is a dot."""


class Cell(NamedTuple):
    """A character and its colours; None is the terminal's own."""

    glyph: str
    front: RGB | None
    back: RGB | None


@dataclass(frozen=True)
class BrainVolume:
    """A decoded map."""

    record: BrainRecord
    brain_map: BrainMap
    code_XYZ: NDArray[np.uint8]

    @property
    def peak(self) -> tuple[int, int, int]:
        """Return the voxel with the largest value."""
        x, y, z = (int(n) for n in np.unravel_index(int(self.code_XYZ.argmax()), self.code_XYZ.shape))
        return x, y, z

    @property
    def has_values(self) -> bool:
        """Return True if any voxel has a value or a category."""
        return bool(self.code_XYZ.max() >= FIRST)

    def mm(self, voxel: Sequence[int]) -> tuple[float, float, float]:
        """Return the millimetres of a voxel: right, anterior, superior."""
        x, y, z = (origin + self.record.step_mm * n for origin, n in zip(self.record.origin_mm, voxel, strict=True))
        return x, y, z

    def describe(self, voxel: Sequence[int]) -> str:
        """Return the value of a voxel in words."""
        code = int(self.code_XYZ[tuple(voxel)])
        if code == OUTSIDE:
            return "outside the brain"
        if code == NO_VALUE:
            return "no value"
        names = self.brain_map.names
        if names:
            return names[min(code - FIRST, len(names) - 1)]
        return f"{self.brain_map.low + (code - FIRST) / (255 - FIRST) * (self.brain_map.high - self.brain_map.low):.2f}"

    def color(self, code: int, *, dark: bool) -> RGB | None:
        """Return the colour of a code; None outside the brain."""
        if code == OUTSIDE:
            return None
        if code == NO_VALUE:
            return GLASS[dark]
        if self.brain_map.names:
            return CATEGORIES[(code - FIRST) % len(CATEGORIES)]
        return ramp((code - FIRST) / (255 - FIRST))


def decode_map(record: BrainRecord, name: str) -> BrainVolume:
    """Return a map of the record. Raises ConfigError for an unknown name, DataError for damaged voxels."""
    if name not in record.maps:
        raise ConfigError(f"This run has no map {name!r}.", f"There are: {', '.join(record.maps)}.")
    brain_map = record.maps[name]
    n_voxels = int(np.prod(record.shape))
    if not 0 < n_voxels <= LARGEST_BYTES or min(record.shape) < 1:
        raise DataError(f"brain.json has a grid of {record.shape}.", "Run `giblet evaluate` to see the maps.")
    return BrainVolume(record, brain_map, _codes(brain_map.voxels, record.shape))


@lru_cache(maxsize=32)
def _codes(voxels: str, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    n_voxels = int(np.prod(shape))
    try:
        # A limit on what is unpacked: the text comes from a node.
        data = zlib.decompressobj().decompress(base64.b64decode(voxels, validate=True), n_voxels + 1)
    except (ValueError, zlib.error):
        data = b""
    if len(data) != n_voxels:
        raise DataError("The voxels in brain.json are damaged.", "The next validation replaces them.")
    return np.frombuffer(data, np.uint8).reshape(shape)


def fitting_scale(volume: BrainVolume, columns: int, rows: int) -> float:
    """Return pixels per voxel with which the three projections fit into cells."""
    x, y, z = volume.code_XYZ.shape
    return float(max(0.05, min((columns - 2 * GAP) / (y + 2 * x), 2.0 * rows / max(z, y))))


def draw(
    volume: BrainVolume, columns: int, rows: int, *, dark: bool = True, cursor: Sequence[int] | None = None
) -> list[list[Cell]]:
    """Return rows of cells with the brain from the left, from behind and from above, as large as fits.

    cursor: voxel that is marked in each projection by its row and column.
    """
    scale = fitting_scale(volume, columns, rows)
    planes = [
        _plane(_projection(volume, 0), None if cursor is None else (cursor[1], cursor[2]), scale, mirrored=True),
        _plane(_projection(volume, 1), None if cursor is None else (cursor[0], cursor[2]), scale),
        _plane(_projection(volume, 2), None if cursor is None else (cursor[0], cursor[1]), scale),
    ]
    height = max(len(plane) for plane in planes)
    height += height % 2
    parts = []
    for n, plane in enumerate(planes):
        top = (height - len(plane)) // 2
        padded = np.pad(plane, ((top, height - len(plane) - top), (0, GAP if n < len(planes) - 1 else 0)))
        parts.append(padded)
    picture = np.concatenate(parts, axis=1)
    return [
        [_cell(volume, int(up), int(down), dark) for up, down in zip(upper, lower, strict=True)]
        for upper, lower in zip(picture[::2], picture[1::2], strict=True)
    ]


CURSOR_CODE = -1
VIEWS = ("from the left", "L from behind R", "L from above R")


def view_labels(volume: BrainVolume, columns: int, rows: int) -> str:
    """Return the names of the projections that `draw` shows, each below its middle."""
    scale = fitting_scale(volume, columns, rows)
    x, y, _ = volume.code_XYZ.shape
    widths = [max(1, int(n * scale)) for n in (y, x, x)]
    if any(len(view) > width for view, width in zip(VIEWS, widths, strict=True)):
        return ", ".join(VIEWS)[:columns]
    return (" " * GAP).join(view.center(width) for view, width in zip(VIEWS, widths, strict=True)).rstrip()


def _projection(volume: BrainVolume, axis: int) -> NDArray[np.uint8]:
    """Return the largest code along an axis; of categories, the one that most voxels along it have."""
    codes = volume.code_XYZ
    strongest: NDArray[np.uint8] = codes.max(axis=axis)
    if not volume.brain_map.names:
        return strongest
    present = [code for code in np.unique(codes) if code >= FIRST]
    if not present:
        return strongest
    count_CAB = np.stack([(codes == code).sum(axis=axis) for code in present])
    return np.where(count_CAB.any(axis=0), np.array(present, np.uint8)[count_CAB.argmax(axis=0)], strongest)


def _plane(
    code_AB: NDArray[np.uint8], cursor: tuple[int, int] | None, scale: float, *, mirrored: bool = False
) -> NDArray[np.int16]:
    """Return a projection as pixels, upright: the second axis points up. mirrored: the first axis points left."""
    size = [max(1, int(n * scale)) for n in code_AB.shape]
    index = [np.minimum((np.arange(n) / scale).astype(int), m - 1) for n, m in zip(size, code_AB.shape, strict=True)]
    plane = code_AB[np.ix_(*index)].astype(np.int16)
    if cursor is not None:
        a, b = (min(int((n + 0.5) * scale), m - 1) for n, m in zip(cursor, size, strict=True))
        plane[a, b] = CURSOR_CODE
    upright = plane.T[::-1]
    return upright[:, ::-1] if mirrored else upright


def _cell(volume: BrainVolume, up: int, down: int, dark: bool) -> Cell:
    top, bottom = (CURSOR[dark] if code == CURSOR_CODE else volume.color(code, dark=dark) for code in (up, down))
    if top is None and bottom is None:
        return Cell(" ", None, None)
    if top is None:
        return Cell("▄", bottom, None)
    if bottom is None:
        return Cell("▀", top, None)
    return Cell("▀", top, bottom) if top != bottom else Cell("█", top, None)


def ramp(part: float) -> RGB:
    """Return the colour of a part of the scale, 0 to 1."""
    place = min(max(part, 0.0), 1.0) * (len(VIRIDIS) - 1)
    n = min(int(place), len(VIRIDIS) - 2)
    red, green, blue = (round(a + (place - n) * (b - a)) for a, b in zip(VIRIDIS[n], VIRIDIS[n + 1], strict=True))
    return red, green, blue


def xterm_256(color: RGB) -> int:
    """Return the nearest of the 216 colours and 24 greys that a terminal with 256 colours has."""
    levels = (0, 95, 135, 175, 215, 255)
    index = [min(range(6), key=lambda n: abs(levels[n] - channel)) for channel in color]
    grey = min(23, max(0, round((sum(color) / 3 - 8) / 10)))
    cube_color = [levels[n] for n in index]
    distances = [
        sum((a - b) ** 2 for a, b in zip(color, other, strict=True)) for other in (cube_color, [8 + 10 * grey] * 3)
    ]
    return 16 + 36 * index[0] + 6 * index[1] + index[2] if distances[0] <= distances[1] else 232 + grey


def ansi_line(cells: Sequence[Cell], n_colors: int) -> str:
    """Return cells as text. n_colors: 2**24, 256, or 0 for none."""
    if not n_colors:
        return "".join(_shade(cell) for cell in cells).rstrip()
    text, last = "", ""
    for cell in cells:
        codes = ";".join(
            _sgr(color, n_colors, ground) for color, ground in ((cell.front, 38), (cell.back, 48)) if color
        )
        style = f"\x1b[0{';' + codes if codes else ''}m"
        text += (style if style != last else "") + cell.glyph
        last = style
    return text + "\x1b[0m"


def _sgr(color: RGB, n_colors: int, ground: int) -> str:
    if n_colors > 256:
        return f"{ground};2;{color[0]};{color[1]};{color[2]}"
    return f"{ground};5;{xterm_256(color)}"


def _shade(cell: Cell) -> str:
    color = cell.front or cell.back
    if color is None:
        return cell.glyph
    if color == GLASS[True]:
        return "."
    if color in CATEGORIES:
        return str(1 + CATEGORIES.index(color))
    return SHADES[2 + round(max(color) / 255 * (len(SHADES) - 3))]


def key_cells(volume: BrainVolume) -> list[list[Cell]]:
    """Return the colours of a map with their meaning: a scale with its ends, or each category with its share.

    A category's share is that of the voxels that have a category. A map without values has no scale.
    """
    if not volume.has_values:
        return [_words("no voxel has a value")]
    names = volume.brain_map.names
    if not names:
        bar = [Cell("█", ramp(n / (KEY_CELLS - 1)), None) for n in range(KEY_CELLS)]
        return [[*_words(f"{volume.brain_map.low:.2g} "), *bar, *_words(f" {volume.brain_map.high:.2g}")]]
    counts = np.bincount(volume.code_XYZ.ravel(), minlength=256)[FIRST : FIRST + len(names)]
    total = max(1, int(counts.sum()))
    return [
        [Cell("█", CATEGORIES[n % len(CATEGORIES)], None), *_words(f" {name} {counts[n] / total:.0%}")]
        for n, name in enumerate(names)
        if counts[n]
    ]


def _words(text: str) -> list[Cell]:
    return [Cell(sign, None, None) for sign in text]


def region_at(record: BrainRecord, voxel: Sequence[int]) -> str:
    """Return the region of a voxel; empty without an atlas or outside its regions."""
    if "region" not in record.maps:
        return ""
    volume = decode_map(record, "region")
    return volume.describe(voxel) if volume.code_XYZ[tuple(voxel)] >= FIRST else ""


def place_words(volume: BrainVolume, voxel: Sequence[int]) -> str:
    """Return coordinates, region and value of a voxel."""
    x, y, z = volume.mm(voxel)
    region = region_at(volume.record, voxel)
    return f"({x:.0f}, {y:.0f}, {z:.0f}) mm{', ' + region if region else ''}: {volume.describe(voxel)}"
