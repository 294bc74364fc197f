"""The themes of giblet in exact xterm-256 colours, and the order in which the theme key selects themes."""

from __future__ import annotations

from textual.theme import Theme

from giblet_tui.dashboard.style.styles import Palette

DARK_THEME = Theme(
    name="giblet-dark",
    dark=True,
    primary="#87afd7",
    secondary="#5f87af",
    accent="#87afff",
    success="#87d787",
    warning="#ffaf5f",
    error="#ff5f5f",
    foreground="#d0d0d0",
    background="#121212",
    surface="#1c1c1c",
    panel="#262626",
)
LIGHT_THEME = Theme(
    name="giblet-light",
    dark=False,
    primary="#005faf",
    secondary="#0087af",
    accent="#005fd7",
    success="#005f00",
    warning="#875f00",
    error="#af0000",
    foreground="#262626",
    background="#ffffff",
    surface="#ffffff",
    panel="#eeeeee",
)
CONTRAST_THEME = Theme(
    name="giblet-contrast",
    dark=True,
    primary="#87d7ff",
    secondary="#afd7ff",
    accent="#5fd7ff",
    success="#87ff87",
    warning="#ffd75f",
    error="#ff8787",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#303030",
)
OWN_THEMES = (DARK_THEME, LIGHT_THEME, CONTRAST_THEME)
ORDER = (*(theme.name for theme in OWN_THEMES), "ansi-dark", "ansi-light")


def palette_of(theme: Theme) -> Palette:
    """Return the colours of lines that belong to a theme, giblet's own or another."""
    if theme.name == CONTRAST_THEME.name:
        return "contrast"
    return "dark" if theme.dark else "light"
