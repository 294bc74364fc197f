"""Draw maps on the surface of the cortex: four views of two hemispheres as PNG.

N vertices of a hemisphere, M triangles, H W rows and columns of a picture, P points on triangles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.pages.brain import Overlay, Panel
from giblet_train.pages.png import Picture

PIXELS_PER_MM = 1.3
POINTS = 7
"""Points along the edge of a triangle; triangles are a few pixels wide."""
GYRUS, SULCUS = 205.0, 150.0
"""Grey of the cortex without a value."""
DARKEST = 0.6
"""Light on a surface that is seen edge-on."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class View:
    """A hemisphere seen from one side, as pixels."""

    inside_HW: NDArray[np.bool_]
    corner_HW3: NDArray[np.intp]
    """Vertices of the triangle at each pixel."""
    weight_HW3: NDArray[np.float32]
    """Weights of these vertices; they sum to 1."""
    light_HW: NDArray[np.float32]
    """1 where the surface faces the viewer, DARKEST at its edge."""

    def paint(self, overlay: Overlay, values_N: Floats, labels_N: NDArray[Any] | None, sulci_N: Floats) -> Picture:
        """Return the picture (H, W, 4) of a map.

        Args:
            overlay: colours of the map.
            values_N: values of the vertices, 0 outside the brain.
            labels_N: category of each vertex; None for a map of values.
            sulci_N: depth of sulci, positive inside them.
        """
        labels_HW = None
        if labels_N is not None:
            nearest_HW1 = self.weight_HW3.argmax(axis=-1)[..., None]
            labels_HW = labels_N[np.take_along_axis(self.corner_HW3, nearest_HW1, axis=-1)[..., 0]]
        pixels = overlay.paint(self._at_pixels(values_N), labels_HW)
        grey_HW = np.where(self._at_pixels(sulci_N) > 0, SULCUS, GYRUS)
        colour_HW3 = np.where(pixels[..., 3:] > 0, pixels[..., :3], grey_HW[..., None])
        picture = np.zeros((*self.inside_HW.shape, 4), np.uint8)
        picture[..., :3] = colour_HW3 * self.light_HW[..., None]
        picture[..., 3] = np.where(self.inside_HW, 255, 0)
        return picture

    def _at_pixels(self, values_N: Floats) -> Floats:
        return np.asarray((np.asarray(values_N)[self.corner_HW3] * self.weight_HW3).sum(axis=-1))


@dataclass(frozen=True)
class Hemisphere:
    """The surface of one half of the cortex, in millimetres: right, anterior, superior positive."""

    is_left: bool
    drawn_N3: Floats
    """Vertices where they are drawn, such as on the inflated surface."""
    triangle_M3: NDArray[np.integer[Any]]
    depths_N3: tuple[Floats, ...]
    """Places of the vertices in the brain at several depths of the cortex, where a volume is read."""
    sulci_N: Floats
    """Depth of sulci, positive inside them."""

    @cached_property
    def views(self) -> tuple[View, View]:
        """Return the lateral and the medial view."""
        return _view(self.drawn_N3, self.triangle_M3, not self.is_left), _view(
            self.drawn_N3, self.triangle_M3, self.is_left
        )

    def panels(
        self, overlay: Overlay, values_N: Floats, labels_N: NDArray[Any] | None, name: str
    ) -> tuple[Panel, Panel]:
        """Return the lateral and the medial view of a map; arguments as in `View.paint`."""
        side = "left" if self.is_left else "right"
        lateral, medial = (view.paint(overlay, values_N, labels_N, self.sulci_N) for view in self.views)
        ends = ("A", "P") if self.is_left else ("P", "A")
        return (
            Panel(lateral, f"{name}, {side} cortex, lateral", f"{side}, lateral", ends),
            Panel(medial, f"{name}, {side} cortex, medial", f"{side}, medial", ends[::-1]),
        )


def cortex_row(hemispheres: Sequence[Hemisphere], maps: Sequence[tuple[Panel, Panel]]) -> list[Panel]:
    """Return the panels of both hemispheres, medial views in the middle."""
    by_side = dict(zip((h.is_left for h in hemispheres), maps, strict=True))
    return [*by_side[True], *by_side[False][::-1]]


def _view(vertex_N3: Floats, triangle_M3: NDArray[np.integer[Any]], from_right: bool) -> View:
    """Return what a viewer far to the right or to the left of the brain sees."""
    sign = 1.0 if from_right else -1.0
    across_N, up_N, near_N = sign * vertex_N3[:, 1], vertex_N3[:, 2], sign * vertex_N3[:, 0]
    place_N3 = np.stack([across_N, up_N, near_N], axis=1)
    corner_M33 = place_N3[triangle_M3]
    normal_M3 = np.cross(corner_M33[:, 1] - corner_M33[:, 0], corner_M33[:, 2] - corner_M33[:, 0])
    facing_M = normal_M3[:, 2] / np.maximum(np.linalg.norm(normal_M3, axis=1), 1e-12)
    # Meshes of either orientation: outside is where most of the surface of a closed shape points away from its middle.
    outward = np.sign(((corner_M33.mean(axis=1) - place_N3.mean(axis=0)) * normal_M3).sum())
    facing_M = facing_M * (outward or 1.0)
    front = np.flatnonzero(facing_M > 0)
    steps = [(i, j, POINTS - i - j) for i in range(POINTS + 1) for j in range(POINTS + 1 - i)]
    weight_S3 = (np.array(steps, np.float32)) / POINTS
    point_P3 = np.einsum("sk,mkd->msd", weight_S3, corner_M33[front]).reshape(-1, 3)
    low = place_N3[:, :2].min(axis=0)
    size = np.ceil((place_N3[:, :2].max(axis=0) - low) * PIXELS_PER_MM).astype(int) + 3
    column_P, row_P = (np.rint((point_P3[:, :2] - low) * PIXELS_PER_MM).astype(int) + 1).T
    nearest_last = np.argsort(point_P3[:, 2], kind="stable")
    point_HW = np.full((size[1], size[0]), -1)
    point_HW[size[1] - 1 - row_P[nearest_last], column_P[nearest_last]] = nearest_last
    inside_HW = point_HW >= 0
    face_HW = front[np.maximum(point_HW, 0) // len(weight_S3)]
    light_HW = DARKEST + (1.0 - DARKEST) * facing_M[face_HW]
    return View(
        inside_HW,
        np.asarray(triangle_M3)[face_HW].astype(np.intp),
        weight_S3[np.maximum(point_HW, 0) % len(weight_S3)],
        light_HW.astype(np.float32),
    )
