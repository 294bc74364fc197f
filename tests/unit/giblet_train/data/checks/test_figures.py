"""Pictures of a study show what is in its arrays."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from giblet_train.data.checks.figures import carpet, carpet_chart, frame_changes, light_and_brain, temporal_snr
from giblet_train.data.statistics.hrf import convolve_causal, glover
from giblet_train.data.stimulus.video import LUMA
from tests.made_study import made_study

STUDY = made_study(scan_lengths_trs=(150, 150), shape=(9, 10, 8))


def test_tsnr_is_the_mean_over_the_deviation_within_scans():
    rng = np.random.default_rng(0)
    noise = 10.0 * rng.standard_normal((300, 720))
    noise[150:] += 500.0  # a jump between scans is no noise
    study = replace(
        STUDY,
        bold={"sub-01": noise.astype(np.float32)},
        reference={"sub-01": np.full(720, 1000.0 - 250.0, np.float32)},
    )
    tsnr_V = temporal_snr(study, "sub-01")
    assert np.median(tsnr_V) == pytest.approx(100.0, rel=0.03)


def test_the_change_from_tr_to_tr_shows_a_spike_and_no_run_border():
    bold = np.zeros((300, 720), np.float32)
    bold[150:] += 300.0
    bold[217] += 50.0
    study = replace(STUDY, bold={"sub-01": bold}, reference={"sub-01": np.full(720, 850.0, np.float32)})
    change_T = frame_changes(study, "sub-01")
    assert np.isnan(change_T[[0, 150]]).all() and np.nansum(change_T[:150]) == 0
    assert np.flatnonzero(np.nan_to_num(change_T)).tolist() == [217, 218]
    assert change_T[217] == pytest.approx(5.0, rel=0.01)


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
    brightness = np.concatenate(halves)
    bold_TV = (brightness / brightness.std()).repeat(720, axis=1) + np.random.default_rng(1).standard_normal((300, 720))
    light_T, brain_T, r = light_and_brain(replace(STUDY, bold={"sub-01": bold_TV.astype(np.float32)}))
    assert light_T.shape == brain_T.shape == (300,)
    assert r > 0.5
    noise = np.random.default_rng(2).standard_normal((300, 720)).astype(np.float32)
    assert abs(light_and_brain(replace(STUDY, bold={"sub-01": noise}))[2]) < 0.25


def test_a_carpet_chart_marks_each_run_border():
    picture = np.zeros((4, 300), np.uint8)
    drawing = ElementTree.fromstring(carpet_chart(picture, "carpet", [150], np.full(300, np.nan), 1.5, "parcels"))
    borders = [line for line in drawing.findall("line") if line.get("class") == "border"]
    assert [float(line.get("x1")) for line in borders] == [52 + 310]
