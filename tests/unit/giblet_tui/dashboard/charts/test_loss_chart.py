"""From series to rows of text: dots where the values are, ticks that are round, figures that differ."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from giblet_tui.dashboard.charts import axis, braille, loss_chart
from giblet_tui.dashboard.charts.braille import BITS, Layer, Mark
from giblet_tui.dashboard.charts.loss_chart import GUTTER, Chart
from giblet_tui.dashboard.charts.viewport import DECAYS, Viewport, whole_axis
from giblet_tui.monitor.metric_columns import Points, Range, StepColumns
from tests import fleets


def points(*pairs: tuple[float, float]) -> Points:
    return Points(np.array([x for x, _ in pairs], float), np.array([y for _, y in pairs], float))


def dots(rows: list[braille.Row], width: int) -> set[tuple[int, int]]:
    """Return (column, row from the top) of every dot drawn."""
    places = set()
    for y, row in enumerate(rows):
        text = "".join(run.text for run in row)
        assert len(text) == width
        for x, character in enumerate(text):
            code = ord(character) - 0x2800 if character != " " else 0
            places |= {(2 * x + c, 4 * y + r) for r in range(4) for c in range(2) if code & int(BITS[r][c])}
    return places


def text_of(rows: list[braille.Row]) -> list[str]:
    return ["".join(run.text for run in row) for row in rows]


def test_a_diagonal_is_drawn_dot_by_dot() -> None:
    rows = braille.draw([Layer(points((0, 0), (7, 7)), "a")], Range(0, 7), Range(0, 7), 4, 2)
    assert dots(rows, 4) == {(i, 7 - i) for i in range(8)}


@pytest.mark.parametrize(("y", "row"), [(0.0, 11), (1.0, 0), (0.5, 6)])
def test_one_point_is_one_dot(y: float, row: int) -> None:
    rows = braille.draw([Layer(points((5, y)), "a")], Range(0, 10), Range(0, 1), 10, 3)
    assert dots(rows, 10) == {(round(5 / 10 * 19), row)} or dots(rows, 10) == {(9, row)}


def test_nothing_is_spaces() -> None:
    assert text_of(braille.draw([Layer(points(), "a")], Range(0, 1), Range(0, 1), 5, 2)) == [" " * 5] * 2
    assert braille.draw([], Range(0, 1), Range(0, 1), 0, 3) == [(), (), ()]


def test_half_a_million_points_keep_their_extremes() -> None:
    y = np.zeros(500_000)
    y[123_456], y[400_000] = 1.0, -1.0
    rows = dots(braille.draw([Layer(Points(np.arange(500_000.0), y), "a")], Range(0, 499_999), Range(-1, 1), 50, 5), 50)
    assert {x for x, row in rows if row == 0} == {round(123_456 / 499_999 * 99)}
    assert {x for x, row in rows if row == 19} == {round(400_000 / 499_999 * 99)}


def test_a_steep_line_does_not_fall_apart() -> None:
    rows = braille.draw([Layer(points((0, 0), (1, 100)), "a")], Range(0, 1), Range(0, 100), 1, 8)
    assert {row for _, row in dots(rows, 1)} == set(range(32))


def test_a_gap_is_left_open_and_what_is_outside_is_cut() -> None:
    series = points((0, 5), (3, 5), (4, math.nan), (5, 5), (9, 5))
    rows = dots(braille.draw([Layer(series, "a")], Range(0, 9), Range(0, 10), 5, 1), 5)
    assert {x for x, _ in rows} == {0, 1, 2, 3, 5, 6, 7, 8, 9}
    assert not dots(braille.draw([Layer(series, "a")], Range(0, 9), Range(6, 10), 5, 1), 5)


def test_dashes_distinguish_lines_without_colour() -> None:
    level = points((0, 1), (39, 1))
    columns = {}
    for dash in braille.PATTERNS:
        rows = braille.draw([Layer(level, "a", dash)], Range(0, 39), Range(0, 2), 20, 1)
        columns[dash] = frozenset(x for x, _ in dots(rows, 20))
    assert len(set(columns.values())) == len(braille.PATTERNS)
    assert columns["solid"] == set(range(40))


def test_a_cell_shows_its_topmost_layer_then_marks() -> None:
    behind, front = Layer(points((0, 0), (9, 0)), "behind"), Layer(points((0, 0), (4, 0)), "front")
    (row,) = braille.draw([behind, front], Range(0, 9), Range(0, 1), 5, 1, [Mark(9, 0, "×", "bad")], cursor=6.5)
    assert [(run.style, len(run.text)) for run in row] == [("front", 3), ("behind", 1), ("bad", 1)]
    assert row[-1].text == "×"
    (row,) = braille.draw([], Range(0, 9), Range(0, 1), 5, 1, cursor=4.5)
    assert [(run.text, run.style) for run in row] == [("  ", ""), ("│", "cursor"), ("  ", "")]


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(1, 20))
def test_ticks_are_few_round_and_inside(first: float, span: float, count: int) -> None:
    whole = Range(first, first + span)
    if whole.span < 1e-9 * max(1.0, abs(first)):
        return
    ticks = axis.ticks(whole, count)
    assert len(ticks) <= count
    assert all(whole.first - 1e-6 * span <= t <= whole.last + 1e-6 * span for t in ticks)
    pitches = {f"{b - a:.3g}" for a, b in pairwise(ticks)}
    assert len(pitches) <= 1 or abs(first) > 1e4 * span


@pytest.mark.parametrize(
    ("span", "count", "expected"),
    [
        (Range(0, 1), 5, (0, 0.5, 1)),
        (Range(0, 400), 5, (0, 100, 200, 300, 400)),
        (Range(0.71, 0.94), 4, (0.75, 0.8, 0.85, 0.9)),
        (Range(1, 1), 3, ()),
    ],
)
def test_ticks(span: Range, count: int, expected: tuple[float, ...]) -> None:
    assert axis.ticks(span, count) == pytest.approx(expected)


def test_ticks_of_a_log_axis() -> None:
    assert axis.log_ticks(Range(-2.5, 3.2), 10) == (-2, -1, 0, 1, 2, 3)
    assert [round(10**t, 6) for t in axis.log_ticks(Range(math.log10(0.5), 0), 3)] == [0.6, 0.8, 1.0]


@pytest.mark.parametrize(
    ("value", "spread", "expected"),
    [
        (275824.6, 134.3, "275,824.6"),
        (275958.9, 134.3, "275,958.9"),
        (0.81234, 0.3, "0.8123"),
        (0.81234, 0.002, "0.812340"),
        (1.0, 0.0, "1.000"),
        (0.0, 1.0, "0"),
        (3.2e-5, 0.0, "3.2e-5"),
        (-12.5, 0.0, "-12.50"),
        (math.nan, 1.0, "nan"),
        (math.inf, 1.0, "nan"),
    ],
)
def test_figures(value: float, spread: float, expected: str) -> None:
    assert axis.figure(value, spread) == expected


@given(st.floats(1e-2, 1e6), st.floats(1e-3, 1.0))
def test_neighbouring_figures_differ(value: float, relative: float) -> None:
    spread = value * relative
    assert axis.figure(value, spread) != axis.figure(value + spread / 50, spread)


def test_zoom_is_kept_while_the_run_grows() -> None:
    viewport = Viewport().zoomed(0.5)
    assert viewport.window(Range(0, 100)) == Range(50, 100)
    assert viewport.window(Range(0, 200)) == Range(100, 200)
    back = viewport.panned(-0.5)
    assert back.window(Range(0, 100)) == Range(25, 75)
    assert back.panned(9).end is None
    assert back.zoomed(100) == Viewport()


def test_zoom_about_a_place_keeps_it_in_place() -> None:
    viewport = Viewport().zoomed(0.5, around=0.2)
    window = viewport.window(Range(0, 100))
    assert window.span == pytest.approx(50)
    assert (20 - window.first) / window.span == pytest.approx(0.2)


@given(st.lists(st.sampled_from(["in", "out", "left", "right", "whole", "cross", "move", "point"]), max_size=40))
def test_no_sequence_of_keys_loses_the_window_or_the_crosshair(keys: list[str]) -> None:
    viewport = Viewport()
    for key in keys:
        viewport = {
            "in": viewport.zoomed(0.5),
            "out": viewport.zoomed(2),
            "left": viewport.panned(-0.3),
            "right": viewport.panned(0.3),
            "whole": viewport.show_all(),
            "cross": viewport.toggle_cursor(),
            "move": viewport.move_cursor(-0.1),
            "point": viewport.with_cursor_at(0.3),
        }[key]
        window = viewport.window(Range(0, 1))
        assert -1e-9 <= window.first < window.last <= 1 + 1e-9


def test_smoothing_stops_at_its_ends() -> None:
    viewport = Viewport()
    for _ in range(20):
        viewport = viewport.smoother(1)
    assert viewport.decay == DECAYS[-1]
    for _ in range(20):
        viewport = viewport.smoother(-1)
    assert viewport.decay == 0.0


def demo_chart(**changes: object) -> Chart:
    run = fleets.run(steps=200, nan_from=150)
    curves = StepColumns().curves(run.steps, run.epochs)
    raw = Points(curves.step_N, curves.loss["audio"])
    whole = whole_axis(curves, "step", 20, run.run.launched_at)
    held_out = Points(curves.epoch_step_E, curves.validation["audio"])
    return replace(Chart("audio", Viewport(), whole, raw, raw, held_out, constant=1.0), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "viewport", [Viewport(), Viewport(log=True), Viewport(cursor=0.5), Viewport(share=0.1), Viewport(decay=0.0)]
)
@pytest.mark.parametrize(("width", "height"), [(20, 3), (60, 10), (200, 40)])
def test_every_row_has_the_width_it_was_given(viewport: Viewport, width: int, height: int) -> None:
    rows = loss_chart.rows(demo_chart(viewport=viewport), width, height)
    assert [len(row) for row in text_of(rows)] == [width] * height


@pytest.mark.parametrize(("width", "height"), [(0, 0), (5, 5), (GUTTER, 4), (40, 1)])
def test_a_chart_too_small_to_read_is_nothing(width: int, height: int) -> None:
    assert loss_chart.rows(demo_chart(), width, height) == []


def test_a_chart_says_where_numbers_ended() -> None:
    rows = loss_chart.rows(demo_chart(), 68, 10)
    bottom = rows[-2]
    marks = [run for run in bottom if run.style == "bad"]
    assert marks and set(marks[0].text) == {"×"}
    assert sum(len(run.text) for run in bottom[: bottom.index(marks[0])]) == GUTTER + round(150 / 199 * 59)


def test_the_best_constant_is_in_sight_when_it_is_near() -> None:
    near = loss_chart.range_of(demo_chart(), 60)
    assert near.contains(1.0)
    far = loss_chart.range_of(demo_chart(constant=50.0), 60)
    assert not far.contains(50.0)


def test_a_log_axis_is_logarithmic() -> None:
    series = points(*((x, 10.0 ** (x / 10)) for x in range(41)))
    rows = loss_chart.rows(
        demo_chart(
            viewport=Viewport(log=True), raw=series, smooth=series, held_out=points(), whole=Range(0, 40), constant=0.0
        ),
        49,
        42,
    )
    labels = [row[:GUTTER].strip(" ┤│") for row in text_of(rows)[:-1]]
    rows_of_decades = [
        labels.index(label) for label in ("1.000", "10.00", "100.0", "1,000", "10,000") if label in labels
    ]
    steps = {b - a for a, b in pairwise(rows_of_decades)}
    assert len(rows_of_decades) >= 4
    assert max(steps) - min(steps) <= 1


@pytest.mark.parametrize("axis_kind", ["step", "epoch", "since launch", "clock"])
def test_each_axis_spans_the_run(axis_kind: str) -> None:
    run = fleets.run(steps=100)
    curves = StepColumns().curves(run.steps, run.epochs)
    whole = whole_axis(curves, axis_kind, 20, run.run.launched_at)  # type: ignore[arg-type]
    expected = {"step": 100, "epoch": 5, "since launch": 59.7, "clock": 59.7}[axis_kind]
    assert whole.span == pytest.approx(expected, abs=0.11)


def test_long_labels_make_room_for_themselves() -> None:
    series = points(*((x, 275_824.6 + x / 100) for x in range(101)))
    flat = demo_chart(raw=series, smooth=series, held_out=points(), whole=Range(0, 100), constant=0.0)
    rows = text_of(loss_chart.rows(flat, 60, 12))
    assert {len(row) for row in rows} == {60}
    labels = [row.split("┤")[0].strip() for row in rows if "┤" in row]
    assert len(labels) == len(set(labels)) >= 2


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(4, 60))
def test_an_even_axis_covers_the_values_with_round_ticks_on_rows(first: float, span: float, n_rows: int) -> None:
    values = Range(first, first + span)
    even = axis.even_axis(values, n_rows)
    assert even is not None
    tolerance = 1e-5 * span + 1e-9 * abs(first)
    assert even.span.first <= values.first + tolerance and even.span.last >= values.last - tolerance
    rows = [even.row_of(place) for place in even.places]
    assert all(0 <= row < n_rows for row in rows)
    assert len({before - after for before, after in pairwise(rows)}) <= 1
    assert even.span.span <= 3 * span + 4 * even.row_value


def test_labels_of_a_chart_are_equally_far_apart() -> None:
    for height in range(5, 20):
        text = text_of(loss_chart.rows(demo_chart(), 60, height))
        rows = [y for y, row in enumerate(text[:-1]) if "┤" in row]
        assert rows and len({after - before for before, after in pairwise(rows)}) <= 1, (height, text)


@pytest.mark.parametrize("height", [3, 4, 5, 12])
def test_an_axis_of_losses_has_no_label_below_zero(height: int) -> None:
    """A small loss next to one that is far larger leaves room below it."""
    x_N = np.arange(10.0)
    small, large = Points(x_N, np.full(10, 1.27)), Points(x_N, np.full(10, 4e5))
    chart = Chart("total", Viewport(), Range(0, 9), small, small, small, 0.0, others=(large,))
    y_range, labels = loss_chart.y_axis(chart, 50, height)
    assert y_range.first >= 0 and not any(label.startswith("-") for label in labels.values())
