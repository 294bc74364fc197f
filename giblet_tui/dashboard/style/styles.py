"""What everything looks like on every screen: one colour and one dash per component, a glyph per state.

Colours are the xterm-256 entries nearest to the Okabe-Ito palette (Okabe and Ito 2008), exact in any 256-colour
terminal; on light themes the darker entry of the same hue. No colour carries a meaning alone: a dash, a glyph or a word
says the same.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, cast

from giblet_train.diagnosis.criterion_verdict import Status
from giblet_train.schema.health import GLYPHS, State

LineKind = Literal["train", "validation", "replaced"]

LABELS = {"total": "total", "fmri": "fMRI", "video": "video", "audio": "audio", "text": "text"}
SAMPLES = {"total": "━━", "fmri": "━━", "video": "╍╍", "audio": "┅┅", "text": "╸╸"}

DARK: dict[tuple[str, LineKind], str] = {
    ("total", "train"): "#d0d0d0",
    ("total", "validation"): "#ffffff",
    ("total", "replaced"): "#767676",
    ("fmri", "train"): "#d75f00",
    ("fmri", "validation"): "#ffaf87",
    ("fmri", "replaced"): "#875f5f",
    ("video", "train"): "#5fafd7",
    ("video", "validation"): "#afd7ff",
    ("video", "replaced"): "#5f5f87",
    ("audio", "train"): "#d7af00",
    ("audio", "validation"): "#ffd787",
    ("audio", "replaced"): "#87875f",
    ("text", "train"): "#00af87",
    ("text", "validation"): "#87d7af",
    ("text", "replaced"): "#5f8787",
}
LIGHT: dict[tuple[str, LineKind], str] = {
    ("total", "train"): "#444444",
    ("total", "validation"): "#000000",
    ("total", "replaced"): "#a8a8a8",
    ("fmri", "train"): "#d75f00",
    ("fmri", "validation"): "#870000",
    ("fmri", "replaced"): "#d7afaf",
    ("video", "train"): "#0087d7",
    ("video", "validation"): "#00005f",
    ("video", "replaced"): "#afafd7",
    ("audio", "train"): "#af8700",
    ("audio", "validation"): "#5f5f00",
    ("audio", "replaced"): "#d7d7af",
    ("text", "train"): "#00875f",
    ("text", "validation"): "#005f00",
    ("text", "replaced"): "#afd7d7",
}
INK: dict[bool, dict[str, str]] = {
    True: {
        "faint": "#585858",
        "axis": "#808080",
        "rule": "#4e4e4e",
        "cursor": "#ffffaf",
        "bad": "#ff5f5f",
        "other": "#af87d7",
    },
    False: {
        "faint": "#bcbcbc",
        "axis": "#767676",
        "rule": "#c6c6c6",
        "cursor": "#5f0087",
        "bad": "#d70000",
        "other": "#875faf",
    },
}

STATE_STYLES: dict[State, str] = {
    "running": "$success",
    "waiting": "$accent",
    "starting": "$accent",
    "unknown": "$foreground 60%",
    "finished": "$success",
    "failed": "$error",
    "died": "$error",
    "stopped": "$foreground 60%",
    "ended": "$foreground 60%",
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
MUTED = "$foreground 60%"


def state_style(state: str) -> str:
    """The style of a state; of one that this version does not know, that of no news."""
    return STATE_STYLES.get(cast(State, state), MUTED)


def glyph(state: str) -> str:
    """The glyph of a state; a question mark for one that this version does not know."""
    return GLYPHS.get(cast(State, state), "?")


def colour(component: str, kind: LineKind = "train", *, dark: bool = True) -> str:
    """The colour of a component's line, as #rrggbb."""
    return (DARK if dark else LIGHT)[component, kind]


@cache
def styles(*, dark: bool) -> dict[str, str]:
    """Every style name that a chart uses, with its colour: `fmri train`, `faint`, `cursor` and so on."""
    lines = {f"{component} {kind}": value for (component, kind), value in (DARK if dark else LIGHT).items()}
    return lines | INK[dark]
