"""Charts show the numbers that they are given."""

import math
from base64 import b64decode
from io import BytesIO
from xml.etree import ElementTree

import av
import numpy as np
import pytest

from giblet_train.pages.charts import Line, bars, line_chart, ticks, value_table
from giblet_train.pages.page import html_page, table, write_page
from giblet_train.pages.png import png_uri
from giblet_train.schema.errors import DataError


@pytest.mark.parametrize(("shape", "pixels"), [((7, 13), "gray"), ((6, 9, 3), "rgb24"), ((5, 4, 4), "rgba")])
def test_a_picture_survives_as_png(shape, pixels):
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    kind, data = png_uri(picture).split(",", 1)
    assert kind == "data:image/png;base64"
    with av.open(BytesIO(b64decode(data)), format="png_pipe") as container:
        np.testing.assert_array_equal(next(container.decode(video=0)).to_ndarray(format=pixels), picture)


def test_a_line_rises_with_its_values_and_stops_where_there_are_none():
    chart = line_chart("t", [Line("a", [0, 1, 2, 3], [1, 2, math.nan, 4])], "x", "y")
    lines = ElementTree.fromstring(chart).findall("polyline")
    heights = [[float(p.split(",")[1]) for p in line.get("points").split()] for line in lines]
    assert [len(h) for h in heights] == [2, 1] and heights[0][0] > heights[0][1] > heights[1][0]
    assert line_chart("t", [Line("a", [0], [math.nan])], "x", "y") == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3e-4, 2e-4), (5, 5), (0, 397), (1e6, 1e6 + 3)])
def test_ticks_are_round_and_span_the_interval(low, high):
    marks = ticks(low, high)
    assert marks[0] <= low and marks[-1] >= high and 2 <= len(marks) <= 9


def test_a_bar_ends_at_its_value():
    rectangles = ElementTree.fromstring(bars("t", [("a<b", 0.5, 0.6), ("c", 0.25, None)], "r", "ceiling")).findall(
        "rect"
    )
    assert float(rectangles[0].get("width")) == pytest.approx(2 * float(rectangles[1].get("width")), rel=0.02)


def test_cells_are_warm_above_zero_and_text_is_escaped():
    html = value_table("region", {"<a>": [(0.5, "+.5"), (-0.5, "−.5"), (math.nan, "–")]}, ["x", "y", "z"], 0.5)
    assert "&lt;a&gt;" in html and html.count("background:#") == 3
    assert "<td class" not in table(("a",), [("<b>",)]) and "&lt;b&gt;" in table(("a",), [("<b>",)])


def test_a_page_has_only_the_sections_with_content(tmp_path):
    text = html_page("A & B", [("One", "<p>1</p>"), ("Two", "")])
    assert "A &amp; B" in text and "One" in text and "Two" not in text
    write_page(text, tmp_path / "new" / "page.html", "--out")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        write_page(text, tmp_path / "file" / "page.html", "--out")
