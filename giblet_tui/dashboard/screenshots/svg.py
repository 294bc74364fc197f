"""Write a picture as an SVG file. Charts, bars and state glyphs are shapes, so they need no font. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from giblet_tui.dashboard.screenshots.glyph_shapes import Box, Disc, Shape, shapes
from giblet_tui.dashboard.screenshots.render import Colour, Picture, Run

CELL_W, CELL_H = 10, 20
FONT = 16
BASELINE = 15
MARGIN = 12
FAMILY = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def svg_text(picture: Picture) -> str:
    """Return the text of the file, which loads nothing from other hosts."""
    width, height = picture.columns * CELL_W + 2 * MARGIN, len(picture.rows) * CELL_H + 2 * MARGIN
    body = [piece for y, row in enumerate(picture.rows) for run in row for piece in _run(run, y, picture.ground)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"<title>{escape(picture.title)}</title>",
            f"<style>text {{ font: {FONT}px {FAMILY}; white-space: pre }} .b {{ font-weight: bold }}</style>",
            f'<rect width="{width}" height="{height}" rx="{MARGIN / 2:g}" fill="{_hex(picture.ground)}"/>',
            f'<g transform="translate({MARGIN} {MARGIN})">',
            *body,
            "</g>",
            "</svg>\n",
        ]
    )


def _run(run: Run, y: int, ground: Colour) -> Iterator[str]:
    left, top = run.column * CELL_W, y * CELL_H
    if run.ground != ground:
        yield f'<rect x="{left}" y="{top}" width="{run.width * CELL_W}" height="{CELL_H}" fill="{_hex(run.ground)}"/>'
    yield from _words(run, top)
    outlines = [_outline(shape, left + i * CELL_W, top) for i, char in enumerate(run.text) for shape in shapes(char)]
    areas = "".join(path for path, stroke in outlines if not stroke)
    if areas:
        yield f'<path d="{areas}" fill="{_hex(run.ink)}"/>'
    for path, stroke in outlines:
        if stroke:
            yield f'<path d="{path}" fill="none" stroke="{_hex(run.ink)}" stroke-width="{stroke:g}"/>'


def _words(run: Run, top: int) -> Iterator[str]:
    """Yield what a font draws: each word at its place, as wide as its cells, so that any font keeps the columns."""
    text = "".join(" " if shapes(character) else character for character in run.text)
    at = 0
    for word in text.split(" "):
        if word:
            x = (run.column + _cells(text[:at])) * CELL_W
            wide = _cells(word) * CELL_W
            bold = ' class="b"' if run.bold else ""
            place = f'x="{x}" y="{top + BASELINE}" textLength="{wide}" lengthAdjust="spacingAndGlyphs"'
            yield f'<text{bold} {place} fill="{_hex(run.ink)}">{escape(word)}</text>'
        at += len(word) + 1


def _cells(text: str) -> int:
    return Run(0, text, (0, 0, 0), (0, 0, 0)).width


def _outline(shape: Shape, left: float, top: float) -> tuple[str, float]:
    """Return the path data of a shape, and the thickness of its stroke, 0 if it is filled."""
    if isinstance(shape, Box):
        x, y = left + shape.left * CELL_W, top + shape.top * CELL_W
        wide, high = (shape.right - shape.left) * CELL_W, (shape.bottom - shape.top) * CELL_W
        return f"M{x:g} {y:g}h{wide:g}v{high:g}h{-wide:g}z", 0
    if isinstance(shape, Disc):
        x, y, r = left + shape.x * CELL_W, top + shape.y * CELL_W, shape.radius * CELL_W
        left_half = f"A{r:g} {r:g} 0 0 0 {x:g} {y + r:g}z" if shape.half else ""
        whole = f"M{x - r:g} {y:g}a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0z"
        return (f"{whole}M{x:g} {y - r:g}{left_half}" if shape.half else whole), shape.ring * CELL_W
    points = [f"{left + x * CELL_W:g} {top + y * CELL_W:g}" for x, y in shape.points]
    return "M" + "L".join(points), shape.thickness * CELL_W


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
