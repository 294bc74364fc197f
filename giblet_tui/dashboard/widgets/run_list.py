"""The list of nodes and their runs: glyph, word, epoch, verdict; moving in it chooses a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from giblet_tui.dashboard.model.judgement import Judgement
from giblet_tui.dashboard.model.messages import RunChosen, RunMarked
from giblet_tui.dashboard.model.pane_layout import SizeHint
from giblet_tui.dashboard.model.run_filter import ORDERS, Order, matches, sort_runs
from giblet_tui.dashboard.model.run_status import health_now, late_step_words, open_alerts
from giblet_tui.dashboard.style.styles import Palette
from giblet_tui.dashboard.style.themes import palette_of
from giblet_tui.dashboard.widgets.run_row import heading, node_row, row_cells, run_row, sweep_row
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot

RULE, SCROLLBAR = 1, 2
NO_JUDGEMENT = Judgement()
HEADINGS = ("node ", "sweep ")
"""Beginnings of the keys of rows that are no runs; a run id contains no space."""

RowKey = tuple[RunSnapshot, Judgement, bool, str, int, Palette]


class RunList(OptionList):
    """Nodes as headings, their runs below them; filtered by words and in one of several orders."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        Binding("g", "first", show=False),
        Binding("G", "last", show=False),
        Binding("space", "mark", "mark: stop, evaluate, compare, why, report act on marked runs", id="mark"),
        Binding("o", "next_order", "order of runs: newest, state, name, loss", id="order"),
    ]
    KEYS: ClassVar[tuple[str, ...]] = ("^n launch", "/ filter", "space mark", "c compare", "S stop", "W why", "o order")

    class ListChanged(Message):
        """The filter, the order or the width changed: the list has to be drawn again."""

    def __init__(self) -> None:
        super().__init__(id="runs", markup=False)
        self.border_title = heading(0)
        self.words = ""
        """The filter; empty for all runs."""
        self.order: Order = ORDERS[0]
        self._contents: dict[str, Content] = {}
        self._rows_by_run: dict[str, tuple[RowKey, Content]] = {}
        self._cells = self._n_marked = 0
        self._n_rows = 0

    def show(
        self,
        fleet: Fleet,
        judgements: Mapping[str, Judgement],
        marked_ids: Set[str],
        selected_run_id: str | None,
        now: float,
    ) -> None:
        """Draw this fleet. Rows that did not change stay as they are, and so does the highlight."""
        rows = dict(self._rows(fleet, judgements, marked_ids, now))
        if list(rows) == list(self._contents):
            for key, content in rows.items():
                if content is not self._contents[key] and not content.is_same(self._contents[key]):
                    self.replace_option_prompt(key, content)
        else:
            with self.prevent(OptionList.OptionHighlighted):
                self.set_options(Option(c, id=key, disabled=key.startswith(HEADINGS)) for key, c in rows.items())
        self._contents = rows
        self._cells = max((row_cells(run) for run in fleet.runs()), default=0)
        self._n_marked = sum(run.run.run_id in marked_ids for run in fleet.runs())
        self._n_rows = sum(key.startswith(HEADINGS) for key in rows) + 2 * len(self._rows_by_run)
        if selected_run_id in rows and self._highlighted_id() != selected_run_id:
            with self.prevent(OptionList.OptionHighlighted):
                self.highlighted = self.get_option_index(selected_run_id)
        self._update_heading()

    def size_hint(self, width: int) -> SizeHint | None:
        """Ask for the cells of the longest name and for two rows per run."""
        return SizeHint(self._cells + SCROLLBAR, (4, max(4, RULE + self._n_rows)))

    def on_resize(self) -> None:
        self.post_message(self.ListChanged())

    def action_mark(self) -> None:
        run_id = self._highlighted_id()
        if run_id is not None:
            self.post_message(RunMarked(run_id))

    def action_next_order(self) -> None:
        """List the runs of each node in the next order."""
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        self.post_message(self.ListChanged())

    def filter(self, words: str) -> None:
        """List the runs that match the words."""
        self.words = words.strip()
        self.post_message(self.ListChanged())

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_id is not None:
            self.post_message(RunChosen(event.option_id))

    def _update_heading(self) -> None:
        order = "" if self.order == ORDERS[0] else f"by {self.order}"
        words = f"“{self.words}” {len(self._rows_by_run)} runs" if self.words else ""
        marks = f"{self._n_marked} marked, U none" if self._n_marked else ""
        self.border_title = heading(self.content_size.width, "  ".join(part for part in (marks, words, order) if part))

    def _highlighted_id(self) -> str | None:
        return None if self.highlighted is None else self.get_option_at_index(self.highlighted).id

    def _rows(
        self, fleet: Fleet, judgements: Mapping[str, Judgement], marked_ids: Set[str], now: float
    ) -> Iterator[tuple[str, Content]]:
        """Yield key and content of each node and run; a row is only made again if its content may have changed."""
        last_rows, self._rows_by_run = self._rows_by_run, {}
        for node in fleet.nodes:
            runs = [run for run in self._runs_of(fleet, node) if matches(run, node, self.words, judgements, now)]
            if runs or not self.words:
                yield f"node {node.node}", node_row(node, now)
            listed_sweeps: set[str] = set()
            for run in sort_runs(runs, self.order):
                run_id, sweep = run.run.run_id, run.run.sweep
                if sweep is not None and self.order == ORDERS[0] and sweep.name not in listed_sweeps:
                    listed_sweeps.add(sweep.name)
                    yield f"sweep {sweep.name} {node.node}", sweep_row(sweep, self.content_size.width)
                key = self._row_key(run, node, judgements.get(run_id, NO_JUDGEMENT), run_id in marked_ids, now)
                row = last_rows.get(run_id)
                if row is None or not _same(row[0], key):
                    row = key, run_row(run, node, key[1], key[2], now, *key[4:])
                self._rows_by_run[run_id] = row
                yield run_id, row[1]

    def _runs_of(self, fleet: Fleet, node: NodeSnapshot) -> Iterator[RunSnapshot]:
        """Yield the runs to list under a node: each run once.

        A run of a shared home is listed under the node it belongs to, one over several nodes under the first of them.
        """
        with_records = {run.run.run_id for other in fleet.nodes for run in other.runs if not run.run.node_rank}
        for run in node.runs:
            elsewhere = run.run.node not in ("", node.node) or run.run.run_id in self._rows_by_run
            if not elsewhere and not (run.run.node_rank and run.run.run_id in with_records):
                yield run

    def _row_key(self, run: RunSnapshot, node: NodeSnapshot, judgement: Judgement, marked: bool, now: float) -> RowKey:
        late = late_step_words(run, node, now)
        words = f"{health_now(run, node, now).sentence} {late} {len(open_alerts(run, node, now))}"
        return run, judgement, marked, words, self.content_size.width, palette_of(self.app.current_theme)


def _same(old: RowKey, new: RowKey) -> bool:
    """Return True if a row has not changed. Snapshots are replaced whole, so identity suffices for runs."""
    return old[0] is new[0] and old[1].verdict is new[1].verdict and old[2:] == new[2:]
