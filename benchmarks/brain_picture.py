"""Draw what drives each voxel of the demo, as simulated and as found: `python -m benchmarks.brain_picture WORKDIR SVG`.

Simulated brain, real film. The ridge initialisation of the demo is fitted on fold 0; nothing is trained. The file is
an SVG that needs no other file. V voxels of the demo.
"""

from __future__ import annotations

import argparse
import re
from base64 import b64decode
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.demo_runs import report_progress
from benchmarks.maps import initialised, true_modalities
from giblet_train.analysis.load_run import LoadedRun
from giblet_train.data.geometry import VolumeGrid
from giblet_train.data.simulation.regions import REGIONS
from giblet_train.data.store.store import study_folder
from giblet_train.pages.brain import BrainCanvas, Overlay
from giblet_train.pages.colours import CATEGORIES, css

WIDTH, MARGIN, GAP, LABEL, KEY = 900, 20, 14, 24, 34
"""Pixels of the picture, around it, between views, above a row, and of the row of colours below."""


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
    region_V = run.data.from_grid(np.load(folder / "truth.npz")["region_XYZ"].astype(int))
    names = posterior.preferred_names
    true_of = np.array([-1, *(preferred(true_modalities(region.shares), names) for region in REGIONS)])
    rows = {
        "what the simulation put into each voxel": true_of[region_V],
        "what giblet found in 5 subjects and 10 minutes of film": posterior.preferred_V,
    }
    views = [glass_views(run, label_V) for label_V in rows.values()]
    scale = (WIDTH - 2 * MARGIN - GAP * (len(views[0]) - 1)) / sum(width for _, width, _ in views[0])
    height = max(height for _, _, height in views[0]) * scale
    parts, top = [], float(MARGIN)
    for name, row in zip(rows, views, strict=True):
        parts.append(f'<text x="{MARGIN}" y="{top + 12:.0f}">{escape(name)}</text>')
        across, top = float(MARGIN), top + LABEL
        for source, width, own_height in row:
            place = f'x="{across:.1f}" y="{top + height - own_height * scale:.1f}"'
            size = f'width="{width * scale:.1f}" height="{own_height * scale:.1f}"'
            parts.append(f'<image {place} {size} href="{source}"/>')
            across += width * scale + GAP
        top += height + MARGIN
    for n, name in enumerate(names):
        x = MARGIN + n * 150
        parts.append(f'<rect x="{x}" y="{top:.0f}" width="14" height="14" fill="{css(CATEGORIES[n])}"/>')
        parts.append(f'<text x="{x + 20}" y="{top + 12:.0f}">{escape(name)}</text>')
    total = round(top + KEY)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}">'
        "<style>text { font: 15px system-ui, sans-serif; fill: #1b1f24; }</style>"
        f'<rect width="{WIDTH}" height="{total}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def preferred(shares: dict[str, float], names: tuple[str, ...]) -> int:
    """Return the index of the space with more than half, as in the map `space`; the last one, mixed, if none has."""
    largest = max(shares, key=lambda name: shares[name])
    return names.index(largest) if shares[largest] > 0.5 else len(names) - 1


def glass_views(run: LoadedRun, label_V: NDArray[np.intp]) -> list[tuple[str, int, int]]:
    """Return the data URI, width and height of each view of a map of categories, -1 where there is none."""
    grid: Any = run.data.study.geometry
    assert isinstance(grid, VolumeGrid)
    labels_XYZ = np.full(run.data.mask.shape, -1)
    labels_XYZ[run.data.mask] = run.data.in_grid_order(label_V)
    overlay = Overlay((labels_XYZ >= 0).astype(float), 0.5, 1.0, labels_XYZ)
    html = BrainCanvas(run.data.mask, grid.affine).glass(overlay, "space")
    sources = re.findall(r'src="(data:image/png;base64,[^"]+)"', html)
    return [(source, *png_size(source)) for source in sources]


def png_size(source: str) -> tuple[int, int]:
    """Return width and height of a PNG in a data URI."""
    head = b64decode(source.partition(",")[2][:44])
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


if __name__ == "__main__":
    main()
