"""Pictures of a study show what is in its arrays."""

from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from xml.etree import ElementTree

import av
import numpy as np
import pytest

from giblet_train.data.checks.figures import EDGE_COLOUR, carpet, light_and_brain, line_plot, mean_slices, png
from giblet_train.data.statistics.hrf import convolve_causal, glover
from giblet_train.data.stimulus.video import LUMA
from tests.made_study import made_study

STUDY = made_study(scan_lengths_trs=(150, 150), shape=(9, 10, 8))


def decoded(uri):
    kind, data = uri.split(",", 1)
    assert kind == "data:image/png;base64"
    with av.open(BytesIO(b64decode(data)), format="png_pipe") as container:
        return next(container.decode(video=0))


@pytest.mark.parametrize(("shape", "pixels"), [((7, 13), "gray"), ((6, 9, 3), "rgb24")])
def test_a_picture_survives_as_png(shape, pixels):
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(decoded(png(picture)).to_ndarray(format=pixels), picture)


def test_slices_show_the_mean_image_and_the_edge_of_the_voxels():
    mask = np.zeros((9, 10, 8), bool)
    mask[2:7, 2:8, 2:6] = True
    n_voxels = int(mask.sum())
    bright = np.linspace(800, 1200, n_voxels).astype(np.float32)
    study = replace(
        STUDY,
        mask_XYZ=mask,
        bold={"sub-01": np.zeros((300, n_voxels), np.float16)},
        reference={"sub-01": bright},
    )
    picture = mean_slices(study, "sub-01")
    assert picture.shape == (10, 30, 3)
    edge = (picture == EDGE_COLOUR).all(axis=-1)
    assert edge.sum() == 2 * (6 + 4 - 2) + 2 * (5 + 4 - 2) + 2 * (5 + 6 - 2)
    middle = picture[:, 20:][~edge[:, 20:]]
    assert middle.max() > 150


def test_a_carpet_shows_a_spike_where_it_is():
    bold = np.random.default_rng(0).standard_normal((300, 720)).astype(np.float32)
    bold[217] += 40
    picture = carpet(replace(STUDY, bold={"sub-01": bold}), "sub-01")
    assert picture.shape == (240, 300)
    assert picture.mean(axis=0).argmax() == 217
    assert picture[:, 217].min() == 255


def test_the_brain_follows_the_light_only_where_it_does():
    light = STUDY.frames_TKHWC.mean(axis=(1, 2, 3)) @ LUMA[:, None]
    halves = [convolve_causal(part, glover(1.5, 24.0)) for part in np.split(light - light.mean(), 2)]
    seen = np.concatenate(halves)
    driven = (seen / seen.std()).repeat(720, axis=1) + np.random.default_rng(1).standard_normal((300, 720))
    light_T, brain_T, r = light_and_brain(replace(STUDY, bold={"sub-01": driven.astype(np.float32)}))
    assert light_T.shape == brain_T.shape == (300,)
    assert r > 0.5
    noise = np.random.default_rng(2).standard_normal((300, 720)).astype(np.float32)
    assert abs(light_and_brain(replace(STUDY, bold={"sub-01": noise}))[2]) < 0.25


def test_a_plot_is_a_drawing_with_a_line_for_each_series():
    drawing = ElementTree.fromstring(line_plot((np.arange(5.0), np.ones(5)), ("up", "level"), (3,)))
    lines = drawing.findall("polyline")
    heights = [[float(p.split(",")[1]) for p in line.get("points").split()] for line in lines]
    assert heights[0] == sorted(heights[0], reverse=True)
    assert len(set(heights[1])) == 1
    assert len(drawing.findall("line")) == 1
