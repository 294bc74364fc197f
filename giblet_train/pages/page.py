"""Skeleton and style of a self-contained HTML page: readable on a phone, in print, in light and dark mode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from giblet_train.schema.errors import DataError
from giblet_train.schema.run_dir import replace_file

STYLE = files(__package__).joinpath("style.css").read_text(encoding="utf-8")


def html_page(title: str, sections: Iterable[tuple[str, str]], opening: str = "") -> str:
    """Return a page that needs no other file.

    Args:
        title: title and first heading.
        sections: heading and HTML content of each section; empty sections are left out.
        opening: HTML between the first heading and the table of contents.
    """
    sections_with_content = [(heading, content) for heading, content in sections if content]
    links = "".join(f'<a href="#s{n}">{escape(heading)}</a>' for n, (heading, _) in enumerate(sections_with_content))
    body = "".join(
        f'<section id="s{n}"><h2>{escape(heading)}</h2>{content}</section>'
        for n, (heading, content) in enumerate(sections_with_content)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head>'
        f"<body><main><h1>{escape(title)}</h1>{opening}<nav>{links}</nav>{body}</main></body></html>\n"
    )


def write_page(text: str, path: Path, option: str) -> None:
    """Write a page. Raises DataError, which names the option, where the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.", f"Choose another {option}.") from None


def figure(content: str, caption: str, source: str = "", heading: str = "") -> str:
    """Return a figure: a heading above, HTML content, HTML caption, and where its numbers come from."""
    title = f"<h3>{escape(heading)}</h3>" if heading else ""
    origin = f'<span class="source">Source: {escape(source)}</span>' if source else ""
    below = f"<figcaption>{caption}{origin}</figcaption>" if caption or origin else ""
    return f"<figure>{title}{content}{below}</figure>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: Sequence[int] = (0,)) -> str:
    """Return a table of plain text that scrolls on narrow screens. text_columns: those that are not numbers."""
    kinds = ["" if n in text_columns else ' class="number"' for n in range(len(header))]
    head = "".join(f"<th{kind}>{escape(cell)}</th>" for kind, cell in zip(kinds, header, strict=True))
    lines = [
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    ]
    content = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll" tabindex="0"><table>{content}</table></div>'
