"""The two themes of giblet in exact xterm-256 colours, and the order in which the theme key selects themes."""

from __future__ import annotations

from textual.theme import Theme

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
    success="#008700",
    warning="#af5f00",
    error="#d70000",
    foreground="#262626",
    background="#ffffff",
    surface="#eeeeee",
    panel="#e4e4e4",
)
ORDER = (DARK_THEME.name, LIGHT_THEME.name, "ansi-dark", "ansi-light")
