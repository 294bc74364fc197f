"""The help screen: every key, read from the bindings and the table of panes, so that it cannot be wrong."""

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

from giblet_train import __version__
from giblet_tui.dashboard.panes import OVERVIEW_KEY, PANES
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.style.styles import MUTED, label, line_colors, sample
from giblet_tui.dashboard.style.themes import palette_of

KEY_CELLS, WORD_CELLS, FRAME_CELLS = 12, 54, 9
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

    def __init__(
        self, sections: dict[str, Iterable[BindingType]], components: tuple[str, ...], pane: str | None = None
    ) -> None:
        """Prepare the screen.

        Args:
            sections: Bindings by the heading under which they are listed.
            components: Loss components of the run that is looked at.
            pane: Id of the pane that has the focus; what it shows comes first.
        """
        super().__init__()
        self._sections = sections
        self._components = components
        self._focused = next((spec for spec in PANES if spec.id == pane), None)

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(self._content())

    def _content(self) -> Content:
        rows = [join_parts(("giblet", "bold $accent"), (f" {__version__}   docs/dashboard.md   esc back", MUTED))]
        if self._focused is not None:
            rows += [join_parts(""), join_parts((f"this pane: {self._focused.title}", "bold $accent"))]
            rows += [join_parts(f"  {line}") for line in textwrap.wrap(self._focused.about, self._word_cells)]
        rows += [
            join_parts(""),
            join_parts(("panes", "bold $accent"), ("   a key shows one alone; again: back", MUTED)),
        ]
        rows += self._rows(OVERVIEW_KEY, "overview: all panes that have room")
        for spec in sorted(PANES, key=lambda spec: spec.key):
            rows += self._rows(spec.key, f"{spec.title}: {spec.about}")
        for title, bindings in self._sections.items():
            rows += [join_parts(""), join_parts((title, "bold $accent")), *self._keys(bindings)]
        rows += [join_parts(""), join_parts(("lines", "bold $accent"))]
        colors = line_colors(self._components, palette_of(self.app.current_theme))
        for name in ("total", *self._components):
            line = f"{sample(name, self._components):<{KEY_CELLS}}"
            rows.append(join_parts("  ", (line, colors[f"{name} train"]), label(name)))
        rows += [join_parts((f"  {look:<{KEY_CELLS}}", MUTED), meaning) for look, meaning in LINES.items()]
        return Content("\n").join(rows)

    def _keys(self, bindings: Iterable[BindingType]) -> list[Content]:
        """Return a row per described binding, with the keys of the user's key map."""
        keymap: dict[str, str] = getattr(self.app, "_keymap", {})
        rows = []
        for binding in bindings:
            if isinstance(binding, Binding) and binding.description and not binding.action.startswith("show_pane"):
                rows += self._rows(key_words(keymap.get(binding.id or "", binding.key)), binding.description)
        return rows

    def _rows(self, keys: str, description: str) -> list[Content]:
        """Return a key and what it does, with further lines under the first word of the description."""
        lines = textwrap.wrap(description, self._word_cells)
        firsts = [f"  {keys:<{KEY_CELLS}}", *[" " * (KEY_CELLS + 2)] * (len(lines) - 1)]
        return [join_parts((first, "bold"), line) for first, line in zip(firsts, lines, strict=True)]

    @property
    def _word_cells(self) -> int:
        """Return the cells of a description."""
        return max(20, min(WORD_CELLS, self.app.size.width - KEY_CELLS - FRAME_CELLS))


def key_words(keys: str) -> str:
    """Return a binding's keys as people write them."""
    return " ".join(SHORT.get(key, key) for key in keys.split(","))
