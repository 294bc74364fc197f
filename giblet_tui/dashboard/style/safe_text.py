"""Turn text from nodes into content that cannot act: no markup is read, no control character gets through."""

from __future__ import annotations

import re
from collections.abc import Sequence

from textual.content import Content

UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
LONGEST = 2000

Part = str | tuple[str, str]


def escape_line(text: str) -> str:
    """Return the text on one line, at most `LONGEST` characters, with `�` for whatever could act on a terminal.

    Snapshots are sanitised where they are made; this check is independent of that one.
    """
    return UNSAFE.sub("�", text.replace("\t", "    ")[:LONGEST])


def join_parts(*parts: Part) -> Content:
    """Build one line of content from texts, each plain or with a style."""
    safe: list[Part] = [escape_line(p) if isinstance(p, str) else (escape_line(p[0]), p[1]) for p in parts]
    return Content.assemble(*safe)


def fit_parts(parts: Sequence[Part], width: int) -> Content:
    """Build one line of the first parts that fit in `width` cells, each whole; the first is always included."""
    content = join_parts(*parts[:1])
    for part in parts[1:]:
        longer = content + join_parts(part)
        if longer.cell_length > width:
            break
        content = longer
    return content


def clip_lines(lines: Sequence[Content], width: int, height: int) -> Content:
    """Return at most `height` lines, each cut to `width` cells with an ellipsis."""
    return Content("\n").join([line.truncate(width, ellipsis=True) for line in lines[:height]])


def progress_bar(fraction: float, width: int) -> tuple[str, str]:
    """Return the filled and the remaining part of a thin bar, to half a cell; fraction is from 0 to 1."""
    halves = round(max(0.0, min(1.0, fraction)) * width * 2)
    bar = "━" * (halves // 2) + "╸" * (halves % 2)
    return bar, "─" * (width - len(bar))
