"""The cortex of the report: fsaverage5, which nilearn brings along, for volumes in MNI space and for its own vertices.

N vertices of a hemisphere, V positions of a study.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import Geometry, SurfacePair, VolumeGrid
from giblet_train.data.readers.image_files import UNREADABLE
from giblet_train.pages.brain import BrainCanvas, Overlay, panel_row
from giblet_train.pages.surface import Hemisphere, cortex_row

MNI = 4
"""NIfTI code of the space."""
N_VERTICES = 10242
"""Vertices of a hemisphere of fsaverage5."""
N_DEPTHS = 3
"""Depths of the cortex, from white matter to pia, over which a volume is averaged."""

Floats = NDArray[np.floating[Any]]


@lru_cache(maxsize=1)
def fsaverage5() -> tuple[Hemisphere, Hemisphere] | None:
    """Return the inflated hemispheres of fsaverage5; None if no nilearn that has them is installed.

    Its files are read without importing it, which takes two seconds.
    """
    package = find_spec("nilearn")
    if package is None or not package.submodule_search_locations:
        return None
    folder = Path(package.submodule_search_locations[0], "datasets", "data", "fsaverage5")
    try:
        return _hemisphere(folder, "left"), _hemisphere(folder, "right")
    except (*UNREADABLE, AttributeError, IndexError):  # a nilearn without these files, or with damaged ones
        return None


def _hemisphere(folder: Path, side: str) -> Hemisphere:
    def array(name: str, n: int = 0) -> NDArray[Any]:
        image: Any = nibabel.load(folder / f"{name}_{side}.gii.gz")
        return np.asarray(image.darrays[n].data)

    pial_N3, white_N3 = array("pial").astype(float), array("white").astype(float)
    depths = np.linspace(0.0, 1.0, N_DEPTHS)
    return Hemisphere(
        is_left=side == "left",
        drawn_N3=array("infl").astype(float),
        triangle_M3=array("infl", 1),
        depths_N3=tuple((1.0 - depth) * white_N3 + depth * pial_N3 for depth in depths),
        sulci_N=array("sulc").astype(float),
    )


@dataclass(frozen=True)
class Cortex:
    """Draws maps of one study on the cortex."""

    hemispheres: tuple[Hemisphere, Hemisphere]
    canvas: BrainCanvas | None
    """The grid of a study of volumes; None for vertices of fsaverage5."""

    @classmethod
    def of(cls, geometry: Geometry, canvas: BrainCanvas | None) -> Cortex | None:
        """Return it for a study in MNI space or on fsaverage5; None for other studies and without nilearn."""
        in_mni = isinstance(geometry, VolumeGrid) and geometry.space_code == MNI
        if not in_mni and geometry != SurfacePair(n_left=N_VERTICES, n_right=N_VERTICES):
            return None
        hemispheres = fsaverage5()
        return None if hemispheres is None else cls(hemispheres, canvas)

    def draw(self, overlay: Overlay, name: str) -> str:
        """Return lateral and medial views of a map whose values and labels are in the shape of the study's space."""
        halves = []
        for n, hemisphere in enumerate(self.hemispheres):
            if self.canvas is None:
                part = slice(n * N_VERTICES, (n + 1) * N_VERTICES)
                values_N = np.nan_to_num(overlay.values_XYZ[part])
                labels_N = None if overlay.labels_XYZ is None else overlay.labels_XYZ[part]
            else:
                samples = [self.canvas.sample(depth_N3, overlay) for depth_N3 in hemisphere.depths_N3]
                values_N = np.mean([values for values, _ in samples], axis=0)
                labels_N = samples[N_DEPTHS // 2][1]
            halves.append(hemisphere.panels(overlay, values_N, labels_N, name))
        return panel_row(cortex_row(self.hemispheres, halves), 2)
