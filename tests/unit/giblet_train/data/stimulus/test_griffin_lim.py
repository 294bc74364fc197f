"""Sound out of a log-mel spectrogram has that spectrogram."""

import wave

import numpy as np

from giblet_train.data.stimulus.audio import HALF, SAMPLE_HZ, log_mel
from giblet_train.data.stimulus.griffin_lim import wave_of_mel, write_wav

STEP = SAMPLE_HZ // 10


def mel_of(wave_S):
    n_steps = len(wave_S) // STEP
    centres = np.rint((np.arange(n_steps) + 0.5) * STEP).astype(np.int64)
    return log_mel(np.pad(wave_S, (HALF, HALF + STEP)), centres + HALF, 64)


def test_a_voice_and_noise_come_back():
    t = np.arange(3 * SAMPLE_HZ) / SAMPLE_HZ
    noise = np.random.default_rng(0).normal(size=len(t)) * (t % 2 > 1)
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * 0.7 * t)
    sound = (0.3 * swell * np.sin(2 * np.pi * (300 + 200 * np.sin(t)) * t) + 0.02 * noise).astype(np.float32)
    mel_IM = mel_of(sound)
    again = wave_of_mel(mel_IM, 0.1)
    assert again.shape == sound.shape and again.dtype == np.float32
    error_db = np.abs(mel_of(again) - mel_IM)
    assert np.corrcoef(mel_of(again).ravel(), mel_IM.ravel())[0, 1] > 0.98
    assert error_db.mean() < 2.5, "it would be some 20 dB for silence, and 8 for a constant spectrum"


def test_a_wav_holds_the_sound_and_clips_what_is_too_loud(tmp_path):
    write_wav(tmp_path / "x.wav", np.array([0.0, 0.5, -2.0], np.float32))
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLE_HZ, 1, 2)
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [0, 16384, -32767]
