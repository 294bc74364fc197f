"""What everything looks like on every screen: one colour and one dash per component, a glyph per state.

Colours are the xterm-256 entries nearest to the Okabe-Ito palette (Okabe and Ito 2008), exact in any 256-colour
terminal; on light themes the darker entry of the same hue. No colour carries a meaning alone: a dash, a glyph or a word
says the same.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from giblet_train.contract.criteria import Status
from giblet_train.contract.health import State

LineKind = Literal["train", "validation"]

LABELS = {"total": "total", "fmri": "fMRI", "video": "video", "audio": "audio", "text": "text"}
SAMPLES = {"total": "━━", "fmri": "━━", "video": "╍╍", "audio": "┅┅", "text": "╸╸"}

DARK: dict[tuple[str, LineKind], str] = {
    ("total", "train"): "#d0d0d0",
    ("total", "validation"): "#ffffff",
    ("fmri", "train"): "#d75f00",
    ("fmri", "validation"): "#ffaf87",
    ("video", "train"): "#5fafd7",
    ("video", "validation"): "#afd7ff",
    ("audio", "train"): "#d7af00",
    ("audio", "validation"): "#ffd787",
    ("text", "train"): "#00af87",
    ("text", "validation"): "#87d7af",
}
LIGHT: dict[tuple[str, LineKind], str] = {
    ("total", "train"): "#444444",
    ("total", "validation"): "#000000",
    ("fmri", "train"): "#d75f00",
    ("fmri", "validation"): "#870000",
    ("video", "train"): "#0087d7",
    ("video", "validation"): "#00005f",
    ("audio", "train"): "#af8700",
    ("audio", "validation"): "#5f5f00",
    ("text", "train"): "#00875f",
    ("text", "validation"): "#005f00",
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
    "starting": "$accent",
    "unknown": "$foreground 60%",
    "finished": "$success",
    "failed": "$error",
    "died": "$error",
    "stopped": "$foreground 60%",
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


def colour(component: str, kind: LineKind = "train", *, dark: bool = True) -> str:
    """The colour of a component's line, as #rrggbb."""
    return (DARK if dark else LIGHT)[component, kind]


@cache
def styles(*, dark: bool) -> dict[str, str]:
    """Every style name that a chart uses, with its colour: `fmri train`, `faint`, `cursor` and so on."""
    lines = {f"{component} {kind}": value for (component, kind), value in (DARK if dark else LIGHT).items()}
    return lines | INK[dark]
