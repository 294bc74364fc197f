"""The bottom line: is the node heard, how old are the data, does its clock differ; then the keys."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from giblet_train.schema.health import duration
from giblet_tui.dashboard.model.run_status import is_stale, node_age_s
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, fit_parts, join_parts
from giblet_tui.monitor.snapshots import Fleet, LinkState, NodeSnapshot

LINKS: dict[LinkState, tuple[str, str]] = {
    "connecting": ("◐ connecting", "$accent"),
    "live": ("● live", "$success"),
    "lost": ("○ lost", "$warning"),
    "refused": ("✖ refused", "$error"),
}
SILENT = ("○ silent", "$warning")
"""A link that is open, but brings nothing: what was last seen may no longer be true."""
NOTABLE_SKEW_S = 2.0
KEYS = ("^n launch", "/ search", "z alone", "x crosshair", "S stop")
EMPTY_KEYS = ("^p all commands",)
HELP, LEAVE = "? help", "  q quit"
LEAST_LINK = 30
"""Cells of the link and the age of the data, before which keys give way."""


class StatusLine(Widget):
    """Always one row. It is brought up to date each second, so a frozen screen cannot look live."""

    node: reactive[NodeSnapshot | None] = reactive(None, always_update=True, repaint=False)

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(id="status")
        self._clock = clock
        self._content = Content()
        self.fleet = Fleet()
        self.keys: tuple[str, ...] = ()
        """Keys of the pane that has the focus."""

    def watch_node(self) -> None:
        if not self._line().is_same(self._content):
            self.refresh()

    def render(self) -> Content:
        self._content = self._line()
        return self._content

    def _line(self) -> Content:
        width = self.content_size.width
        parts = self._link() if self.node is not None else [("no nodes", styles.MUTED)]
        least = len(HELP + LEAVE) + 2
        link = join_parts(*parts).truncate(max(LEAST_LINK, width - least), ellipsis=True)
        room = width - link.cell_length - 2
        if room < least - 2:
            return link.truncate(width, ellipsis=True)
        names = (self.keys or KEYS) if self.fleet.runs() else (*KEYS[: bool(self.fleet.nodes)], *EMPTY_KEYS)
        keys: list[Part] = [(HELP, styles.MUTED), *((f"  {key}", styles.MUTED) for key in names)]
        right = fit_parts(keys, room - len(LEAVE)) + join_parts((LEAVE, styles.MUTED))
        return link + Content(" " * (width - link.cell_length - right.cell_length)) + right

    def _link(self) -> list[Part]:
        assert self.node is not None
        now = self._clock()
        word, style = link_words(self.node, now)
        age = node_age_s(self.node, now)
        age_words = "no data yet" if age is None else f"data {duration(age)} old"
        age_style = "$warning bold" if is_stale(self.node, now) else ""
        parts: list[Part] = [(word, f"{style} bold"), f" {self.node.node}  ", (age_words, age_style)]
        skew = self.node.facts.clock_skew_s
        if abs(skew) >= NOTABLE_SKEW_S:
            parts.append((f"  clock {'+' if skew > 0 else '−'}{duration(abs(skew))}", "$warning"))
        unheard = [n.node for n in self.fleet.nodes if n.node != self.node.node and is_stale(n, now)]
        if unheard:
            parts.append((f"  not heard: {', '.join(unheard)}", "$warning"))
        if self.node.link_sentence and self.node.link != "live":
            parts.append((f"  {self.node.link_sentence}", styles.MUTED))
        return parts


def link_words(node: NodeSnapshot, now: float) -> tuple[str, str]:
    """Return the state of the link with its glyph, and its style."""
    return SILENT if node.link == "live" and is_stale(node, now) else LINKS[node.link]
