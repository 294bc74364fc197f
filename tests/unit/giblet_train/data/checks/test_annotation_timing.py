"""Annotations are fitted to where a film changes; the shift that is reported is the one that was made."""

import numpy as np
import pytest

from giblet_train.data.checks.annotation_timing import onset_fit, picture_change, sound_change

STEP_S = 0.5


def film(seed):
    """Return onsets of shots in seconds, and changes that are larger where they begin: of pictures, and of silence."""
    random = np.random.default_rng(seed)
    places = np.unique(np.cumsum(random.integers(4, 13, 60)))
    change_N = random.gamma(1.0, 1.0, int(places[-1]) + 20)
    change_N[places] += 6.0
    return places * STEP_S, np.stack([change_N, np.zeros_like(change_N)])


@pytest.mark.parametrize("shift_s", [12.0, -20.0, 3.0])
def test_the_shift_is_the_one_that_was_made(shift_s):
    onsets_s, changes_SN = film(0)
    right, wrong = onset_fit(onsets_s, changes_SN, STEP_S), onset_fit(onsets_s + shift_s, changes_SN, STEP_S)
    assert right.fits and not right.is_shifted and right.best_s == 0.0
    assert wrong.is_shifted and wrong.best_s == -shift_s


def test_annotations_of_another_film_have_no_shift():
    fits = [onset_fit(film(1 + seed)[0], film(0)[1], STEP_S) for seed in range(40)]
    assert not any(fit.is_shifted for fit in fits)


def test_too_few_annotations_and_a_film_without_changes_are_not_judged():
    onsets_s, changes_SN = film(0)
    assert onset_fit(onsets_s[:9], changes_SN, STEP_S) is None
    assert onset_fit(onsets_s, np.zeros_like(changes_SN), STEP_S) is None


def test_changes_are_those_of_frames_and_of_rising_sound():
    frames = np.zeros((2, 2, 3, 4, 3), np.uint8)
    frames[1] = 100
    np.testing.assert_array_equal(picture_change(frames), [0, 0, 100, 0])
    mel = np.full((2, 6, 5), -100.0, np.float32)
    mel[1, 3:] = -40.0
    np.testing.assert_array_equal(sound_change(mel, 2), [0, 0, 0, 60])
