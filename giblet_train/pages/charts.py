"""Charts as inline SVG that follows the page's colours, and tables coloured by value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from giblet_train.pages.colours import CATEGORIES, COLD, WARM, css, ink_on, ramp

WIDTH, HEIGHT = 440, 280
WIDE = 720
"""Width of a chart of long series."""
RIGHT, TOP, BOTTOM = 12, 10, 42
DIGIT = 7.6
"""Width of a digit."""
LEGEND_ROW = 20
LEAST_SPAN = 0.02
"""So that rounding errors do not look like a curve."""
DASHES = ("", "6 4", "2 3", "8 3 2 3")


@dataclass(frozen=True)
class Line:
    """A line of a chart."""

    name: str
    x: Sequence[float]
    """Increasing."""
    y: Sequence[float]
    """As many values; NaN interrupts the line."""
    dash: int = 0
    """Index into DASHES, so that lines differ without colour."""
    colour: int = 0
    """Index into CATEGORIES."""


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    borders: Sequence[float] = (),
    zero: bool = False,
    width: int = WIDTH,
) -> str:
    """Draw lines over common axes, with a legend; dashed vertical lines at `borders`.

    title: what a screen reader reads. zero: the vertical axis includes 0. A vertical axis spans at least LEAST_SPAN.
    """
    points = [(x, y) for line in lines for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
    if not points:
        return ""
    ticks_x = ticks(min(x for x, _ in points), max(x for x, _ in points))
    heights = [y for _, y in points] + ([0.0] if zero else [])
    middle_y, half = (min(heights) + max(heights)) / 2, max(LEAST_SPAN, max(heights) - min(heights)) / 2
    ticks_y = ticks(middle_y - half, middle_y + half, 5)
    low_x, high_x = min(ticks_x[0], min(x for x, _ in points)), max(x for x, _ in points)
    low_y, high_y = ticks_y[0], ticks_y[-1]
    edge = 32 + DIGIT * max(2, *(len(number(y)) for y in ticks_y))

    def across(x: float) -> float:
        return edge + (x - low_x) / max(high_x - low_x, 1e-12) * (width - edge - RIGHT)

    legend, n_rows = _legend(lines, edge, width)
    top = TOP + LEGEND_ROW * n_rows

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - low_y) / max(high_y - low_y, 1e-12) * (HEIGHT - top - BOTTOM)

    parts = [
        f'<line class="grid" x1="{edge}" x2="{width - RIGHT}" y1="{down(y):.1f}" y2="{down(y):.1f}"/>'
        f'<text class="faint" x="{edge - 6:g}" y="{down(y) + 4:.1f}" text-anchor="end">{number(y)}</text>'
        for y in ticks_y
    ]
    parts += [
        f'<text class="faint" x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{number(x)}</text>'
        for x in ticks_x
        if x <= high_x
    ]
    parts += [
        f'<line class="border" x1="{across(x):.1f}" x2="{across(x):.1f}" y1="{top}" y2="{HEIGHT - BOTTOM}"/>'
        for x in borders
    ]
    parts.append(f'<line class="axis" x1="{edge}" x2="{width - RIGHT}" y1="{down(low_y):.1f}" y2="{down(low_y):.1f}"/>')
    for line in lines:
        colour = css(CATEGORIES[line.colour % len(CATEGORIES)])
        for run in _unbroken_parts(line):
            path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in run)
            dash = f' stroke-dasharray="{DASHES[line.dash]}"' if line.dash else ""
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    parts += legend
    middle = (top + HEIGHT - BOTTOM) / 2
    parts.append(f'<text x="{(edge + width) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text x="13" y="{middle}" text-anchor="middle" transform="rotate(-90 13 {middle})">{escape(y_label)}</text>'
    )
    return svg(title, width, HEIGHT, "".join(parts))


def svg(title: str, width: float, height: float, content: str) -> str:
    """Return an inline SVG picture with a text alternative."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title, quote=True)}" '
        f'preserveAspectRatio="xMidYMid meet">{content}</svg>'
    )


def bars(title: str, rows: Sequence[tuple[str, float, float | None]], x_label: str, reference: str) -> str:
    """Draw a horizontal bar per row: name, value, and a mark at its reference value if there is one.

    reference: name of the marks, for the legend.
    """
    values = [v for _, value, mark in rows for v in (value, mark) if v is not None and math.isfinite(v)]
    if not values:
        return ""
    axis = ticks(min(0.0, *values), max(0.0, *values), 5)
    margin, step, width = 150, 26, WIDTH - 150 - 20
    has_marks = any(mark is not None for *_, mark in rows)
    top = TOP + LEGEND_ROW * has_marks
    height = top + step * len(rows) + BOTTOM

    def across(value: float) -> float:
        return margin + (value - axis[0]) / max(axis[-1] - axis[0], 1e-12) * width

    parts = [
        f'<line class="grid" x1="{across(x):.1f}" x2="{across(x):.1f}" y1="{top}" y2="{height - BOTTOM}"/>'
        f'<text class="faint" x="{across(x):.1f}" y="{height - BOTTOM + 17}" text-anchor="middle">{number(x)}</text>'
        for x in axis
    ]
    for n, (name, value, mark) in enumerate(rows):
        y = top + step * n
        parts.append(f'<text x="{margin - 8}" y="{y + 17}" text-anchor="end">{escape(_shortened(name))}</text>')
        if math.isfinite(value):
            start, end = sorted((across(0.0), across(value)))
            colour = css(CATEGORIES[5])
            box = f'x="{start:.1f}" y="{y + 4}" width="{max(1.0, end - start):.1f}" height="{step - 9}"'
            parts.append(f'<rect {box} fill="{colour}"/>')
        if mark is not None and math.isfinite(mark):
            at = across(mark)
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y + 1}" y2="{y + step - 2}" stroke="{css(CATEGORIES[4])}" '
                'stroke-width="3"/>'
            )
    if has_marks:
        parts.append(
            f'<line x1="{margin}" x2="{margin}" y1="6" y2="20" stroke="{css(CATEGORIES[4])}" stroke-width="3"/>'
            f'<text x="{margin + 8}" y="18">{escape(reference)}</text>'
        )
    parts.append(f'<text x="{margin + width / 2}" y="{height - 6}" text-anchor="middle">{escape(x_label)}</text>')
    return svg(title, WIDTH, height, "".join(parts))


def value_table(
    corner: str, rows: Mapping[str, Sequence[tuple[float, str]]], columns: Sequence[str], largest: float
) -> str:
    """Return a table whose cells are coloured by value: warm above 0, blue below; white at 0.

    rows: name -> value and text of each column. largest: value of the full colour.
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    lines = []
    for name, cells in rows.items():
        style = ""
        for value, text in cells:
            background = _cell_colour(value, largest)
            style += (
                f'<td class="cell" style="background:{css(background)};color:{ink_on(background)}">{escape(text)}</td>'
            )
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{style}</tr>')
    content = f"<tr><th>{escape(corner)}</th>{head}</tr>{''.join(lines)}"
    return f'<div class="scroll" tabindex="0"><table>{content}</table></div>'


def _cell_colour(value: float, largest: float) -> Sequence[int]:
    if not math.isfinite(value):
        return (200, 200, 200)
    stops = ((255, 255, 255), *(WARM if value >= 0 else COLD)[3:1:-1])
    colour: Sequence[int] = ramp(np.array(abs(value)), stops, 0.0, largest).tolist()
    return colour


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers that span an interval."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / most
    step = 10.0 ** math.floor(math.log10(rough))
    step *= next(m for m in (1, 2, 5, 10) if m * step >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def number(value: float) -> str:
    """Format a number of an axis."""
    return f"{value:g}".replace("-", "−")


def _shortened(name: str, longest: int = 24) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _unbroken_parts(line: Line) -> list[list[tuple[float, float]]]:
    """Return the parts of a line without NaN."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _legend(lines: Sequence[Line], edge: float, chart_width: float) -> tuple[list[str], int]:
    """Return the legend above the chart, and its number of rows."""
    parts, x, row = [], edge, 0
    for line in lines:
        width = 44 + 6.9 * len(line.name)
        if x + width > chart_width and x > edge:
            x, row = edge, row + 1
        y = 12 + LEGEND_ROW * row
        colour = css(CATEGORIES[line.colour % len(CATEGORIES)])
        dash = f' stroke-dasharray="{DASHES[line.dash]}"' if line.dash else ""
        parts.append(f'<line x1="{x}" x2="{x + 22}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"{dash}/>')
        parts.append(f'<text x="{x + 27}" y="{y + 4}">{escape(line.name)}</text>')
        x += width
    return parts, row + 1
