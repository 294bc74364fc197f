"""The table of how well a film is reconstructed from brains, which several pages show."""

from __future__ import annotations

import math
from collections.abc import Mapping

from giblet_train.pages.page import paragraph, table

COLUMNS = {
    "skill": "skill",
    "r": "r",
    "two_way": "two-way",
    "top_1": "identified",
    "top_1_chance": "by chance",
}
"""Figure -> heading of its column."""


def score_cells(scores: Mapping[str, float]) -> tuple[str, ...]:
    """Return a cell for each of COLUMNS, a dash for a figure that is missing or not finite."""
    return tuple(_cell(name, scores.get(name)) for name in COLUMNS)


def score_table(scores_by_row: Mapping[str, Mapping[str, float]], segment_trs: int, note: str = "") -> str:
    """Return the table with its explanation as HTML.

    Args:
        scores_by_row: what was reconstructed -> its figures, of `evaluation.metrics.reconstruction`.
        segment_trs: rows of a segment.
        note: a sentence at the end of the explanation.
    """
    rows = [(name, *score_cells(scores)) for name, scores in scores_by_row.items()]
    meaning = (
        "Skill is 1 for a perfect reconstruction and 0 for the training mean. Two-way: how often a segment of "
        f"{segment_trs} rows is more like the true one than like another; chance is 50%. Identified: how often it is "
        f"more like the true one than like any other. {note}"
    )
    return table(("", *COLUMNS.values()), rows) + paragraph(meaning.strip(), "soft")


def decimal(value: float | None, *, sign: bool = False) -> str:
    """Return a number with two digits, a dash if it is missing or not finite. sign: also show a plus."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:{'+' if sign else ''}.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def percent(share: float | None) -> str:
    """Return a share in percent, with one digit below 10 %, a dash if it is missing or not finite."""
    if share is None or not math.isfinite(share):
        return "–"
    return f"{share:.{1 if abs(share) < 0.0995 else 0}%}".replace("-0.0%", "0.0%").replace("-", "−")


def _cell(name: str, value: float | None) -> str:
    if name in ("skill", "r"):
        return decimal(value, sign=name == "skill")
    return percent(value)
