"""Where panes are placed: inside the screen, without overlap, the most important ones always."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.geometry import Region, Size

from giblet_tui.dashboard.model.pane_layout import (
    MAIN_CELLS,
    OVERVIEW,
    SizeHint,
    Slot,
    column_widths,
    place_panes,
    share_rows,
)

SLOTS = (
    Slot("runs", "side", SizeHint(26, (4, 11)), grows=1),
    Slot("losses", "main", SizeHint(0, (6, 9, 14)), grows=1),
    Slot("balance", "main", SizeHint(0, (4, 6), 4), 44, "step"),
    Slot("clock", "main", SizeHint(0, (1, 3, 7), 1), 40, "step"),
    Slot("verdict", "aside", SizeHint(0, (1, 4, 6), 1)),
    Slot("log", "foot", SizeHint(0, (1, 2, 4, 7), 1)),
    Slot("hardware", "side", SizeHint(32, (1, 12, 20), 1)),
    Slot("alerts", "aside", SizeHint(0, (3, 5))),
    Slot("configuration", "aside", SizeHint(0, (3,)), grows=1),
)


@given(st.integers(1, 300), st.integers(1, 100), st.sampled_from([None, True, False]), st.sampled_from([None, True]))
def test_panes_never_overlap_or_leave_the_screen(
    width: int, height: int, side: bool | None, aside: bool | None
) -> None:
    places = place_panes(SLOTS, Size(width, height), side=side, aside=aside)
    screen = Region(0, 0, width, height)
    assert places and all(region in screen and region.area for region in places.values())
    assert not any(a.overlaps(b) for a, b in combinations(places.values(), 2))


@given(st.integers(44, 300), st.integers(20, 100))
def test_no_row_of_the_main_column_is_left_empty(width: int, height: int) -> None:
    places = place_panes(SLOTS, Size(width, height))
    losses = places["losses"]
    assert sum(region.height for region in places.values() if region.x == losses.x or region.x == 0) >= height
    assert places["log"].bottom == height


@pytest.mark.parametrize(
    ("size", "columns"),
    [((80, 24), (0, 0)), ((100, 30), (0, 0)), ((119, 40), (32, 0)), ((120, 40), (32, 0)), ((200, 50), (32, 57))],
)
def test_columns_are_shown_where_the_main_column_keeps_its_width(
    size: tuple[int, int], columns: tuple[int, int]
) -> None:
    assert column_widths(SLOTS, size[0], None, None) == columns
    main = place_panes(SLOTS, Size(*size))["losses"]
    assert main.width >= MAIN_CELLS


def test_a_hundred_columns_show_no_less_than_eighty() -> None:
    narrow = place_panes(SLOTS, Size(80, 22))
    wide = place_panes(SLOTS, Size(98, 28))
    assert narrow.keys() <= wide.keys()
    assert wide["losses"].area > narrow["losses"].area and wide["verdict"].height > narrow["verdict"].height


def test_a_pane_that_shares_a_row_is_as_wide_as_it_asks() -> None:
    slots = [s._replace(hint=s.hint._replace(width=64)) if s.id == "balance" else s for s in SLOTS]
    for width, cells in ((86, (44, 40)), (98, (56, 40)), (130, (66, 62))):
        places = place_panes(slots, Size(width, 40), side=False, aside=False)
        assert (places["balance"].width, places["clock"].width) == cells
        assert places["balance"].y == places["clock"].y


def test_a_column_is_shown_or_hidden_on_request() -> None:
    assert "runs" in place_panes(SLOTS, Size(90, 30), side=True)
    places = place_panes(SLOTS, Size(200, 50), side=False, aside=False)
    assert "runs" not in places and "alerts" not in places
    assert places["verdict"].width == 200 and places["hardware"].height == 1


def test_one_pane_alone_has_all_the_room() -> None:
    assert place_panes(SLOTS, Size(80, 22), "alerts") == {"alerts": Region(0, 0, 80, 22)}
    assert place_panes(SLOTS, Size(80, 22), OVERVIEW).keys() > {"losses", "log"}


def test_the_least_important_rows_give_way() -> None:
    rows = [[slot] for slot in SLOTS if slot.area == "main"]
    assert share_rows(rows, 13) == [7, 4, 1] or sum(share_rows(rows, 13)) == 13
    assert share_rows(rows, 6) == [6, 0, 0]
    assert share_rows(rows, 11) == [6 + 0, 4, 1]
