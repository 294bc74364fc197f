"""Compute the log-mel spectrogram of a film's sound, in steps of the scan.

`read_log_mel(path, tr_s, n_trs, n_mels, start_s) -> (T, A, M) float32`, in decibels; `log_mel(wave, centres, n_mels)`
for sound that is in memory already.
T TRs, A steps of about a tenth of a second in a TR, M mel bands, S samples at SAMPLE_HZ, I moments, Q frequencies.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.stimulus.video import opened, origin_s
from giblet_train.schema.errors import DataError

SAMPLE_HZ = 16000
STEP_S = 0.1
WINDOW = 2048
HALF = WINDOW // 2
FLOOR = 1e-7
"""Power that counts as silence, some 100 dB under full scale: digital silence would else be an outlier."""

BLOCK = 30 * SAMPLE_HZ
MISSING_S = 0.5
JUMP_S = 0.1
"""A jump of time stamps that is a gap, not rounding or the jitter of an encoder."""


LINEAR_HZ_PER_MEL = 200.0 / 3.0
BREAK_HZ = 1000.0
LOG_STEP = np.log(6.4) / 27.0


def steps_per_tr(tr_s: float) -> int:
    """Return A: the number of steps of about a tenth of a second in a TR."""
    return max(1, round(tr_s / STEP_S))


def read_log_mel(path: Path, tr_s: float, n_trs: int, n_mels: int, start_s: float = 0.0) -> NDArray[np.float32]:
    """Return (T, A, M) decibels of the film's sound, mixed to one channel.

    Step a of TR t is centred at start_s + (t + (a + ½) / A)·tr_s of the film. The file is read once, in blocks.
    Raises DataError if there is no sound, or if it ends before the last TR does.
    """
    steps = steps_per_tr(tr_s)
    pieces = list(_log_mel_pieces(path, tr_s, n_trs, n_mels, start_s))
    return np.concatenate([np.zeros((0, n_mels), np.float32), *pieces]).reshape(n_trs, steps, n_mels)


def read_log_mel_in_parts(
    path: Path, tr_s: float, n_trs: int, n_mels: int, start_s: float, part_trs: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the spectrogram of `read_log_mel` in parts of at most part_trs TRs."""
    steps = steps_per_tr(tr_s)
    rest_IM = np.zeros((0, n_mels), np.float32)
    for piece_IM in _log_mel_pieces(path, tr_s, n_trs, n_mels, start_s):
        rest_IM = np.concatenate([rest_IM, piece_IM])
        while len(rest_IM) >= part_trs * steps:
            yield rest_IM[: part_trs * steps].reshape(part_trs, steps, n_mels)
            rest_IM = rest_IM[part_trs * steps :]
    if len(rest_IM):
        yield rest_IM.reshape(-1, steps, n_mels)


def _log_mel_pieces(path: Path, tr_s: float, n_trs: int, n_mels: int, start_s: float) -> Iterator[NDArray[np.float32]]:
    """Yield consecutive steps (I, M) of the spectrogram, one piece for each block of the sound."""
    steps = steps_per_tr(tr_s)
    centres_I = np.rint((start_s + (np.arange(n_trs * steps) + 0.5) * (tr_s / steps)) * SAMPLE_HZ).astype(np.int64)
    n_done, end = 0, 0
    for first, wave_S in _blocks(path):
        end = first + len(wave_S) - HALF
        upto = int(np.searchsorted(centres_I, end, side="right"))
        yield log_mel(wave_S, centres_I[n_done:upto] - first, n_mels)
        n_done = upto
    _check_length(path, end / SAMPLE_HZ, start_s, n_trs * tr_s)
    yield log_mel(np.zeros(WINDOW, np.float32), np.full(len(centres_I) - n_done, HALF), n_mels)


def has_sound(path: Path) -> bool:
    """Return True if the file has a sound track. Raises DataError if it cannot be read."""
    with opened(path) as container:
        return bool(container.streams.audio)


def read_samples(path: Path, rate_hz: int) -> NDArray[np.float32]:
    """Return (S,) the whole sound from the film's time 0, mixed to one channel. Raises DataError if there is none."""
    return np.concatenate([np.zeros(0, np.float32), *_samples(path, rate_hz)])


def log_mel(wave_S: NDArray[np.float32], centres_I: NDArray[np.int64], n_mels: int) -> NDArray[np.float32]:
    """Return (I, M) 10·log10 of the power in each mel band, in a Hann window of WINDOW samples around each centre.

    The windows must be inside the wave. Equals librosa's `melspectrogram` (Slaney's bands, power 2), at least FLOOR.
    """
    windows_IS = np.lib.stride_tricks.sliding_window_view(wave_S, WINDOW)[centres_I - HALF]
    power_IQ = np.abs(np.fft.rfft(windows_IS * _hann())) ** 2
    bands_IM = power_IQ.astype(np.float32) @ mel_filters(n_mels).T
    decibels_IM: NDArray[np.float32] = np.float32(10.0) * np.log10(np.maximum(bands_IM, np.float32(FLOOR)))
    return decibels_IM


@cache
def mel_filters(n_mels: int) -> NDArray[np.float32]:
    """Return (M, Q) equal-area triangles up to half of SAMPLE_HZ, evenly spaced in mel (Slaney's Auditory Toolbox)."""
    top_mel = BREAK_HZ / LINEAR_HZ_PER_MEL + np.log(SAMPLE_HZ / 2.0 / BREAK_HZ) / LOG_STEP
    edges_hz = _hz(np.linspace(0.0, top_mel, n_mels + 2))
    bins_hz = np.fft.rfftfreq(WINDOW, 1.0 / SAMPLE_HZ)
    low, middle, high = (edges_hz[k : k + n_mels, None] for k in range(3))
    triangles_MQ = np.minimum((bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)).clip(min=0.0)
    filters_MQ: NDArray[np.float32] = (triangles_MQ * (2.0 / (high - low))).astype(np.float32)
    return filters_MQ


def _hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert mel to hertz by Slaney's scale: linear up to BREAK_HZ, logarithmic above."""
    break_mel = BREAK_HZ / LINEAR_HZ_PER_MEL
    hz: NDArray[np.float64] = np.where(
        mel < break_mel, mel * LINEAR_HZ_PER_MEL, BREAK_HZ * np.exp(LOG_STEP * (mel - break_mel))
    )
    return hz


@cache
def _hann() -> NDArray[np.float32]:
    hann: NDArray[np.float32] = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
    return hann


def _blocks(path: Path) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the sound in blocks that overlap by one window, each with the number of its first sample.

    Half a window of silence precedes the first sample and follows the last.
    """
    first, parts = -HALF, [np.zeros(HALF, np.float32)]
    for wave_S in _samples(path):
        parts.append(wave_S)
        if sum(map(len, parts)) >= BLOCK:
            block_S = np.concatenate(parts)
            yield first, block_S
            first, parts = first + len(block_S) - WINDOW, [block_S[-WINDOW:]]
    yield first, np.concatenate([*parts, np.zeros(HALF, np.float32)])


def _samples(path: Path, rate_hz: int = SAMPLE_HZ) -> Iterator[NDArray[np.float32]]:
    """Yield the sound from the film's time 0, mixed to one channel.

    Gaps in the time stamps become silence, and a part that overlaps the sound before it loses its beginning.
    """
    with opened(path) as container:
        if not container.streams.audio:
            raise DataError(f"{path} has no sound.", "Give a film with an audio track; giblet never makes one up.")
        n_yielded = 0
        for first, wave_S in _placed(container, rate_hz):
            if first > n_yielded:
                yield np.zeros(first - n_yielded, np.float32)
            yield wave_S[max(0, n_yielded - first) :]
            n_yielded = max(n_yielded, first + len(wave_S))


def _placed(container: Any, rate_hz: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield pieces of resampled sound, each with the number of its first sample.

    Samples are counted from the first time stamp, and again from one that jumps by more than JUMP_S.
    """
    resampler, end_s, first, part_s, n_samples = None, 0.0, 0, 0.0, 0
    for frame in container.decode(container.streams.audio[0]):
        start_s = end_s if frame.time is None else frame.time - origin_s(container)
        if resampler is None or abs(start_s - end_s) > JUMP_S:
            for wave_S in _flush(resampler):
                yield first, wave_S
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
            first, part_s, n_samples = round(start_s * rate_hz), start_s, 0
        for piece in resampler.resample(frame):
            yield first, piece.to_ndarray()[0]
            first += piece.samples
        n_samples += frame.samples
        end_s = part_s + n_samples / frame.sample_rate
    for wave_S in _flush(resampler):
        yield first, wave_S


def _flush(resampler: Any) -> Iterator[NDArray[np.float32]]:
    for piece in resampler.resample(None) if resampler is not None else ():
        yield piece.to_ndarray()[0]


def _check_length(path: Path, sound_s: float, start_s: float, needed_s: float) -> None:
    if sound_s + MISSING_S < start_s + needed_s:
        raise DataError(
            f"The sound of {path} lasts {sound_s:.1f} s, but {needed_s:.1f} s from {start_s:.1f} s on are needed.",
            "Correct data.stimulus_offset_s, or say with split.usable_trs how much of the scan is to be used.",
        )
