"""The application: themes, colours, its source, and what it imports."""

from __future__ import annotations

import pytest

from giblet_tui.dashboard.style import styles, themes
from tests import fleets
from tests.paths import ROOT
from tests.unit.giblet_tui.dashboard.driver import Tape, dashboard, screen_text

WORDS = ("primary", "secondary", "accent", "success", "warning", "error", "foreground")
"""Colours of a theme in which words are written."""


async def test_leaving_closes_the_source() -> None:
    tape = Tape()
    app = dashboard(fleets.healthy(), source=tape)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("q")
    assert tape.closed and app.return_code == 0


@pytest.mark.parametrize("theme", ["giblet-light", "giblet-contrast", "ansi-dark", "textual-light"])
async def test_every_theme_is_drawn(theme: str) -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40)) as pilot:
        app.theme = theme
        await pilot.pause()
        assert "balance" in "\n".join(screen_text(app))


def test_the_theme_of_high_contrast_has_at_least_seven_to_one() -> None:
    """The ratio that WCAG 2.1 asks of text at level AAA."""
    theme = themes.CONTRAST_THEME
    palette = themes.palette_of(theme)
    inks = {**styles.line_colors(tuple("abcdefg"), palette), **{name: getattr(theme, name) for name in WORDS}}
    assert {name: ratio for name, ink in inks.items() if (ratio := contrast(ink, theme.background)) < 7} == {}
    assert contrast(themes.DARK_THEME.error, themes.DARK_THEME.background) < contrast(theme.error, theme.background)


def contrast(ink: str | None, ground: str | None) -> float:
    """Return the contrast ratio of two colours as WCAG 2.1 defines it."""
    assert ink is not None and ground is not None
    high, low = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


async def test_without_colour_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = dashboard(fleets.several())
    assert app.no_color
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert all(word in text for word in ("● demo", "✖ broken", "! deep", "✔ PASS", "! AT RISK", "○ lost"))


def test_importing_the_entry_does_not_import_textual() -> None:
    import subprocess
    import sys

    code = "import sys, giblet_tui.dashboard; sys.exit('textual' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
