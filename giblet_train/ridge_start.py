"""Ridge regression in the network's own terms: what it starts from, and what weight decay pulls it back to.

The responses of all subjects, compressed, are regressed on the film's delayed features in the space of TRs. Group and
deviation, or each subject, have a penalty of their own, chosen on the inner validation block: heads shrunk towards the
group. The prediction's strongest components over training TRs become latents.

N training TRs, M validation TRs, F features of all modalities, L lags (0 first), K latents, R compressed responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_train.baselines import DELAYS_TRS, DualRidge
from giblet_train.batch import Batch
from giblet_train.data.drift import Block, Drift
from giblet_train.model.linear_path import Start
from giblet_train.targets import Targets

Doubles = NDArray[np.float64]
PENALTIES = tuple(float(p) for p in np.logspace(-1, 4, 16))
"""In units of the mean squared length of a training TR's delayed features."""
SHAPED_SHARE = 1 / 3


@dataclass(frozen=True)
class RidgeStart:
    """start: the network's. penalty: part of the compression -> the penalty that the validation block chose."""

    start: Start
    penalty: Mapping[str, float]


def lag_prior(response_L: Doubles, convolved: bool) -> Doubles:
    """(L, L): how weights at two lags belong together before anything is seen.

    Two thirds of the variance leave lags 1 to 8 free of one another, as delayed ridge does, and one third has them
    follow the haemodynamic response. convolved: features that are already convolved have no further lag.
    """
    shaped_LL = np.outer(response_L, response_L)
    if convolved:
        return shaped_LL
    lags = np.arange(len(response_L))
    free_LL = np.diag(((lags >= DELAYS_TRS[0]) & (lags <= DELAYS_TRS[-1])).astype(float))
    shared = SHAPED_SHARE * len(DELAYS_TRS)
    return np.asarray((1.0 - SHAPED_SHARE) * free_LL + shared * shaped_LL)


def ridge_start(
    targets: Targets,
    train: Sequence[Batch],
    validation: Sequence[Batch],
    validation_blocks: Sequence[Block],
    prior_LL: Doubles,
    drift: Drift,
    n_latents: int,
) -> RidgeStart:
    """Fit on the training batches, choose penalties on the validation ones; each batch is a whole block.

    drift: what responses have lost, and predictions lose before they are compared.
    """
    n_lags = len(prior_LL)
    seen_NLF, target_NR = _delayed(targets, train, n_lags), _responses(targets, train)
    weighed_NLF = np.einsum("lm,nmf->nlf", prior_LL, seen_NLF)
    flat, weighed = seen_NLF.reshape(len(seen_NLF), -1), weighed_NLF.reshape(len(seen_NLF), -1)
    kernel_NN = weighed @ flat.T
    unit = float(np.trace(kernel_NN)) / len(kernel_NN)
    solver = DualRidge.of(kernel_NN)
    across_MN = _delayed(targets, validation, n_lags).reshape(-1, flat.shape[1]) @ weighed.T
    wanted_MR = _responses(targets, validation)
    dual_NR = np.zeros(target_NR.shape)
    penalty: dict[str, float] = {}
    edges = np.cumsum([0, *targets.parts.values()]).tolist()
    for part, (first, stop) in zip(targets.parts, pairwise(edges), strict=True):
        columns = slice(first, stop)

        def error(candidate: float, columns: slice = columns) -> float:
            predicted = solver.predict(across_MN, target_NR[:, columns], candidate * unit)
            freed = drift.removed(predicted, validation_blocks)
            return float(((freed - wanted_MR[:, columns]) ** 2).sum())

        penalty[part] = min(PENALTIES, key=error)
        dual_NR[:, columns] = solver.dual(target_NR[:, columns], penalty[part] * unit)
    return RidgeStart(_start(targets, kernel_NN, dual_NR, weighed_NLF, n_latents), penalty)


def _start(targets: Targets, kernel_NN: Doubles, dual_NR: Doubles, weighed_NLF: Doubles, n_latents: int) -> Start:
    """The n_latents strongest components of the prediction, each with standard deviation 1 over training TRs."""
    _, strength, axes_KR = np.linalg.svd(kernel_NN @ dual_NR, full_matrices=False)
    kept = min(n_latents, int((strength > 1e-6 * strength[0]).sum()))
    size_K = strength[:kept] / np.sqrt(len(kernel_NN))
    heads_KR = np.zeros((n_latents, dual_NR.shape[1]))
    heads_KR[:kept] = size_K[:, None] * axes_KR[:kept]
    weight_KLF = np.zeros((n_latents, *weighed_NLF.shape[1:]))
    weight_KLF[:kept] = np.einsum("nk,nlf->klf", dual_NR @ axes_KR[:kept].T / size_K, weighed_NLF)
    path, column = {}, 0
    for modality, x_TF in targets.inputs.items():
        n_features = x_TF.shape[1]
        own = weight_KLF[:, :, column : column + n_features] / np.sqrt(n_features)
        path[modality] = torch.from_numpy(own.transpose(0, 2, 1).astype(np.float32))
        column += n_features
    return Start(path, torch.from_numpy(heads_KR.astype(np.float32)))


def _delayed(targets: Targets, batches: Sequence[Batch], n_lags: int) -> Doubles:
    """(N, L, F): what the network sees at and before each scored TR, each modality of the same weight."""
    rows = []
    for batch in batches:
        inputs, _ = targets.seen(batch)
        x_WF = np.concatenate([x[0].cpu().numpy() / np.sqrt(x.shape[-1]) for x in inputs.values()], axis=1)
        padded = np.concatenate([np.zeros((n_lags - 1, x_WF.shape[1])), x_WF])
        lagged_WLF = np.stack([padded[n_lags - 1 - lag : len(padded) - lag] for lag in range(n_lags)], axis=1)
        rows.append(lagged_WLF[batch.scored_BW[0]])
    return np.concatenate(rows)


def _responses(targets: Targets, batches: Sequence[Batch]) -> Doubles:
    rows = np.concatenate([batch.index_BW[batch.scored_BW] for batch in batches])
    return np.asarray(targets.scores_TR.cpu().numpy()[rows], np.float64)
