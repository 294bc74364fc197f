"""Draw maps of the brain: a glass brain from four sides, and slices over an anatomical image, as inline SVG with PNG.

Volumes are resampled to millimetres by their affine, so that any orientation and voxel size is drawn upright, left on
the left. X Y Z voxels of the volume, N points, G voxels of the drawing grid, H W rows and columns of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.pages.charts import number, svg
from giblet_train.pages.colours import CATEGORIES, COLD, RGB, WARM, css, ramp
from giblet_train.pages.png import Picture, png_uri

GLASS_MM = 2.0
SLICE_MM = 1.25
LONGEST_PIXELS = 400
"""The drawing grid is made coarser for volumes larger than a head."""
N_SLICES = 6
SIDES = (("P", "A"), ("L", "R"), ("L", "R"))
"""Ends of a view along x, y and z: posterior and anterior, left and right."""
INSIDE = 0.5
"""Interpolated share of the mask from which a point counts as inside."""

Volume = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Overlay:
    """A map to draw."""

    values_XYZ: Volume
    """Outside the mask, values do not matter."""
    threshold: float
    """Smaller absolute values are transparent."""
    high: float
    """Value of the brightest colour."""
    labels_XYZ: NDArray[np.integer[Any]] | None = None
    """Category of each voxel, drawn in the colour of its index; None draws the values."""
    positive: tuple[RGB, ...] = WARM
    """Colours of positive values."""
    negative: tuple[RGB, ...] = COLD
    """Colours of negative values."""

    def paint(self, values: Volume, labels: NDArray[np.integer[Any]] | None) -> NDArray[np.uint8]:
        """Return colours with opacity (..., 4)."""
        rgba = np.zeros((*values.shape, 4), np.uint8)
        strong = np.abs(values) >= self.threshold
        if labels is not None:
            rgba[..., :3] = np.array(CATEGORIES, np.uint8)[labels % len(CATEGORIES)]
            strong &= labels >= 0
        else:
            above = ramp(values, self.positive, self.threshold, self.high)
            below = ramp(-values, self.negative, self.threshold, self.high)
            rgba[..., :3] = np.where((values >= 0)[..., None], above, below)
        rgba[..., 3] = np.where(strong, 255, 0)
        return rgba


@dataclass(frozen=True)
class Panel:
    """A picture of a brain with its label, and what is at its left and right end."""

    picture: Picture
    alt: str
    """Text alternative."""
    label: str
    """View or coordinate, below the picture."""
    ends: tuple[str, str]
    """Letters of the left and of the right end."""


@dataclass(frozen=True)
class BrainCanvas:
    """Geometry of the brain to draw on."""

    mask_XYZ: Mask
    affine: NDArray[np.float64]
    """(4, 4), voxel to mm: right, anterior, superior positive."""
    anatomy_XYZ: Volume | None = None
    """Image below the slices."""
    _samplers: dict[tuple[bytes, ...], _Sampler] = field(default_factory=dict, repr=False)
    """Axes of a grid -> its sampler: pages draw many maps on the same grids."""

    @cached_property
    def box_mm(self) -> NDArray[np.float64]:
        """Return the lowest and highest corner (2, 3) of the mask in mm."""
        places = np.argwhere(self.mask_XYZ)
        corners = np.array(list(product(*zip(places.min(axis=0) - 0.5, places.max(axis=0) + 0.5, strict=True))))
        corners_mm = self.to_mm(corners)
        return np.stack([corners_mm.min(axis=0), corners_mm.max(axis=0)])

    def to_mm(self, voxel_N3: NDArray[Any]) -> NDArray[np.float64]:
        """Return millimetres of voxel indices (..., 3)."""
        return np.asarray(voxel_N3 @ self.affine[:3, :3].T + self.affine[:3, 3])

    def peak_mm(self, overlay: Overlay) -> NDArray[np.float64]:
        """Return where the absolute value is largest, in mm."""
        strength_XYZ = np.where(self.mask_XYZ & np.isfinite(overlay.values_XYZ), np.abs(overlay.values_XYZ), -1.0)
        return self.to_mm(np.array(np.unravel_index(int(strength_XYZ.argmax()), strength_XYZ.shape)))

    def sample(
        self, place_N3: NDArray[np.floating[Any]], overlay: Overlay
    ) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]] | None]:
        """Return values (N,) of a map at some millimetres, 0 outside the mask, and the labels if it has any."""
        sampler = _Sampler.of(self, list(place_N3.T))
        return sampler.values(overlay.values_XYZ), sampler.labels(overlay.labels_XYZ)

    def axis_mm(self, axis: int, step_mm: float) -> NDArray[np.float64]:
        """Return the coordinates of the drawing grid along an axis."""
        low, high = self.box_mm[:, axis]
        step_mm = max(step_mm, float((self.box_mm[1] - self.box_mm[0]).max()) / LONGEST_PIXELS)
        return np.asarray(np.arange(low - step_mm, high + 1.5 * step_mm, step_mm))

    def _sampler(self, axes_mm: Sequence[NDArray[np.float64]]) -> _Sampler:
        """Return the sampler of a drawing grid, which is made once."""
        key = tuple(axis_mm.tobytes() for axis_mm in axes_mm)
        if key not in self._samplers:
            self._samplers[key] = _Sampler.of(self, np.meshgrid(*axes_mm, indexing="ij"))
        return self._samplers[key]

    def glass(self, overlay: Overlay, name: str) -> str:
        """Return four panels of the largest values along the line of sight: left, right, from behind, from above."""
        axes_mm = [self.axis_mm(axis, GLASS_MM) for axis in range(3)]
        sampler = self._sampler(axes_mm)
        values_G, labels_G = sampler.values(overlay.values_XYZ), sampler.labels(overlay.labels_XYZ)
        # The left side is seen from the left, so that its front is on the left.
        views: tuple[tuple[str, int, slice], ...] = (
            ("left side", 0, slice(None, int((axes_mm[0] < 0).sum()))),
            ("right side", 0, slice(int((axes_mm[0] < 0).sum()), None)),
            ("from behind", 1, slice(None)),
            ("from above", 2, slice(None)),
        )
        panels = []
        for view, axis, part in views:
            where: list[slice] = [slice(None)] * 3
            where[axis] = part
            part_G = values_G[tuple(where)]
            if not part_G.shape[axis]:
                continue
            picture = _glass_picture(
                overlay, part_G, None if labels_G is None else labels_G[tuple(where)], sampler.inside, axis
            )
            ends = SIDES[axis]
            if view == "left side":
                picture, ends = picture[:, ::-1], ends[::-1]
            panels.append(Panel(picture, f"{name}, {view}", view, ends))
        return panel_row(panels, 2)

    def slices(
        self, overlay: Overlay, name: str, centre_mm: NDArray[np.float64], n_axial: int = N_SLICES, legend: str = ""
    ) -> str:
        """Return slices through a point in three directions, and `n_axial` axial ones from below to above.

        legend: HTML at the end of the first row, such as a colour bar.
        """
        low, high = self.box_mm[:, 2]
        axial = [self._slice(overlay, name, 2, float(z)) for z in np.linspace(low, high, n_axial + 2)[1:-1]]
        through = [self._slice(overlay, name, axis, float(centre_mm[axis])) for axis in range(3)]
        return panel_row(through, 3, legend) + (panel_row(axial, 3) if axial else "")

    def _slice(self, overlay: Overlay, name: str, axis: int, place_mm: float) -> Panel:
        label = f"{'xyz'[axis]} = {number(round(place_mm))} mm"
        picture = self._slice_picture(overlay, axis, place_mm)
        return Panel(picture, f"{name}, slice at {label}", label, SIDES[axis])

    def _slice_picture(self, overlay: Overlay, axis: int, place_mm: float) -> Picture:
        axes_mm = [self.axis_mm(n, SLICE_MM) if n != axis else np.array([place_mm]) for n in range(3)]
        sampler = self._sampler(axes_mm)
        labels_G = sampler.labels(overlay.labels_XYZ)
        inside_HW = _upright(np.squeeze(sampler.inside, axis))
        picture = np.zeros((*inside_HW.shape, 4), np.uint8)
        picture[..., :3] = 128 if self.anatomy_XYZ is None else self._grey(sampler, axis)[..., None]
        picture[..., 3] = np.where(inside_HW, 60 if self.anatomy_XYZ is None else 255, 0)
        pixels = overlay.paint(
            _upright(np.squeeze(sampler.values(overlay.values_XYZ), axis)),
            None if labels_G is None else _upright(np.squeeze(labels_G, axis)),
        )
        pixels[~inside_HW] = 0
        picture[pixels[..., 3] > 0] = pixels[pixels[..., 3] > 0]
        picture[_edge(inside_HW)] = (128, 128, 128, 255)
        return picture

    def _grey(self, sampler: _Sampler, axis: int) -> NDArray[np.uint8]:
        assert self.anatomy_XYZ is not None
        low, high = np.percentile(self.anatomy_XYZ[self.mask_XYZ], (2, 99))
        grey = (_upright(np.squeeze(sampler.values(self.anatomy_XYZ), axis)) - low) / max(high - low, 1e-9)
        return np.asarray(40 + 150 * np.clip(grey, 0, 1), np.uint8)


@dataclass(frozen=True)
class _Sampler:
    """Trilinear interpolation of a masked volume at the points of a drawing grid."""

    inside: Mask
    index_8N: NDArray[np.intp]
    weight_8N: NDArray[np.float32]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, canvas: BrainCanvas, grid_mm: Sequence[NDArray[np.float64]]) -> _Sampler:
        shape = grid_mm[0].shape
        inverse = np.linalg.inv(canvas.affine)
        voxel_3N = inverse[:3, :3] @ np.stack([g.ravel() for g in grid_mm]) + inverse[:3, 3:]
        below_3N = np.floor(voxel_3N).astype(np.intp)
        part_3N = (voxel_3N - below_3N).astype(np.float32)
        size_31 = np.array(canvas.mask_XYZ.shape)[:, None]
        index, weight = [], []
        for corner in product((0, 1), repeat=3):
            place_3N = below_3N + np.array(corner)[:, None]
            valid_N = ((place_3N >= 0) & (place_3N < size_31)).all(axis=0)
            flat_N = np.ravel_multi_index(tuple(np.clip(place_3N, 0, size_31 - 1)), canvas.mask_XYZ.shape)
            near_3N = np.where(np.array(corner)[:, None] == 1, part_3N, 1.0 - part_3N)
            index.append(flat_N)
            weight.append(near_3N.prod(axis=0) * (valid_N & canvas.mask_XYZ.ravel()[flat_N]))
        weight_8N = np.stack(weight).astype(np.float32)
        inside_N = weight_8N.sum(axis=0) >= INSIDE
        weight_8N /= np.maximum(weight_8N.sum(axis=0), 1e-6)
        return cls(inside_N.reshape(shape), np.stack(index), weight_8N, shape)

    def values(self, values_XYZ: Volume) -> NDArray[np.float32]:
        """Return interpolated values on the grid, 0 outside."""
        flat = np.nan_to_num(np.asarray(values_XYZ, np.float32)).ravel()
        total_N = np.zeros(self.index_8N.shape[1], np.float32)
        for index_N, weight_N in zip(self.index_8N, self.weight_8N, strict=True):
            total_N += weight_N * flat[index_N]
        return np.where(self.inside, total_N.reshape(self.shape), np.float32(0))

    def labels(self, labels_XYZ: NDArray[np.integer[Any]] | None) -> NDArray[np.integer[Any]] | None:
        """Return the label of the nearest voxel on the grid."""
        if labels_XYZ is None:
            return None
        nearest_N = self.weight_8N.argmax(axis=0)
        labels_N: NDArray[np.integer[Any]] = labels_XYZ.ravel()[self.index_8N[nearest_N, np.arange(len(nearest_N))]]
        return labels_N.reshape(self.shape)


def _glass_picture(
    overlay: Overlay, part_G: NDArray[np.float32], labels_G: NDArray[Any] | None, inside_G: Mask, axis: int
) -> Picture:
    strongest = np.expand_dims(np.abs(part_G).argmax(axis=axis), axis)
    values = np.squeeze(np.take_along_axis(part_G, strongest, axis), axis)
    labels = None if labels_G is None else np.squeeze(np.take_along_axis(labels_G, strongest, axis), axis)
    # Twice the resolution before colours are chosen keeps the edges of thresholded regions smooth.
    pixels = overlay.paint(_twice(_upright(values)), None if labels is None else _repeated(_upright(labels)))
    depth_HW = _twice(_upright(inside_G.mean(axis=axis, dtype=np.float32)))
    shape_HW = _repeated(_upright(np.asarray(inside_G.any(axis=axis))))
    picture = np.zeros((*shape_HW.shape, 4), np.uint8)
    picture[..., :3] = 128
    picture[..., 3] = np.where(shape_HW, 18 + 44 * depth_HW / max(float(depth_HW.max()), 1e-6), 0)
    visible = (pixels[..., 3] > 0) & shape_HW
    picture[visible] = pixels[visible]
    picture[_edge(shape_HW)] = (128, 128, 128, 255)
    return picture


def colour_bar(overlay: Overlay, label: str) -> str:
    """Return the scale of an overlay's values, with its threshold."""
    width, high = 190, overlay.high
    two_sided = overlay.threshold > 0 and bool((overlay.values_XYZ <= -overlay.threshold).any())
    values = np.linspace(-high if two_sided else 0.0, high, width)
    strip = np.repeat(overlay.paint(values[None], None), 2, axis=0)
    strip[strip[..., 3] == 0] = (128, 128, 128, 70)

    def across(value: float) -> float:
        return 10 + (value - float(values[0])) / float(values[-1] - values[0]) * width

    marks = [overlay.threshold, high, *([-overlay.threshold, -high] if two_sided else [0.0])]
    texts = "".join(
        f'<text x="{across(m):.0f}" y="32" text-anchor="middle">{number(float(f"{m:.2g}"))}</text>'
        for n, m in enumerate(marks)
        if all(abs(across(m) - across(other)) > 28 for other in marks[:n])
    )
    image = f'<image href="{png_uri(strip)}" x="10" y="2" width="{width}" height="14" preserveAspectRatio="none"/>'
    title = f"{label}: colours from {number(overlay.threshold)} to {number(high)}"
    below = f"; not coloured below {overlay.threshold:.2g}" if overlay.threshold > 0 else ""
    return f'<div class="bar">{svg(title, width + 34, 36, image + texts)}<p>{escape(label + below)}</p></div>'


def category_key(names: Sequence[str], counts: Mapping[str, int], noun: str) -> str:
    """Return the legend of an overlay with labels, with the number of positions of each. noun: what these are."""
    items = "".join(
        f'<span class="key"><i style="background:{css(CATEGORIES[n % len(CATEGORIES)])}"></i>'
        f"{escape(name)} ({counts.get(name, 0)} {noun})</span>"
        for n, name in enumerate(names)
    )
    return f'<p class="keys">{items}</p>'


def panel_row(panels: Sequence[Panel], n_narrow: int, legend: str = "") -> str:
    """Return pictures side by side at one scale, as wide as the page; n_narrow of them in a row on a phone.

    legend: HTML at the end of the row. A row with it leaves room for one more picture.
    """
    widths = [panel.picture.shape[1] for panel in panels]
    rows = [sum(widths[n : n + n_narrow]) for n in range(0, len(widths), n_narrow)]
    wide = sum(widths) + (max(widths) if legend else 0)
    cells = "".join(
        f'<div class="panel" style="--w:{width}"><div class="picture">'
        f'<img alt="{escape(panel.alt, quote=True)}" src="{png_uri(panel.picture)}">'
        f"<span>{panel.ends[0]}</span><span>{panel.ends[1]}</span></div>{escape(panel.label)}</div>"
        for panel, width in zip(panels, widths, strict=True)
    )
    style = f"--wide:{wide};--narrow:{max(rows)};--n:{len(panels) + bool(legend)};--m:{n_narrow}"
    return f'<div class="brains" style="{style}">{cells}{legend}</div>'


def _upright(plane: NDArray[Any]) -> NDArray[Any]:
    """Turn a plane with (right or anterior, superior or anterior) axes into rows from top to bottom."""
    return np.ascontiguousarray(plane.T[::-1])


def _repeated(plane_HW: NDArray[Any]) -> NDArray[Any]:
    return plane_HW.repeat(2, axis=0).repeat(2, axis=1)


def _twice(plane_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Interpolate a plane to twice its rows and columns."""
    plane = _repeated(plane_HW)
    for axis in (0, 1):
        padded = np.concatenate([plane.take([0], axis), plane, plane.take([-1], axis)], axis)
        n = plane.shape[axis]
        first, middle, last = (padded.take(range(start, start + n), axis) for start in (0, 1, 2))
        plane = 0.25 * first + 0.5 * middle + 0.25 * last
    return np.asarray(plane, np.float32)


def _edge(inside_HW: Mask) -> Mask:
    """Return the pixels of a shape that touch its outside."""
    padded = np.pad(inside_HW, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(inside_HW & ~core)
