"""Find the delimiter of a table in text, and cut its lines at it."""

from __future__ import annotations

import csv
from collections.abc import Sequence

DELIMITERS = "\t;,"
LEAST_NUMBERS = 2


def find_delimiter(lines: Sequence[str]) -> str:
    """Return the first of tab, semicolon and comma that both of the first two lines have; a tab if none has one.

    Commas are the weakest, because decimals and text have them. Text also has semicolons: of a semicolon and a comma,
    the semicolon is taken if there are numbers between semicolons, else the more frequent one.
    """
    first = [line for line in lines if line.strip()][:2]
    common = [sign for sign in DELIMITERS if first and all(sign in line for line in first)]
    present = common or [sign for sign in DELIMITERS if first and sign in first[0]] or ["\t"]
    if present[0] != ";" or "," not in present or any(_count_numbers(line) >= LEAST_NUMBERS for line in first):
        return present[0]
    return max(";,", key=first[0].count)


def split_line(line: str, delimiter: str) -> list[str] | None:
    """Return the cells of a line; None if a quotation mark opens a cell that does not end in the line."""
    # An open cell takes in the second line.
    row, *others = csv.reader([line, "end"], delimiter=delimiter)
    return row if others else None


def _count_numbers(line: str) -> int:
    """Return how many cells between semicolons are numbers, with a point or a comma before the decimals."""
    return sum(is_number(cell) for cell in line.split(";"))


def is_number(cell: str) -> bool:
    """Return True for a number with a point or a comma before its decimals."""
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True
