"""Minute one: whether the data and the first losses are such that training can work at all.

Each finding is a sentence; the trainer stops on them, or goes on with a warning, as `on_sanity_fail` says.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from giblet_train.contract.records import ModalityFacts

START_TOLERANCE = 0.1
SD_TOLERANCE = 0.1
MANY_CONSTANT = 0.5


def findings_of_data(facts: Mapping[str, ModalityFacts]) -> list[str]:
    """What is wrong with the components as they come out of normalisation."""
    findings: list[str] = []
    for component, fact in facts.items():
        if fact.looks_categorical:
            findings.append(
                f"{component} looks like categories (small whole numbers); a squared error cannot learn them."
            )
        if fact.sd is None or fact.mean is None:
            findings.append(f"{component} holds numbers that are not finite.")
        elif abs(fact.sd - 1.0) > SD_TOLERANCE and component != "fmri":
            findings.append(f"{component} has standard deviation {fact.sd:.3g} after normalisation instead of 1.")
        if fact.n_targets and fact.constant_targets > MANY_CONSTANT * fact.n_targets:
            findings.append(f"{component}: {fact.constant_targets} of {fact.n_targets} targets never change.")
    return findings


def findings_of_start(first_loss: Mapping[str, float]) -> list[str]:
    """Losses before step 0 over all training TRs: what predicts the mean must score 1."""
    return [
        f"{component} starts at {value:.4g} instead of 1: its loss is not in units of its training variance."
        for component, value in first_loss.items()
        if not abs(value - 1.0) <= START_TOLERANCE
    ]


def parameters_without_gradient(model: nn.Module) -> list[str]:
    """Names of parameters that the last backward pass did not reach."""
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
