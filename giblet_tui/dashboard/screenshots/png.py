"""Write a picture as a PNG file, drawn with Pillow; text is in JetBrains Mono, which comes from a package."""

from __future__ import annotations

import io
from functools import cache
from importlib import resources
from importlib.util import find_spec
from typing import TYPE_CHECKING

from giblet_train.schema.errors import ConfigError
from giblet_tui.dashboard.screenshots.glyph_shapes import Box, Disc, Shape, shapes
from giblet_tui.dashboard.screenshots.render import Picture, Run

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

CELL = 20
"""A cell's width in pixels of the drawing, which is then halved: that smooths the hard edges that Pillow draws."""
SHRINK = 2
FONT = 0.6
"""A glyph's advance in JetBrains Mono, as a fraction of the font's size."""
BASELINE = 1.5
MARGIN = 24
BOLD, REGULAR = 700, 400
FONT_PACKAGE, FONT_FILE = "fontpkg_jetbrains_mono", "files/JetBrainsMono[wght].ttf"


def png_bytes(picture: Picture) -> bytes:
    """Return the bytes of the file. Raises ConfigError if Pillow or the font is not installed."""
    if find_spec("PIL") is None or find_spec(FONT_PACKAGE) is None:
        raise ConfigError("PNG files need Pillow and a font.", "pip install 'giblet[picture]', or --svg FILE")
    from PIL import Image, ImageDraw

    size = picture.columns * CELL + 2 * MARGIN, len(picture.rows) * 2 * CELL + 2 * MARGIN
    image = Image.new("RGB", size, picture.ground)
    pen = ImageDraw.Draw(image)
    for y, row in enumerate(picture.rows):
        for run in row:
            _draw(pen, run, MARGIN + y * 2 * CELL)
    out = io.BytesIO()
    image.reduce(SHRINK).quantize(256).save(out, "PNG", optimize=True)
    return out.getvalue()


@cache
def _font(bold: bool) -> FreeTypeFont:
    from PIL import ImageFont

    data = resources.files(FONT_PACKAGE).joinpath(FONT_FILE).read_bytes()
    font = ImageFont.truetype(io.BytesIO(data), round(CELL / FONT))
    font.set_variation_by_axes([BOLD if bold else REGULAR])
    return font


def _draw(pen: ImageDraw, run: Run, top: int) -> None:
    left = MARGIN + run.column * CELL
    pen.rectangle((left, top, left + run.width * CELL - 1, top + 2 * CELL - 1), fill=run.ground)
    for character in run.text:
        character_shapes = shapes(character)
        for shape in character_shapes:
            _shape(pen, shape, left, top, run)
        if not character_shapes and not character.isspace():
            pen.text((left, top + BASELINE * CELL), character, run.ink, _font(run.bold), anchor="ls")
        left += CELL * run._replace(text=character).width


def _shape(pen: ImageDraw, shape: Shape, left: int, top: int, run: Run) -> None:
    if isinstance(shape, Box):
        x, y = left + shape.left * CELL, top + shape.top * CELL
        right, bottom = left + shape.right * CELL, top + shape.bottom * CELL
        pen.rectangle((x, y, max(x, right - 1), max(y, bottom - 1)), fill=run.ink)
    elif isinstance(shape, Disc):
        x, y, r = left + shape.x * CELL, top + shape.y * CELL, shape.radius * CELL
        around = (x - r, y - r, x + r, y + r)
        if shape.half:
            pen.pieslice(around, 90, 270, fill=run.ink)
        if shape.ring:
            pen.ellipse(around, outline=run.ink, width=round(shape.ring * CELL))
        else:
            pen.ellipse(around, fill=run.ink)
    else:
        points = [(left + x * CELL, top + y * CELL) for x, y in shape.points]
        pen.line(points, fill=run.ink, width=round(shape.thickness * CELL), joint="curve")
