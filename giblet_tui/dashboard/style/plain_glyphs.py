"""Draw the dashboard in ASCII where the terminal has no braille, no blocks or no UTF-8.

One filter at the very end of drawing replaces characters one for one, so no widget has to know about it.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from giblet_train.schema.config import nearest
from giblet_train.schema.errors import ConfigError

BRAILLE = range(0x2800, 0x2900)
UPPER_DOTS, LOWER_DOTS = 0b00011011, 0b11100100
PLAIN_TERMINALS = ("linux", "vt100", "vt220")
"""Values of TERM whose fonts have neither braille nor the state glyphs."""
SETTING = "GIBLET_GLYPHS"
GLYPHS = ["ascii", "unicode"]
"""Values of the variable."""

_REPLACED = {
    "●": "*", "◐": "o", "○": "o", "◌": ".", "■": "#", "✔": "v", "✓": "v", "✖": "x", "×": "x", "▲": "!", "◆": "#",
    "›": ">", "»": ">", "≠": "#", "━": "=", "╸": "=", "╍": "-", "┅": "-", "─": "-", "│": "|", "┃": "|", "┤": "+",
    "┏": "+", "┓": "+", "┗": "+", "┛": "+", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "┌": "+", "┐": "+", "└": "+",
    "┘": "+", "→": ">", "←": "<", "↑": "^", "↓": "v", "–": "-", "−": "-", "…": "~", "·": ".", "°": " ", "▕": "|",
    "▏": "|", "▎": "|", "▍": "|", "▌": "|", "▋": "|", "▊": "#", "▉": "#", "█": "#", "▁": ".", "▂": ".", "▃": "-",
    "▄": "-", "▅": "=", "▆": "=", "▇": "#", "▔": "-", "▀": "-", "▼": "v", "▐": "|", "\u00a0": " ",
    "“": '"', "”": '"',
}  # fmt: skip


class PlainGlyphs(LineFilter):
    """Replace every character that is not ASCII by one that is, cell for cell."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(plain_text(text), style, control) for text, style, control in segments]


@lru_cache(maxsize=4096)
def plain_text(text: str) -> str:
    """Return the text in ASCII; braille cells become `'`, `.` or `:`, and wide characters two question marks."""
    return text if text.isascii() else "".join(map(_plain, text))


def needs_plain_glyphs() -> bool:
    """Return True if the terminal cannot show braille; GIBLET_GLYPHS=ascii or =unicode decides otherwise.

    Raises ConfigError for any other value of the variable.
    """
    setting = os.environ.get(SETTING, "").strip().lower()
    if setting:
        if setting not in GLYPHS:
            raise ConfigError(
                f"{SETTING}={setting} is neither {' nor '.join(GLYPHS)}{nearest(setting, GLYPHS) or '.'}",
                f"Set it to one of them, or unset it: giblet then asks the terminal (env -u {SETTING} giblet).",
            )
        return setting == "ascii"
    encoding = (getattr(sys.__stdout__, "encoding", "") or "").lower().replace("-", "")
    return os.environ.get("TERM", "") in PLAIN_TERMINALS or not encoding.startswith("utf")


def _plain(character: str) -> str:
    if character.isascii():
        return character
    code = ord(character)
    if code in BRAILLE:
        dots = code - BRAILLE.start
        return " '.:"[bool(dots & UPPER_DOTS) + 2 * bool(dots & LOWER_DOTS)]
    from rich.cells import cell_len

    return _REPLACED.get(character, "?" * cell_len(character))
