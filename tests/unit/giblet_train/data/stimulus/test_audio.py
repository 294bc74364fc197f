"""Log-mel by absolute time, against librosa's filters on scipy's spectra."""

from fractions import Fraction

import av
import numpy as np
import pytest
import scipy.signal
import soundfile
from librosa.filters import mel

from giblet_train.data.stimulus.audio import FLOOR, SAMPLE_HZ, log_mel, mel_filters, read_log_mel, read_samples
from giblet_train.schema.errors import DataError
from tests.unit.giblet_train.data.stimulus.test_video import film, noise


def sound(seconds, seed=0):
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_HZ)) / SAMPLE_HZ
    swell = 0.2 + 0.15 * np.sin(2 * np.pi * 0.31 * time)
    return (swell * np.sin(2 * np.pi * (200 + 40 * time) * time) + 0.01 * rng.standard_normal(len(time))).astype(
        np.float32
    )


def librosas(wave, centres, n_mels, hop=800):
    """Return librosa's log-mel at the given samples.

    scipy computes the spectra, because compiling librosa's own takes 15 s on a machine that has not run it before.
    """
    _, _, spectra_FT = scipy.signal.stft(wave, SAMPLE_HZ, "hann", nperseg=2048, noverlap=2048 - hop, padded=False)
    power_FT = np.abs(spectra_FT * scipy.signal.get_window("hann", 2048).sum()) ** 2
    mel_MT = mel(sr=SAMPLE_HZ, n_fft=2048, n_mels=n_mels) @ power_FT
    return 10 * np.log10(np.maximum(mel_MT.T[np.asarray(centres) // hop], FLOOR))


@pytest.mark.parametrize("n_mels", [16, 40, 64, 80])
def test_the_bands_are_librosas(n_mels):
    ours, theirs = mel_filters(n_mels), mel(sr=SAMPLE_HZ, n_fft=2048, n_mels=n_mels)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-8)


def test_log_mel_equals_librosas():
    wave = sound(3.0)
    centres = np.arange(1600, len(wave) - 1600, 800)
    np.testing.assert_allclose(log_mel(wave, centres, 64), librosas(wave, centres, 64), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(("tr_s", "start_s"), [(1.5, 0.0), (2.0, 0.85)])
def test_every_step_is_heard_at_its_own_time_across_all_blocks(tmp_path, tr_s, start_s):
    wave = sound(64.0)
    soundfile.write(tmp_path / "a.wav", wave, SAMPLE_HZ, subtype="FLOAT")
    n_trs, steps = int(62.0 / tr_s), round(tr_s / 0.1)
    mel_TAM = read_log_mel(tmp_path / "a.wav", tr_s, n_trs, 32, start_s)
    assert mel_TAM.shape == (n_trs, steps, 32)
    assert mel_TAM.dtype == np.float32
    centres = np.rint((start_s + (np.arange(n_trs * steps) + 0.5) * 0.1) * SAMPLE_HZ).astype(int)
    some = np.r_[0:10, 280:320, 580:600, len(centres) - 10 : len(centres)]
    for n in some:
        around = np.pad(wave, 2048)[centres[n] : centres[n] + 4096]
        np.testing.assert_allclose(
            mel_TAM.reshape(-1, 32)[n], librosas(around, [2048], 32, hop=2048)[0], rtol=1e-3, atol=2e-2
        )


def with_gap(path, wave, at_s, gap_s):
    """Return the sound in PCM packets whose time stamps jump by gap_s after at_s seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=SAMPLE_HZ, layout="mono")
        for first in range(0, len(wave), 1600):
            piece = np.rint(wave[None, first : first + 1600] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
            frame.sample_rate, frame.time_base = SAMPLE_HZ, Fraction(1, SAMPLE_HZ)
            frame.pts = first + (round(gap_s * SAMPLE_HZ) if first >= at_s * SAMPLE_HZ else 0)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("gap_s", [12.0, 0.5])
def test_a_jump_of_the_time_stamps_leaves_later_sound_at_its_own_time(tmp_path, gap_s):
    wave = sound(30.0)
    path = with_gap(tmp_path / "a.mkv", wave, 10.0, gap_s)
    jump, gap = 10 * SAMPLE_HZ, round(gap_s * SAMPLE_HZ)
    expected = np.concatenate([wave[:jump], np.zeros(gap, np.float32), wave[jump:]])
    samples = read_samples(path, SAMPLE_HZ)
    assert len(samples) == len(expected)
    np.testing.assert_allclose(samples, expected, atol=1e-4)


def test_stereo_at_another_rate_is_mixed_and_resampled(tmp_path):
    time = np.arange(5 * 44100) / 44100
    left, right = (0.3 * np.sin(2 * np.pi * hz * time) for hz in (440, 2000))
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 44100)
    loudest = read_log_mel(tmp_path / "a.wav", 1.0, 4, 64).mean(axis=(0, 1)).argsort()[-6:]
    centres_hz = np.fft.rfftfreq(2048, 1 / SAMPLE_HZ)[mel_filters(64).argmax(axis=1)]
    assert {hz for hz in (440, 2000) if np.abs(centres_hz[loudest] - hz).min() < 60} == {440, 2000}


def test_silence_has_a_floor(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(3 * SAMPLE_HZ), SAMPLE_HZ)
    assert read_log_mel(tmp_path / "a.wav", 1.0, 2, 16) == pytest.approx(10 * np.log10(FLOOR))


def test_a_film_without_sound_is_refused(tmp_path):
    with pytest.raises(DataError, match="has no sound"):
        read_log_mel(film(tmp_path / "a.mp4", noise), 1.0, 5, 16)


def test_sound_that_ends_too_early_is_refused_with_both_lengths(tmp_path):
    soundfile.write(tmp_path / "a.wav", sound(6.0), SAMPLE_HZ)
    assert read_log_mel(tmp_path / "a.wav", 1.5, 4, 16).shape == (4, 15, 16)
    with pytest.raises(DataError, match=r"lasts 6\.0 s, but 7\.5 s from 0\.0 s on are needed"):
        read_log_mel(tmp_path / "a.wav", 1.5, 5, 16)
