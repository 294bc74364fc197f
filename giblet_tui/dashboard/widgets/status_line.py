"""The bottom line: is the node heard, how old is what is shown, does its clock differ; then the keys."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from giblet_train.schema.health import duration
from giblet_tui.dashboard.model.run_view import age_s, stale
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, fit_parts, join_parts
from giblet_tui.monitor.snapshots import Fleet, LinkState, NodeSnapshot

LINKS: dict[LinkState, tuple[str, str]] = {
    "connecting": ("◐ connecting", "$accent"),
    "live": ("● live", "$success"),
    "lost": ("○ lost", "$warning"),
    "refused": ("✖ refused", "$error"),
}
SKEW_WORTH_SAYING_S = 2.0
KEYS = ("/ search", "z full", "x crosshair", "S stop")
HELP, LEAVE = "? help", "  q quit"


class StatusLine(Widget):
    """Always one row. It ticks each second, so a frozen screen cannot look live."""

    node: reactive[NodeSnapshot | None] = reactive(None, always_update=True, repaint=False)

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(id="status")
        self._clock = clock
        self._said = Content()
        self.fleet = Fleet()
        self.keys: tuple[str, ...] = KEYS

    def watch_node(self) -> None:
        if not self._page().is_same(self._said):
            self.refresh()

    def render(self) -> Content:
        self._said = self._page()
        return self._said

    def _page(self) -> Content:
        width = self.content_size.width
        parts = self._link() if self.node is not None else [("no nodes", styles.MUTED)]
        left = join_parts(*parts)
        room = width - left.cell_length - 2
        if room < len(HELP + LEAVE):
            return left.truncate(width, ellipsis=True)
        keys: list[Part] = [(HELP, styles.MUTED), *((f"  {key}", styles.MUTED) for key in self.keys or KEYS)]
        right = fit_parts(keys, room - len(LEAVE)) + join_parts((LEAVE, styles.MUTED))
        return left + Content(" " * (width - left.cell_length - right.cell_length)) + right

    def _link(self) -> list[Part]:
        assert self.node is not None
        now = self._clock()
        word, ink = LINKS[self.node.link]
        age = age_s(self.node, now)
        old = stale(self.node, now)
        shown = "no data yet" if age is None else f"data {duration(age)} old"
        parts: list[Part] = [(word, f"{ink} bold"), f" {self.node.node}  ", (shown, "$warning bold" if old else "")]
        skew = self.node.facts.clock_skew_s
        if abs(skew) >= SKEW_WORTH_SAYING_S:
            parts.append((f"  clock {'+' if skew > 0 else '−'}{duration(abs(skew))}", "$warning"))
        elsewhere = [n.node for n in self.fleet.nodes if n.node != self.node.node and stale(n, now)]
        if elsewhere:
            parts.append((f"  not heard: {', '.join(elsewhere)}", "$warning"))
        if self.node.link_sentence and self.node.link != "live":
            parts.append((f"  {self.node.link_sentence}", styles.MUTED))
        return parts
