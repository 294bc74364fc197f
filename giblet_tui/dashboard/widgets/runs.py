"""The list of nodes and their runs: glyph, word, epoch, verdict; moving in it chooses a run."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from giblet_train.contract.criteria import Verdict
from giblet_train.contract.health import GLYPHS
from giblet_tui.dashboard import palette
from giblet_tui.dashboard.messages import RunChosen, RunMarked
from giblet_tui.dashboard.text import Part, line
from giblet_tui.dashboard.view import epoch_words, health_now, stale, state_words
from giblet_tui.dashboard.widgets.status import LINKS
from giblet_tui.fleet import Fleet, NodeSnapshot, RunSnapshot


class RunList(OptionList):
    """Nodes as headings, their runs below them, newest first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        Binding("g", "first", show=False),
        Binding("G", "last", show=False),
        Binding("space", "mark", "mark to compare"),
    ]

    def __init__(self) -> None:
        super().__init__(id="runs", markup=False)
        self.border_title = Content.styled("runs", "bold")
        self._shown: dict[str, Content] = {}

    def show(
        self, fleet: Fleet, verdicts: Mapping[str, Verdict], marked: Set[str], chosen: str | None, now: float
    ) -> None:
        """Draw this fleet. Rows that did not change are left alone, and so is the highlight."""
        rows = dict(_rows(fleet, verdicts, marked, now))
        if list(rows) == list(self._shown):
            for key, content in rows.items():
                if not content.is_same(self._shown[key]):
                    self.replace_option_prompt(key, content)
        else:
            with self.prevent(OptionList.OptionHighlighted):
                self.set_options(Option(c, id=key, disabled=key.startswith("node ")) for key, c in rows.items())
        self._shown = rows
        if chosen in rows and self._highlighted_id() != chosen:
            with self.prevent(OptionList.OptionHighlighted):
                self.highlighted = self.get_option_index(chosen)

    def action_mark(self) -> None:
        chosen = self._highlighted_id()
        if chosen is not None:
            self.post_message(RunMarked(chosen))

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_id is not None:
            self.post_message(RunChosen(event.option_id))

    def _highlighted_id(self) -> str | None:
        return None if self.highlighted is None else self.get_option_at_index(self.highlighted).id


def _rows(fleet: Fleet, verdicts: Mapping[str, Verdict], marked: Set[str], now: float) -> list[tuple[str, Content]]:
    once = {run.run.run_id for run in fleet.runs()}
    rows = []
    for node in fleet.nodes:
        rows.append((f"node {node.node}", _node(node, now)))
        for run in node.runs:
            if run.run.run_id in once and run.run.node in ("", node.node):
                rows.append(
                    (run.run.run_id, _run(run, node, verdicts.get(run.run.run_id), run.run.run_id in marked, now))
                )
    return rows


def _node(node: NodeSnapshot, now: float) -> Content:
    word, ink = LINKS[node.link]
    note = "" if node.runs else "  no runs"
    return line((node.node, "bold"), "  ", (word, ink if not stale(node, now) else "$warning"), (note, palette.MUTED))


def _run(run: RunSnapshot, node: NodeSnapshot, verdict: Verdict | None, marked: bool, now: float) -> Content:
    health = health_now(run, node, now)
    ink = palette.STATE_STYLES[health.state]
    parts: list[Part] = [(f" {GLYPHS[health.state]} ", f"{ink} bold"), (run.run.name, "")]
    parts.append((f" {run.run.run_id[-4:]}", palette.MUTED))
    if marked:
        parts.append((" ◆", "$accent bold"))
    words: list[Part] = [("\u00a0  " + state_words(health, node, now), ink)]
    if epochs := epoch_words(run):
        words.append((f" {epochs}", palette.MUTED))
    if verdict is not None:
        words.append(
            (f" {palette.STATUS_GLYPHS[verdict.status]} {verdict.word}", palette.STATUS_STYLES[verdict.status])
        )
    return line(*parts) + Content("\n") + line(*words)
