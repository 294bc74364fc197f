"""Compute where the panes of the main screen are placed, for any size of the terminal. Pure.

The overview has a column of side panes as wide as their content, the main column, from 150 columns on one more column
for the verdict, alerts and configuration, and the log below all of them. A column is left out where the main column
would become too narrow; its panes are one key away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from textual.geometry import Region, Size

Area = Literal["side", "main", "aside", "foot", "full"]

OVERVIEW = "overview"
MAIN_CELLS = 80
"""The main column is never narrower than this because of a side column, unless the user asks for it."""
LEAST_MAIN_CELLS = 44
SIDE_CELLS = (22, 40)
ASIDE_CELLS = (40, 64)
ASIDE_SHARE = 0.34
GUTTER = 1
ROW_GUTTER = 2
"""Cells between panes of one row: figures at the end of one would read like words of the next."""


class SizeHint(NamedTuple):
    """How much room a pane can use."""

    width: int = 0
    """Cells that its content is wide: for side panes, and for panes that share a row."""
    heights: tuple[int, ...] = (3,)
    """Rows at which it shows more than before, ascending, its heading included."""
    bare: int = 0
    """Up to this height it is drawn without its heading."""
    grows: int | None = None
    """Share of the rows that are left over; None for the share of the table of panes."""


class Slot(NamedTuple):
    """A pane as the layout sees it."""

    id: str
    area: Area
    hint: SizeHint
    min_width: int = 0
    """Cells that it needs next to another pane of the same row."""
    row: str = ""
    """Panes of one non-empty row are placed next to each other where there is room."""
    grows: int = 0
    """Share of the rows that are left over."""


def place_panes(
    slots: Sequence[Slot], size: Size, view: str = OVERVIEW, *, side: bool | None = None, aside: bool | None = None
) -> dict[str, Region]:
    """Return the region of each pane that is shown.

    Args:
        slots: All panes, the most important first.
        size: Room for all panes together.
        view: `overview`, or the id of the one pane that is shown alone.
        side: Whether the side column is shown; None where there is room for it.
        aside: The same for the column on the right.
    """
    if view != OVERVIEW:
        return {view: Region(0, 0, size.width, size.height)}
    side_cells, aside_cells = column_widths(slots, size.width, side, aside)
    columns = {"main", "foot"} | ({"side"} if side_cells else set()) | ({"aside"} if aside_cells else set())
    main_x = side_cells + GUTTER if side_cells else 0
    main_cells = size.width - main_x - (aside_cells + GUTTER if aside_cells else 0)
    main = _main_slots(slots, columns)
    regions, foot_top = _stack(_rows(main, main_cells), Region(main_x, 0, main_cells, size.height), size.width)
    for area, x, cells in (("side", 0, side_cells), ("aside", size.width - aside_cells, aside_cells)):
        members = [slot for slot in slots if slot.area == area] if cells else []
        regions |= _stack([[slot] for slot in members], Region(x, 0, cells, foot_top), size.width)[0]
    return regions


def column_widths(slots: Sequence[Slot], width: int, side: bool | None, aside: bool | None) -> tuple[int, int]:
    """Return the cells of the side column and of the column on the right, 0 for one that is not shown."""
    content = max((slot.hint.width for slot in slots if slot.area == "side"), default=0)
    side_cells = min(SIDE_CELLS[1], max(SIDE_CELLS[0], content))
    least = LEAST_MAIN_CELLS if side else MAIN_CELLS
    if side is False or width - side_cells - GUTTER < least:
        side_cells = 0
    room = width - side_cells - GUTTER * bool(side_cells)
    aside_cells = min(ASIDE_CELLS[1], max(ASIDE_CELLS[0], round(room * ASIDE_SHARE)))
    least = LEAST_MAIN_CELLS if aside else MAIN_CELLS
    if aside is False or room - aside_cells - GUTTER < least:
        aside_cells = 0
    return side_cells, aside_cells


def share_rows(rows: Sequence[Sequence[Slot]], height: int) -> list[int]:
    """Return the height of each row, 0 for one without room: the most important rows are served first."""
    heights = [max(slot.hint.heights[0] for slot in row) for row in rows]
    while sum(heights) > height and sum(map(bool, heights)) > 1:
        heights[max(index for index, rows_high in enumerate(heights) if rows_high)] = 0
    heights = [min(rows_high, height) for rows_high in heights]
    levels = max((len(slot.hint.heights) for row in rows for slot in row), default=0)
    for level in range(1, levels):
        for index, row in enumerate(rows):
            more = max(slot.hint.heights[min(level, len(slot.hint.heights) - 1)] for slot in row)
            if heights[index] and more > heights[index] and sum(heights) - heights[index] + more <= height:
                heights[index] = more
    _spread([sum(slot.grows for slot in row) if heights[i] else 0 for i, row in enumerate(rows)], heights, height)
    return heights


def _spread(shares: Sequence[int], heights: list[int], height: int) -> None:
    """Give the rows that are left over to those that grow, or else to the first."""
    spare, total = height - sum(heights), sum(shares)
    for index, share in enumerate(shares):
        if share:
            portion = round(spare * share / total)
            heights[index] += portion
            spare, total = spare - portion, total - share
    first = next((index for index, rows_high in enumerate(heights) if rows_high), None)
    if first is not None and spare > 0:
        heights[first] += spare


def _main_slots(slots: Sequence[Slot], columns: set[str]) -> list[Slot]:
    """Return the panes of the main column; of columns that are not shown, those with a form without heading."""
    members = []
    for slot in slots:
        if slot.area in ("main", "foot"):
            members.append(slot)
        elif slot.area in ("side", "aside") and slot.area not in columns and slot.hint.bare:
            short = slot.hint._replace(heights=(slot.hint.bare,))
            members.append(slot._replace(hint=short) if slot.area == "side" else slot)
    return members


def _rows(slots: Sequence[Slot], width: int) -> list[list[Slot]]:
    """Return the panes in rows: those of one row are placed side by side if each has the cells that it needs."""
    rows: list[list[Slot]] = []
    for slot in slots:
        partner = next((row for row in rows if slot.row and row[0].row == slot.row), None)
        if partner and sum(member.min_width for member in [*partner, slot]) + ROW_GUTTER * len(partner) <= width:
            partner.append(slot)
        else:
            rows.append([slot])
    return rows


def _stack(rows: Sequence[Sequence[Slot]], room: Region, full_width: int) -> tuple[dict[str, Region], int]:
    """Return the regions of rows below one another, and where the foot begins, which spans all columns."""
    heights = share_rows(rows, room.height)
    regions: dict[str, Region] = {}
    y, foot_top = room.y, room.bottom
    for row, height in sorted(zip(rows, heights, strict=True), key=lambda pair: pair[0][0].area == "foot"):
        if not height:
            continue
        is_foot = row[0].area == "foot"
        foot_top = y if is_foot else foot_top
        regions |= _side_by_side(
            row, Region(0 if is_foot else room.x, y, full_width if is_foot else room.width, height)
        )
        y += height
    return regions, foot_top


def _side_by_side(row: Sequence[Slot], room: Region) -> dict[str, Region]:
    """Return the regions of one row: each pane has its least width, the first ones also what they ask."""
    regions: dict[str, Region] = {}
    x, spare = room.x, room.width - ROW_GUTTER * (len(row) - 1) - sum(slot.min_width for slot in row)
    for index, slot in enumerate(row):
        is_last = index == len(row) - 1
        share = -(-spare // (len(row) - index))
        extra = spare if is_last else min(spare, max(share, slot.hint.width - slot.min_width)) if spare > 0 else 0
        width = room.right - x if is_last else slot.min_width + extra
        regions[slot.id] = Region(x, room.y, width, room.height)
        x, spare = x + width + ROW_GUTTER, spare - extra
    return regions
