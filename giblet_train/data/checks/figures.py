"""Figures of the data report: mean image, tSNR, carpet plots, and film luminance next to the brain.

T TRs, V voxels of the store, S subjects, X Y Z grid, H W C rows, columns and colours of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import VolumeGrid
from giblet_train.data.statistics.hrf import convolve_causal, glover
from giblet_train.data.statistics.lag import highpass
from giblet_train.data.stimulus.video import LUMA
from giblet_train.data.study import Study
from giblet_train.pages.brain import BrainCanvas
from giblet_train.pages.charts import svg, ticks
from giblet_train.pages.colours import CATEGORIES, css
from giblet_train.pages.png import Picture, png_uri

CARPET_ROWS = 240
CARPET_SDS = 2.5
KERNEL_S = 24.0
CHOSEN_SHARE = 0.01
CHUNK_TRS = 64
CHANGE_VOXELS = 4000
"""Voxels of which the change from TR to TR is measured."""

Series = NDArray[np.float64]


def brain_canvas(study: Study, subject: str) -> BrainCanvas:
    """Return the brain to draw on, with the subject's mean image."""
    assert isinstance(study.geometry, VolumeGrid)
    mean_XYZ = np.zeros(study.mask.shape, np.float32)
    mean_XYZ[study.mask] = mean_image(study, subject)
    return BrainCanvas(study.mask, study.geometry.affine, mean_XYZ)


def mean_image(study: Study, subject: str) -> NDArray[np.float32]:
    """Return a subject's mean over time (V,), in the units of the file."""
    return np.asarray(study.reference[subject] + study.own_rows(subject).mean(axis=0, dtype=np.float32))


def temporal_snr(study: Study, subject: str) -> NDArray[np.float32]:
    """Return the mean of each voxel over its standard deviation within scans (V,); 0 where it is constant."""
    n_rows, square_V = 0, np.zeros(study.n_voxels)
    for scan in scan_slices(study):
        own_T = study.present[subject][scan] if study.present else slice(None)
        scan_TV = np.asarray(study.bold[subject][scan], np.float32)[own_T]
        if len(scan_TV) > 1:
            square_V += scan_TV.var(axis=0, dtype=np.float64) * len(scan_TV)
            n_rows += len(scan_TV)
    sd_V = np.sqrt(square_V / max(1, n_rows))
    mean_V = np.abs(mean_image(study, subject))
    return np.divide(mean_V, sd_V, out=np.zeros_like(mean_V), where=sd_V > 1e-6, casting="unsafe")


def scan_slices(study: Study) -> list[slice]:
    """Return the rows of each scan."""
    edges = np.cumsum([0, *study.scan_lengths_trs])
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def frame_changes(study: Study, subject: str) -> Series:
    """Return DVARS of each TR (T,): the root mean square over voxels of the change since the TR before, in percent.

    NaN at the first TR of each scan and where the subject has no data (Power et al. 2012).
    """
    every = max(1, study.n_voxels // CHANGE_VOXELS)
    sample_TV = np.asarray(study.bold[subject][:, ::every], np.float32)
    level = max(float(np.abs(mean_image(study, subject)).mean()), 1e-6)
    change_T = np.full(study.n_trs, np.nan)
    for scan in scan_slices(study):
        change_T[scan.start + 1 : scan.stop] = np.sqrt((np.diff(sample_TV[scan], axis=0) ** 2).mean(axis=1))
    if study.present:
        own_T = study.present[subject]
        change_T[~own_T | ~np.roll(own_T, 1)] = np.nan
    return 100.0 * change_T / level


def carpet(study: Study, subject: str) -> Picture:
    """Draw a carpet plot, (rows, T): a regular sample of voxels, each z-scored over the whole study."""
    stored_TV = study.bold[subject]
    step = max(1, stored_TV.shape[1] // CARPET_ROWS)
    return carpet_of(np.asarray(stored_TV[:, ::step], np.float32)[:, :CARPET_ROWS])


def carpet_of(series_TV: NDArray[np.floating[Any]]) -> Picture:
    """Draw series as rows of grey, (V, T): black CARPET_SDS below the mean of the series, white as much above."""
    centred_TV = series_TV - series_TV.mean(axis=0)
    sd_V = series_TV.std(axis=0)
    scaled_TV = np.divide(centred_TV, sd_V, out=np.zeros_like(centred_TV), where=sd_V > 0)
    return np.asarray(127.5 + 127.5 * np.clip(scaled_TV / CARPET_SDS, -1, 1).T, np.uint8)


def carpet_chart(picture: Picture, title: str, borders: Sequence[int], change_T: Series, tr_s: float, rows: str) -> str:
    """Draw a carpet with axes and run borders, below the change from TR to TR. rows: label, such as voxels."""
    width, margin, top, height = 620, 52, 92, 200
    n_trs = picture.shape[1]

    def across(tr: float) -> float:
        return margin + tr / int(n_trs) * width

    finite = change_T[np.isfinite(change_T)]
    highest = max(1e-6, float(finite.max(initial=0.0)))
    points = [
        f"{across(tr + 0.5):.1f},{70 - 56 * value / highest:.1f}"
        for tr, value in enumerate(change_T)
        if np.isfinite(value)
    ]
    marks = [tr for tr in ticks(0, n_trs, 6) if tr <= n_trs]
    parts = [
        f'<polyline points="{" ".join(points)}" fill="none" stroke="{css(CATEGORIES[4])}"/>',
        f'<line class="axis" x1="{margin}" x2="{margin + width}" y1="70" y2="70"/>',
        f'<text class="faint" x="{margin - 6}" y="18" text-anchor="end">{highest:.2g}</text>',
        f'<text class="faint" x="{margin - 6}" y="74" text-anchor="end">0</text>',
        f'<text class="faint" x="{margin}" y="11">change from TR to TR (DVARS), % of the mean</text>',
        f'<image class="pixels" href="{png_uri(picture)}" x="{margin}" y="{top}" width="{width}" height="{height}" '
        'preserveAspectRatio="none"/>',
        f'<text class="faint" x="14" y="{top + height / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {top + height / 2})">{rows}</text>',
        *(
            f'<line class="border" x1="{across(tr):.1f}" x2="{across(tr):.1f}" y1="14" y2="{top + height}" '
            f'style="stroke:{css(CATEGORIES[0])};stroke-width:2"/>'
            for tr in borders
        ),
        *(
            f'<text class="faint" x="{across(tr):.1f}" y="{top + height + 17}" text-anchor="middle">{tr:g}</text>'
            for tr in marks
        ),
        f'<text x="{margin + width / 2}" y="{top + height + 36}" text-anchor="middle">'
        f"TR of {tr_s:g} s; dashed: a run begins</text>",
    ]
    return svg(title, margin + width + 12, top + height + 42, "".join(parts))


def bad_examples() -> list[tuple[str, Picture]]:
    """Return carpets of simulated problems, each with its explanation."""
    rng = np.random.default_rng(0)
    n_trs, n_voxels = 160, 60
    time_T1 = np.arange(n_trs)[:, None]
    base_TV = rng.standard_normal((n_trs, n_voxels))
    base_TV = base_TV + 0.5 * np.roll(base_TV, 1, axis=0)
    spikes_TV, jump_TV, drift_TV, silent_TV = (base_TV.copy() for _ in range(4))
    spikes_TV[[40, 41, 95, 130]] += rng.choice([-9.0, 9.0], n_voxels)
    jump_TV[80:] += 5.0 * rng.standard_normal(n_voxels)
    drift_TV = drift_TV + 6.0 * (time_T1 / n_trs - 0.5) * rng.choice([-1.0, 1.0], n_voxels)
    silent_TV[:, 20:35] = 0.0
    return [
        ("As it should be: no structure that all voxels share.", carpet_of(base_TV)),
        (
            "Motion: stripes from top to bottom at single TRs. Add confounds, or leave the TRs out.",
            carpet_of(spikes_TV),
        ),
        ("A run border that data.scan_lengths_trs does not name: the level jumps in the middle.", carpet_of(jump_TV)),
        (
            "Slow drift: dark at one end, light at the other. Set data.detrend to a period in seconds.",
            carpet_of(drift_TV),
        ),
        ("Voxels without signal: an even grey band. The mask is larger than the scanned brain.", carpet_of(silent_TV)),
    ]


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
