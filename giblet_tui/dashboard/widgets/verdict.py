"""The verdict strip: every criterion with its arithmetic, worst first."""

from __future__ import annotations

from textual.content import Content

from giblet_train.contract.criteria import WORDS, CriterionVerdict, Status
from giblet_tui.dashboard import palette
from giblet_tui.dashboard.text import line
from giblet_tui.dashboard.widgets.pane import Pane

WORDY = 90
ORDER: tuple[Status, ...] = ("fail", "at_risk", "on_track", "pass")


class VerdictStrip(Pane):
    """One line per criterion; in a single row, the worst of them."""

    def heading(self) -> Content:
        verdict = self.view.verdict if self.view is not None else None
        if verdict is None:
            return line(("verdict", "bold"))
        return line(("verdict  ", "bold"), *verdict_word(verdict.status))

    def lines(self, width: int, height: int) -> list[Content]:
        assert self.view is not None
        verdict = self.view.verdict
        if verdict is None:
            return [line(("no criteria are known: the run's config.yaml was not read", palette.MUTED))]
        if not verdict.criteria:
            return [line(("the configuration names no criteria", palette.MUTED))]
        longest = max(len(c.name) for c in verdict.criteria)
        wordy = width >= WORDY
        ordered = sorted(verdict.criteria, key=lambda c: ORDER.index(c.status))
        return [_criterion(c, longest if height > 1 else len(c.name), wordy) for c in ordered]


def verdict_word(status: Status) -> tuple[tuple[str, str], ...]:
    """Glyph and word of a status, coloured."""
    return ((f"{palette.STATUS_GLYPHS[status]} {WORDS[status]}", f"{palette.STATUS_STYLES[status]} bold"),)


def _criterion(criterion: CriterionVerdict, longest: int, wordy: bool) -> Content:
    ink = palette.STATUS_STYLES[criterion.status]
    word = f"{palette.STATUS_GLYPHS[criterion.status]} " + (f"{WORDS[criterion.status]:<8} " if wordy else "")
    return line((word, f"{ink} bold"), f"{criterion.name:<{longest}}  ", (criterion.sentence, palette.MUTED))
