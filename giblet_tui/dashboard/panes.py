"""The panes of the main screen, in one table: screens, keys, help, footer, palette and `export --panel` read it.

A new pane is a widget in `widgets/`, a row here and a test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.widget import Widget

from giblet_tui.dashboard.model.pane_layout import Area, SizeHint
from giblet_tui.dashboard.widgets.alerts import Alerts
from giblet_tui.dashboard.widgets.brain import BrainPane
from giblet_tui.dashboard.widgets.chart_group import Charts
from giblet_tui.dashboard.widgets.configuration import ConfigurationPane
from giblet_tui.dashboard.widgets.hardware import Hardware
from giblet_tui.dashboard.widgets.log import LogTail
from giblet_tui.dashboard.widgets.loss_balance import Balance
from giblet_tui.dashboard.widgets.run_list import RunList
from giblet_tui.dashboard.widgets.verdict import VerdictStrip
from giblet_tui.dashboard.widgets.warmup import WarmupClock

Clock = Callable[[], float]
OVERVIEW_KEY = "1"


@dataclass(frozen=True)
class PaneSpec:
    """A row of the table."""

    id: str
    """Id of the widget, and the name in `export --panel`."""
    title: str
    """Name in help, footer and palette."""
    key: str
    """Key that shows the pane alone; must be one that a terminal sends, so no number above 9."""
    create: Callable[[Clock], Widget]
    """Makes the widget; its id is `id`."""
    about: str
    """Description of its content in help."""
    area: Area
    """Column of the overview; `full` for a pane that is only shown alone."""
    min_size: tuple[int, int]
    """Cells and rows that it needs."""
    heights: tuple[int, ...] = ()
    """Rows at which it shows more than before; `min_size` alone if empty. A widget's `size_hint` takes precedence."""
    bare: int = 0
    """Up to this height it is drawn without its heading."""
    row: str = ""
    """Panes of one non-empty row are placed side by side where each has its least width."""
    grows: int = 0
    """Share of the rows that are left over."""

    @property
    def hint(self) -> SizeHint:
        """Return its size until the widget has content."""
        return SizeHint(self.min_size[0], self.heights or (self.min_size[1],), self.bare)


PANES: tuple[PaneSpec, ...] = (
    PaneSpec("runs", "runs", "2", lambda _: RunList(),
             "nodes with their link and free GPUs, and their runs; ▲ an open alert, ◆ marked",
             "side", (22, 4), grows=1),
    PaneSpec("losses", "losses", "3", lambda _: Charts(id="losses"),
             "training solid over every step, validation dashed, best constant dotted",
             "main", (24, 6), grows=1),
    PaneSpec("balance", "balance", "4", lambda _: Balance(id="balance"),
             "what each component adds to the total and to the gradient",
             "main", (43, 4), (4, 7), 4, "step"),
    PaneSpec("clock", "learning rate", "5", lambda _: WarmupClock(id="clock"),
             "planned and observed rate, and how long until the base rate",
             "main", (40, 1), (1, 3, 7), 1, "step"),
    PaneSpec("verdict", "verdict", "6", lambda clock: VerdictStrip(clock),
             "each success criterion with its numbers, the worst first",
             "aside", (40, 1), (1, 4), 1),
    PaneSpec("log", "log", "8", lambda _: LogTail(),
             "the end of the run's log, with search and filters",
             "foot", (20, 1), bare=1),
    PaneSpec("hardware", "hardware", "7", lambda _: Hardware(id="hardware"),
             "memory, load and users of the GPUs; CPU, memory and disk of the node",
             "side", (22, 1), (1, 5), 1),
    PaneSpec("alerts", "alerts", "9", lambda clock: Alerts(clock),
             "what is wrong now, with evidence and remedy, and what was",
             "aside", (40, 3)),
    PaneSpec("configuration", "configuration", "i", lambda _: ConfigurationPane(id="configuration"),
             "the note, what differs from the previous run, and every setting",
             "aside", (40, 3), grows=1),
    PaneSpec("brain", "brain", "v", lambda _: BrainPane(id="brain"),
             "maps from the left, behind and above, with a cursor",
             "full", (30, 6)),
)  # fmt: skip
"""The most important first: where rows are short, the last ones give way."""


def pane_spec(name: str) -> PaneSpec:
    """Return the row of this id."""
    return next(spec for spec in PANES if spec.id == name)
