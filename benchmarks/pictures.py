"""Pictures of the dashboard, drawn by itself from the recorded fleets that its tests use.

python -m benchmarks.pictures docs               the pictures of docs/dashboard.md
python -m benchmarks.pictures gallery FOLDER     every scene in four sizes and in giblet's three themes, to look at
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import Select

from giblet_tui.dashboard.app import DashboardApp
from giblet_tui.dashboard.screenshots.render import Picture, StaticSource, picture_of, run_picture
from giblet_tui.dashboard.screenshots.svg import svg_text
from giblet_tui.dashboard.settings import Settings
from giblet_tui.dashboard.style.themes import OWN_THEMES
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import Recorder, settle

COLUMNS, ROWS = 120, 40
CUT, DIED = 180, 220
SIZES = ((60, 15), (80, 24), (120, 40), (200, 50))


class Scene(NamedTuple):
    """One screen to look at."""

    name: str
    fleet: Callable[[], Fleet]
    keys: Sequence[str] = ()
    """Pressed before the picture is taken."""
    later_s: float = 1.0
    """Seconds from the recording to the picture."""
    chosen: str = ""
    """Name of the run that is shown; the first one if empty."""


def stalled(age_s: float) -> Fleet:
    """Return a run whose last step is this old, on a node that is heard."""
    alert = fleets.alert("stalled", "It stands still: no step for 61s; one was due within 60s", "error")
    return Fleet(nodes=(fleets.frozen(age_s, fleets.run(alerts=(alert,) if age_s > 61 else ())),))


def command(losses: bool = True) -> Fleet:
    """Return a command of the user's own that prints an accuracy and other numbers; losses: and losses."""
    return Fleet(nodes=(fleets.node(runs=(fleets.command_run(losses=losses, by_step=not losses),), gpus=8),))


SCENES = (
    Scene("running", fleets.healthy),
    Scene("stalled-20s", lambda: stalled(20.0), later_s=19.6),
    Scene("stalled-90s", lambda: stalled(90.0), later_s=89.6),
    Scene("frozen-link", fleets.healthy, later_s=8.0),
    Scene("evaluating", fleets.evaluating),
    Scene("no-step-yet", fleets.starting),
    Scene("died", fleets.died),
    Scene("many-runs", fleets.many, ("2",)),
    Scene("many-runs-overview", fleets.many),
    Scene("comparison", fleets.several, ("g", "space", "j", "c")),
    Scene("launch-form", fleets.healthy, ("ctrl+n", "CHOOSE")),
    Scene("help", fleets.healthy, ("question_mark",)),
    Scene("log-search", fleets.healthy, ("8", "slash", *"epoch 1", "enter")),
    Scene("problem-bar", fleets.several, chosen="flat"),
    Scene("losses", fleets.healthy, ("3", "x")),
    Scene("learning-rate", fleets.several, ("5",), chosen="flat"),
    Scene("verdict", fleets.several, ("6",)),
    Scene("hardware", fleets.healthy, ("7",)),
    Scene("alerts", fleets.several, ("9",), chosen="flat"),
    Scene("configuration", fleets.several, ("i",), chosen="flat"),
    Scene("stop", fleets.healthy, ("S",)),
    Scene("palette", fleets.healthy, ("ctrl+p", *"stop")),
    Scene("output", fleets.healthy, ("W",)),
    Scene("command", command),
    Scene("command-without-losses", lambda: command(losses=False)),
    Scene("curves", command, ("m",)),
    Scene("welcome", lambda: Fleet(nodes=(fleets.node(),))),
)


def trouble() -> tuple[Fleet, str]:
    """Return several nodes, one of them lost; a run that is flat because its rate never rose, in raw units."""
    fleet = fleets.several()
    return fleet, fleet.nodes[0].runs[1].run.run_id


def resumed() -> tuple[Fleet, str]:
    """Return a run that died and went on in another from its last checkpoint."""
    dead_run = fleets.run(steps=DIED, state="died", sentence="the node rebooted while it ran", suffix="d1ed")
    worse = tuple(
        replace(step, loss={name: 1.06 * (value or 0.0) for name, value in step.loss.items()})
        if step.step >= CUT
        else step
        for step in dead_run.steps
    )
    whole = fleets.run(steps=300, suffix="ce55")
    resumed_run = replace(whole.run, resumed_from=dead_run.run.run_id)
    again = tuple(replace(step, seq=number) for number, step in enumerate(whole.steps[CUT:]))
    epochs = tuple(epoch for epoch in whole.epochs if epoch.step > CUT)
    after = replace(whole, run=resumed_run, steps=again, epochs=epochs)
    return Fleet(nodes=(fleets.node(runs=(after, replace(dead_run, steps=worse)), gpus=8),)), after.run.run_id


def scene_picture(scene: Scene, size: tuple[int, int], theme: str) -> Picture:
    """Return a picture of a scene: its whole screen after its keys."""
    fleet = scene.fleet()
    runs = [run for run in fleet.runs() if scene.chosen in ("", run.run.name)]
    app = DashboardApp(
        StaticSource(),
        Recorder(),
        fleet,
        clock=lambda: fleets.NOW + scene.later_s,
        selected_run_id=runs[0].run.run_id if runs else None,
        settings=Settings(theme=theme),
    )
    pictures: list[Picture] = []

    async def take(pilot: Pilot[object]) -> None:
        await pilot.pause()
        for key in scene.keys:
            if key == "CHOOSE":
                app.screen.query_one("#launch-config", Select).value = "pilot"
                await settle(pilot)  # type: ignore[arg-type]
            else:
                await pilot.press("space" if key == " " else key)
        await settle(pilot)  # type: ignore[arg-type]
        screen = app.screen
        pictures.append(picture_of(screen._compositor.render_strips(), screen.region, scene.name))
        app.exit(0)

    app.run(headless=True, size=size, auto_pilot=take)
    return pictures[0]


def write_gallery(folder: Path, scenes: Sequence[Scene]) -> None:
    """Write a picture of each scene, size and theme, and a page with all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for scene in scenes:
        for theme in OWN_THEMES:
            for columns, height in SIZES:
                name = f"{scene.name}-{theme.name}-{columns}x{height}"
                picture = scene_picture(scene, (columns, height), theme.name)
                (folder / f"{name}.svg").write_text(svg_text(picture))
                rows.append(f'<h2>{escape(name)}</h2><img src="{name}.svg" alt="{escape(name)}">')
    page = "<!doctype html><meta charset=utf-8><title>giblet dashboard</title>" + "\n".join(rows)
    (folder / "index.html").write_text(page)


def main() -> None:
    if sys.argv[1] == "gallery":
        names = sys.argv[3:]
        write_gallery(Path(sys.argv[2]), [scene for scene in SCENES if not names or scene.name in names])
        return
    folder = Path(sys.argv[1])
    for name, (fleet, run_id) in {"trouble": trouble(), "resumed": resumed()}.items():
        picture = run_picture(fleet, run_id, COLUMNS, ROWS, clock=lambda: fleets.NOW + 1)
        (folder / f"{name}.svg").write_text(svg_text(picture))


if __name__ == "__main__":
    main()
