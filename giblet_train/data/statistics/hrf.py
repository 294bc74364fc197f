"""Haemodynamic response functions on the TR grid, and the causal convolution with them.

Shapes: T TRs, F features, K kernel TRs, N fine samples.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

KERNEL_LENGTH_S = 32.0
OVERSAMPLING = 50


def glover(tr_s: float, length_s: float = KERNEL_LENGTH_S, oversampling: int = OVERSAMPLING) -> Floats:
    """Return Glover's (1999) response on the TR grid, area 1: (K,), K = round(length_s / tr_s).

    Parameters as nilearn's `glover_hrf`: delay 6 s, undershoot 12 s, dispersions 0.9 s, ratio 0.48.
    """
    return on_tr_grid(fine_response(tr_s, length_s, oversampling, 6.0, 12.0, 0.9, 0.48), oversampling)


def spm(tr_s: float, length_s: float = KERNEL_LENGTH_S, oversampling: int = OVERSAMPLING) -> Floats:
    """Return SPM's canonical response on the TR grid, area 1: (K,), K = round(length_s / tr_s).

    Parameters as nilearn's `spm_hrf`: delay 6 s, undershoot 16 s, dispersions 1 s, ratio 0.167.
    """
    return on_tr_grid(fine_response(tr_s, length_s, oversampling, 6.0, 16.0, 1.0, 0.167), oversampling)


def double_gamma(
    peak_s: float, tr_s: float, length_s: float = KERNEL_LENGTH_S, oversampling: int = OVERSAMPLING
) -> Floats:
    """Return SPM's shape (K,) with its peak at `peak_s` seconds, undershoot 10 s later, area 1."""
    delay_s = peak_s + 1.0  # a gamma density of unit scale peaks one second before its mean
    return on_tr_grid(fine_response(tr_s, length_s, oversampling, delay_s, delay_s + 10.0, 1.0, 0.167), oversampling)


def fine_response(
    tr_s: float,
    length_s: float,
    oversampling: int,
    delay_s: float,
    undershoot_s: float,
    dispersion_s: float,
    ratio: float,
) -> Floats:
    """Return a difference of two gamma densities, `oversampling` samples per TR, normalised to sum 1, (N,).

    gamma(delay/dispersion, scale=dispersion) - ratio·gamma(undershoot/dispersion, scale=dispersion), both starting one
    fine sample after the event, sampled as nilearn does: N points from 0 to length_s inclusive.
    """
    n_samples = round(length_s / tr_s * oversampling)
    since_start_s = np.linspace(0.0, length_s, n_samples) - tr_s / oversampling
    peak = _gamma_density(since_start_s, delay_s / dispersion_s, dispersion_s)
    undershoot = _gamma_density(since_start_s, undershoot_s / dispersion_s, dispersion_s)
    response = peak - ratio * undershoot
    response_N: Floats = response / response.sum()
    return response_N


def on_tr_grid(fine_N: Floats, oversampling: int) -> Floats:
    """Sum the fine samples TR by TR, (K,); the total stays.

    Entry k is the response during TR k to a stimulus lasting TR 0.
    """
    n_trs = math.ceil(len(fine_N) / oversampling)
    padded = np.zeros(n_trs * oversampling)
    padded[: len(fine_N)] = fine_N
    kernel_K: Floats = padded.reshape(n_trs, oversampling).sum(axis=1)
    return kernel_K


def convolve_causal(x_TF: Floats, kernel_K: Floats) -> Floats:
    """Return y[t] = Σ_k kernel[k]·x[t - k], (T, F), with nothing before the first TR; the length stays."""
    y_TF = np.zeros_like(x_TF, dtype=np.float64)
    for lag, weight in enumerate(kernel_K[: len(x_TF)]):
        y_TF[lag:] += weight * x_TF[: len(x_TF) - lag]
    return y_TF


def _gamma_density(x: Floats, shape: float, scale: float) -> Floats:
    positive = np.maximum(x, 0.0) / scale
    with np.errstate(divide="ignore"):
        log_density = (shape - 1.0) * np.log(positive) - positive - math.lgamma(shape) - math.log(scale)
    return np.exp(log_density)
