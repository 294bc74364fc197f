"""A person of whom the model learnt nothing: how well a brain is predicted that was left out of training.

The film's test block is as new as the brain. `average_subject` needs nothing of that person but a z-score; the others
use the person's own training TRs: a ridge head from the trunk's latents, the same on what the average leaves, and ridge
on the film's features without any model.
T TRs, V voxels, K latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.evaluation.baselines import DualRidge, RidgeFit, ridge_of
from giblet_train.evaluation.metrics import pearson

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class StimulusPrediction:
    """What the model makes of the whole film: latents delayed as brains are, and the average subject's brain.

    Rows of TRs that belong to no part of the split are 0. average_TV: None where subjects share no head.
    """

    z_TK: Floats
    average_TV: Floats | None


def left_out_figures(data: PreparedSplit, view: StimulusPrediction) -> dict[str, dict[str, float]]:
    """left-out subject -> {r of each way to predict it, over responsive voxels; the same over null ones}.

    Which voxels are responsive is known from the subjects who trained. {} where nobody was left out.
    """
    return {
        subject: _figures(data, dict(_predictions(data, view, bold_TV)), bold_TV[data.split.test])
        for subject, bold_TV in data.left_out.items()
    }


def _predictions(data: PreparedSplit, view: StimulusPrediction, bold_TV: Floats) -> Iterator[tuple[str, Floats]]:
    rows = data.split.test
    head = _head_ridge(data, view.z_TK)
    yield "own_head", head.predict(bold_TV, rows)
    if view.average_TV is not None:
        yield "average_subject", view.average_TV[rows]
        yield "own_head_on_average", view.average_TV[rows] + head.predict(bold_TV - view.average_TV, rows)
    plain = ridge_of(data.inputs, data.split.train, data.split.validation, data.study.scan_lengths_trs)
    yield "ridge", plain.predict(bold_TV, rows)
    yield "other_brains", np.asarray(np.mean([data.bold[s][rows] for s in data.subjects], axis=0), np.float32)


def _head_ridge(data: PreparedSplit, z_TK: Floats) -> RidgeFit:
    """Ridge from latents, which come delayed, to voxels; the kernel is their inner products."""
    train = data.split.train
    centred_TK = z_TK.astype(np.float64) - z_TK[train].mean(axis=0)
    centred_TK /= np.sqrt((centred_TK[train] ** 2).mean())
    kernel_TT = centred_TK @ centred_TK.T
    return RidgeFit(kernel_TT, train, data.split.validation, DualRidge.of(kernel_TT[np.ix_(train, train)]))


def _figures(data: PreparedSplit, predicted: Mapping[str, Floats], measured_TV: Floats) -> dict[str, float]:
    figures = {}
    for name, predicted_TV in predicted.items():
        r_V = pearson(data.drift.apply(predicted_TV, data.split.test_blocks), measured_TV)
        for part, chosen_V in (("", data.responsive_V), ("_null", data.null_V)):
            if chosen_V.any():
                figures[f"r_{name}{part}"] = float(r_V[chosen_V].mean())
    return figures
