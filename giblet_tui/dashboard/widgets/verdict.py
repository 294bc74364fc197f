"""The verdict strip: every criterion with its arithmetic, worst first."""

from __future__ import annotations

import textwrap

from textual.content import Content

from giblet_train.diagnosis.criteria import WORDS, Verdict
from giblet_train.diagnosis.criterion_verdict import CriterionVerdict, Status
from giblet_train.schema.health import Health
from giblet_tui.dashboard.model.run_view import is_uncertain
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.widgets.pane import Pane

WORDY = 90
MINIMUM = 20
ORDER: tuple[Status, ...] = ("fail", "at_risk", "on_track", "pass")


class VerdictStrip(Pane):
    """One line per criterion; in a single row, the worst of them."""

    def title(self) -> Content:
        verdict = self.view.verdict if self.view is not None else None
        if verdict is None:
            return join_parts(("verdict", "bold"))
        assert self.view is not None
        return join_parts(("verdict  ", "bold"), *verdict_word(verdict, self.view.run.health))

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        assert self.view is not None
        verdict = self.view.verdict
        if verdict is None:
            adopted = self.view.run.run.adopted is not None
            why = "it was adopted, without a configuration" if adopted else "the run's config.yaml was not read"
            return [join_parts((f"no criteria are known: {why}", styles.MUTED))]
        if not verdict.criteria:
            return [join_parts(("the configuration names no criteria", styles.MUTED))]
        ordered = sorted(verdict.criteria, key=lambda c: ORDER.index(c.status))
        if height == 1:
            return _shortened(_criterion(ordered[0], len(ordered[0].name), width, wordy=False))
        longest = max(len(c.name) for c in ordered)
        wrapped = [_criterion(c, longest, width, wordy=width >= WORDY) for c in ordered]
        return _fitted(wrapped, height)


def verdict_word(verdict: Verdict, health: Health) -> tuple[tuple[str, str], ...]:
    """Return glyph and word of a verdict, coloured; dimmed if the run makes no progress or has no contact."""
    ink = styles.MUTED if is_uncertain(health) else f"{styles.STATUS_STYLES[verdict.status]} bold"
    return ((f"{styles.STATUS_GLYPHS[verdict.status]} {verdict.word_for(health)}", ink),)


def _criterion(criterion: CriterionVerdict, longest: int, width: int, *, wordy: bool) -> list[Content]:
    """The criterion as one line or more, its sentence wrapped beside its name."""
    word = f"{styles.STATUS_GLYPHS[criterion.status]} " + (f"{WORDS[criterion.status]:<8} " if wordy else "")
    ink = f"{styles.STATUS_STYLES[criterion.status]} bold"
    name = f"{criterion.name:<{longest}}  "
    indent = len(word) + len(name)
    pieces = textwrap.wrap(criterion.sentence, max(MINIMUM, width - indent)) or [""]
    rest = [join_parts(" " * indent, (piece, styles.MUTED)) for piece in pieces[1:]]
    return [join_parts((word, ink), name, (pieces[0], styles.MUTED)), *rest]


def _fitted(wrapped: list[list[Content]], height: int) -> list[Content]:
    """Every criterion's first line at least, and of the worst ones as many more as there is room for."""
    spare, shown = height - len(wrapped), list[Content]()
    for rows in wrapped:
        more = min(len(rows) - 1, max(0, spare))
        spare -= more
        shown += _shortened(rows, 1 + more)
    return shown


def _shortened(rows: list[Content], most: int = 1) -> list[Content]:
    """The first of them, with an ellipsis where more follow."""
    return rows if len(rows) <= most else [*rows[: most - 1], rows[most - 1] + join_parts(("…", styles.MUTED))]
