"""Figures of the data report: slices of mean images, carpet plots, and film luminance next to the brain.

T TRs, V voxels of the store, S subjects, X Y Z grid, H W C rows, columns and colours of a picture.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.statistics.hrf import convolve_causal, glover
from giblet_train.data.statistics.lag import highpass
from giblet_train.data.stimulus.video import LUMA
from giblet_train.data.study import Study

CARPET_ROWS = 240
CARPET_SDS = 2.5
KERNEL_S = 24.0
CHOSEN_SHARE = 0.01
CHUNK_TRS = 64
EDGE_COLOUR = (226, 90, 28)
LINE_COLOURS = ("#c47f00", "#2456b3")
PLOT_WIDTH, PLOT_HEIGHT = 900, 180

Picture = NDArray[np.uint8]
Series = NDArray[np.float64]


def png(picture: Picture) -> str:
    """Encode a picture as the data URI of a PNG."""
    return "data:image/png;base64," + b64encode(png_bytes(picture)).decode()


def png_bytes(picture: Picture) -> bytes:
    """Encode a grey (H, W) or coloured (H, W, 3) picture as a PNG file."""
    encoder: Any = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt = "gray" if picture.ndim == 2 else "rgb24"
    encoder.time_base = Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=encoder.pix_fmt)
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))


def mean_slices(study: Study, subject: str) -> Picture:
    """Draw a subject's mean image, (H, W, 3): three slices through the middle of the mask, its edge in colour."""
    mean_V = study.reference[subject] + study.own_rows(subject).mean(axis=0, dtype=np.float32)
    mean_XYZ = np.zeros(study.mask_XYZ.shape, np.float32)
    mean_XYZ[study.mask_XYZ] = mean_V
    low, high = np.percentile(mean_V, (1, 99))
    grey_XYZ = (255 * np.clip((mean_XYZ - min(0.0, low)) / max(high - min(0.0, low), 1e-9), 0, 1)).astype(np.uint8)
    middle = [round(float(places.mean())) for places in np.nonzero(study.mask_XYZ)]
    height = max(study.mask_XYZ.shape)
    slices = [
        _slice(np.take(grey_XYZ, place, axis), np.asarray(np.take(study.mask_XYZ, place, axis)), height)
        for axis, place in enumerate(middle)
    ]
    return np.concatenate(slices, axis=1)


def _slice(grey_HW: Picture, mask_HW: NDArray[np.bool_], height: int) -> Picture:
    """Draw a slice upright on a square of `height`, the edge of the mask in colour."""
    inner_HW = mask_HW.copy()
    for axis in (0, 1):
        for step in (1, -1):
            inner_HW &= np.roll(mask_HW, step, axis)
    coloured = np.repeat(grey_HW[..., None], 3, axis=2)
    coloured[mask_HW & ~inner_HW] = EDGE_COLOUR
    upright = coloured.transpose(1, 0, 2)[::-1]
    square = np.zeros((height, height, 3), np.uint8)
    top, first_column = (height - upright.shape[0]) // 2, (height - upright.shape[1]) // 2
    square[top : top + upright.shape[0], first_column : first_column + upright.shape[1]] = upright
    return square


def carpet(study: Study, subject: str) -> Picture:
    """Draw a carpet plot, (rows, T): a regular sample of voxels, each z-scored over the whole study."""
    stored_TV = study.bold[subject]
    step = max(1, stored_TV.shape[1] // CARPET_ROWS)
    sample_TV = np.asarray(stored_TV[:, ::step], np.float32)[:, :CARPET_ROWS]
    centred_TV = sample_TV - sample_TV.mean(axis=0)
    sd_V = sample_TV.std(axis=0)
    scaled_TV = np.divide(centred_TV, sd_V, out=np.zeros_like(centred_TV), where=sd_V > 0)
    return np.asarray(127.5 + 127.5 * np.clip(scaled_TV / CARPET_SDS, -1, 1).T, np.uint8)


def light_and_brain(study: Study) -> tuple[Series, Series, float]:
    """Return film luminance through Glover's HRF, the voxels that follow it, both (T,), and their correlation.

    Voxels are chosen by their correlation over the first half of the TRs. The returned correlation is that of their
    mean over the second half, which did not take part in the choice.
    """
    light_T1 = (study.frames_TKHWC.mean(axis=(1, 2, 3), dtype=np.float64) @ LUMA)[:, None]
    # From its mean on: a scan that began out of the dark would show that beginning and little else.
    parts = np.split(light_T1 - light_T1.mean(), np.cumsum(study.scan_lengths_trs)[:-1])
    blurred_T1 = np.concatenate([convolve_causal(part, glover(study.tr_s, KERNEL_S)) for part in parts])
    light_T = _scaled(highpass(blurred_T1, study.tr_s))[:, 0]
    half = study.n_trs // 2
    total_TV = np.zeros((study.n_trs, study.n_voxels), np.float32)
    for subject, stored_TV in study.bold.items():
        sd_V = np.asarray(study.own_rows(subject).std(axis=0, dtype=np.float32))
        for first in range(0, study.n_trs, CHUNK_TRS):
            rows = slice(first, first + CHUNK_TRS)
            total_TV[rows] += np.divide(
                stored_TV[rows], sd_V, out=np.zeros((len(total_TV[rows]), study.n_voxels), np.float32), where=sd_V > 0
            )
    r_V = _scaled(light_T[:half, None])[:, 0] @ _scaled(total_TV[:half]) / half
    voxels = np.argsort(-r_V)[: max(1, round(CHOSEN_SHARE * len(r_V)))]
    brain_T = _scaled(highpass(total_TV[:, voxels].mean(axis=1, keepdims=True), study.tr_s))[:, 0]
    return light_T, brain_T, float(_scaled(light_T[half:]) @ _scaled(brain_T[half:]) / (study.n_trs - half))


def _scaled(series: NDArray[np.floating[Any]]) -> Series:
    centred = np.asarray(series, np.float64) - np.mean(series, axis=0, dtype=np.float64)
    sd = centred.std(axis=0)
    return np.asarray(np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 1e-12))


def line_plot(series: Sequence[Series], names: Sequence[str], border_trs: Sequence[int]) -> str:
    """Series of equal length as an SVG drawing, a dashed line at each border."""
    low, high = min(float(s.min()) for s in series), max(float(s.max()) for s in series)
    across = PLOT_WIDTH / max(1, len(series[0]) - 1)
    scale = (PLOT_HEIGHT - 30) / max(high - low, 1e-9)
    lines = [
        f'<line x1="{tr * across:.1f}" x2="{tr * across:.1f}" y1="20" y2="{PLOT_HEIGHT}" class="border"/>'
        for tr in border_trs
    ]
    for n, (one_T, name, colour) in enumerate(zip(series, names, LINE_COLOURS, strict=False)):
        points = " ".join(f"{t * across:.1f},{PLOT_HEIGHT - 5 - (v - low) * scale:.1f}" for t, v in enumerate(one_T))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        lines.append(f'<text x="{4 + n * PLOT_WIDTH // 2}" y="13" fill="{colour}">{name}</text>')
    return f'<svg viewBox="0 0 {PLOT_WIDTH} {PLOT_HEIGHT}" role="img">{"".join(lines)}</svg>'
