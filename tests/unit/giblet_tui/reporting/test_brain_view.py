"""A brain in cells of a terminal shows each value where it is, and survives whatever a node sends."""

import base64
import re
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

from giblet_train.analysis.brain_record import CoarseGrid
from giblet_train.data.geometry import VolumeGrid
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.records import BrainMap, BrainRecord
from giblet_tui.reporting.brain_view import (
    CATEGORIES,
    GAP,
    GLASS,
    VIEWS,
    ansi_line,
    decode_map,
    draw,
    fitting_scale,
    key_cells,
    place_words,
    ramp,
    view_labels,
    xterm_256,
)


def packed(code_XYZ):
    return base64.b64encode(zlib.compress(np.asarray(code_XYZ, np.uint8).tobytes())).decode()


def record(**maps):
    """Return a block of 8 × 10 × 6 voxels of 5 mm, one of which is at the right, front and top."""
    code = np.ones((8, 10, 6), np.uint8)
    code[6, 8, 5] = 255
    region = np.ones_like(code)
    region[6, 8, 5] = 2
    default_maps = {
        "r": BrainMap(title="held-out r", low=0.0, high=0.6, voxels=packed(code)),
        "region": BrainMap(title="regions", low=0.0, high=1.0, names=("auditory",), voxels=packed(region)),
    }
    return BrainRecord(
        step=400,
        at=0.0,
        held_out=True,
        shape=(8, 10, 6),
        origin_mm=(-20.0, -30.0, 0.0),
        step_mm=5.0,
        maps=default_maps | maps,
    )


def test_the_peak_is_named_with_its_place_region_and_value():
    volume = decode_map(record(), "r")
    assert volume.peak == (6, 8, 5)
    assert place_words(volume, volume.peak) == "(10, 10, 25) mm, auditory: 0.60"
    assert place_words(volume, (0, 0, 0)) == "(-20, -30, 0) mm: no value"
    [key], [category] = key_cells(volume), key_cells(decode_map(record(), "region"))
    assert re.fullmatch("0 █{24} 0.6", "".join(cell.glyph for cell in key))
    assert "".join(cell.glyph for cell in category) == "█ auditory 100%" and category[0].front == CATEGORIES[0]


def test_a_map_without_a_value_says_so_instead_of_a_scale():
    study = SimpleNamespace(geometry=VolumeGrid.of((3, 4, 5), np.eye(4)))
    mask = np.ones((3, 4, 5), bool)
    data = SimpleNamespace(study=study, mask=mask, n_voxels=mask.size, in_grid_order=lambda index_V: index_V)
    grid = CoarseGrid(data)
    for n_significant, words in ((0, "no voxel has a value"), (1, "0 " + "█" * 24 + " 0.3")):
        r_V = np.where(np.arange(mask.size) < n_significant, 0.3, 0.0)
        brain_record = grid.record(1, {"r": grid.values("held-out r, significant voxels", r_V)}, held_out=True)
        [key] = key_cells(decode_map(brain_record, "r"))
        assert "".join(cell.glyph for cell in key) == words
        assert decode_map(brain_record, "r").has_values == bool(n_significant)


def test_views_are_named_below_their_middle():
    volume = decode_map(record(), "r")
    labels, scale = view_labels(volume, 120, 30), fitting_scale(volume, 120, 30)
    middles = [labels.index(view) + len(view) / 2 for view in VIEWS]
    assert middles == pytest.approx([5 * scale, 14 * scale + GAP, 22 * scale + 2 * GAP], abs=2)
    assert view_labels(decode_map(record(), "r"), 30, 4) == "from the left, L from behind R"


def test_a_projection_of_categories_shows_the_most_frequent_one_along_the_line_of_sight():
    code = np.ones((8, 10, 6), np.uint8)
    code[:4, 5, 3], code[4, 5, 3] = 2, 3
    two = BrainMap(title="space", low=0.0, high=1.0, names=("video", "mixed"), voxels=packed(code))
    cells = [cell for row in draw(decode_map(record(space=two), "space"), 10 + 2 * 8 + 4, 5) for cell in row[:10]]
    colors = {color for cell in cells for color in pixels_of(cell)}
    assert CATEGORIES[0] in colors and CATEGORIES[1] not in colors


def pixels_of(cell):
    """Return the colours of the upper and the lower half of a cell."""
    return {
        " ": (None, None),
        "█": (cell.front, cell.front),
        "▄": (cell.back, cell.front),
        "▀": (cell.front, cell.back),
    }[cell.glyph]


def test_each_projection_shows_the_peak_on_its_side():
    volume = decode_map(record(), "r")
    rows = draw(volume, 10 + 2 * 8 + 4, 5)
    bright = [
        (2 * y + lower, x)
        for y, row in enumerate(rows)
        for x, cell in enumerate(row)
        for lower, color in enumerate(pixels_of(cell))
        if color == ramp(1.0)
    ]
    # From the left the front is on the left; from behind and from above the right is on the right.
    assert bright == [(1, 12 + 10 + 6), (2, 1), (2, 12 + 6)]
    assert {cell.front for row in rows for cell in row} == {None, GLASS[True], ramp(1.0)}


def test_the_cursor_is_drawn_over_the_map():
    volume = decode_map(record(), "r")
    cells = [cell for row in draw(volume, 60, 12, cursor=(1, 1, 1)) for cell in row]
    assert sum(pixels_of(cell).count((255, 255, 255)) for cell in cells) == 3


@pytest.mark.parametrize(("columns", "rows"), [(30, 4), (80, 10), (200, 50), (8, 1)])
def test_it_fits_into_any_size(columns, rows):
    lines = draw(decode_map(record(), "r"), columns, rows)
    assert len(lines) <= rows and all(len(row) <= max(columns, 3 + 4) for row in lines)


def test_colours_of_terminals():
    assert xterm_256((255, 0, 0)) == 196 and xterm_256((128, 128, 128)) == 244 and xterm_256(CATEGORIES[1]) == 74
    row = draw(decode_map(record(), "r"), 60, 8)[3]
    assert "38;2;" in ansi_line(row, 2**24) and "38;5;" in ansi_line(row, 256)
    assert re.fullmatch(r"[ .:\-=+*#%@]*", ansi_line(row, 0))


def test_a_palette_rises_in_lightness_so_that_it_reads_without_colour():
    light = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (ramp(n / 20) for n in range(21))]
    assert light == sorted(light)


@pytest.mark.parametrize("voxels", ["", "not base64!", packed(np.ones(3)), packed(np.ones(481))])
def test_damaged_voxels_are_refused(voxels):
    with pytest.raises(DataError, match="damaged"):
        decode_map(record(r=BrainMap(title="r", low=0.0, high=1.0, voxels=voxels)), "r")
    with pytest.raises(ConfigError, match="no map 'x'"):
        decode_map(record(), "x")
