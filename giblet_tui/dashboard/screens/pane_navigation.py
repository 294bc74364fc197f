"""Moving between the panes of the main screen: one alone, columns, focus, search and filter."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input

from giblet_tui.dashboard.model.pane_layout import OVERVIEW
from giblet_tui.dashboard.panes import OVERVIEW_KEY, PANES
from giblet_tui.dashboard.screens.curves import CurvesDialog
from giblet_tui.dashboard.widgets.chart_group import Charts
from giblet_tui.dashboard.widgets.log import LogTail
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.dashboard.widgets.pane_grid import PaneGrid
from giblet_tui.dashboard.widgets.run_list import RunList

SEARCH_HINTS = {
    "runs": "filter the runs by name, node, state, verdict or note; empty for all",
    "log": "search the log: enter finds, esc closes",
}


class PaneNavigation(Screen[None]):
    """A screen with the grid of panes and an input for searching."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(OVERVIEW_KEY, f"show_pane('{OVERVIEW}')", OVERVIEW, id="pane_overview"),
        *(Binding(spec.key, f"show_pane('{spec.id}')", spec.title, id=f"pane_{spec.id}") for spec in PANES),
        Binding("tab", "next_pane", "next pane", priority=True, id="next_pane"),
        Binding("shift+tab", "previous_pane", "previous pane", priority=True, id="previous_pane"),
        Binding("z", "alone", "this pane alone, and back", id="alone"),
        Binding("b", "toggle_column('side')", "show or hide the column on the left", id="left_column"),
        Binding("B", "toggle_column('aside')", "show or hide the column on the right", id="right_column"),
        Binding("escape", "back", "back", id="back"),
        Binding("slash", "search", "filter the runs, or search the log if it has the focus", id="search"),
        Binding("m", "choose_curves", "choose the curves: losses and other numbers", id="choose_curves"),
        Binding("U", "unmark_all", "remove all marks", id="unmark_all"),
        Binding("f", "follow", "follow the log", id="follow"),
        Binding("y", "copy", "copy the run id", id="copy"),
        Binding("ctrl+l", "repaint", "repaint the screen", id="repaint"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._searched = "log"
        self.chosen: str | None = None
        """Id of the run that is looked at."""

    @property
    def panes(self) -> PaneGrid:
        return self.query_one(PaneGrid)

    @property
    def charts(self) -> Charts:
        return self.query_one(Charts)

    @property
    def focused_pane(self) -> str | None:
        """Return the id of the pane that has the focus; None if none has it."""
        return "losses" if isinstance(self.focused, LossPanel) else self.focused.id if self.focused else None

    def draw_run_list(self) -> None:
        """Draw the list of runs again."""
        raise NotImplementedError

    def action_repaint(self) -> None:
        self.app.refresh()

    def action_show_pane(self, name: str, panel: str = "") -> None:
        """Show a pane alone, and the overview if it is shown alone already; panel: one of the loss panels."""
        again = self.panes.view == name and self.charts.only == panel
        self.charts.only = "" if again else panel
        self.panes.view = OVERVIEW if again else name
        if self.panes.view == OVERVIEW:
            self.call_after_refresh(self._focus_list)
            return
        pane = self.panes.pane(name)
        first = self.charts.panels[0] if pane is self.charts else pane
        if not panel:
            self.set_focus(first)
        self.call_after_refresh(self.draw_run_list)

    def _focus_list(self) -> None:
        """Keep the focus where it is if that is in sight; else move it to the first pane."""
        if self.focused is None or not self.focused.display:
            visible = [spec.id for spec in PANES if self.panes.pane(spec.id).display]
            first = self.panes.pane(visible[0]) if visible else self.panes
            (self.charts.panels[0] if first is self.charts else first).focus()
        self.draw_run_list()

    def action_next_pane(self) -> None:
        self.focus_next()

    def action_previous_pane(self) -> None:
        self.focus_previous()

    def action_alone(self) -> None:
        """Show the focused pane alone, or return to the overview."""
        if self.panes.view != OVERVIEW:
            self.action_show_pane(self.panes.view, self.charts.only)
        elif isinstance(self.focused, LossPanel):
            self.action_show_pane("losses", self.focused.component)
        elif self.focused is not None and any(spec.id == self.focused.id for spec in PANES):
            self.action_show_pane(self.focused.id or OVERVIEW)

    def action_toggle_column(self, column: str) -> None:
        """Show a column of the overview even where there is little room, or hide it."""
        self.panes.view = OVERVIEW
        is_shown = bool(self.panes.columns()[0 if column == "side" else 1])
        setattr(self.panes, column, not is_shown)
        self.call_after_refresh(self._focus_list)

    def action_back(self) -> None:
        """Leave the innermost of: input, search, crosshair, filter, pane alone."""
        search, log, runs = self.query_one("#search", Input), self.query_one(LogTail), self.query_one(RunList)
        if search.display:
            search.display = False
            self.query_one(f"#{self._searched}").focus()
        elif self.charts.viewport.cursor is not None:
            self.charts.action_cross()
        elif log.has_left_end:
            log.end_search()
        elif self.panes.view != OVERVIEW:
            self.action_show_pane(self.panes.view, self.charts.only)
        elif runs.words:
            runs.filter("")

    def action_search(self) -> None:
        """Filter the runs; search the log if it has the focus."""
        in_log = isinstance(self.focused, LogTail) and self.panes.view != "runs"
        self._searched = "log" if in_log or self.panes.view == "log" else "runs"
        if not self.query_one(f"#{self._searched}").display:
            self.action_show_pane(self._searched)
        search = self.query_one("#search", Input)
        search.placeholder = SEARCH_HINTS[self._searched]
        search.value = self.query_one(RunList).words if self._searched == "runs" else ""
        search.display = True
        search.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.display and self._searched == "runs":
            self.query_one(RunList).filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.input.display = False
        self.query_one(f"#{self._searched}").focus()
        if self._searched == "log":
            log = self.query_one(LogTail)
            log.needle = event.value
            if event.value:
                log.action_find(-1)

    def action_follow(self) -> None:
        log = self.query_one(LogTail)
        log.follow = not log.follow

    def action_choose_curves(self) -> None:
        """Ask which curves the charts show; the choice is kept for all runs of this name while the screen is open."""
        view = self.charts.view
        if view is None or not view.curve_names:
            return

        def show_curves(names: tuple[str, ...] | None) -> None:
            if names is not None:
                self.charts.choose(names)

        self.app.push_screen(CurvesDialog(view, self.charts.shown_curves), show_curves)

    def action_copy(self) -> None:
        if self.chosen is not None:
            self.app.copy_to_clipboard(self.chosen)
            self.notify(f"copied {self.chosen}", timeout=2, markup=False)
