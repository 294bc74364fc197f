"""The help screen: every key, read from the bindings and the table of panes, so that it cannot be wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from giblet_tui.dashboard.panes import OVERVIEW_KEY, PANES
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.style.styles import MUTED, label, line_colors, sample

KEY_CELLS = 12
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
LINES = {
    "solid": "training, smoothed; faint behind it, every step",
    "dashed": "validation",
    "dotted": "the best constant: the loss of predicting the mean",
    "dimmed": "steps that were repeated after a resume, which is at »",
    "×": "not a number",
}


class HelpScreen(ModalScreen[None]):
    """Panes and keys by section, then how to read the lines."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "back")]

    def __init__(self, sections: dict[str, Iterable[BindingType]], components: tuple[str, ...]) -> None:
        super().__init__()
        self._sections = sections
        self._components = components

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(self._content())

    def _content(self) -> Content:
        rows = [join_parts(("panes", "bold $accent")), _row(OVERVIEW_KEY, "overview")]
        rows += [
            _row(spec.key, f"{spec.title} alone; again: back") for spec in sorted(PANES, key=lambda spec: spec.key)
        ]
        for title, bindings in self._sections.items():
            rows += [join_parts(""), join_parts((title, "bold $accent")), *_keys(bindings, self.app)]
        rows += [join_parts(""), join_parts(("lines", "bold $accent"))]
        colors = line_colors(self._components, dark=self.app.current_theme.dark)
        for name in ("total", *self._components):
            line = f"{sample(name, self._components):<{KEY_CELLS}}"
            rows.append(join_parts("  ", (line, colors[f"{name} train"]), label(name)))
        rows += [join_parts((f"  {look:<{KEY_CELLS}}", MUTED), meaning) for look, meaning in LINES.items()]
        return Content("\n").join(rows)


def key_words(keys: str) -> str:
    """Return a binding's keys as people write them."""
    return " ".join(SHORT.get(key, key) for key in keys.split(","))


def _keys(bindings: Iterable[BindingType], app: object) -> list[Content]:
    """Return a row per described binding, with the keys of the user's key map."""
    keymap: dict[str, str] = getattr(app, "_keymap", {})
    rows = []
    for binding in bindings:
        if isinstance(binding, Binding) and binding.description and not binding.action.startswith("show_pane"):
            rows.append(_row(key_words(keymap.get(binding.id or "", binding.key)), binding.description))
    return rows


def _row(keys: str, description: str) -> Content:
    return join_parts((f"  {keys:<{KEY_CELLS}}", "bold"), description)
