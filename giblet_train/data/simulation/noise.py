"""Simulate fMRI noise with the sources and shares measured in real data.

Each source has unit variance before its share. Shares are relative standard deviations; their squares sum to 1.
Shapes: T TRs of one scan, V voxels, K time courses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.simulation.smooth_maps import SmoothMaps

Single = NDArray[np.float32]
Floats = NDArray[np.float64]

AUTOREGRESSIVE, WHITE, DRIFT, PHYSIOLOGY, MOTION = 0.72, 0.42, 0.38, 0.28, 0.30
LAG_ONE = (0.45, 0.60)
DRIFT_PERIOD_S = 128.0
CARDIAC_HZ, RESPIRATORY_HZ = 1.1, 0.27
RATE_WANDER_HZ = 0.02
MOTION_STEP, JERK, JERK_CHANCE = 1.0, 8.0, 0.01
PARAMETERS = ("x_mm", "y_mm", "z_mm", "pitch_deg", "roll_deg", "yaw_deg")


@dataclass(frozen=True)
class Noise:
    """Noise of one scan."""

    values_TV: Single
    """Noise values, variance near 1."""
    motion_TP: Floats
    """Six motion parameters of the head that caused part of it."""


def draw_noise(rng: np.random.Generator, maps: SmoothMaps, n_trs: int, tr_s: float) -> Noise:
    """Draw the noise of one scan in every voxel of `maps`."""
    motion_TP = _head_motion(rng, n_trs)
    values_TV = AUTOREGRESSIVE * _autoregressive(rng, maps, n_trs)
    values_TV += WHITE * rng.standard_normal(values_TV.shape, np.float32)
    moved_TP = motion_TP / np.linalg.norm(motion_TP, axis=0) * math.sqrt(n_trs / len(PARAMETERS))
    courses_TK = np.concatenate(
        [DRIFT * _drift(n_trs, tr_s), PHYSIOLOGY * _physiology(rng, n_trs, tr_s), MOTION * moved_TP], axis=1
    )
    values_TV += courses_TK.astype(np.float32) @ maps.draw(rng, courses_TK.shape[1])
    return Noise(values_TV, motion_TP)


def _autoregressive(rng: np.random.Generator, maps: SmoothMaps, n_trs: int) -> Single:
    """Draw spatially smooth AR(1) noise of unit variance; each voxel's coefficient is drawn from LAG_ONE."""
    values_TV = maps.draw(rng, n_trs)
    coefficient_V = rng.uniform(*LAG_ONE, size=values_TV.shape[1:]).astype(np.float32)
    innovation_V = np.sqrt(1.0 - coefficient_V**2)
    for t in range(1, n_trs):
        values_TV[t] = coefficient_V * values_TV[t - 1] + innovation_V * values_TV[t]
    return values_TV


def _drift(n_trs: int, tr_s: float) -> Floats:
    """Return (T, K) cosines of equal power with periods of DRIFT_PERIOD_S or more, at least one.

    If the slowest one dominated, a film that grows louder would seem to drive every voxel.
    """
    n_courses = max(1, int(2.0 * n_trs * tr_s / DRIFT_PERIOD_S))
    phase_T = (np.arange(n_trs) + 0.5) / n_trs
    courses_TK: Floats = np.cos(math.pi * np.outer(phase_T, np.arange(1, n_courses + 1))) * math.sqrt(2.0 / n_courses)
    return courses_TK


def _physiology(rng: np.random.Generator, n_trs: int, tr_s: float) -> Floats:
    """Return (T, 4) sine and cosine of heart beat and breath sampled at the TR; their rates wander."""
    courses = []
    for rate_hz in (CARDIAC_HZ, RESPIRATORY_HZ):
        wander_hz = RATE_WANDER_HZ * rng.standard_normal(n_trs)
        phase_T = 2.0 * math.pi * np.cumsum(rate_hz + wander_hz) * tr_s
        courses += [np.cos(phase_T), np.sin(phase_T)]
    return np.stack(courses, axis=1) / math.sqrt(2.0)


def _head_motion(rng: np.random.Generator, n_trs: int) -> Floats:
    """Return (T, 6) a centred random walk with rare jerks; about 0.02 mm or degrees per TR."""
    steps = rng.standard_normal((n_trs, len(PARAMETERS))) * MOTION_STEP
    jerks = rng.standard_normal((n_trs, len(PARAMETERS))) * JERK
    steps += jerks * (rng.random((n_trs, 1)) < JERK_CHANCE)
    walk: Floats = 0.02 * np.cumsum(steps, axis=0)
    walk -= walk.mean(axis=0)
    return walk
