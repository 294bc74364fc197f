"""Lay out columns and values as text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_GAP = "  "

Row = Sequence[str]


def table(head: Row, rows: Sequence[Row]) -> str:
    """Format left-aligned columns, two spaces apart, exactly one line per row."""
    lines = [_one_line(row) for row in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(_GAP.join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def markdown_table(head: Row, rows: Sequence[Row]) -> str:
    """Format the same columns as a Markdown table."""
    lines = [head, ["---"] * len(head), *map(_one_line, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _one_line(row: Row) -> list[str]:
    return [" ".join(line.strip() for line in cell.splitlines()) for cell in row]


def fitted_table(head: Row, rows: Sequence[Row], spare: Sequence[str], width: int | None) -> str:
    """Format columns as `table` does, in lines of at most a width.

    Args:
        spare: Columns that are dropped, in this order, until all but the last column fit.
        width: Columns of the terminal; None: any.
    """
    lines = [list(head), *map(_one_line, rows)]
    if width is not None:
        for name in spare:
            if _width([line[:-1] for line in lines]) <= width:
                break
            column = lines[0].index(name)
            lines = [[*line[:column], *line[column + 1 :]] for line in lines]
    text = table(lines[0], lines[1:])
    return text if width is None else "\n".join(_cut(line, width) for line in text.split("\n"))


def _cut(line: str, width: int) -> str:
    """Cut a line to a width in columns, ending with `…`."""
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def _width(rows: Sequence[Row]) -> int:
    return sum(max(map(len, column)) + len(_GAP) for column in zip(*rows, strict=True))


def diff_lines(changes: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """Format one line per changed key."""
    return [f"  {key}: {as_yaml(old)} → {as_yaml(new)}" for key, (old, new) in changes.items()]


def as_yaml(value: Any) -> str:
    """Format a value on one line as YAML; a text of several lines, such as a table of runs, as their number."""
    if isinstance(value, str) and "\n" in value:
        return f"a table of {len(value.splitlines())} lines"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {as_yaml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
