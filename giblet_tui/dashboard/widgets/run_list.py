"""The list of nodes and their runs: glyph, word, epoch, verdict; moving in it chooses a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from giblet_train.diagnosis.criteria import Verdict
from giblet_tui.dashboard.model.messages import RunChosen, RunMarked
from giblet_tui.dashboard.model.run_view import health_now, open_alerts
from giblet_tui.dashboard.widgets.run_row import heading, node_row, run_row
from giblet_tui.monitor.snapshots import Fleet, RunSnapshot

RowKey = tuple[RunSnapshot, Verdict | None, bool, str, int]


class RunList(OptionList):
    """Nodes as headings, their runs below them, newest first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        Binding("g", "first", show=False),
        Binding("G", "last", show=False),
        Binding("space", "mark", "mark to compare"),
    ]

    KEYS: ClassVar[tuple[str, ...]] = ("space mark", "c compare", "S stop", "W why")

    def __init__(self) -> None:
        super().__init__(id="runs", markup=False)
        self.border_title = heading(0)
        self._shown: dict[str, Content] = {}
        self._made: dict[str, tuple[RowKey, Content]] = {}

    def show(
        self, fleet: Fleet, verdicts: Mapping[str, Verdict], marked: Set[str], chosen: str | None, now: float
    ) -> None:
        """Draw this fleet. Rows that did not change are left alone, and so is the highlight."""
        rows = dict(self._rows(fleet, verdicts, marked, now))
        if list(rows) == list(self._shown):
            for key, content in rows.items():
                if content is not self._shown[key] and not content.is_same(self._shown[key]):
                    self.replace_option_prompt(key, content)
        else:
            with self.prevent(OptionList.OptionHighlighted):
                self.set_options(Option(c, id=key, disabled=key.startswith("node ")) for key, c in rows.items())
        self._shown = rows
        if chosen in rows and self._highlighted_id() != chosen:
            with self.prevent(OptionList.OptionHighlighted):
                self.highlighted = self.get_option_index(chosen)

    def on_resize(self) -> None:
        self.border_title = heading(self.content_size.width)

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

    def _rows(
        self, fleet: Fleet, verdicts: Mapping[str, Verdict], marked: Set[str], now: float
    ) -> Iterator[tuple[str, Content]]:
        """Row key and content of each node and run; a run of a shared home only under the node it belongs to, one over
        several nodes only under the first of them that is here.

        A run's row is made anew only when something that stands in it may have changed.
        """
        known, self._made = self._made, {}
        with_records = {run.run.run_id for node in fleet.nodes for run in node.runs if not run.run.node_rank}
        for node in fleet.nodes:
            yield f"node {node.node}", node_row(node, now)
            for run in node.runs:
                run_id = run.run.run_id
                if run.run.node not in ("", node.node) or run_id in self._made:
                    continue
                if run.run.node_rank and run_id in with_records:
                    continue
                words = f"{health_now(run, node, now).sentence} {len(open_alerts(run, node, now))}"
                key = (run, verdicts.get(run_id), run_id in marked, words, self.content_size.width)
                made = known.get(run_id)
                if made is None or not _same(made[0], key):
                    made = key, run_row(run, node, key[1], key[2], now, key[4])
                self._made[run_id] = made
                yield run_id, made[1]


def _same(old: RowKey, new: RowKey) -> bool:
    """Snapshots are replaced whole: identity tells, where comparing them would read every record."""
    return old[0] is new[0] and old[1] is new[1] and old[2:] == new[2:]
