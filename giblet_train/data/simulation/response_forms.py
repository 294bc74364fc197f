"""Forms of simulated responses: linear, and forms that ridge regression on delayed features cannot fit.

A form turns factors of the film into a drive, which an HRF then delays. T TRs, D factors of a modality, P prototypes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Factors = Mapping[str, Floats]

SATURATION_THRESHOLD, SATURATION_HALF = 0.3, 0.8
INTEGRATION_S = (8.0, 20.0)
CONTEXT_S = 15.0


@dataclass(frozen=True)
class FormInputs:
    """What a form is computed from."""

    factors: Factors
    """Modality -> (T, D), unit variance."""
    rng: np.random.Generator
    n_prototypes: int
    tr_s: float

    def filtered(self, modality: str) -> Floats:
        """Return (T, P): outputs of random unit-variance filters on one modality's factors."""
        factors_TD = self.factors[modality]
        output_TP = factors_TD @ self.rng.normal(size=(factors_TD.shape[1], self.n_prototypes))
        return standardized(output_TP)

    def filtered_any(self) -> Floats:
        """Return (T, P): filter outputs on all modalities together."""
        return standardized(np.sum([self.filtered(modality) for modality in self.factors], axis=0))


def linear(inputs: FormInputs) -> Floats:
    """Return a linear function of the factors."""
    return inputs.filtered_any()


def saturation(inputs: FormInputs) -> Floats:
    """Return a thresholded, saturating function of a filter's output (Naka and Rushton 1966, exponent 2)."""
    above_TP = np.maximum(inputs.filtered_any() - SATURATION_THRESHOLD, 0.0) ** 2
    return above_TP / (above_TP + SATURATION_HALF**2)


def energy(inputs: FormInputs) -> Floats:
    """Return the energy of two filters of one modality, as in motion energy (Adelson and Bergen 1985)."""
    modality = next(iter(inputs.factors))
    return inputs.filtered(modality) ** 2 + inputs.filtered(modality) ** 2


def interaction(inputs: FormInputs) -> Floats:
    """Return the product of a filter of the first modality and a filter of the second."""
    first, second, *_ = inputs.factors
    return inputs.filtered(first) * inputs.filtered(second)


def integration(inputs: FormInputs) -> Floats:
    """Return the leaky integral, over 8 to 20 s, of rectified filter outputs."""
    time_constants_s = inputs.rng.uniform(*INTEGRATION_S, inputs.n_prototypes)
    return leaky_integral(np.maximum(inputs.filtered_any(), 0.0), time_constants_s / inputs.tr_s)


def context(inputs: FormInputs) -> Floats:
    """Return a filter's output whose gain follows what another modality showed in the last 15 s."""
    first, second, *_ = inputs.factors
    recent_TP = leaky_integral(inputs.filtered(second), np.full(inputs.n_prototypes, CONTEXT_S / inputs.tr_s))
    return inputs.filtered(first) * np.exp(standardized(recent_TP))


FORMS: Mapping[str, Callable[[FormInputs], Floats]] = {
    form.__name__: form for form in (linear, saturation, energy, interaction, integration, context)
}


def leaky_integral(x_TP: Floats, time_constants_trs: Floats) -> Floats:
    """Return the causal exponential average of each column."""
    keep_P = np.exp(-1.0 / time_constants_trs)
    average_TP = np.zeros_like(x_TP)
    for t in range(1, len(x_TP)):
        average_TP[t] = keep_P * average_TP[t - 1] + (1.0 - keep_P) * x_TP[t]
    return average_TP


def standardized(x_TP: Floats) -> Floats:
    """Return columns of mean 0 and variance 1."""
    centred_TP = x_TP - x_TP.mean(axis=0)
    return np.asarray(centred_TP / np.maximum(centred_TP.std(axis=0), 1e-12))
