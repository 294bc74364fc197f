"""The film drawn here: whole, repeatable, and with picture, sound and caption that belong together."""

from itertools import pairwise

import numpy as np
import pytest

from giblet_train.data.simulation.generated_film import COLOURS, PITCHES_HZ, generated_film
from giblet_train.data.stimulus.audio import SAMPLE_HZ, mel_filters, read_log_mel
from giblet_train.data.stimulus.video import film_seconds, read_frames
from giblet_train.schema.errors import ConfigError


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return generated_film(tmp_path_factory.mktemp("film") / "film.mp4", 45.0, seed=3)


def test_it_lasts_as_long_as_asked_and_says_what_it_is(film):
    assert film.source == "generated"
    assert film_seconds(film.path) == pytest.approx(45.0, abs=0.01)
    assert film.shots[0].start_s == 0.0
    assert film.shots[-1].end_s == 45.0
    assert all(earlier.end_s == later.start_s for earlier, later in pairwise(film.shots))


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(tmp_path):
    films = [generated_film(tmp_path / f"{n}.mp4", 3.0, seed) for n, seed in enumerate((1, 1, 2))]
    assert films[0].sha256 == films[1].sha256
    assert films[0].shots == films[1].shots
    assert films[0].sha256 != films[2].sha256
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.mp4", "1.mp4", "2.mp4"]


def test_what_the_captions_say_is_seen_and_heard(film):
    frames_TKHWC = read_frames(film.path, 0.5, 90, 2.0, 45, 80)
    mel_TAM = read_log_mel(film.path, 0.5, 90, 64)
    bins_hz = np.fft.rfftfreq(2 * (mel_filters(64).shape[1] - 1), 1.0 / SAMPLE_HZ)
    centres_hz = bins_hz[mel_filters(64).argmax(axis=1)]
    for shot in film.shots:
        colour, shape = shot.names_all.split()
        here = slice(int(np.ceil(shot.start_s / 0.5)) + 1, int(shot.end_s / 0.5) - 1)
        if here.stop <= here.start:
            continue
        distance = np.abs(frames_TKHWC[here, 0].astype(int) - np.array(COLOURS[colour])).max(axis=-1)
        assert (distance < 60).mean() > 0.004, shot.text
        pitch_hz = PITCHES_HZ[shape] * (0.5 if "large" in shot.detail else 1.0)
        heard_hz = centres_hz[mel_TAM[here].max(axis=(0, 1)).argmax()]
        assert heard_hz == pytest.approx(pitch_hz, abs=50.0), shot.text


def test_a_film_without_a_picture_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="has no picture"):
        generated_film(tmp_path / "film.mp4", 0.0)
    assert not list(tmp_path.iterdir())
