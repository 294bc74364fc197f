"""The study's clock: cropping is arithmetic, always said, and never a stretch."""

import pytest

from giblet_train.data.readers.timeline import Timeline, over_film, scan_timeline
from giblet_train.schema.errors import DataError


def test_seconds_and_trs_go_round():
    timeline = Timeline(1.5, (100, 50), stimulus_offset_s=-4.5, first_tr=3)
    assert timeline.film_start_s == 0.0
    assert timeline.film_s(10) == 15.0
    assert timeline.tr_at(15.0) == 10.0


def test_a_film_as_long_as_the_scans_is_left_unchanged():
    timeline = over_film(scan_timeline(397, 1.5, (200, 197), "a"), 596.47, 0.0, None)
    assert timeline.scan_lengths_trs == (200, 197)
    assert timeline.notes == ()


def test_the_labs_film_covers_the_first_scan():
    timeline = over_film(scan_timeline(1976, 1.5, (946, 1030), "a"), 1426.0, 0.0, None)
    assert timeline.scan_lengths_trs == (946,)
    assert "share TRs 0 to 945" in timeline.notes[0]


def test_a_short_film_is_refused_unless_the_overlap_is_stated():
    scans = scan_timeline(400, 1.5, None, "a")
    with pytest.raises(DataError, match=r"covers 300 TRs \(450\.0 s\), the scans have 400") as error:
        over_film(scans, 450.0, 0.0, None)
    assert "split.usable_trs: 300" in error.value.remedy
    with pytest.raises(DataError, match="covers 300"):
        over_film(scans, 450.0, 0.0, 301)
    assert over_film(scans, 450.0, 0.0, 300).n_trs == 300


def test_the_film_may_start_before_or_after_the_scan():
    scans = scan_timeline(400, 1.5, (150, 250), "a")
    later = over_film(scans, 700.0, -6.0, None)
    assert (later.first_tr, later.scan_lengths_trs, later.film_start_s) == (4, (146, 250), 0.0)
    earlier = over_film(scans, 700.0, 6.0, None)
    assert (earlier.first_tr, earlier.scan_lengths_trs, earlier.film_start_s) == (0, (150, 250), 6.0)
    between = over_film(scans, 700.0, -4.0, None)
    assert between.film_start_s == pytest.approx(0.5)
    with pytest.raises(DataError, match="share no TR"):
        over_film(scans, 700.0, 900.0, None)


def test_stated_scans_must_fit_the_files():
    with pytest.raises(DataError, match="adds up to 500 TRs, but a has 400"):
        scan_timeline(400, 1.5, (250, 250), "a")
    assert "first 250 of 400" in scan_timeline(400, 1.5, (250,), "a").notes[0]
