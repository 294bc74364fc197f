"""Evaluate predictions of a subject who was left out of training.

The test block of the film is new as well. `average_subject` uses only the subject's z-score. The other predictions use
the subject's training TRs: a ridge head on the trunk's latents, the same on the residual of the average, and ridge on
the film's features without a model.
T TRs, V voxels, K latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.evaluation.baselines import RidgeFit, ridge_of
from giblet_train.evaluation.metrics import pearson

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class StimulusPrediction:
    """Predictions for the whole film: latents, delayed as responses are, and the average subject's responses.

    Rows of TRs that belong to no part of the split are 0. average_TV: None if subjects share no head.
    """

    z_TK: Floats
    average_TV: Floats | None


def left_out_figures(data: PreparedSplit, view: StimulusPrediction) -> dict[str, dict[str, float]]:
    """Return left-out subject -> {r of each prediction over responsive voxels, and over null voxels}.

    The subjects in training define the responsive voxels. Returns {} if nobody was left out.
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
    n_present_T1 = np.maximum(1, data.n_present_T()[rows])[:, None]
    yield (
        "other_brains",
        np.asarray(np.sum([data.bold[s][rows] for s in data.subjects], axis=0) / n_present_T1, np.float32),
    )


def _head_ridge(data: PreparedSplit, z_TK: Floats) -> RidgeFit:
    """Fit ridge from the delayed latents to voxels."""
    train = data.split.train
    centred_TK = z_TK.astype(np.float64) - z_TK[train].mean(axis=0)
    centred_TK /= np.sqrt((centred_TK[train] ** 2).mean())
    kernel_TT = centred_TK @ centred_TK.T
    return RidgeFit.of(kernel_TT, train, data.split.validation)


def _figures(data: PreparedSplit, predicted: Mapping[str, Floats], measured_TV: Floats) -> dict[str, float]:
    figures = {}
    for name, predicted_TV in predicted.items():
        r_V = pearson(data.drift.apply(predicted_TV, data.split.test_blocks), measured_TV)
        for part, voxels_V in (("", data.responsive_V), ("_null", data.null_V)):
            if voxels_V.any():
                figures[f"r_{name}{part}"] = float(r_V[voxels_V].mean())
    return figures
