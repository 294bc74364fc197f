"""The verdict pane: every criterion with its arithmetic, worst first."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable
from typing import ClassVar

from textual.content import Content

from giblet_train.diagnosis.criterion_verdict import CriterionVerdict, Status
from giblet_train.schema.health import Health
from giblet_tui.dashboard.model.pane_layout import SizeHint
from giblet_tui.dashboard.model.run_status import Words, criterion_words, health_now, verdict_words
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.widgets.pane import ScrollingPane

WORDY, WORD_CELLS = 90, 11
MINIMUM = 20
ORDER: tuple[Status, ...] = ("fail", "at_risk", "on_track", "pass")
RULE = 1
MOST = 16


class VerdictStrip(ScrollingPane):
    """One line or more per criterion; in a single row, the worst of them."""

    TICKS: ClassVar[bool] = True

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(id="verdict")
        self._clock = clock

    def title(self) -> Content:
        verdict = self.view.judgement.verdict if self.view is not None else None
        if verdict is None:
            return join_parts(("verdict", "bold"))
        assert self.view is not None
        return join_parts(("verdict  ", "bold"), verdict_words(verdict, self._health()))

    def size_hint(self, width: int) -> SizeHint | None:
        """Ask for a row, for a row per criterion, and for all sentences in full."""
        verdict = self.view.judgement.verdict if self.view is not None else None
        if verdict is None:
            return SizeHint(0, (1,), 1)
        least = RULE + max(1, len(verdict.criteria))
        return SizeHint(0, (1, least, max(least, min(MOST, RULE + self.content_rows(width)))), 1)

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        assert self.view is not None
        verdict = self.view.judgement.verdict
        if verdict is None:
            return [join_parts((self._why_none(), styles.MUTED))]
        criteria = sorted(verdict.criteria, key=lambda c: ORDER.index(c.status))
        words = {c.name: criterion_words(c, self.view.run, self._health()) for c in criteria}
        if height == 1:
            worst = criteria[0]
            return _first_rows(_criterion(worst, words[worst.name], len(worst.name), width, wordy=False))
        longest = max(len(c.name) for c in criteria)
        paragraphs = [_criterion(c, words[c.name], longest, width, wordy=width >= WORDY) for c in criteria]
        return _fit(paragraphs, height)

    def _health(self) -> Health:
        assert self.view is not None
        return health_now(self.view.run, self.view.node, self._clock())

    def _why_none(self) -> str:
        assert self.view is not None
        run = self.view.run
        if run.run.foreign:
            return f"no verdict: {run.run.foreign}, without criteria"
        if run.config is None:
            return "no verdict: the run's config.yaml could not be read"
        return "no verdict: the configuration has no criteria"


def _criterion(criterion: CriterionVerdict, words: Words, longest: int, width: int, *, wordy: bool) -> list[Content]:
    """Return the criterion as one line or more, its sentence wrapped next to its name."""
    word = f"{words.text:<{WORD_CELLS}}" if wordy else f"{words.text[0]} "
    name = f"{criterion.name:<{longest}}  "
    indent = len(word) + len(name)
    pieces = textwrap.wrap(criterion.sentence, max(MINIMUM, width - indent)) or [""]
    rest = [join_parts(" " * indent, (piece, styles.MUTED)) for piece in pieces[1:]]
    return [join_parts((word, words.style), name, (pieces[0], styles.MUTED)), *rest]


def _fit(paragraphs: list[list[Content]], height: int) -> list[Content]:
    """Return every criterion's first line at least, and more lines of the worst ones while there is room."""
    spare, lines = height - len(paragraphs), list[Content]()
    for rows in paragraphs:
        more = min(len(rows) - 1, max(0, spare))
        spare -= more
        lines += _first_rows(rows, 1 + more)
    return lines


def _first_rows(rows: list[Content], most: int = 1) -> list[Content]:
    """Return the first of them, with an ellipsis where more follow."""
    return rows if len(rows) <= most else [*rows[: most - 1], rows[most - 1] + join_parts(("…", styles.MUTED))]
