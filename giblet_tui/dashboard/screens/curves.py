"""The dialog that asks which curves the charts show: losses, and every other number that a run prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import SelectionList, Static
from textual.widgets.selection_list import Selection

from giblet_train.diagnosis.log_reader.metric_names import rises
from giblet_tui.dashboard.charts import axis
from giblet_tui.dashboard.model.run_view import RunView
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.style.styles import MUTED, label
from giblet_tui.monitor.metric_columns import last_value
from giblet_tui.reporting.values import DIRECTIONS

NAME_CELLS = (10, 24)
"""Least and most cells of a name."""


class CurvesDialog(ModalScreen[tuple[str, ...] | None]):
    """Returns the names of the ticked curves; none for the usual ones, None if the user changed nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "accept", "show them", priority=True),
        Binding("escape,m,q", "dismiss(None)", "back"),
    ]

    def __init__(self, view: RunView, present: Sequence[str]) -> None:
        super().__init__()
        self._view = view
        self._present = frozenset(present)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(join_parts((f"Curves of {self._view.run.run.name}", "bold")))
            yield SelectionList[str](
                *(Selection(self._row(name), name, name in self._present) for name in self._view.curve_names),
                id="curves",
            )
            yield Static(join_parts(("space ticks, enter shows what is ticked, esc cancels", MUTED)))

    def on_mount(self) -> None:
        self.query_one("#curves").focus()

    def action_accept(self) -> None:
        selection = set(self.query_one(SelectionList).selected)
        self.dismiss(tuple(name for name in self._view.curve_names if name in selection))

    def _row(self, name: str) -> Content:
        """Return the name, its newest values, and where its better values are."""
        curves = self._view.curves
        if name in self._view.metrics:
            values = [last_value(series.value_N) for series in curves.values[name]]
            words = DIRECTIONS[rises(name)]
        else:
            columns = (curves.train.get(name), curves.validation.get(name))
            values = [last_value(column) for column in columns if column is not None]
            words = "loss"
        figures = "/".join(axis.figure(value) for value in values if math.isfinite(value))
        cells = max(NAME_CELLS[0], min(NAME_CELLS[1], max(map(len, self._view.curve_names))))
        return join_parts(f"{label(name)[:cells]:<{cells}} ", (f"{figures:<17} ", "bold"), (words, MUTED))
