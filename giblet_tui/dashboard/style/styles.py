"""Colours, glyphs and line samples, the same on every screen.

A component's colour and dash follow from its position in the run's configuration, so any name works. Colours are the
xterm-256 entries nearest to the Okabe-Ito palette (Okabe and Ito 2008) and three more hues; light themes use the darker
entry of the same hue, the theme of high contrast a brighter one. No colour carries a meaning alone: a dash, a glyph or
a word says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Literal, cast

from giblet_train.diagnosis.criterion_verdict import Status
from giblet_train.schema.health import GLYPHS, State

LineKind = Literal["train", "validation", "replaced"]
Palette = Literal["dark", "light", "contrast"]
"""A set of colours for lines and text: for dark and light backgrounds, and with much contrast on black."""
KINDS: tuple[LineKind, ...] = ("train", "validation", "replaced")

LABELS = {"fmri": "fMRI"}
"""Names that are not written as in the configuration."""
TOTAL_SAMPLE = "━━"
SAMPLES = ("━━", "╍╍", "┅┅", "╸╸")

TOTAL_HUE: Mapping[Palette, tuple[str, str, str]] = {
    "dark": ("#d0d0d0", "#ffffff", "#767676"),
    "light": ("#444444", "#000000", "#a8a8a8"),
    "contrast": ("#ffffff", "#ffffff", "#a8a8a8"),
}
"""Colours of the total, in the order of `KINDS`."""
HUES: Mapping[Palette, tuple[tuple[str, str, str], ...]] = {
    "dark": (
        ("#d75f00", "#ffaf87", "#875f5f"),
        ("#5fafd7", "#afd7ff", "#5f5f87"),
        ("#d7af00", "#ffd787", "#87875f"),
        ("#00af87", "#87d7af", "#5f8787"),
        ("#d787af", "#ffafd7", "#875f87"),
        ("#5fd7d7", "#afffff", "#5f8787"),
        ("#afaf5f", "#d7d7af", "#5f5f00"),
    ),
    "light": (
        ("#d75f00", "#870000", "#d7afaf"),
        ("#0087d7", "#00005f", "#afafd7"),
        ("#af8700", "#5f5f00", "#d7d7af"),
        ("#00875f", "#005f00", "#afd7d7"),
        ("#af5f87", "#5f005f", "#d7afd7"),
        ("#008787", "#005f5f", "#afd7d7"),
        ("#5f5f00", "#303000", "#d7d7af"),
    ),
    "contrast": (
        ("#ffaf5f", "#ffd7af", "#d7af87"),
        ("#87d7ff", "#d7ffff", "#87afd7"),
        ("#ffff5f", "#ffffd7", "#d7d787"),
        ("#5fffaf", "#d7ffd7", "#87d7af"),
        ("#ffafff", "#ffd7ff", "#d7afd7"),
        ("#5fffff", "#d7ffff", "#87d7d7"),
        ("#d7ff5f", "#ffffaf", "#afd787"),
    ),
}
"""Colours of the components by position, in the order of `KINDS`; further components start over."""
INK: Mapping[Palette, dict[str, str]] = {
    "dark": {
        "faint": "#585858",
        "axis": "#808080",
        "rule": "#4e4e4e",
        "cursor": "#ffffaf",
        "bad": "#ff5f5f",
        "other": "#af87d7",
    },
    "light": {
        "faint": "#bcbcbc",
        "axis": "#767676",
        "rule": "#c6c6c6",
        "cursor": "#5f0087",
        "bad": "#d70000",
        "other": "#875faf",
    },
    "contrast": {
        "faint": "#a8a8a8",
        "axis": "#ffffff",
        "rule": "#d0d0d0",
        "cursor": "#ffff00",
        "bad": "#ff8787",
        "other": "#d7afff",
    },
}

MUTED = "$foreground 72%"
"""Less important text: at least 4.5:1 on every ground that a screen has."""

STATE_STYLES: dict[State, str] = {
    "running": "$success",
    "waiting": "$accent",
    "starting": "$accent",
    "unknown": MUTED,
    "finished": "$success",
    "failed": "$error",
    "died": "$error",
    "stopped": MUTED,
    "ended": MUTED,
    "stalled": "$warning",
}
STATUS_STYLES: dict[Status, str] = {
    "pass": "$success",
    "on_track": "$primary",
    "at_risk": "$warning",
    "fail": "$error",
}
STATUS_GLYPHS: dict[Status, str] = {"pass": "✔", "on_track": "›", "at_risk": "!", "fail": "✖"}
LEVEL_STYLES = {"info": "$accent", "warning": "$warning", "error": "$error"}


def state_style(state: str) -> str:
    """Return the style of a state; a state that this version does not know is muted."""
    return STATE_STYLES.get(cast(State, state), MUTED)


def glyph(state: str) -> str:
    """Return the glyph of a state; a question mark for a state that this version does not know."""
    return GLYPHS.get(cast(State, state), "?")


def label(component: str) -> str:
    """Return the name of a component as screens write it."""
    return LABELS.get(component, component)


def sample(component: str, components: tuple[str, ...]) -> str:
    """Return two cells of a component's line, dashed by its position."""
    return SAMPLES[components.index(component) % len(SAMPLES)] if component in components else TOTAL_SAMPLE


@cache
def line_colors(components: tuple[str, ...], palette: Palette) -> Mapping[str, str]:
    """Return every style name that a chart uses with its colour as #rrggbb.

    Names are `fmri train`, `total validation` and so on for lines, and the keys of `INK` for everything else.
    """
    hues = HUES[palette]
    colors = dict(zip((f"total {kind}" for kind in KINDS), TOTAL_HUE[palette], strict=True))
    for index, component in enumerate(components):
        colors |= {f"{component} {kind}": hues[index % len(hues)][place] for place, kind in enumerate(KINDS)}
    return colors | INK[palette]
