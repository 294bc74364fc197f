"""Turn a log-mel spectrogram from `audio.log_mel` back into sound.

Mel steps are a tenth of a second apart, too far for phases, so decibels are first interpolated to a finer hop. Mel
bands are spread over frequencies without negative power. Phases come from the fast Griffin-Lim algorithm
(Griffin and Lim 1984; Perraudin, Balazs and Søndergaard 2013).
I steps, M mel bands, N frames of the finer hop, Q frequencies, S samples at SAMPLE_HZ.
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.stimulus.audio import SAMPLE_HZ, WINDOW, mel_filters

HOP = WINDOW // 4
N_SPREADS = 20
LOUD, LOUD_SHARE = 0.5, 0.999
"""Amplitude to which this quantile of the absolute samples is scaled."""
N_ROUNDS = 32
MOMENTUM = np.float32(0.99)
SMALLEST_WEIGHT = np.float32(1e-3)
TINY = np.float32(1e-12)
Floats = NDArray[np.float32]


def wave_of_mel(mel_IM: NDArray[np.floating], step_s: float) -> NDArray[np.float32]:
    """Return (S,) sound whose log-mel at steps of `step_s` is nearest to `mel_IM`; S = I·step_s·SAMPLE_HZ."""
    n_samples = round(len(mel_IM) * step_s * SAMPLE_HZ)
    centres_s = (np.arange(len(mel_IM)) + 0.5) * step_s
    frames_s = np.arange(n_samples // HOP + 1) * HOP / SAMPLE_HZ
    fine_NM = np.stack([np.interp(frames_s, centres_s, band_I) for band_I in mel_IM.T], axis=1)
    size_NQ = np.sqrt(_spread((10.0 ** (fine_NM / 10.0)).astype(np.float32)))
    return _with_phases(size_NQ, n_samples)


def loudness_scale(wave_S: NDArray[np.floating]) -> np.float32:
    """Return the factor that brings the loud parts of a sound to half of full scale."""
    # A quantile instead of the maximum: inconsistent phases produce single loud samples.
    return np.float32(LOUD / max(float(np.quantile(np.abs(wave_S), LOUD_SHARE)), 1e-9))


def write_wav(path: Path, wave_S: NDArray[np.float32], rate_hz: int = SAMPLE_HZ) -> None:
    """Write one channel of 16 bits; values beyond full scale are clipped."""
    samples = np.rint(np.clip(wave_S, -1.0, 1.0) * 32767.0).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())


def _spread(power_NM: Floats) -> Floats:
    """Return (N, Q) non-negative power whose bands sum to the given ones, by Lee and Seung's updates (2001)."""
    filters_MQ = mel_filters(power_NM.shape[1])
    heard_Q = filters_MQ.sum(axis=0) > 0
    filters_MQ = filters_MQ[:, heard_Q]
    wanted_NQ = power_NM @ filters_MQ
    spread_NQ = wanted_NQ / (filters_MQ**2).sum()
    for _ in range(N_SPREADS):
        spread_NQ *= wanted_NQ / np.maximum((spread_NQ @ filters_MQ.T) @ filters_MQ, TINY)
    whole_NQ = np.zeros((len(power_NM), len(heard_Q)), np.float32)
    whole_NQ[:, heard_Q] = spread_NQ
    return whole_NQ


def _with_phases(size_NQ: Floats, n_samples: int) -> Floats:
    turn_NQ = np.random.default_rng(0).random(size_NQ.shape, np.float32)
    phase_NQ = np.exp(np.complex64(2j * np.pi) * turn_NQ)
    before_NQ = np.zeros_like(phase_NQ)
    for _ in range(N_ROUNDS):
        consistent_NQ = _spectrum(_wave(size_NQ * phase_NQ, n_samples), len(size_NQ))
        ahead_NQ = consistent_NQ + MOMENTUM * (consistent_NQ - before_NQ)
        phase_NQ = ahead_NQ / np.maximum(np.abs(ahead_NQ), TINY)
        before_NQ = consistent_NQ
    return _wave(size_NQ * phase_NQ, n_samples)


def _spectrum(wave_S: Floats, n_frames: int) -> NDArray[np.complex64]:
    """Return (N, Q) spectra of windows of WINDOW samples around each multiple of HOP, with silence beyond both ends."""
    half = WINDOW // 2
    padded = np.pad(wave_S, (half, half + HOP))
    windows_NS = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:n_frames]
    return np.asarray(np.fft.rfft(windows_NS * _window(), axis=1))


def _wave(spectrum_NQ: NDArray[np.complex64], n_samples: int) -> Floats:
    """Add the overlapping windows and divide by the sum of the windows, (S,)."""
    windows_NS = np.fft.irfft(spectrum_NQ, n=WINDOW, axis=1) * _window()
    quarters = windows_NS.reshape(len(windows_NS), -1, HOP)
    shares = (_window() ** 2).reshape(-1, HOP)
    total_NH = np.zeros((len(windows_NS) + len(shares), HOP), np.float32)
    weight_NH = np.zeros_like(total_NH)
    for k, share_H in enumerate(shares):
        total_NH[k : k + len(windows_NS)] += quarters[:, k]
        weight_NH[k : k + len(windows_NS)] += share_H
    half = WINDOW // 2
    return np.asarray((total_NH / np.maximum(weight_NH, SMALLEST_WEIGHT)).ravel()[half : half + n_samples])


def _window() -> Floats:
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
