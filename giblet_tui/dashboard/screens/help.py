"""The help screen: every key, read from the bindings themselves so that it cannot be wrong."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.style.styles import LABELS, MUTED, SAMPLES, colour

KEY_CELLS = 12
VIEWS_CELLS = 50
SHORT = {
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "question_mark": "?",
    "slash": "/",
    "plus": "+",
    "equals_sign": "=",
    "minus": "-",
    "escape": "esc",
    "left": "←",
    "right": "→",
}


class HelpScreen(ModalScreen[None]):
    """Keys by section, then how to read the lines."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "back")]

    def __init__(self, sections: dict[str, Iterable[BindingType]]) -> None:
        super().__init__()
        self._sections = sections

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(self._page())

    def _page(self) -> Content:
        rows: list[Content] = []
        for title, bindings in self._sections.items():
            rows += [join_parts((title, "bold $accent")), *_keys(bindings), join_parts("")]
        rows.append(join_parts(("lines", "bold $accent")))
        for component, label in LABELS.items():
            ink = colour(component, dark=self.app.current_theme.dark)
            rows.append(join_parts("  ", (f"{SAMPLES[component]:<{KEY_CELLS - 2}}", ink), label))
        rows += [
            join_parts(("  solid       ", MUTED), "training, smoothed; faint behind it, every step"),
            join_parts(("  dashed      ", MUTED), "validation"),
            join_parts(("  dotted      ", MUTED), "the best constant: what predicting the mean costs"),
            join_parts(("  dimmed      ", MUTED), "steps that a resume, at », made again"),
            join_parts(("  ×           ", MUTED), "not a number"),
        ]
        return Content("\n").join(rows)


def _keys(bindings: Iterable[BindingType]) -> list[Content]:
    rows = []
    named = [b for b in bindings if isinstance(b, Binding)]
    views = [b.description for b in named if b.key.isdigit() and b.action.startswith("view")]
    if views:
        first, *others = textwrap.wrap(" ".join(views), VIEWS_CELLS)
        rows.append(join_parts((f"  {f'1-{len(views)}':<{KEY_CELLS}}", "bold"), first))
        rows += [join_parts(" " * (KEY_CELLS + 2), words) for words in others]
    for binding in named:
        if binding.description and binding.description not in views:
            keys = " ".join(SHORT.get(key, key) for key in binding.key.split(","))
            rows.append(join_parts((f"  {keys:<{KEY_CELLS}}", "bold"), binding.description))
    return rows
