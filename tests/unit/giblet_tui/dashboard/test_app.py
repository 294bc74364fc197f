"""The application: themes, colours, its source, and what it imports."""

from __future__ import annotations

import pytest

from tests import fleets
from tests.paths import ROOT
from tests.unit.giblet_tui.dashboard.driver import Tape, dashboard, screen_text


async def test_leaving_closes_the_source() -> None:
    tape = Tape()
    app = dashboard(fleets.healthy(), source=tape)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("q")
    assert tape.closed and app.return_code == 0


@pytest.mark.parametrize("theme", ["giblet-light", "ansi-dark", "textual-light"])
async def test_every_theme_is_drawn(theme: str) -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40)) as pilot:
        app.theme = theme
        await pilot.pause()
        assert "balance" in "\n".join(screen_text(app))


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
