"""Draw what drives each voxel of the demo, as simulated and as found: `python -m benchmarks.brain_picture WORKDIR SVG`.

Simulated brain, real film. The ridge initialisation of the demo is fitted on fold 0; nothing is trained. The file is
an SVG that needs no other file. V voxels of the demo.
"""

from __future__ import annotations

import argparse
import json
import re
from base64 import b64decode
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.demo_runs import report_progress
from benchmarks.maps import initialised, true_modalities, true_parts
from giblet_train.analysis.load_run import LoadedRun
from giblet_train.data.geometry import VolumeGrid
from giblet_train.data.simulation.regions import REGIONS
from giblet_train.data.store.store import study_folder
from giblet_train.pages.brain import BrainCanvas, Overlay
from giblet_train.pages.colours import CATEGORIES, css

WIDTH, MARGIN, GAP, LABEL, KEY = 900, 20, 14, 24, 34
"""Pixels of the picture, around it, between views, above a row, and of the row of colours below."""
STYLE = "text { font: 15px system-ui, sans-serif; fill: #1b1f24; } .view { font-size: 12px; fill: #59636e; }"


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("svg", type=Path)
    arguments = parser.parse_args()
    arguments.svg.write_text(picture(initialised(arguments.workdir.resolve(), 0)), encoding="utf-8")


def picture(run: LoadedRun) -> str:
    """Return the SVG: glass brains of the truth above those of what was found."""
    posterior = run.setup.posterior
    assert posterior is not None
    folder = study_folder(run.config, run.workdir / run.config.data.data_dir, run.workdir, report_progress)[0]
    truth = np.load(folder / "truth.npz")
    region_V = run.data.from_grid(truth["region_XYZ"].astype(int))
    true_share_V, _ = true_parts(run, truth, json.loads((folder / "truth.json").read_text()))
    minutes = run.setup.refit_trs * run.data.study.tr_s / 60.0
    names = posterior.preferred_names
    true_of = np.array([-1, *(preferred(true_modalities(region.shares), names) for region in REGIONS)])
    rows = {
        "what the simulation put into each voxel": (true_of[region_V], true_share_V),
        f"what giblet names after {minutes:.0f} minutes of film and {len(run.data.subjects)} subjects": (
            posterior.preferred_V,
            posterior.explained_V,
        ),
    }
    views = [glass_views(run, *maps) for maps in rows.values()]
    scale = (WIDTH - 2 * MARGIN - GAP * (len(views[0]) - 1)) / sum(view.width for view in views[0])
    height = max(view.height for view in views[0]) * scale
    parts, top = [], float(MARGIN)
    for name, row in zip(rows, views, strict=True):
        parts.append(f'<text x="{MARGIN}" y="{top + 12:.0f}">{escape(name)}</text>')
        across, top = float(MARGIN), top + LABEL
        for view in row:
            place = f'x="{across:.1f}" y="{top + height - view.height * scale:.1f}"'
            size = f'width="{view.width * scale:.1f}" height="{view.height * scale:.1f}"'
            parts.append(f'<image {place} {size} href="{view.source}"/>')
            below = f'x="{across + view.width * scale / 2:.1f}" y="{top + height + 16:.0f}"'
            parts.append(f'<text class="view" {below} text-anchor="middle">{view.label}</text>')
            across += view.width * scale + GAP
        top += height + LABEL + MARGIN
    for n, name in enumerate(names):
        x = MARGIN + n * 150
        parts.append(f'<rect x="{x}" y="{top:.0f}" width="14" height="14" fill="{css(CATEGORIES[n])}"/>')
        parts.append(f'<text x="{x + 20}" y="{top + 12:.0f}">{escape(name)}</text>')
    total = round(top + KEY)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}">'
        f"<style>{STYLE}</style>"
        f'<rect width="{WIDTH}" height="{total}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def preferred(shares: dict[str, float], names: tuple[str, ...]) -> int:
    """Return the index of the space with more than half, as in the map `space`; the last one, mixed, if none has."""
    largest = max(shares, key=lambda name: shares[name])
    return names.index(largest) if shares[largest] > 0.5 else len(names) - 1


class View(NamedTuple):
    """A picture of the brain from one side."""

    source: str
    """Data URI of a PNG."""
    label: str
    """Side, with what is at the left and the right of the picture."""
    width: int
    height: int


def glass_views(run: LoadedRun, label_V: NDArray[np.intp], strength_V: NDArray[Any]) -> list[View]:
    """Return the views of a map of categories, -1 where there is none. strength_V: the strongest voxel is seen."""
    grid: Any = run.data.study.geometry
    assert isinstance(grid, VolumeGrid)
    labels_XYZ, strength_XYZ = np.full(run.data.mask.shape, -1), np.zeros(run.data.mask.shape)
    labels_XYZ[run.data.mask] = run.data.in_grid_order(label_V)
    strength_XYZ[run.data.mask] = run.data.in_grid_order(np.where(label_V >= 0, strength_V, 0.0))
    overlay = Overlay(strength_XYZ, float(strength_V[label_V >= 0].min()) / 2, 1.0, labels_XYZ)
    html = BrainCanvas(run.data.mask, grid.affine).glass(overlay, "space")
    panels = re.findall(r'src="([^"]+)"><span>(.)</span><span>(.)</span></div>([^<]+)</div>', html)
    return [View(source, f"{first}  ·  {side}  ·  {last}", *png_size(source)) for source, first, last, side in panels]


def png_size(source: str) -> tuple[int, int]:
    """Return width and height of a PNG in a data URI."""
    head = b64decode(source.partition(",")[2][:44])
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


if __name__ == "__main__":
    main()
