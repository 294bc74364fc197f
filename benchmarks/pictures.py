"""The pictures of docs/dashboard.md, drawn by the dashboard itself from the recorded fleets that its tests use.

python -m benchmarks.pictures docs
"""

from __future__ import annotations

import sys
from pathlib import Path

from msgspec.structs import replace

from giblet_tui.dashboard.screenshots.render import run_picture
from giblet_tui.dashboard.screenshots.svg import svg_text
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets

COLUMNS, ROWS = 120, 40
CUT, DIED = 180, 220


def trouble() -> tuple[Fleet, str]:
    """Return several nodes, one of them lost; a run that is flat because its rate never rose, in raw units."""
    fleet = fleets.several()
    return fleet, fleet.nodes[0].runs[1].run.run_id


def resumed() -> tuple[Fleet, str]:
    """Return a run that died and went on in another from its last checkpoint."""
    died = fleets.run(steps=DIED, state="died", sentence="the node rebooted while it ran", suffix="d1ed")
    worse = tuple(
        replace(step, loss={name: 1.06 * (value or 0.0) for name, value in step.loss.items()})
        if step.step >= CUT
        else step
        for step in died.steps
    )
    whole = fleets.run(steps=300, suffix="ce55")
    resumed_run = replace(whole.run, resumed_from=died.run.run_id)
    again = tuple(replace(step, seq=number) for number, step in enumerate(whole.steps[CUT:]))
    epochs = tuple(epoch for epoch in whole.epochs if epoch.step > CUT)
    after = replace(whole, run=resumed_run, steps=again, epochs=epochs)
    return Fleet(nodes=(fleets.node(runs=(after, replace(died, steps=worse)), gpus=8),)), after.run.run_id


def main() -> None:
    folder = Path(sys.argv[1])
    for name, (fleet, run_id) in {"trouble": trouble(), "resumed": resumed()}.items():
        picture = run_picture(fleet, run_id, COLUMNS, ROWS, clock=lambda: fleets.NOW + 1)
        (folder / f"{name}.svg").write_text(svg_text(picture))


if __name__ == "__main__":
    main()
