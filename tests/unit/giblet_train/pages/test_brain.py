"""Maps are drawn upright, left on the left, wherever the axes of the volume point."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from giblet_train.pages.brain import BrainCanvas, Overlay, _glass_picture, _Sampler
from giblet_train.pages.colours import CATEGORIES, WARM, ink_on, ramp

MM = 3.0


def canvas_and_map(affine, shape):
    """Return a ball of brain, and a map that is 1 in a small ball at the right, front and top."""
    places = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1) @ affine[:3, :3].T + affine[:3, 3]
    mask = np.linalg.norm(places, axis=-1) < 40
    return BrainCanvas(mask, affine), np.exp(-(np.linalg.norm(places - (20, 15, 10), axis=-1) ** 2) / 100)


def affines():
    upright = np.diag([MM, MM, MM, 1.0])
    upright[:3, 3] = -45
    mirror = upright.copy()
    mirror[0] = (-MM, 0, 0, 45)
    permutation = upright[[2, 0, 1, 3]][:, [0, 1, 2, 3]]
    angle = np.radians(25)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return {"upright": upright, "flipped": mirror, "swapped": permutation, "oblique": turn @ upright}


@pytest.mark.parametrize("name", ["upright", "flipped", "swapped", "oblique"])
def test_the_peak_is_drawn_at_its_millimetres(name):
    canvas, values = canvas_and_map(affines()[name], (31, 31, 31))
    overlay = Overlay(values, 0.6, 1.0)
    assert canvas.peak_mm(overlay) == pytest.approx((20, 15, 10), abs=MM)
    axes_mm = [canvas.axis_mm(axis, 2.0) for axis in range(3)]
    sampler = _Sampler.of(canvas, np.meshgrid(*axes_mm, indexing="ij"))
    for axis, (across, up) in enumerate(((1, 2), (0, 2), (0, 1))):
        picture = _glass_picture(overlay, sampler.values(values), None, sampler.inside, axis)
        rows, columns = np.nonzero((picture[..., 3] == 255) & (picture[..., 0] != 128))
        x_mm = axes_mm[across][0] + columns.mean()
        z_mm = axes_mm[up][0] + picture.shape[0] - 1 - rows.mean()
        assert (x_mm, z_mm) == pytest.approx((np.array((20, 15, 10))[[across, up]]), abs=MM)


def test_panels_have_a_text_alternative_and_sides():
    canvas, values = canvas_and_map(affines()["upright"], (31, 31, 31))
    overlay = Overlay(values, 0.6, 1.0)
    html = canvas.glass(overlay, "r") + canvas.slices(overlay, "r", canvas.peak_mm(overlay))
    panels = [
        panel for row in ElementTree.fromstring(re.sub(r"(<img[^>]*)>", r"\1/>", f"<x>{html}</x>")) for panel in row
    ]
    assert len(panels) == 4 + 3 + 6
    letters = ["".join(span.text for span in panel.iter("span")) for panel in panels]
    assert letters == ["AP", "PA", "LR", "LR", "PA", *["LR"] * 8]
    assert next(panels[4].iter("img")).get("alt") == "r, slice at x = 21 mm"


def test_a_second_map_is_drawn_on_the_grids_of_the_first(monkeypatch):
    canvas, values = canvas_and_map(affines()["upright"], (31, 31, 31))
    first = canvas.glass(Overlay(values, 0.6, 1.0), "r") + canvas.slices(Overlay(values, 0.6, 1.0), "r", np.zeros(3))
    monkeypatch.setattr(_Sampler, "of", None)
    other = Overlay(-values, 0.6, 1.0)
    assert canvas.glass(other, "r") + canvas.slices(other, "r", np.zeros(3)) != first


def test_panels_of_a_row_have_one_scale():
    affine, shape = np.diag([MM, MM, MM, 1.0]), (20, 40, 30)
    canvas = BrainCanvas(np.ones(shape, bool), affine)
    html = canvas.glass(Overlay(np.ones(shape), 0.5, 1.0), "r")
    width = [int(n) for n in re.findall(r'class="panel" style="--w:(\d+)', html)]
    assert width[0] == width[1] and width[2] == width[3] and width[0] / width[2] == pytest.approx(40 / 20, rel=0.1)


def test_what_is_below_the_threshold_or_outside_is_not_coloured():
    overlay = Overlay(np.zeros(1), 0.5, 1.0)
    colours = overlay.paint(np.array([0.4, 0.5, -0.6]), None)
    assert colours[:, 3].tolist() == [0, 255, 255]
    assert tuple(colours[1, :3]) == WARM[0] and colours[2, 2] > colours[2, 0]
    labels_only = overlay.paint(np.ones(2), np.array([2, -1]))
    assert tuple(labels_only[0, :3]) == CATEGORIES[2] and labels_only[1, 3] == 0


def test_colours_run_from_the_first_stop_to_the_last():
    assert ramp(np.array([0.0, 1.0, 9.0]), WARM, 0.0, 1.0).tolist() == [list(WARM[0]), list(WARM[-1]), list(WARM[-1])]
    assert ink_on((0, 0, 0)) == "#fff" and ink_on((255, 255, 0)) == "#000"
