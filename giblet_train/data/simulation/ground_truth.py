"""The features of a film that drive the simulated brain; the model never sees them.

They are computed from what the model does see (frames, log-mel, sentence embeddings), one row a TR, each column
standardised over the study. A column that never changes is 0.
Shapes: T TRs, K frames a TR, H W C rows, columns and colours, S mel steps a TR, M mel bands, E embedding, F features,
N frames in a row, I J cells, O orientations.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LUMA = (0.299, 0.587, 0.114)
CELLS = (3, 4)
EDGE_CELLS = (4, 6)
ORIENTATIONS = 8
HUES = 12
HIGH_VISION_COMPONENTS = 8
AUDIO_BANDS = 16
TEXT_COMPONENTS = 4
NARRATIVE_MEMORY_S = 12.0
DECIMALS = 6

GROUPS = ("low_vision", "high_vision", "audio", "text", "narrative")


def ground_truth_features(
    frames_TKHWC: NDArray[np.uint8],
    mel_TSM: NDArray[np.floating[Any]],
    sentences_TE: NDArray[np.floating[Any]],
    tr_s: float,
) -> dict[str, Floats]:
    """Return the features of each of `GROUPS`, (T, F).

    low_vision: luminance, contrast, motion, colour and the luminance of 12 cells. high_vision: principal components of
    edge orientations and hues. audio: 16 log-mel bands and their flux. text: principal components of the sentences.
    narrative: the same, remembered for NARRATIVE_MEMORY_S.

    Args:
        sentences_TE: Sentence embeddings; rows without annotation are zero.
    """
    colour_TKHWC = frames_TKHWC.astype(np.float32) / np.float32(255.0)
    text_TF = _components(sentences_TE.astype(float), TEXT_COMPONENTS)
    features = {
        "low_vision": _low_vision(colour_TKHWC),
        "high_vision": _components(_frame_embedding(colour_TKHWC), HIGH_VISION_COMPONENTS),
        "audio": _audio(mel_TSM.astype(float)),
        "text": text_TF,
        "narrative": _exponential_average(text_TF, NARRATIVE_MEMORY_S / tr_s),
    }
    return {group: standardized(values_TF) for group, values_TF in features.items()}


def feature_names() -> dict[str, tuple[str, ...]]:
    """Return the column names of each group."""
    cells = tuple(f"luminance_{i}_{j}" for i in range(CELLS[0]) for j in range(CELLS[1]))
    return {
        "low_vision": ("luminance", "contrast", "motion", "colour", *cells),
        "high_vision": tuple(f"frame_pc_{i}" for i in range(HIGH_VISION_COMPONENTS)),
        "audio": (*(f"mel_{i}" for i in range(AUDIO_BANDS)), "flux"),
        "text": tuple(f"text_pc_{i}" for i in range(TEXT_COMPONENTS)),
        "narrative": tuple(f"narrative_pc_{i}" for i in range(TEXT_COMPONENTS)),
    }


def standardized(x_TF: Floats) -> Floats:
    """Scale every column to mean 0 and variance 1, rounded so that any order of summation gives the same bytes."""
    x_TF = x_TF - x_TF.mean(axis=0)
    sd_F = x_TF.std(axis=0)
    unit_TF: Floats = np.where(sd_F > 1e-9, x_TF / np.maximum(sd_F, 1e-9), 0.0).round(DECIMALS)
    return unit_TF


def _low_vision(colour_TKHWC: NDArray[np.float32]) -> Floats:
    luma_TKHW = colour_TKHWC @ np.array(LUMA, np.float32)
    n_trs, n_frames, height, width = luma_TKHW.shape
    running_NHW = luma_TKHW.reshape(n_trs * n_frames, height, width)
    change_N = np.abs(np.diff(running_NHW, axis=0, prepend=running_NHW[:1])).mean(axis=(1, 2))
    saturation_TKHW = colour_TKHWC.max(axis=-1) - colour_TKHWC.min(axis=-1)
    columns = [
        luma_TKHW.mean(axis=(1, 2, 3)),
        luma_TKHW.std(axis=(2, 3)).mean(axis=1),
        change_N.reshape(n_trs, n_frames).mean(axis=1),
        saturation_TKHW.mean(axis=(1, 2, 3)),
    ]
    cells_TF = _cell_means(luma_TKHW.mean(axis=1), CELLS).reshape(n_trs, -1)
    return np.concatenate([np.stack(columns, axis=1), cells_TF], axis=1).astype(float)


def _frame_embedding(colour_TKHWC: NDArray[np.float32]) -> Floats:
    """Return (T, F): a histogram of oriented gradients, with their places, and of hues.

    Dalal and Triggs (2005), on EDGE_CELLS cells, without their blocks.
    """
    n_trs = len(colour_TKHWC)
    luma_TKHW = colour_TKHWC @ np.array(LUMA, np.float32)
    rise_y, rise_x = np.gradient(luma_TKHW, axis=(2, 3))
    strength = np.hypot(rise_x, rise_y)
    angle = np.mod(np.arctan2(rise_y, rise_x), math.pi) * (ORIENTATIONS / math.pi)
    edges_OT = [
        _cell_means((strength * _near(angle, o, ORIENTATIONS)).mean(axis=1), EDGE_CELLS).reshape(n_trs, -1)
        for o in range(ORIENTATIONS)
    ]
    red, green, blue = np.moveaxis(colour_TKHWC, -1, 0)
    across, up = red - 0.5 * (green + blue), (math.sqrt(3.0) / 2.0) * (green - blue)
    hue = np.mod(np.arctan2(up, across), 2.0 * math.pi) * (HUES / (2.0 * math.pi))
    hues = [(np.hypot(across, up) * _near(hue, h, HUES)).mean(axis=(1, 2, 3)) for h in range(HUES)]
    blocks = [np.sqrt(np.concatenate(edges_OT, axis=1)), np.sqrt(np.stack(hues, axis=1))]
    return np.concatenate([_equal_power(block.astype(float)) for block in blocks], axis=1)


def _near(position: NDArray[np.float32], centre: int, period: int) -> NDArray[np.float32]:
    """Return 1 at `centre`, falling to 0 one unit away, around a circle of `period` units."""
    distance = np.abs(position - np.float32(centre))
    nearness: NDArray[np.float32] = np.maximum(np.float32(0.0), 1.0 - np.minimum(distance, period - distance))
    return nearness


def _cell_means(image_THW: NDArray[np.float32], cells: tuple[int, int]) -> NDArray[np.float32]:
    """Return (T, I, J) means over a coarse grid of cells."""
    rows = np.array_split(image_THW, cells[0], axis=1)
    means = [[cell.mean(axis=(1, 2)) for cell in np.array_split(row, cells[1], axis=2)] for row in rows]
    return np.moveaxis(np.array(means), 2, 0)


def _equal_power(x_TF: Floats) -> Floats:
    total = math.sqrt(float(x_TF.var(axis=0).sum()))
    return x_TF / total if total > 0.0 else x_TF


def _audio(mel_TSM: Floats) -> Floats:
    bands_TSF = np.stack([band.mean(axis=2) for band in np.array_split(mel_TSM, AUDIO_BANDS, axis=2)], axis=2)
    running_NF = bands_TSF.reshape(-1, AUDIO_BANDS)
    rise_N = np.maximum(np.diff(running_NF, axis=0, prepend=running_NF[:1]), 0.0).mean(axis=1)
    flux_T = rise_N.reshape(mel_TSM.shape[:2]).mean(axis=1)
    return np.concatenate([bands_TSF.mean(axis=1), flux_T[:, None]], axis=1)


def _components(x_TE: Floats, count: int) -> Floats:
    """Return (T, count) principal components over the TRs whose row is not all zero; the other rows are 0.

    The largest loading of each is positive. Columns beyond the rank are 0.
    """
    present_T = np.any(x_TE != 0.0, axis=1)
    scores_TF = np.zeros((len(x_TE), count))
    if not present_T.any():
        return scores_TF
    centred = x_TE[present_T] - x_TE[present_T].mean(axis=0)
    vectors, singular, loadings = np.linalg.svd(centred, full_matrices=False)
    rank = min(count, int((singular > 1e-9 * max(singular[0], 1e-12)).sum()))
    largest = np.abs(loadings[:rank]).argmax(axis=1)
    signs = np.sign(loadings[np.arange(rank), largest])
    scores_TF[present_T, :rank] = vectors[:, :rank] * singular[:rank] * signs
    return scores_TF


def _exponential_average(x_TF: Floats, memory_trs: float) -> Floats:
    """Apply a causal exponential average with a time constant of `memory_trs` TRs."""
    keep = math.exp(-1.0 / memory_trs)
    remembered_TF = np.zeros_like(x_TF)
    for t, row in enumerate(x_TF):
        remembered_TF[t] = (keep * remembered_TF[t - 1] if t else 0.0) + (1.0 - keep) * row
    return remembered_TF
