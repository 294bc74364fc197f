"""Every word on the screens has the contrast of WCAG AA in each of giblet's themes."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from giblet_tui.dashboard.screenshots.render import picture_of
from giblet_tui.dashboard.style.themes import OWN_THEMES
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard, settle

LEAST = 4.5
Colour = tuple[int, int, int]


def luminance(colour: Colour) -> float:
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in (c / 255 for c in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(ink: Colour, ground: Colour) -> float:
    darker, lighter = sorted((luminance(ink), luminance(ground)))
    return (lighter + 0.05) / (darker + 0.05)


def flat() -> Fleet:
    """Return several nodes whose first run has an alert, so that the problem bar is shown."""
    nodes = fleets.several().nodes
    runs = sorted(nodes[0].runs, key=lambda run: run.run.name != "flat")
    return Fleet(nodes=(fleets.node(runs=tuple(runs), gpus=8), *nodes[1:]))


@pytest.mark.parametrize(
    ("fleet", "keys"),
    [
        (flat, ()),
        (flat, ("5",)),
        (flat, ("9",)),
        (fleets.several, ("g", "space", "j", "c")),
    ],
    ids=["overview", "learning rate", "alerts", "comparison"],
)
async def test_text_is_readable_in_every_theme(fleet: Callable[[], Fleet], keys: tuple[str, ...]) -> None:
    app = dashboard(fleet())
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press(*keys)
        for theme in OWN_THEMES:
            app.theme = theme.name
            await settle(pilot)
            picture = picture_of(app.screen._compositor.render_strips(), app.screen.region, theme.name)
            words = [run for row in picture.rows for run in row if re.search(r"[A-Za-z0-9]", run.text)]
            weak = {run.text.strip() for run in words if contrast(run.ink, run.ground) < LEAST}
            assert words and not weak, f"{theme.name}: {weak}"
